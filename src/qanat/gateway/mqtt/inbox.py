"""Messages with QoS 2 on their way into the log: each is stored once, however often it is sent.

The packet ids that are taken are committed with the rows, under one key per client. One batch of a session is with the
log at a time; what comes meanwhile is the next batch, so that what is written never names a message that failed.
It knows no sockets: `Answers` are given to whatever connection the client has by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.packets import Reason
from qanat.gateway.mqtt.session import Session
from qanat.gateway.mqtt.sessions import Sessions
from qanat.gateway.offers import Offer, Verdict

State = Callable[[Verdict], Mapping[str, bytes | None]]


class Answers(Protocol):
    """The client's connection, as far as this concerns it."""

    def on_received(self, run: Published, verdict: Verdict) -> None:
        """The messages are durable, or (`verdict.error`) not."""
        ...

    def on_repeated(self, packet_ids: Sequence[int]) -> None:
        """These were durable before they came again."""
        ...

    def on_completed(self, packet_ids: Sequence[int], reason: int) -> None:
        """These ids are forgotten."""
        ...


#: Makes the offer of a run; the connection that brought it knows the way.
MakeOffer = Callable[[Published, Callable[[Verdict], None], "State | None"], Offer]


@dataclass(slots=True)
class _Batch:
    """What waits: runs with their way into the log, and ids that the client has released."""

    runs: list[tuple[Published, MakeOffer]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)


class Inbox:
    """The QoS 2 messages of one session. `put` takes offers in order."""

    def __init__(self, session: Session, sessions: Sessions, put: Callable[[Offer], None], clock: Callable[[], int]):
        self.session = session
        self.answers: Answers | None = None
        self._sessions, self._put, self._clock = sessions, put, clock
        self._taking: set[int] = set()
        self._next = _Batch()
        self._busy = 0
        self._has_failed = False

    def take(self, run: Published, make: MakeOffer) -> None:
        """Store what is new of a run; what is stored already is only answered."""
        fresh = self._sift(run)
        if fresh is None:
            return
        self._taking.update(fresh.packet_ids)
        self._next.runs.append((fresh, make))
        self._go_on()

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL: forget these ids, then say so."""
        known = [one for one in packet_ids if one in self.session.taken]
        unknown = [one for one in packet_ids if one not in self.session.taken]
        if unknown and self.answers is not None:
            self.answers.on_completed(unknown, Reason.PACKET_ID_UNKNOWN)
        if known:
            self._next.released += [one for one in known if one not in self._next.released]
            self._go_on()

    def retry(self) -> None:
        """Try again what the log did not take."""
        if self._has_failed and not self._busy:
            self._go_on()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _sift(self, run: Published) -> Published | None:
        """What is new of a run; None for nothing."""
        taken, seen = self.session.taken, self.session.taken | self._taking
        if seen.isdisjoint(run.packet_ids) and len(set(run.packet_ids)) == len(run.packet_ids):
            return run
        payloads, ids = list[bytes](), list[int]()
        for packet_id, payload in zip(run.packet_ids, run.payloads, strict=True):
            if packet_id not in seen:
                seen.add(packet_id)
                ids.append(packet_id)
                payloads.append(payload)
        repeated = [one for one in run.packet_ids if one in taken]
        if repeated and self.answers is not None:
            self.answers.on_repeated(repeated)
        return Published(run.topic, 2, payloads, ids, run.properties) if ids else None

    def _go_on(self) -> None:
        if self.session.is_durable and self._busy:
            return
        batch, self._next = self._next, _Batch()
        ids = self.session.taken - set(batch.released)
        self._has_failed = False
        releases: list[int] = batch.released
        for run, make in batch.runs:
            ids |= set(run.packet_ids)
            self._begin()
            self._put(make(run, partial(self._on_stored, run, releases), self._state(ids)))
            releases = []
        if not batch.runs:
            self._release_only(releases, ids)

    def _release_only(self, releases: list[int], ids: set[int]) -> None:
        state = self._state(ids)
        done = partial(self._on_stored, None, releases)
        self._begin()
        if state is None:
            done(Verdict())
        else:
            client = self.session.client[1]
            self._put(Offer("", (), "mqtt", "", client, self._clock(), done, known=False, state=state))

    def _begin(self) -> None:
        self._busy += 1
        self.session.is_busy = True

    def _state(self, ids: set[int]) -> State | None:
        """The ids as they are once this offer is stored."""
        if not self.session.is_durable:
            return None
        changes = self._sessions.taken_change(self.session, ids)
        return lambda _: changes

    def _on_stored(self, run: Published | None, releases: list[int], verdict: Verdict) -> None:
        self._busy -= 1
        if run is not None:
            self._taking.difference_update(run.packet_ids)
        if verdict.error is None:
            self.session.taken.difference_update(releases)
            self.session.taken.update(run.packet_ids if run is not None else ())
        else:  # what other offers of the batch have written names ids that are not stored: write it again
            self._has_failed = True
            self._next.released += releases
            self._sessions.doubt(self.session)
        if self.answers is not None:
            if run is not None:
                self.answers.on_received(run, verdict)
            if releases and verdict.error is None:
                self.answers.on_completed(releases, 0)
        self._after()

    def _after(self) -> None:
        if self._busy:
            return
        if self._next.runs or (self._next.released and not self._has_failed):
            self._go_on()
        else:
            self.session.is_busy = self._has_failed
