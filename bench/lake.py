"""The lake: rows archived from a log, beside plain `write_deltalake` of the same batches; and while a log grows.

Three figures: `archive`, everything that lies in a log; `peer`, the same rows read from the log, joined to a table per
commit and handed to delta-rs as they are (not sorted, no positions, nothing fsynced); `live`, rows that come at a fixed
rate for some seconds while the archiver commits once a second.
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from rich.console import Console
from rich.table import Table

from bench.work import empty_folder
from qanat.lake import Archiver, Tables
from qanat.lake.archiver import behind
from qanat.log import open_log
from qanat.log.admission import declared_schema
from qanat.log.base import Append, Log, Transaction
from qanat.model.lake import Lake
from qanat.model.streams import Stream
from qanat.sql import compile_script

Say = Callable[[str], None]

RATE = 300_000
#: Rows of an append, of a commit, and sensors.
_APPEND, _COMMIT, _SENSORS = 2_000, 1_000_000, 10_000
_SQL = """CREATE TABLE readings (sensor STRING, kind STRING, v DOUBLE, quality INT, ts TIMESTAMP(3),
WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('archive' = 'true', 'archive.sort' = 'sensor')"""
_BEGIN = 1_767_225_600_000


@dataclass(slots=True)
class Measured:
    """Rows/s of every run; what the live run saw; whether every table had every row once."""

    rows: int
    archive: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    live: dict[str, float] = field(default_factory=dict)
    right: bool = True


def measure(seconds: float | None, runs: int, say: Say) -> Measured:
    """`seconds` of rows at `RATE`, `runs` times archived, by qanat and by the peer in turn; then as they come."""
    lasting = seconds or 10.0
    found = Measured(int(lasting * RATE) // _APPEND * _APPEND)
    folder = empty_folder("lake")
    say(f"lake: {found.rows:,} rows go into a log")
    log, stream = _filled(folder, found.rows)
    for number in range(runs):
        say(f"lake: run {number + 1}")
        found.archive.append(_archive(log, folder / f"ours{number}", found))
        found.peer.append(_peer(log, folder / f"peer{number}", found))
    log.close()
    say(f"lake: {RATE:,} rows/s for {lasting:g} s")
    found.live = _live(folder / "live", stream, lasting, found)
    shutil.rmtree(folder)
    return found


def _stream() -> Stream:
    stream = compile_script(_SQL).tables["readings"].stream
    assert stream is not None
    return stream


def _appends(stream: Stream, rows: int) -> Iterator[Append]:
    drawn, schema = np.random.default_rng(1), declared_schema(stream)
    sensors = pa.array([f"sensor-{number:05d}" for number in range(_SENSORS)])
    kinds = pa.array(["temperature", "humidity", "power"])
    for first in range(0, rows, _APPEND):
        times = _BEGIN + (first + np.arange(_APPEND)) * 1000 // RATE + drawn.integers(0, 3000, _APPEND)
        columns = [
            sensors.take(pa.array(drawn.integers(0, _SENSORS, _APPEND))),
            kinds.take(pa.array(drawn.integers(0, 3, _APPEND))),
            pa.array(drawn.normal(20, 3, _APPEND)),
            pa.array(drawn.integers(0, 100, _APPEND).astype(np.int32)),
            pa.array(times).cast(pa.timestamp("ms")),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        yield Append("readings", 0, batch, int(times.max()), int(times.min()), int(times.max()))


def _filled(folder: Path, rows: int) -> tuple[Log, Stream]:
    log, stream = open_log(f"sqlite:///{folder}/log.db"), _stream()
    log.create(stream)
    last = None
    for number, append in enumerate(_appends(stream, rows)):
        last = log.submit(Transaction([append]))
        if number % 50 == 0:
            last.result()
    if last is not None:
        last.result()
    return log, stream


def _archive(log: Log, lake: Path, found: Measured) -> float:
    log.submit(Transaction(forget=["lake:readings"])).result()  # a new lake
    archiver = Archiver(log, Tables(lake), Lake(rows=_COMMIT))
    archiver.prepare()
    began = time.perf_counter()
    while archiver.archive("readings").more:
        pass
    took = time.perf_counter() - began
    found.right &= _whole(lake / "readings", found.rows)
    return found.rows / took


def _peer(log: Log, lake: Path, found: Measured) -> float:
    began = time.perf_counter()
    offset, batches, rows = 0, [], 0
    while True:
        chunks = log.read(("readings", 0), offset, 1 << 16)
        batches += [chunk.rows for chunk in chunks]
        rows += sum(chunk.rows.num_rows for chunk in chunks)
        if chunks:
            offset = chunks[-1].end
        if rows >= _COMMIT or (rows and not chunks):
            table = pa.Table.from_batches(batches)
            table = table.append_column("date", table["ts"].cast(pa.date32(), safe=False))
            write_deltalake(lake, table, partition_by=["date"], mode="append")
            batches, rows = [], 0
        if not chunks:
            break
    took = time.perf_counter() - began
    found.right &= DeltaTable(lake).count() == found.rows
    return found.rows / took


def _live(folder: Path, stream: Stream, seconds: float, found: Measured) -> dict[str, float]:
    folder.mkdir()
    log = open_log(f"sqlite:///{folder}/log.db")
    log.create(stream)
    archiver = Archiver(log, Tables(folder / "lake"), Lake(rows=_COMMIT))
    archiver.prepare()
    appends = list(_appends(stream, int(seconds * RATE) // _APPEND * _APPEND))
    ending = threading.Event()
    busy: list[float] = []

    def archive() -> None:
        while not ending.wait(1.0):
            began = time.perf_counter()
            while archiver.archive("readings").more:
                pass
            busy.append(time.perf_counter() - began)

    thread = threading.Thread(target=archive)
    thread.start()
    began = time.perf_counter()
    for number, append in enumerate(appends):
        log.submit(Transaction([append]))
        ahead = began + (number + 1) * _APPEND / RATE - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
    fed = time.perf_counter() - began
    table = Tables(folder / "lake").open("readings")
    lag, _ = behind(log, {0: 0} if table is None else table.positions([0]), "readings")
    ending.set()
    thread.join()
    while archiver.archive("readings").more:
        pass
    rows = len(appends) * _APPEND
    found.right &= _whole(folder / "lake/readings", rows)
    log.close()
    return {"rows_per_second": rows / fed, "rows_behind": lag, "share_of_a_core": sum(busy) / fed}


def _whole(lake: Path, rows: int) -> bool:
    """Whether every offset is there once."""
    offsets = DeltaTable(lake).to_pyarrow_table(columns=["__offset"])["__offset"].to_numpy()
    return len(offsets) == rows and bool(np.array_equal(np.sort(offsets), np.arange(rows)))


def as_json(measured: Measured) -> dict[str, Any]:
    """The figures."""
    ours, peer = statistics.median(measured.archive), statistics.median(measured.peer)
    wanted = [
        {
            "what": "archived, rows/s",
            "wanted": f">= {RATE:,}",
            "found": round(ours),
            "met": ours >= RATE,
        },
        {
            "what": f"behind after {RATE:,} rows/s, in rows",
            "wanted": f"< {3 * RATE:,}",
            "found": measured.live["rows_behind"],
            "met": measured.live["rows_behind"] < 3 * RATE,
        },
    ]
    return {
        "rows": measured.rows,
        "append_rows": _APPEND,
        "commit_rows": _COMMIT,
        "archive_rows_per_second": [round(one) for one in measured.archive],
        "peer_rows_per_second": [round(one) for one in measured.peer],
        "times": round(ours / peer, 2),
        "live": {name: round(value, 3) for name, value in measured.live.items()},
        "right": measured.right,
        "wanted": wanted,
    }


def show(console: Console, report: dict[str, Any]) -> None:
    """The same for people."""
    table = Table(title=f"lake: {report['rows']:,} rows in a log", title_justify="left", show_header=False)
    table.add_row("qanat, rows/s", ", ".join(f"{one:,}" for one in report["archive_rows_per_second"]))
    table.add_row("write_deltalake, rows/s", ", ".join(f"{one:,}" for one in report["peer_rows_per_second"]))
    table.add_row("times", f"{report['times']}")
    live = report["live"]
    table.add_row("live: rows/s in", f"{live['rows_per_second']:,.0f}")
    table.add_row("live: rows behind at the end", f"{live['rows_behind']:,.0f}")
    table.add_row("live: the archiver's share of a core", f"{live['share_of_a_core']:.2f}")
    table.add_row("every row there once", "yes" if report["right"] else "[red]NO[/red]")
    console.print(table)
