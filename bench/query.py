"""Queries over archived rows: qanat beside plain DuckDB on the same files, and a small one over live rows.

Rows go through the log and the archiver, as they would in a project, and are rewritten as its upkeep does it; then the
log is emptied by retention. Figures are medians; both sides have the same threads, and take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bench.work import empty_folder

#: What is wanted: a scan of everything at most so much slower than plain DuckDB; a key and day in so many seconds.
WANTED_SCAN, WANTED_POINT = 1.10, 0.300
#: Of so many rows.
WANTED_ROWS = 100_000_000
_BEGIN = 1_767_225_600_000
_DAY = 86_400_000
_SQL = """CREATE TABLE readings (
  sensor STRING, kind STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('archive' = 'true', 'archive.sort' = 'sensor', 'retention' = '1 s')"""
_LIVE = _SQL.replace("readings", "live").partition(" WITH")[0]
_SCAN = "SELECT sensor, count(*) AS n, avg(v) AS mean, max(v) AS top FROM readings GROUP BY sensor ORDER BY sensor"
_WHOLE = "SELECT count(*) AS n, sum(v) AS total, min(ts) AS first, max(ts) AS last FROM readings"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much there is."""

    rows: int = 10_000_000
    sensors: int = 1000
    days: int = 100
    live: int = 5000


@dataclass(slots=True)
class Outcome:
    """Seconds of every run, by figure; `rows`: what the archive holds; `right`: whether both sides gave the same."""

    shape: Shape
    files: int = 0
    bytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    right: bool = True


def measure(shape: Shape, runs: int, say: Callable[[str], None]) -> Outcome:
    """Build the archive, ask, and throw it away."""
    from qanat.lake import Archiver, DeltaArchive, Tables
    from qanat.log import open_log
    from qanat.model.lake import Lake
    from qanat.query import Query

    folder = empty_folder("query")
    log = open_log(f"sqlite:///{folder}/log.db")
    tables = Tables(folder / "lake")
    try:
        for sql in (_SQL, _LIVE):
            log.create(_stream(sql))
        archiver = Archiver(log, tables, Lake())
        archiver.prepare()
        _fill(log, archiver, shape, say)
        _upkeep(archiver, log, say)
        _append(log, "live", shape, 0, shape.live)
        found = [path for path in (folder / "lake").rglob("*.parquet") if "_delta_log" not in path.parts]
        outcome = Outcome(shape, len(found), sum(path.stat().st_size for path in found))
        with Query.over(log, archive=DeltaArchive(tables, log)) as query:
            _ask(query, found, outcome, runs, say)
        return outcome
    finally:
        log.close()
        empty_folder("query")


def _stream(sql: str) -> Any:
    from qanat.sql import compile_script

    (table,) = compile_script(sql).tables.values()
    return table.stream


def _fill(log: Any, archiver: Any, shape: Shape, say: Callable[[str], None]) -> None:
    part = 1_000_000
    for start in range(0, shape.rows, part):
        _append(log, "readings", shape, start, min(start + part, shape.rows))
        while archiver.archive("readings").more:
            pass
        log.maintain(_BEGIN + 10_000 * _DAY)
        say(f"{min(start + part, shape.rows):,} rows archived")


def _append(log: Any, stream: str, shape: Shape, start: int, end: int) -> None:
    """Sensors in turn, event times spread evenly over the days."""
    from qanat.log.base import Append, Transaction
    from qanat.model.arrow import schema_of

    declared = log.status()[stream].stream
    schema = schema_of((column.name, column.type) for column in declared.columns)
    for first in range(start, end, 100_000):
        numbers = np.arange(first, min(first + 100_000, end), dtype=np.int64)
        times = _BEGIN + numbers * (shape.days * _DAY) // shape.rows
        names = pa.array([f"sensor-{n:05d}" for n in range(shape.sensors)])
        kinds = pa.array(["temperature", "humidity", "wind"])
        values = np.round(20 + 10 * np.sin(numbers / 1e5) + (numbers * 7919 % 1000) / 100, 2)
        columns = [names.take(pa.array(numbers % shape.sensors)), kinds.take(pa.array(numbers % 3)), pa.array(values)]
        rows = pa.RecordBatch.from_arrays([*columns, pa.array(times).cast(schema.field("ts").type)], schema=schema)
        append = Append(stream, 0, rows, int(times[0]), int(times[0]), int(times[-1]))
        log.submit(Transaction([append])).result()


def _upkeep(archiver: Any, log: Any, say: Callable[[str], None]) -> None:
    from qanat.lake.upkeep import rewrite, rewrites

    status = log.status()["readings"]
    table = archiver.table(status)
    chosen = rewrites(table.files(), 128 << 20, _BEGIN, all_dates=True)
    for one in chosen:
        rewrite(table, status.stream, one, 128 << 20)
    table.vacuum(0)
    say(f"{len(chosen)} dates rewritten")


def _ask(query: Any, files: Sequence[Path], outcome: Outcome, runs: int, say: Callable[[str], None]) -> None:
    shape = outcome.shape
    plain = duckdb.connect(":memory:")
    plain.execute("SET TimeZone = 'UTC'").fetchall()
    listed = ", ".join(f"'{path}'" for path in files)
    plain.execute(f"CREATE VIEW readings AS SELECT * EXCLUDE (__date) FROM read_parquet([{listed}])").fetchall()
    day = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=shape.days // 2)
    point = (
        f"SELECT count(*) AS n, avg(v) AS mean FROM readings WHERE sensor = 'sensor-00042' "
        f"AND ts >= TIMESTAMP '{day:%Y-%m-%d}' AND ts < TIMESTAMP '{day + timedelta(days=1):%Y-%m-%d}'"
    )
    live = "SELECT sensor, avg(v) AS mean FROM live WHERE sensor = 'sensor-00007' GROUP BY ALL"
    for name, sql in (("scan", _SCAN), ("whole", _WHOLE), ("point", point)):
        answers = []
        for _ in range(runs + 1):  # the first one warms both
            answers.append(_timed(outcome, f"{name}, qanat", lambda sql=sql: query.table(sql)))
            answers.append(_timed(outcome, f"{name}, DuckDB", lambda sql=sql: plain.sql(sql).to_arrow_table()))
        outcome.right &= all(_same(one, answers[0]) for one in answers)
        say(f"{name}: {_median(outcome, f'{name}, qanat') * 1000:,.1f} ms")
    for _ in range(max(runs, 50) + 1):
        _timed(outcome, "live, qanat", lambda: query.table(live))
    plain.close()


def _timed(outcome: Outcome, name: str, act: Callable[[], pa.Table]) -> pa.Table:
    started = time.perf_counter()
    found = act()
    outcome.seconds.setdefault(name, []).append(time.perf_counter() - started)
    return found


def _same(one: pa.Table, other: pa.Table) -> bool:
    """The same rows, floating point sums as near as their order allows."""
    left, right = one.to_pylist(), other.to_pylist()
    return len(left) == len(right) and all(
        list(a) == list(b) and all(_near(a[name], b[name]) for name in a) for a, b in zip(left, right, strict=True)
    )


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9 * max(abs(one), abs(other), 1.0)
    return bool(one == other)


def _median(outcome: Outcome, name: str) -> float:
    return statistics.median(outcome.seconds[name][1:])


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Every figure, for programs."""
    figures = {name: round(_median(outcome, name), 6) for name in outcome.seconds}
    return {
        "rows": outcome.shape.rows,
        "sensors": outcome.shape.sensors,
        "days": outcome.shape.days,
        "live_rows": outcome.shape.live,
        "files": outcome.files,
        "bytes": outcome.bytes,
        "right": outcome.right,
        "seconds": figures,
        "runs": {name: [round(one, 6) for one in found] for name, found in outcome.seconds.items()},
        "wanted": _wanted(outcome),
    }


def _wanted(outcome: Outcome) -> list[dict[str, Any]]:
    slower = max(_median(outcome, f"{n}, qanat") / _median(outcome, f"{n}, DuckDB") for n in ("scan", "whole"))
    point = _median(outcome, "point, qanat")
    return [
        {
            "what": "a scan of all archived rows, times plain DuckDB",
            "wanted": f"<= {WANTED_SCAN}",
            "found": round(slower, 2),
            "met": slower <= WANTED_SCAN,
        },
        {
            "what": f"one key and day of {outcome.shape.rows:,} rows, s",
            "wanted": f"< {WANTED_POINT}",
            "found": round(point, 3),
            "met": point < WANTED_POINT if outcome.shape.rows >= WANTED_ROWS else None,
        },
    ]


def show(console: Console, report: dict[str, Any]) -> None:
    """The figures, for people."""
    title = f"{report['rows']:,} archived rows in {report['files']:,} files, {report['bytes'] / 1e6:,.0f} MB"
    table = Table(title=title, title_justify="left")
    for heading in ("query", "qanat, ms", "DuckDB, ms"):
        table.add_column(heading, justify="left" if heading == "query" else "right")
    for name, what in (
        ("scan", "aggregate per sensor, all rows"),
        ("whole", "aggregate of all rows"),
        ("point", "one sensor and day"),
        ("live", f"one sensor of {report['live_rows']:,} live rows"),
    ):
        found = [report["seconds"].get(f"{name}, {side}") for side in ("qanat", "DuckDB")]
        table.add_row(what, *("" if one is None else f"{one * 1000:,.1f}" for one in found))
    table.caption = None if report["right"] else "[red]the answers differ[/red]"
    console.print(table)
