"""All sessions of the server: which there are, for how long, and their place in the log's state. docs/design/mqtt.md.

State keys: `mqtt/sessions/NN`, the index in buckets; `mqtt/session/USER/CLIENT` and `mqtt/taken/USER/CLIENT`. All is
written through `Ingest`, so that it is stored in the order of what was put, together with the rows around it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol
from urllib.parse import quote
from zlib import crc32

from qanat.errors import BackpressureError
from qanat.gateway.mqtt.session import (
    Client,
    Entry,
    Session,
    decode_entries,
    decode_session,
    encode_entries,
    encode_ids,
    encode_session,
)
from qanat.gateway.offers import Offer, Verdict

_BUCKETS = 256
#: A session whose positions move is written at most so often.
_SAVE_EVERY_MS = 2_000
_LOOK_EVERY_MS = 5_000
_MAX_EXPIRED_PER_LOOK = 1_000

Then = Callable[[Verdict], None]
Changes = dict[str, bytes | None]


class Store(Protocol):
    """Where sessions are kept: `Ingest.put` and `Log.state`."""

    def put(self, offer: Offer) -> None:
        """Take an offer."""
        ...

    def state(self, key: str) -> bytes | None:
        """What was stored under a key."""
        ...


class Sessions:
    """The sessions that are kept, by client; those in use, or not yet written, as values in memory."""

    def __init__(self, store: Store, maximum: int, clock: Callable[[], int]) -> None:
        self._store, self._maximum, self._clock = store, maximum, clock
        self._index: list[dict[Client, Entry]] = [{} for _ in range(_BUCKETS)]
        self._count = 0
        self._next_look = 0
        self._stale: set[int] = set()
        self._held: dict[Client, Session] = {}
        self._away: dict[Client, Session] = {}
        self._dirty: dict[Client, tuple[Session, int]] = {}

    def load(self) -> None:
        """Read the index. Sessions whose connection broke with the server have their whole time from now on."""
        now = self._clock()
        for number in range(_BUCKETS):
            entries = decode_entries(self._store.state(_index_key(number)))
            for entry in entries.values():
                if entry.deadline is None:
                    entry.deadline = now + entry.expiry_s * 1000
                    self._stale.add(number)
            self._index[number] = entries
            self._count += len(entries)

    def open(self, client: Client, *, clean: bool, expiry_s: int) -> tuple[Session, bool]:
        """The session of a client that connects, and whether it was kept.

        Raises `BackpressureError` where one more would be kept than may be.
        """
        if clean:
            self.end(client)
        session = self._find(client)
        is_known = session is not None
        if session is None:
            session = Session(client)
        if expiry_s and not is_known and self._count >= self._maximum:
            raise BackpressureError(f"{self._count} sessions are kept already", retry_after=60)
        session.expiry_s = expiry_s
        self._held[client] = session
        self._away.pop(client, None)
        if expiry_s or client in self._bucket_of(client):
            self._note(client, Entry(*client, expiry_s, None))
        return session, is_known

    def close(self, session: Session, expiry_s: int) -> None:
        """Its connection is gone: it ends now, or after `expiry_s`."""
        if session.is_over or self._held.get(session.client) is not session:
            return
        del self._held[session.client]
        session.expiry_s = expiry_s
        if not expiry_s:
            self._forget(session)
            return
        self._note(session.client, Entry(*session.client, expiry_s, self._clock() + expiry_s * 1000))
        self._away[session.client] = session
        self.save(session, lambda _: self._let_go(session.client, session))

    def end(self, client: Client) -> None:
        """The client wants to begin anew, or its time is over."""
        session = self._held.pop(client, None) or self._away.pop(client, None)
        if session is not None:
            self._forget(session)
        elif client in self._bucket_of(client):
            self._forget(Session(client))

    def end_all(self, users: Collection[str]) -> None:
        """Nobody is called so any more. Looks through all sessions, so give it many users at once."""
        kept = [client for bucket in self._index for client in bucket if client[0] in users]
        for client in {*kept, *(client for client in self._held if client[0] in users)}:
            self.end(client)

    def users(self) -> set[str]:
        """Whose sessions are kept."""
        return {user for bucket in self._index for user, _ in bucket}

    def save(self, session: Session, then: Then) -> None:
        """Write the session; `then` hears when it is durable, or why not."""
        self._dirty.pop(session.client, None)
        session.is_dirty = False
        session.refresh()
        changes = self.changes(session) if session.is_durable else {}
        if session.is_durable:
            changes[_session_key(session.client)] = encode_session(session) if session.is_worth_keeping else None
        self._write(changes, partial(self._written, session, then))

    def touch(self, session: Session) -> None:
        """Something of little weight has changed: write it soon."""
        if session.is_durable and not session.is_dirty:
            session.is_dirty = True
            self._dirty[session.client] = (session, self._clock() + _SAVE_EVERY_MS)

    def changes(self, session: Session) -> Changes:
        """What has to be written with the first thing that is kept of a session: that there is one."""
        if not session.is_durable:
            return {}
        number = _bucket(session.client)
        if session.client not in self._index[number]:
            self._note(session.client, Entry(*session.client, session.expiry_s, None))
        return self._index_changes([number])

    def taken_change(self, session: Session, ids: set[int]) -> Changes:
        """The packet ids that are taken, as a change of the state."""
        return {_taken_key(session.client): encode_ids(ids)} | self.changes(session) if session.is_durable else {}

    def doubt(self, session: Session) -> None:
        """What was written of this session may not be stored."""
        self._stale.add(_bucket(session.client))

    def sweep(self, now: int) -> None:
        """End what has expired, and write what has changed some time ago."""
        for client, session in list(self._away.items()):
            self._let_go(client, session)
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY_MS
            self._expire(now)
        self.write_dirty(now)

    def write_dirty(self, now: int | None = None) -> None:
        """Write what has changed and has waited long enough; without `now`, all of it."""
        due = [session for session, at in self._dirty.values() if now is None or at <= now]
        for session in due:
            self.save(session, _ignore)
        if self._stale:
            self._write(self._index_changes(list(self._stale)), _ignore)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _expire(self, now: int) -> None:
        expired = [
            client
            for bucket in self._index
            for client, entry in bucket.items()
            if entry.deadline is not None and entry.deadline <= now and client not in self._held
        ]
        for client in expired[:_MAX_EXPIRED_PER_LOOK]:
            self.end(client)

    def _find(self, client: Client) -> Session | None:
        if client in self._held:
            return self._held[client]
        entry = self._bucket_of(client).get(client)
        if entry is None:
            return None
        if entry.deadline is not None and entry.deadline <= self._clock():
            self.end(client)
            return None
        if client in self._away:
            return self._away[client]
        kept, taken = self._store.state(_session_key(client)), self._store.state(_taken_key(client))
        return decode_session(client, entry.expiry_s, kept, taken)

    def _bucket_of(self, client: Client) -> dict[Client, Entry]:
        return self._index[_bucket(client)]

    def _note(self, client: Client, entry: Entry | None) -> None:
        number = _bucket(client)
        bucket = self._index[number]
        self._count -= client in bucket
        bucket.pop(client, None)
        if entry is not None:
            bucket[client] = entry
            self._count += 1
        self._stale.add(number)

    def _index_changes(self, numbers: list[int]) -> Changes:
        """The buckets that differ from what is stored."""
        stale = [number for number in numbers if number in self._stale]
        self._stale.difference_update(stale)
        return {_index_key(number): encode_entries(self._index[number]) for number in stale}

    def _forget(self, session: Session) -> None:
        client = session.client
        session.is_over = True
        self._dirty.pop(client, None)
        if client in self._bucket_of(client):
            self._note(client, None)
            keys: Changes = {_session_key(client): None, _taken_key(client): None}
            self._write(keys | self._index_changes([_bucket(client)]), _ignore)

    def _let_go(self, client: Client, session: Session) -> None:
        """A session that is away and written needs no memory."""
        if not session.is_dirty and not session.is_busy and self._away.get(client) is session:
            del self._away[client]

    def _written(self, session: Session, then: Then, verdict: Verdict) -> None:
        if verdict.error is not None:
            self.touch(session)
        then(verdict)

    def _write(self, changes: Changes, then: Then) -> None:
        if not changes:
            then(Verdict())
            return

        def done(verdict: Verdict) -> None:
            if verdict.error is not None:
                self._stale.update(_index_numbers(changes))
            then(verdict)

        state: Mapping[str, bytes | None] = changes
        self._store.put(Offer("", (), "mqtt", "", "", self._clock(), done, known=False, state=lambda _: state))


def _ignore(_: Verdict) -> None:
    """What failed is still marked as to be written."""


def _bucket(client: Client) -> int:
    return crc32("\0".join(client).encode()) % _BUCKETS


def _index_key(number: int) -> str:
    return f"mqtt/sessions/{number:02x}"


def _index_numbers(changes: Changes) -> list[int]:
    return [int(key.rpartition("/")[2], 16) for key in changes if key.startswith("mqtt/sessions/")]


def _session_key(client: Client) -> str:
    return f"mqtt/session/{_escape(client)}"


def _taken_key(client: Client) -> str:
    return f"mqtt/taken/{_escape(client)}"


def _escape(client: Client) -> str:
    return "/".join(quote(part, safe="") for part in client)
