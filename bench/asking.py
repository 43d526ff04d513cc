"""Questions over HTTP at a fixed rate: `python -m bench.asking < plan.json`, a process of its own.

Every question has a time when it is due; it waits where its connection is busy, and its time counts from when it was
due, so a server that stands still is not spared. JSON on stdout: ms as the client saw it, and ms in the server.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections import deque

import msgspec
import uvloop

#: Seconds between two looks at what is due.
_TICK_S = 0.001


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` per second over `connections`, for `seconds`. A share of `hits` is taken from `known` (asked before the
    clock), all others are new: `fresh` with $n replaced by a number from `first` on that was not there before."""

    port: int
    rate: float
    seconds: float
    connections: int
    hits: float
    known: list[str]
    fresh: list[str]
    first: int = 0
    seed: int = 1


class Asked(msgspec.Struct, kw_only=True):
    """What came of it. `wrong`: answers other than 200. `unanswered`: due, and not answered when the time was over."""

    hit_ms: list[float] = msgspec.field(default_factory=list)
    miss_ms: list[float] = msgspec.field(default_factory=list)
    hit_server_ms: list[float] = msgspec.field(default_factory=list)
    miss_server_ms: list[float] = msgspec.field(default_factory=list)
    wrong: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    late_ms: float = 0.0


class _Connection(asyncio.Protocol):
    """One question at a time."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._due: float | None = None
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  its name is asyncio's
        self._transport = None

    @property
    def pending(self) -> int:
        return len(self._waiting) + (self._due is not None)

    def ask(self, due: float, request: bytes) -> None:
        if self._due is None:
            self._send(due, request)
        else:
            self._waiting.append((due, request))

    def _send(self, due: float, request: bytes) -> None:
        self._due = due
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data, head):
            self._data = data
            return
        self._data = b""
        assert self._due is not None
        self._note((time.perf_counter() - self._due) * 1000, data[:head])
        self._due = None
        if self._waiting:
            self._send(*self._waiting.popleft())

    def _note(self, took: float, head: bytes) -> None:
        asked = self._asked
        if not head.startswith(b"HTTP/1.1 200"):
            asked.wrong += 1
            return
        place = head.index(b"total;dur=") + 10
        server = float(head[place:].split(b"\r\n", 1)[0])
        if b"qanat; hit" in head:
            asked.hit_ms.append(took)
            asked.hit_server_ms.append(server)
        else:
            asked.miss_ms.append(took)
            asked.miss_server_ms.append(server)


def _length(data: bytes, head: int) -> int:
    place = data.find(b"content-length: ", 0, head) + 16
    return int(data[place:].split(b"\r", 1)[0])


async def run(plan: Plan) -> Asked:
    """Ask everything; known questions once before the clock."""
    loop = asyncio.get_running_loop()
    warm, asked, draw = Asked(), Asked(), random.Random(plan.seed)
    known = [_request(text) for text in plan.known]
    (_, first) = await loop.create_connection(lambda: _Connection(warm), "127.0.0.1", plan.port)
    for request in known:
        first.ask(time.perf_counter(), request)
    while first.pending:
        await asyncio.sleep(0.01)
    if warm.wrong:
        raise SystemExit(f"{warm.wrong} of {len(known)} questions were refused")
    opened = [
        await loop.create_connection(lambda: _Connection(asked), "127.0.0.1", plan.port)
        for _ in range(plan.connections)
    ]
    lines = [protocol for _, protocol in opened]
    gc.disable()
    began, cpu = time.perf_counter(), time.process_time()
    number, total = 0, round(plan.rate * plan.seconds)
    while number < total:
        now = time.perf_counter() - began
        while number < total and number / plan.rate <= now:
            due = began + number / plan.rate
            asked.late_ms = max(asked.late_ms, (time.perf_counter() - due) * 1000)
            fresh = draw.random() >= plan.hits
            request = _fresh(plan, number, draw) if fresh else draw.choice(known)
            min(lines, key=lambda line: line.pending).ask(due, request)
            number += 1
        # in ticks: a loop that spins until the next question is due would take a core from the server
        await asyncio.sleep(max(_TICK_S, began + number / plan.rate - time.perf_counter()))
    asked.seconds = time.perf_counter() - began
    ending = time.perf_counter() + 2
    while any(line.pending for line in lines) and time.perf_counter() < ending:
        await asyncio.sleep(0.01)
    asked.cpu_seconds = time.process_time() - cpu
    asked.unanswered = sum(line.pending for line in lines)
    return asked


def _fresh(plan: Plan, number: int, draw: random.Random) -> bytes:
    return _request(draw.choice(plan.fresh).replace("$n", str(plan.first + number)))


def _request(text: str) -> bytes:
    return f"GET {text} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n\r\n".encode()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(found))
