"""A gateway in a thread of its own, logs that can be held back or break, and a raw MQTT client."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import uvloop

from qanat.errors import QanatError
from qanat.gateway import Gateway, GatewayConfig
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import encode_connect
from qanat.gateway.mqtt.packets import V3, Connack, Packet, find_frame
from qanat.log.base import Append, Receipt, StreamStatus, Transaction
from qanat.model.streams import ArrivalColumn, Column, Stream, dead_letter_stream, late_stream
from qanat.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP_LTZ
from qanat.observe.metrics import Metrics

#: The arrival time in these tests unless they move the clock: 2023-11-14T22:13:20Z.
NOW = 1_700_000_000_000

POWER = Stream(
    "power",
    (Column("client_id", STRING), Column("timestamp", BIGINT), Column("consumption", DOUBLE)),
    event_time=ArrivalColumn("timestamp", 1),
)
STREAMS: Mapping[str, Stream] = {
    "power": POWER,
    "power_ms": replace(POWER, name="power_ms", event_time=ArrivalColumn("timestamp", 1000)),
    "stamped": Stream(
        "stamped", (Column("id", STRING), Column("ts", TIMESTAMP_LTZ)), event_time=ArrivalColumn("ts", None)
    ),
    "events": Stream(
        "events",
        (
            Column("v", BIGINT),
            *(Column(f"ce_{name}", STRING) for name in ("id", "source", "type", "subject")),
            Column("ce_time", TIMESTAMP_LTZ),
        ),
    ),
    "plain": Stream("plain", (Column("id", STRING),)),
    "spread": replace(POWER, name="spread", key=("client_id",), partitions=4),
    "predictions": Stream("predictions", (Column("id", STRING),)),
    "dead_letters": dead_letter_stream(),
    "late": late_stream(),
}
ACCEPTS = frozenset(STREAMS) - {"predictions", "dead_letters", "late"}


class FakeLog:
    """A log in a list. While `held`, commits wait for `release`; `fail_with` and `busy` make it refuse."""

    def __init__(self) -> None:
        self.stored: list[Append] = []
        self.held = False
        self.fail_with: QanatError | None = None
        self.busy: list[QanatError] = []
        self.submitted = threading.Semaphore(0)
        self.transactions = 0
        self._waiting: list[tuple[Transaction, Future[Receipt]]] = []
        self.kept: dict[str, bytes | None] = {}

    def create(self, stream: Stream) -> None:
        assert stream.name in STREAMS

    def status(self) -> dict[str, StreamStatus]:
        return {}

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        if self.busy:
            raise self.busy.pop()
        future: Future[Receipt] = Future()
        self._waiting.append((transaction, future))
        self.transactions += 1
        if not self.held:
            self.release()
        self.submitted.release()
        return future

    def state(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def release(self) -> None:
        """Commit (or fail) everything that waits, in order."""
        waiting, self._waiting = self._waiting, []
        for transaction, future in waiting:
            if self.fail_with is not None:
                future.set_exception(self.fail_with)
            else:
                self.stored.extend(transaction.appends)
                self.kept.update(transaction.state)
                future.set_result(Receipt((0,) * len(transaction.appends), len(self.stored)))

    def rows(self, stream: str, partition: int | None = None) -> list[dict[str, Any]]:
        batches = [one.rows for one in self.stored if one.stream == stream and partition in (None, one.partition)]
        return pa.Table.from_batches(batches).to_pylist() if batches else []


class InLoop:
    """A gateway in an event loop of its own, in a thread of its own, which `close` ends."""

    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def open(self, *arguments: Any, **more: Any) -> None:
        """Make a gateway of these arguments in the loop, and start it."""

        async def begin() -> Gateway:
            gateway = Gateway(*arguments, **more)
            await gateway.start()
            return gateway

        self.gateway = self.run(begin())

    def stop(self) -> None:
        if self.gateway is not None:
            gateway, self.gateway = self.gateway, None
            self.run(gateway.stop())

    def close(self) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


class Running(InLoop):
    """A started gateway; `call` runs a function in its loop. `now` is its clock."""

    def __init__(self, log: Any, metrics: Metrics) -> None:
        super().__init__()
        self.log, self.metrics, self.now = log, metrics, NOW

    @property
    def mqtt(self) -> int:
        assert self.gateway is not None
        assert self.gateway.mqtt_port is not None
        return self.gateway.mqtt_port

    @property
    def url(self) -> str:
        assert self.gateway is not None
        return f"http://127.0.0.1:{self.gateway.http_port}"

    def start(self, config: GatewayConfig, **more: Any) -> None:
        self.open(config, STREAMS, self.log, self.metrics, clock=lambda: self.now, **more)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(**settings)` gives a running gateway on free ports; `log=` and `checks=` replace the defaults."""
    running: list[Running] = []

    def begin(log: Any = None, checks: Any = None, **settings: Any) -> Running:
        one = Running(log or FakeLog(), Metrics())
        running.append(one)
        settings = {"mqtt_port": 0, "http_port": 0, "accepts": ACCEPTS, "stop_timeout_ms": 3000, **settings}
        one.start(GatewayConfig(**settings), checks=checks)
        return one

    yield begin
    for one in running:
        if isinstance(one.log, FakeLog):
            one.log.held = False
            one.log.release()
        one.close()


class RawClient:
    """A socket that speaks packets; `read` blocks until a whole one is there, None at the end."""

    def __init__(self, port: int, version: int = V3, connect: bool = True, **settings: Any) -> None:
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._data = b""
        if connect:
            self.send(encode_connect(settings.pop("client_id", "d1"), version=version, **settings))
            self.connack = self.read()
            assert isinstance(self.connack, Connack)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> Packet | None:
        while True:
            frame = find_frame(self._data, 0) if self._data else None
            if frame is not None and frame.end <= len(self._data):
                packet = decode(self._data, frame, self.version)
                self._data = self._data[frame.end :]
                return packet
            try:
                more = self.sock.recv(65_536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self._data += more

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., RawClient]]:
    """`raw(port, version, **connect)` gives a connected client."""
    clients: list[RawClient] = []

    def connect(*args: Any, **settings: Any) -> RawClient:
        clients.append(RawClient(*args, **settings))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def fake_log() -> FakeLog:
    """A log to hold back or break."""
    return FakeLog()


@pytest.fixture
def streams() -> Mapping[str, Stream]:
    """The streams that every gateway of these tests has."""
    return STREAMS
