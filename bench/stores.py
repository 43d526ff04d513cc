"""Hot stores side by side: rows a second written, and how long `latest` and `read` of one key take.

Every store gets the same batches, one after the other, as the feeder would write them, from one thread; then one thread
asks for keys drawn at random, first for the newest row, then for the newest hundred. ClickHouse is measured in this
process (chdb): what a server and HTTP add is not in the figures. Cassandra is one node on this machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.cassandra import CassandraError, CassandraNode
from bench.process import CommandError
from bench.work import empty_folder
from qanat.errors import QanatError
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP_LTZ
from qanat.stores.hot import open_store
from qanat.stores.hot.base import HotStore
from qanat.stores.hot.rows import declared_schema, make_batch
from qanat.stores.hot.table import Table, open_table

NAMES = ("duckdb", "chdb", "cassandra")
BATCH = 20_000
KEYS = 1_000
#: What is written at most, and for how long.
MOST_ROWS = 2_000_000
_LOOKS = 300
_READ_ROWS = 100
_BEGIN_MS = 1_767_225_600_000
_MS = 1_000


@dataclass(frozen=True, slots=True)
class Result:
    """One store. Times in ms: the median and the 95th percentile. `rows`: those that were written."""

    store: str
    rows: int = 0
    rows_per_second: int = 0
    latest_ms: tuple[float, float] = (0, 0)
    read_ms: tuple[float, float] = (0, 0)
    right: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a log: a reading of every key, a second apart, and again."""

    offset: int
    rows: pa.RecordBatch
    at: int = field(default=_BEGIN_MS)


def measure(names: list[str], seconds: float, say: Callable[[str], None]) -> list[Result]:
    """Write for so many seconds into each store, then ask."""
    found = []
    for name in names:
        say(f"stores: {name}")
        try:
            with _opened(name) as store:
                found.append(_measured(name, store, seconds))
        except (QanatError, CassandraError, CommandError) as error:
            found.append(Result(name, error=str(error)))
    return found


def as_json(results: list[Result]) -> dict[str, Any]:
    """The figures."""
    shape = {"batch_rows": BATCH, "keys": KEYS, "looks": _LOOKS, "rows_of_a_read": _READ_ROWS}
    return {"input": shape, "results": [asdict(each) for each in results]}


@contextmanager
def _opened(name: str) -> Iterator[HotStore]:
    folder = empty_folder("stores", name)
    if name == "cassandra":
        with (
            CassandraNode(folder, heap="1g") as node,
            _closed(open_store(f"cassandra://127.0.0.1:{node.port}/hot")) as one,
        ):
            yield one
    else:
        with _closed(open_store(f"{name}:///{Path(folder)}/hot")) as one:
            yield one


@contextmanager
def _closed(store: HotStore) -> Iterator[HotStore]:
    try:
        yield store
    finally:
        store.close()


def _table() -> Table:
    columns = (
        Column("sensor", STRING),
        Column("ts", TIMESTAMP_LTZ),
        Column("temperature", DOUBLE),
        Column("n", BIGINT),
    )
    return open_table(Stream("readings", columns, event_time=ArrivalColumn("ts", None)), ("sensor",))


def _measured(name: str, store: HotStore, seconds: float) -> Result:
    table = _table()
    store.prepare(table)
    written, spent = 0, 0.0
    while spent < seconds and written < MOST_ROWS:
        piece = _Piece(written, _rows(table, written))
        began = time.perf_counter()
        store.write(table.name, make_batch(table, 0, [piece]))
        spent += time.perf_counter() - began
        written += BATCH
    draw = random.Random(1)
    keys = [_key(draw.randrange(KEYS)) for _ in range(_LOOKS)]
    latest = [_timed(lambda key=key: store.latest(table.name, [key])) for key in keys]
    read = [_timed(lambda key=key: store.read(table.name, [key], limit=_READ_ROWS)) for key in keys]
    right = all(
        found.column("n").to_pylist() == _expected(key, written, limit)
        for limit, looks in ((1, latest), (_READ_ROWS, read))
        for key, (_, found) in zip(keys, looks, strict=True)
    )
    return Result(name, written, round(written / spent), _percentiles(latest), _percentiles(read), right)


def _rows(table: Table, first: int) -> pa.RecordBatch:
    numbers = np.arange(first, first + BATCH)
    columns = [
        pa.array([_key(int(number) % KEYS) for number in numbers]),
        pa.array(_BEGIN_MS + numbers // KEYS * _MS).cast(pa.timestamp("ms", "UTC")),
        pa.array(numbers % 977 / 7),
        pa.array(numbers),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=declared_schema(table))


def _key(number: int) -> str:
    return f"sensor-{number:05d}"


def _expected(key: str, written: int, limit: int) -> list[int]:
    """The numbers of the newest rows of a key, newest first."""
    return list(range(int(key[-5:]), written, KEYS))[::-1][:limit]


def _timed(look: Callable[[], pa.Table]) -> tuple[float, pa.Table]:
    began = time.perf_counter()
    found = look()
    return (time.perf_counter() - began) * 1000, found


def _percentiles(looks: list[tuple[float, pa.Table]]) -> tuple[float, float]:
    times = [ms for ms, _ in looks]
    return round(float(np.percentile(times, 50)), 2), round(float(np.percentile(times, 95)), 2)
