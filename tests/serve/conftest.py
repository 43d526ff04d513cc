"""A gateway with its API in a thread of its own, over a real log, on a free port of loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from qanat.gateway import Gateway, GatewayConfig
from qanat.log import open_log
from qanat.log.base import Log
from qanat.model.api import Api
from qanat.model.cache import Cache
from qanat.model.serve import Serve
from qanat.model.streams import ArrivalColumn, Column, Stream, dead_letter_stream, late_stream
from qanat.model.types import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP_LTZ
from qanat.observe.metrics import Metrics
from qanat.secure.keyring import Keyring
from qanat.secure.keys import Key, draw_key, key_digest
from qanat.serve import ServeContext, mount
from qanat.serve.aggregates import Aggregates
from qanat.serve.context import PipelineState
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.switch import Switch

#: 2023-11-14T22:13:20Z: the clock of these tests.
NOW = 1_700_000_000_000

READINGS = Stream(
    "readings",
    (
        Column("at", TIMESTAMP_LTZ),
        Column("site", STRING),
        Column("sensor", STRING),
        Column("temperature", DOUBLE),
        Column("count", INT),
        Column("ok", BOOLEAN),
    ),
    event_time=ArrivalColumn("at", None),
)
STREAMS: Mapping[str, Stream] = {
    "readings": READINGS,
    "spread": Stream(
        "spread",
        (Column("id", STRING), Column("n", BIGINT)),
        event_time=None,
        key=("id",),
        partitions=4,
    ),
    "größen": Stream("größen", (Column("höhe", DOUBLE), Column("ort", STRING))),
    "totals": Stream("totals", (Column("id", STRING), Column("n", BIGINT)), key=("id",), upsert=True),
    "dead_letters": dead_letter_stream(),
    "late": late_stream(),
}
ACCEPTS = frozenset({"readings", "spread", "größen"})


class Server:
    """A running one. `call` runs a function in its loop; `now` is its clock."""

    def __init__(self, log: Log, folder: Path, **settings: Any) -> None:
        self.log, self.folder, self.now = log, folder, NOW
        self.faults: dict[str, str | None] = {}
        self.pipelines: list[PipelineState] = []
        self.archive: Any = settings.pop("archive", None)
        self.api: Api = settings.pop("api", Api())
        self.declared: Serve = settings.pop("serve", Serve())
        self.config = {"mqtt_port": None, "http_port": 0, "stop_timeout_ms": 3000, "accepts": ACCEPTS, **settings}
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.context: ServeContext
        self.end: Callable[[], None]
        self.gateway: Gateway = self.run(self._begin())

    async def _begin(self) -> Gateway:
        keys = self.folder / "keys.json"
        config = GatewayConfig(keys=keys, **self.config)
        metrics = Metrics()
        gateway = Gateway(config, STREAMS, self.log, metrics, lambda: self.faults, lambda: self.now)
        parts = gateway.parts
        aside = Aside(Switch(Cache(), metrics))
        self.aggregates = Aggregates(self.declared, Cache(), STREAMS, aside, metrics)
        self.context = ServeContext(
            log=self.log,
            auth=parts.auth,
            outlets=parts.outlets,
            limiter=parts.limiter,
            repair=parts.repair,
            append=parts.append,
            checks=parts.checks,
            clock=lambda: self.now,
            pipelines=lambda: self.pipelines,
            archive=self.archive,
            settings=self.api,
            hot=parts.hot,
            at_hand=parts.at_hand,
            also=(self.aggregates.mount,) if self.declared.aggregates else (),
        )
        self.end = mount(gateway.app, self.context)
        await gateway.start()
        return gateway

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    @property
    def port(self) -> int:
        assert self.gateway.http_port is not None
        return self.gateway.http_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.folder / "keys.json", lambda: self.now)

    def key(self, name: str, *scopes: str, expires_at: int | None = None) -> str:
        """Make a key; its text."""
        text = draw_key()
        self.keyring.add(Key(name, key_digest(text), scopes, self.now, expires_at))
        return text

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=60, **more)

    def feed(self, stream: str, rows: list[dict[str, Any]], **more: Any) -> None:
        answer = httpx.post(f"{self.url}/streams/{stream}", json=rows, timeout=60, **more)
        assert answer.json()["accepted"] == len(rows), answer.text

    def wait(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Until something has come about."""
        ending = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < ending, "it did not come about"
            time.sleep(0.01)

    def wait_until_demanded(self) -> None:
        """Until the gateway has heard that there are keys."""
        self.wait(lambda: bool(self.context.auth.demanded))

    def lives(self) -> list[Any]:
        """The live connections that are open."""
        import gc

        from qanat.serve.live import Live

        return [one for one in gc.get_objects() if type(one) is Live]

    def close(self) -> None:
        self.run(self.gateway.stop())
        self.run(self.aggregates.stop())
        self.end()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(**settings)` gives a running server; `log="memory"` keeps nothing on disk."""
    running: list[Server] = []
    logs: list[Log] = []

    def begin(log: str = "sqlite", **settings: Any) -> Server:
        opened = open_log("memory://" if log == "memory" else f"sqlite:///{tmp_path}/log.db")
        logs.append(opened)
        for stream in STREAMS.values():
            opened.create(stream)
        running.append(Server(opened, tmp_path, **settings))
        return running[-1]

    yield begin
    for one in running:
        one.close()
    for log in logs:
        log.close()


def reading(number: int, **more: Any) -> dict[str, Any]:
    """A row of `readings`, a second after the one before."""
    at = NOW - 3_600_000 + number * 1000
    text = f"{_text(at)}Z"
    row = {
        "at": text,
        "site": "north",
        "sensor": f"s{number % 3}",
        "temperature": number / 2,
        "count": number,
        "ok": True,
    }
    return row | more


def _text(ms: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
