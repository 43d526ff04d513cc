"""Readings of many sensors, questions about them, and a server that answers them; its clock stands still."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import uvloop

from qanat.clock import Clock
from qanat.gateway import Gateway, GatewayConfig
from qanat.log import open_log
from qanat.log.base import Append, Chunk, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.model.cache import Cache
from qanat.model.serve import Aggregate, RecentRows, Serve
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, DOUBLE, INT, STRING
from qanat.observe.metrics import Metrics
from qanat.secure.keyring import Keyring
from qanat.secure.keys import Key, draw_key, key_digest
from qanat.serve import ServeContext, mount
from qanat.serve.aggregate.measure import Measure, measures_of
from qanat.serve.aggregates import Aggregates
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.switch import Switch

#: 2023-11-14T22:13:20Z.
NOW = 1_700_000_000_000
READINGS = Stream(
    "readings",
    (
        Column("site", STRING),
        Column("field", INT),
        Column("sensor", STRING),
        Column("ts", BIGINT),
        Column("v", DOUBLE),
    ),
    event_time=ArrivalColumn("ts", 1000),
    partitions=2,
)
SCHEMA = schema_of((column.name, column.type) for column in READINGS.columns)
DECLARED = Aggregate(stream="readings", value="v", dimensions=("site", "field", "sensor"))
MEASURE: Measure = measures_of({"readings": DECLARED}, {"readings": READINGS})["readings"]

#: site, field, sensor, ts, v
Row = tuple[str | None, int | None, str | None, int | None, float | None]


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as the log has them."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.record_batch([pa.array(column, one.type) for column, one in zip(columns, SCHEMA, strict=True)], SCHEMA)


def chunk(rows: Sequence[Row], offset: int = 0, partition: int = 0) -> Chunk:
    """Rows as they are read."""
    return Chunk("readings", partition, offset, offset, 0, NOW, batch(rows))


class Clockwork(Clock):
    """Stands still."""

    def __init__(self) -> None:
        self.now = NOW

    def now_ms(self) -> int:
        return self.now

    def seconds(self) -> float:
        return self.now / 1000


class Server:
    """A gateway with aggregates, in a thread of its own. Rows are followed when `catch_up` says so, unless `live`."""

    def __init__(self, log: Log, folder: Path, *, live: bool = False, users: Any = (), **declared: Any) -> None:
        self.log, self.folder, self.clock, self.live = log, folder, Clockwork(), live
        self.serve = Serve(
            aggregates=declared.pop("aggregates", {"readings": DECLARED}), recent=declared.pop("recent", RecentRows())
        )
        self.cache = Cache(**declared)
        self.users = users
        self.metrics = Metrics()
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self._begin())

    async def _begin(self) -> None:
        config = GatewayConfig(keys=self.folder / "keys.json", mqtt_port=None, http_port=0, users=self.users)
        streams = {name: one.stream for name, one in self.log.status().items()}
        self.gateway = Gateway(config, streams, self.log, self.metrics, dict, self.clock.now_ms)
        aside = Aside(Switch(self.cache, self.metrics, self.clock))
        self.aggregates = Aggregates(self.serve, self.cache, streams, aside, self.metrics)
        parts = self.gateway.parts
        context = ServeContext(
            log=self.log,
            auth=parts.auth,
            outlets=parts.outlets,
            limiter=parts.limiter,
            repair=parts.repair,
            append=parts.append,
            checks=parts.checks,
            clock=self.clock.now_ms,
            hot=parts.hot,
            at_hand=parts.at_hand,
            also=(self.aggregates.mount,),
        )
        mount(self.gateway.app, context)
        await self.gateway.start()
        if self.live:
            self.aggregates.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def catch_up(self) -> None:
        assert self.aggregates.follower is not None
        self.aggregates.follower.catch_up()

    def get(self, path: str = "/v1/aggregate", **parameters: Any) -> httpx.Response:
        headers = parameters.pop("headers", {})
        url = f"http://127.0.0.1:{self.gateway.http_port}{path}"
        return httpx.get(url, params=parameters, headers=headers, timeout=60)

    def append(self, rows: Sequence[Row], partition: int = 0) -> None:
        append(self.log, rows, partition)

    def key(self, *scopes: str, name: str = "k") -> str:
        """A key that counts from now on."""
        text = draw_key()
        ring = Keyring(self.folder / "keys.json", self.clock.now_ms)
        ring.add(Key(name, key_digest(text), scopes, NOW, None))
        auth = self.gateway.parts.auth
        self.wait(lambda: auth.demanded and auth.token(text) is not None)
        return text

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until something has come about."""
        ending = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < ending, "it did not come about"
            time.sleep(0.01)

    def close(self) -> None:
        async def end() -> None:
            await self.gateway.stop()
            await self.aggregates.stop()

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


def append(log: Log, rows: Sequence[Row], partition: int = 0) -> None:
    """Store rows; event times as the gateway tells them."""
    times = [row[3] for row in rows if row[3] is not None]
    known = bool(times) and len(times) == len(rows)
    low, high = (min(times), max(times)) if known else (None, None)
    log.submit(Transaction([Append("readings", partition, batch(rows), NOW, low, high)])).result()


Start = Callable[..., Server]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """On disk, with the stream."""
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    log.create(READINGS)
    yield log
    log.close()


@pytest.fixture
def start(log: Log, tmp_path: Path) -> Iterator[Start]:
    """`start(**settings of the cache)` gives a running server."""
    running: list[Server] = []

    def begin(**more: Any) -> Server:
        running.append(Server(log, tmp_path, **more))
        return running[-1]

    yield begin
    for one in running:
        one.close()
