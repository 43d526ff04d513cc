"""Caches side by side: in this process, Redis and Memcached on loopback, in one run.

Ten workers read and write answers of 1 kB through the driver, seven reads to three writes: at 350 operations a second,
then as fast as they can. Then ten readers fetch through `Aside` while rows come in at several rates. A driver that
gives anything but what was put is wrong.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.process import Watch, stop
from bench.work import empty_folder
from qanat.model.cache import Cache
from qanat.model.sections import Duration
from qanat.stores.cache import open_cache
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.base import CacheDriver
from qanat.stores.cache.switch import Switch

WORKERS = 10
RATE = 350
SECONDS = 5.0
INVALIDATIONS = (0, 10, 100, 1000)
_KEYS = 1000
_READS = 0.7
_TTL_MS = 120_000
#: What `make` takes in the bench of invalidations: a small aggregate over rows in memory.
_MAKE_S = 0.001
#: p95 in microseconds, as measured elsewhere at the same load over a network of containers.
REFERENCE = {"memcached": {"read": 486, "write": 2500}, "redis": {"read": 878, "write": 4400}}


@dataclass
class Tally:
    """What one load gave; times in seconds."""

    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    wrong: int = 0


@contextmanager
def _server(name: str) -> Iterator[tuple[str, int | None]]:
    """The URL of a server that lives for this, and its process."""
    if name == "memory":
        yield "memory://", None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = empty_folder("cache", name)
    commands = {
        "redis": ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        "memcached": ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root"],
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(commands[name], cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > end:
                raise RuntimeError(f"{name} does not listen")
            time.sleep(0.01)
        yield f"{name}://127.0.0.1:{port}", process.pid
    finally:
        stop(process)


def _value(number: int) -> bytes:
    return f"answer {number} ".encode().ljust(1000, b".")


async def _work(cache: CacheDriver, chance: random.Random, until: float, pause: float, tally: Tally) -> None:
    """One worker. `pause`: seconds from the beginning of one operation to that of the next, 0 for none."""
    due = time.perf_counter() + pause * chance.random()
    while (now := time.perf_counter()) < until:
        if pause and now < due:
            await asyncio.sleep(due - now)
        number = chance.randrange(_KEYS)
        key = f"bench:{number}"
        began = time.perf_counter()
        if chance.random() < _READS:
            [found] = await cache.get([key])
            tally.reads.append(time.perf_counter() - began)
            tally.wrong += found != _value(number)
        else:
            await cache.put({key: _value(number)}, _TTL_MS)
            tally.writes.append(time.perf_counter() - began)
        due += pause
        if not pause:
            await asyncio.sleep(0)  # a cache that never waits would let nobody else run


async def _load(url: str, rate: float | None, seconds: float) -> tuple[Tally, float, float]:
    """The times, the seconds that it took, and those of this process's processor."""
    cache = open_cache(url)
    try:
        await cache.put({f"bench:{number}": _value(number) for number in range(_KEYS)}, _TTL_MS)
        for _ in range(3):  # connections are opened before the clock counts
            await asyncio.gather(*(cache.get(["bench:0"]) for _ in range(WORKERS)))
        tally, began, cpu = Tally(), time.perf_counter(), time.process_time()
        pause = WORKERS / rate if rate else 0.0
        workers = [_work(cache, random.Random(seed), began + seconds, pause, tally) for seed in range(WORKERS)]
        await asyncio.gather(*workers)
        return tally, time.perf_counter() - began, time.process_time() - cpu
    finally:
        await cache.close()


async def _rows(url: str, per_second: int, seconds: float) -> dict[str, Any]:
    """Ten readers, each every few milliseconds, while rows of a hundred series come in: hits, times of a fetch."""
    # no breaker: what is measured is the cache, on whatever machine
    aside = Aside(Switch(Cache(url=url, invalidate=True, timeout=Duration(1000), slow=Duration(1000))))
    times: list[float] = []
    made = 0
    until = time.perf_counter() + seconds

    async def make() -> bytes:
        nonlocal made
        made += 1
        await asyncio.sleep(_MAKE_S)
        return _value(1)

    async def reader(chance: random.Random) -> None:
        while time.perf_counter() < until:
            number = chance.randrange(100)
            began = time.perf_counter()
            await aside.fetch(f"series-{number}", make, tags=[f"readings/{number}"])
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.01 * chance.random())

    async def writer(chance: random.Random) -> None:
        due = time.perf_counter()
        while per_second and due < until:
            due += 1 / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await aside.invalidate([f"readings/{chance.randrange(100)}"])

    try:
        await asyncio.gather(*(reader(random.Random(seed)) for seed in range(WORKERS)), writer(random.Random(99)))
    finally:
        await aside.close()
    return {
        "rows_per_second": per_second,
        "fetches": len(times),
        "hit_share": round(1 - made / len(times), 3),
        "fetch_us": _shares(times),
    }


def _shares(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {f"p{share}": round(ordered[int(len(ordered) * share / 100)] * 1e6, 1) for share in (50, 95, 99)}


def _measured(name: str, rate: float | None, seconds: float) -> dict[str, Any]:
    with _server(name) as (url, pid), Watch(*([] if pid is None else [pid]), fresh=True) as watch:
        tally, took, cpu = uvloop.run(_load(url, rate, seconds))
    done = len(tally.reads) + len(tally.writes)
    return {
        "load": f"{rate:g}/s" if rate else "full speed",
        "operations_per_second": round(done / took),
        "read_us": _shares(tally.reads),
        "write_us": _shares(tally.writes),
        "client_cores": round(cpu / took, 3),
        "server_cores": None if pid is None else round(watch.usage.cpu_seconds / watch.usage.wall_seconds, 3),
        "server_peak_mb": None if pid is None else round(watch.usage.peak_bytes / 1e6, 1),
        "wrong": tally.wrong,
    }


def measure(seconds: float | None, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every cache under every load; `seconds` of each, some ninety altogether where none are given."""
    found = []
    for name in ("memory", "redis", "memcached"):
        if name != "memory" and shutil.which(f"{name}-server" if name == "redis" else name) is None:
            found.append({"driver": name, "error": "not installed: make services"})
            continue
        say(f"cache: {name}")
        before = machine.load()
        loads = [_measured(name, rate, seconds or SECONDS) for rate in (RATE, None)]
        rows = []
        for per_second in INVALIDATIONS:
            with _server(name) as (url, _):
                rows.append(uvloop.run(_rows(url, per_second, seconds or SECONDS)))
        found.append({"driver": name, "load_before": before, "loads": loads, "invalidation": rows})
    return found


def as_json(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, with what was asked for beside what was found."""
    return {
        "input": {"workers": WORKERS, "keys": _KEYS, "bytes": 1000, "reads": _READS, "make_ms": _MAKE_S * 1000},
        "reference_p95_us": REFERENCE,
        "results": found,
        "wanted": [
            {
                "what": f"{driver}: p95 of a {act} at {RATE}/s, us",
                "wanted": f"< {most:,}",
                "found": (p95 := _p95(found, driver, act)),
                "met": None if p95 is None else p95 < most,
            }
            for driver, acts in REFERENCE.items()
            for act, most in acts.items()
        ],
    }


def right(found: list[dict[str, Any]]) -> bool:
    """Whether every cache that ran gave what was put."""
    return all(load["wrong"] == 0 for one in found for load in one.get("loads", []))


def _p95(found: list[dict[str, Any]], driver: str, act: str) -> float | None:
    loads = next((one.get("loads") for one in found if one["driver"] == driver), None)
    return None if not loads else float(loads[0][f"{act}_us"]["p95"])


def show(console: Console, report: dict[str, Any]) -> None:
    """Two tables: what a driver takes, and what rows that come in make of it."""
    title = "caches: 10 connections, 1 kB, 7 reads to 3 writes; times in us"
    table = Table(title=title, title_justify="left", caption="cores: client, server", caption_justify="left")
    for heading in ("cache", "load", "op/s", "read p50", "p95", "p99", "write p50", "p95", "p99", "cores", "MB"):
        table.add_column(heading, justify="left" if heading in ("cache", "load") else "right", no_wrap=True)
    rows = Table(title="rows that come in, and what a fetch takes; times in us", title_justify="left")
    for heading in ("cache", "rows/s", "hits", "fetch p50", "p95", "p99"):
        rows.add_column(heading, justify="left" if heading == "cache" else "right")
    for one in report["results"]:
        if "error" in one:
            table.add_row(one["driver"], f"did not run: {one['error']}")
            continue
        for each in one["loads"]:
            times = [f"{value:,.0f}" for act in ("read", "write") for value in each[f"{act}_us"].values()]
            cores = f"{each['client_cores']:.2f}" + (
                "" if each["server_cores"] is None else f", {each['server_cores']:.2f}"
            )
            peak = "" if each["server_peak_mb"] is None else f"{each['server_peak_mb']:.0f}"
            table.add_row(one["driver"], each["load"], f"{each['operations_per_second']:,}", *times, cores, peak)
        for each in one["invalidation"]:
            shares = [f"{value:,.0f}" for value in each["fetch_us"].values()]
            rows.add_row(one["driver"], f"{each['rows_per_second']:,}", f"{each['hit_share']:.0%}", *shares)
    console.print(table)
    console.print(rows)
