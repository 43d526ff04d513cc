"""Sockets and the clock around `lanes`: one thread, one epoll, writes of many packets."""

from __future__ import annotations

import gc
import resource
import select
import socket
import time
from collections.abc import Sequence

import numpy as np

from qanat.errors import ConfigError, ProtocolError
from qanat.sim.load.lanes import Answered, HttpLane, Lane, MqttLane
from qanat.sim.load.payloads import Mold
from qanat.sim.load.rings import ring_for
from qanat.sim.load.terms import Load, LoadResult, Percentiles

_CHUNK = 1 << 16
#: Connections that wait for their CONNACK at once.
_WAVE = 500
#: Seconds without any progress after which a gateway is taken for dead.
_PATIENCE = 30.0
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


def run(load: Load) -> LoadResult:
    """Connect, send, wait for the last answer.

    Raises `ConfigError` where nobody listens, `AuthError`, and `ProtocolError` where the gateway goes, refuses or falls
    silent.
    """
    mold = Mold.of(load.payload)
    make = MqttLane if load.protocol == "mqtt" else HttpLane
    lanes: list[Lane] = [make(load, ring_for(load, mold, number), number) for number in range(load.connections)]
    driver = _Driver(load, lanes)
    gc.freeze()
    gc.disable()
    try:
        return driver.run()
    finally:
        gc.enable()
        driver.close()


class _Driver:
    def __init__(self, load: Load, lanes: Sequence[Lane]) -> None:
        _allow_files(load.connections + 64)
        self._load, self._lanes = load, lanes
        # how many messages are worth a write, and how many go at once
        self._least = 1 if load.protocol == "http" or not load.qos else max(load.in_flight // 4, 1)
        self._most = load.rows if load.protocol == "http" else max(_CHUNK // lanes[0].ring.rows.shape[1], 1)
        self._timed = load.protocol == "http" or bool(load.qos)
        self._socks: list[socket.socket] = []
        self._numbers: dict[int, int] = {}
        self._unsent: list[memoryview | None] = [None] * len(lanes)
        self._blocked_until = 0.0
        self._poll = select.epoll()
        self._sent = self._acked = self._refused = self._bytes = 0
        self._checksum = 0.0
        self._delays: list[float] = []
        self._counts: list[int] = []
        self._stamps: list[int] = []
        self._late = 0.0
        self._last = 0.0

    def run(self) -> LoadResult:
        began = time.perf_counter()
        self._connect_all()
        connected, cpu = time.perf_counter(), time.process_time()
        began_ms = round(time.time() * 1000)
        self._last = connected
        if self._load.rate:
            self._send_paced(connected)
        else:
            self._send_all(connected + self._load.seconds)
        self._drain()
        seconds = self._last - connected
        return LoadResult(
            sent=self._sent,
            acknowledged=self._acked,
            refused=self._refused,
            checksum=self._checksum,
            seconds=seconds,
            rate=self._acked / seconds if seconds else 0.0,
            began_ms=began_ms,
            bytes=self._bytes,
            ack_ms=percentiles(self._delays, self._counts),
            late_ms=self._late * 1000,
            cpu_seconds=time.process_time() - cpu,
            connect_seconds=connected - began,
            stamps=self._stamps,
        )

    def close(self) -> None:
        for sock, lane in zip(self._socks, self._lanes, strict=False):
            try:
                sock.send(lane.goodbye())
            except OSError:
                continue
            finally:
                sock.close()
        self._poll.close()

    # --- phases ------------------------------------------------------------------------------------------------------

    def _connect_all(self) -> None:
        for first in range(0, len(self._lanes), _WAVE):
            for number in range(first, min(first + _WAVE, len(self._lanes))):
                self._open(number)
            end = time.perf_counter() + _PATIENCE
            while not all(lane.ready for lane in self._lanes[first : first + _WAVE]):
                self._serve(0.1)
                if time.perf_counter() > end:
                    raise ProtocolError("the gateway does not answer CONNECT", hint="is it under load already?")

    def _open(self, number: int) -> None:
        load = self._load
        try:
            sock = socket.create_connection((load.host, load.port), timeout=_PATIENCE)
        except OSError as error:
            raise ConfigError(
                f"nobody takes {load.protocol} on {load.host}:{load.port}: {error.strerror or error}",
                hint="start the project: qanat up; or say where it listens: --host, --port",
            ) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._socks.append(sock)
        self._numbers[sock.fileno()] = number
        self._poll.register(sock.fileno(), _IN)
        self._push(number, self._lanes[number].hello())

    def _send_all(self, end: float) -> None:
        """As fast as they are taken."""
        while (now := time.perf_counter()) < end:
            wrote = [self._fill(number, lane, now) for number, lane in enumerate(self._lanes)]
            self._serve(0 if any(wrote) else 0.05)
            self._check_alive()

    def _fill(self, number: int, lane: Lane, now: float) -> bool:
        room = lane.room()
        if room < self._least or self._unsent[number] is not None or now < self._blocked_until:
            return False
        self._write(number, min(room, self._most), now)
        return True

    def _send_paced(self, began: float) -> None:
        """Every tick what has come up meanwhile, dealt out to the connections in turn."""
        load, dealt, tick = self._load, 0, 0
        unit = load.rows if load.protocol == "http" else 1
        total = int(load.rate * load.seconds / unit)
        step = load.tick_ms / 1000
        while dealt < total:
            tick += 1
            due = began + tick * step
            while (now := time.perf_counter()) < due:
                self._serve(due - now)
            self._late = max(self._late, now - due)
            until = min(int(load.rate / unit * tick * step), total)
            if load.stamps:
                self._stamps.append(round(time.time() * 1000))
            self._deal(dealt, until, unit, due)
            dealt = until
            self._serve(0)
            self._check_alive()

    def _deal(self, dealt: int, until: int, unit: int, due: float) -> None:
        count, lanes = until - dealt, len(self._lanes)
        every, extra = divmod(count, lanes)
        turns = range(lanes) if every else range(extra)
        for turn in turns:
            number = (dealt + turn) % lanes
            self._write(number, (every + (turn < extra)) * unit, due)

    def _drain(self) -> None:
        for number, lane in enumerate(self._lanes):
            now = time.perf_counter()
            data = lane.finish(now, _now_ms())
            if data:
                self._sent += 1
                self._push(number, data)
        while any(lane.in_flight for lane in self._lanes) or any(one is not None for one in self._unsent):
            self._serve(0.05)
            self._check_alive()

    def _check_alive(self) -> None:
        behind = time.perf_counter() - self._last
        if behind > _PATIENCE + (self._load.seconds if not self._load.qos else 0):
            raise ProtocolError(f"the gateway has acknowledged nothing for {behind:.0f} s")

    # --- sockets -----------------------------------------------------------------------------------------------------

    def _write(self, number: int, count: int, due: float) -> None:
        lane = self._lanes[number]
        while count:
            part = min(count, len(lane.ring.rows))
            data = lane.write(part, due, _now_ms())
            self._sent += part
            self._bytes += len(data)
            self._push(number, data)
            count -= part

    def _push(self, number: int, data: bytes) -> None:
        held = self._unsent[number]
        if held is not None:
            self._unsent[number] = memoryview(bytes(held) + data)
            return
        self._send(number, memoryview(data))

    def _send(self, number: int, data: memoryview) -> None:
        sock, held = self._socks[number], self._unsent[number] is not None
        try:
            while data:
                data = data[sock.send(data) :]
        except BlockingIOError:
            self._unsent[number] = data
            if not held:
                self._poll.modify(sock.fileno(), _IN | _OUT)
            return
        except OSError as error:
            raise ProtocolError(f"the gateway closed connection {number}: {error.strerror or error}") from error
        if held:
            self._unsent[number] = None
            self._poll.modify(sock.fileno(), _IN)

    def _serve(self, timeout: float) -> None:
        for file, event in self._poll.poll(max(timeout, 0)):
            number = self._numbers[file]
            unsent = self._unsent[number]
            if event & _OUT and unsent is not None:
                self._send(number, unsent)
            if event & ~_OUT:
                self._receive(number)

    def _receive(self, number: int) -> None:
        try:
            data = self._socks[number].recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise ProtocolError(f"the gateway broke connection {number}: {error.strerror or error}") from error
        if not data:
            raise ProtocolError(f"the gateway closed connection {number}", hint="its answers in the log say why")
        self._settle(self._lanes[number].feed(data))

    def _settle(self, answered: Answered) -> None:
        if not answered.shares:
            return
        now = self._last = time.perf_counter()
        if not answered.stored:
            self._refused += sum(share.count for share in answered.shares)
            self._blocked_until = now + 0.2
            return
        for share in answered.shares:
            self._acked += share.count
            self._checksum += share.weight
            if self._timed:
                self._delays.append(now - share.due)
                self._counts.append(share.count)


def percentiles(delays: Sequence[float], counts: Sequence[int]) -> Percentiles | None:
    """Of delays in seconds, each of which stands for so many messages; in ms."""
    if not delays:
        return None
    order = np.argsort(np.array(delays))
    sorted_delays = np.array(delays)[order] * 1000
    reached = np.cumsum(np.array(counts)[order])

    def at(share: float) -> float:
        return round(float(sorted_delays[int(np.searchsorted(reached, share * reached[-1]))]), 3)

    return Percentiles(
        p50=at(0.5), p90=at(0.9), p99=at(0.99), p999=at(0.999), largest=round(float(sorted_delays[-1]), 3)
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise ConfigError(f"{count} connections need as many open files; {hard} are allowed", hint="ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
