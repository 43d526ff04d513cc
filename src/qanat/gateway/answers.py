"""Answers to requests that clients may send again, durable with the rows that they tell of, for a day.

A client names its request (HTTP's Idempotency-Key, a CloudEvent's id, gRPC's key). The answer is stored by
`Offer.state` in the transaction that stores the rows, so either both are there after a crash or neither. Knows no
protocol. How it is laid out in the log: docs/design/http.md.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from qanat.errors import BackpressureError

#: A day, in ms: so long an answer is kept.
KEPT_MS = 86_400_000
_LANES = 64
_LANE_ANSWERS = 1024
#: A lane's newest answers are rewritten with each request, the others only when there are more than so many of those.
_NEW_ANSWERS = 32
#: So many requests may wait for a lane.
_WAITING = 256

#: What the log is to keep: key -> bytes, None deletes.
State = Mapping[str, bytes | None]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`at` in ms; `mark` tells the request from another one of the same name; `body` is the protocol's own."""

    at: int
    mark: bytes
    body: bytes


#: What the client called its request, digested -> the answer.
Named = tuple[bytes, Answer]
_decode = msgspec.msgpack.Decoder(list[Named]).decode
_encode = msgspec.msgpack.Encoder().encode


def digest(*parts: str | bytes) -> bytes:
    """16 bytes that stand for these parts, in this order."""
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.digest()


@dataclass(slots=True)
class _Lane:
    """Answers that one request at a time may add to, oldest first."""

    name: str
    old: list[Named] = field(default_factory=list)
    new: list[Named] = field(default_factory=list)

    def stored(self, before: _Lane) -> State:
        """What the log keeps for this lane, where it differs from what it kept before."""
        state: dict[str, bytes | None] = {}
        if self.new != before.new:
            state[f"{self.name}/new"] = _encode(self.new) if self.new else None
        if self.old is not before.old:
            state[f"{self.name}/old"] = _encode(self.old) if self.old else None
        return state

    def with_more(self, more: Sequence[Named], now: int) -> _Lane:
        """The lane with `more` answers, and without those that are too old or too many."""
        if len(self.new) + len(more) <= _NEW_ANSWERS:
            return _Lane(self.name, self.old, [*self.new, *more])
        young = [one for one in (*self.old, *self.new, *more) if one[1].at > now - KEPT_MS]
        return _Lane(self.name, young[-_LANE_ANSWERS:])


class Claim:
    """The names of one request, from when it is taken until its rows are stored or not."""

    def __init__(self, answers: Answers, names: Sequence[bytes], mark: bytes) -> None:
        self._answers, self.names, self.mark = answers, names, mark
        self._lane: _Lane | None = None
        self._next: _Lane | None = None
        self._done = asyncio.Event()

    async def begin(self) -> None:
        """Wait for a place where the answers can be stored. Raises `BackpressureError`."""
        self._lane = await self._answers.take_lane()

    def state(self, made: Sequence[Named], now: int) -> State:
        """What is to be stored with the rows; quick, in any thread, after `begin`."""
        assert self._lane is not None
        self._next = self._lane.with_more(made, now)
        return self._next.stored(self._lane)

    def end(self, *, stored: bool) -> None:
        """The rows and `state` are durable, or never will be; in the event loop, once."""
        if self._done.is_set():
            return
        self._done.set()
        self._answers.end(self, self._lane, self._next if stored else None)

    async def wait(self) -> None:
        """Until `end`."""
        await self._done.wait()


class Answers:
    """The answers of one protocol, by name; it lives in one event loop. `read` is `Log.state`.

    At most 65,536 are kept, those of the oldest requests are forgotten first, and each after a day. What is stored are
    two keys of the log's state for each of 64 lanes. A request has a lane for itself while it is under way, so that a
    lane never holds the answer of a transaction that failed.
    """

    def __init__(self, protocol: str, read: Callable[[str], bytes | None]) -> None:
        self._found: dict[bytes, Answer] = {}
        self._running: dict[bytes, Claim] = {}
        self._lanes: asyncio.Queue[_Lane] = asyncio.Queue()
        self._waiting = 0
        for number in range(_LANES):
            name = f"{protocol}/answers/{number}"
            lane = _Lane(name, _load(read(f"{name}/old")), _load(read(f"{name}/new")))
            self._found.update(lane.old)
            self._found.update(lane.new)
            self._lanes.put_nowait(lane)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, name: bytes, now: int) -> Answer | None:
        """The answer that this request had."""
        answer = self._found.get(name)
        return answer if answer is not None and answer.at > now - KEPT_MS else None

    def running(self, names: Iterable[bytes]) -> Claim | None:
        """A request under way that has one of these names."""
        return next((self._running[name] for name in names if name in self._running), None)

    def claim(self, names: Sequence[bytes], mark: bytes) -> Claim:
        """Take these names, none of which is under way. Every claim must come to its `end`."""
        claim = Claim(self, names, mark)
        self._running.update(dict.fromkeys(names, claim))
        return claim

    async def begin(self, names: Sequence[bytes], mark: bytes) -> Claim:
        """A claim that has its place; there is none after a failure. Raises `BackpressureError`."""
        claim = self.claim(names, mark)
        try:
            await claim.begin()
        except BaseException:
            claim.end(stored=False)
            raise
        return claim

    async def take_lane(self) -> _Lane:
        """A lane that nobody else has until `end`. Raises `BackpressureError` where too many wait for one."""
        if self._waiting >= _WAITING:
            raise BackpressureError("too many named requests are under way", retry_after=1.0, hint="send fewer at once")
        self._waiting += 1
        try:
            return await self._lanes.get()
        finally:
            self._waiting -= 1

    def end(self, claim: Claim, before: _Lane | None, after: _Lane | None) -> None:
        """Give a lane back as it is now, and let others have the names."""
        for name in claim.names:
            del self._running[name]
        if before is not None:
            self._give_back(before, before if after is None else after)

    async def tidy(self, now: int, store: Callable[[State], Awaitable[bool]]) -> int:
        """Forget what is too old, here and in the log. `store` says whether it is durable. Gives how many there were.

        It never has more than one lane, so requests go on.
        """
        count = 0
        for _ in range(_LANES):
            before = after = await self.take_lane()
            try:
                if any(one[1].at <= now - KEPT_MS for one in (*before.old[:1], *before.new[:1])):
                    young = _Lane(before.name, _young(before.old, now), _young(before.new, now))
                    if await store(young.stored(before)):
                        after = young
                        count += len(before.old) + len(before.new) - len(after.old) - len(after.new)
            finally:
                self._give_back(before, after)
        return count

    def _give_back(self, before: _Lane, after: _Lane) -> None:
        if after is not before:
            kept = dict((*after.old, *after.new))
            if after.old is not before.old:
                for name, answer in (*before.old, *before.new):
                    if name not in kept and self._found.get(name) is answer:
                        del self._found[name]
            self._found.update(kept if after.old is not before.old else after.new)
        self._lanes.put_nowait(after)


def _young(answers: list[Named], now: int) -> list[Named]:
    return [one for one in answers if one[1].at > now - KEPT_MS]


def _load(data: bytes | None) -> list[Named]:
    return [] if data is None else _decode(data)
