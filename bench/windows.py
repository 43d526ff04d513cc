"""The window bench: the same file, the same two queries, every engine in turn; outputs are judged before rates compare.

python -m bench windows [--rows N] [--runs N] [--peers qanat,flink,...]
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.data import Shape, power_file, prefix_file
from bench.engines import Engine, Run
from bench.flink import FlinkError
from bench.oracle import HOP, TUMBLE, Query, Verdict, expected, judge, late_rows
from bench.process import CommandError
from bench.work import empty_folder

#: The targets.
WANTED_TIMES_FLINK = 5.0
WANTED_PEAK_MB = 1_000


@dataclass(frozen=True, slots=True)
class Result:
    """One engine on one query. `rows`: how many it was given; `verdict`: of the worst run; `error`: it did not run."""

    engine: str
    version: str
    query: str
    rows: int
    note: str
    clock: str
    runs: tuple[Run, ...] = ()
    verdict: Verdict | None = None
    error: str | None = None
    load: float = 0.0

    @property
    def right(self) -> bool:
        """Whether its figures may be compared with others."""
        return self.verdict is not None and self.verdict.right

    @property
    def seconds(self) -> float:
        """Median of the runs."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def rate(self) -> float:
        """Rows a second, by the median."""
        return self.rows / self.seconds

    @property
    def peak_mb(self) -> float:
        """Highest of all runs, in units of 10^6 bytes."""
        return max(run.usage.peak_bytes for run in self.runs) / 1e6


@dataclass(frozen=True, slots=True)
class Report:
    """All results, and what the file was."""

    shape: Shape
    file_bytes: int
    late: int
    results: list[Result] = field(default_factory=list)

    def of(self, engine: str, query: str) -> Result | None:
        """The result that an engine may be compared by: the right rows, or none."""
        found = (each for each in self.results if (each.engine, each.query) == (engine, query) and each.right)
        return next(found, None)

    def ratio(self, result: Result) -> float | None:
        """qanat's rate over that of the result, where both gave the right rows."""
        own = self.of("qanat", result.query)
        return own.rate / result.rate if own is not None and result.right and result is not own else None


def measure(
    shape: Shape,
    engines: Iterable[Engine],
    runs: int | None,
    say: Callable[[str], None],
    queries: Sequence[Query] = (TUMBLE, HOP),
) -> Report:
    """Run everything, one engine after the other; a failing engine is part of the report and does not end it."""
    say(f"input: {shape.rows:,} rows, {shape.clients:,} clients")
    source = power_file(shape)
    report = Report(shape, source.stat().st_size, late_rows(source))
    for engine in engines:
        report.results.extend(_measure_engine(engine, source, shape, queries, runs, say))
    return report


def as_json(report: Report) -> dict[str, Any]:
    """Every figure, for programs."""
    return {
        "input": {
            "rows": report.shape.rows,
            "clients": report.shape.clients,
            "disorder_ms": report.shape.disorder_ms,
            "seed": report.shape.seed,
            "bytes": report.file_bytes,
            "late_rows": report.late,
        },
        "results": [_result_json(report, result) for result in report.results],
        "wanted": wanted(report),
    }


def wanted(report: Report) -> list[dict[str, Any]]:
    """The targets, and what was found; `found` None where it could not be measured."""
    rows = []
    for query in (TUMBLE, HOP):
        own, flink = report.of("qanat", query.name), report.of("flink", query.name)
        times = own.rate / flink.rate if own and flink else None
        rows.append(
            _target(
                f"{query.title}: times Flink", f">= {WANTED_TIMES_FLINK:g}", times, lambda x: x >= WANTED_TIMES_FLINK
            )
        )
        peak = own.peak_mb if own else None
        rows.append(
            _target(f"{query.title}: peak memory, MB", f"< {WANTED_PEAK_MB}", peak, lambda x: x < WANTED_PEAK_MB)
        )
    return rows


def _target(what: str, want: str, found: float | None, met: Callable[[float], bool]) -> dict[str, Any]:
    return {
        "what": what,
        "wanted": want,
        "found": None if found is None else round(found, 2),
        "met": None if found is None else met(found),
    }


def _measure_engine(
    engine: Engine, source: Path, shape: Shape, queries: Sequence[Query], runs: int | None, say: Callable[[str], None]
) -> list[Result]:
    results = []
    try:
        say(f"{engine.name}: starting")
        with engine:
            for query in queries:
                results.append(_measure_query(engine, query, source, shape, runs, say))  # noqa: PERF401 - keeps what ran
    except (CommandError, FlinkError, OSError) as error:
        done = {result.query for result in results}
        results += [_blank(engine, query, shape.rows, str(error)) for query in queries if query.name not in done]
    return results


def _measure_query(
    engine: Engine, query: Query, source: Path, shape: Shape, runs: int | None, say: Callable[[str], None]
) -> Result:
    effort = engine.efforts[query.name]
    rows = min(shape.rows, effort.rows or shape.rows)
    source = source if rows == shape.rows else prefix_file(source, rows)
    right = expected(source, query)
    done: list[Run] = []
    verdict: Verdict | None = None
    load = machine.load()
    for number in range(runs or effort.runs):
        say(f"{engine.name}: {query.title}, run {number + 1} of {runs or effort.runs} over {rows:,} rows")
        folder = empty_folder("run")
        _read_through(source)
        try:
            run = engine.run(query, source, folder)
        except (CommandError, FlinkError, OSError, ValueError, KeyError) as error:
            return _blank(engine, query, rows, str(error) or repr(error))
        judged = judge(folder / "out", right)
        verdict = judged if verdict is None or verdict.right else verdict
        done.append(run)
        say(f"{engine.name}: {query.title}, {rows / run.seconds:,.0f} rows/s, {judged.text}")
    text = (engine.name, engine.version, query.name, rows, engine.note, engine.clock)
    return Result(*text, tuple(done), verdict, load=load)


def _blank(engine: Engine, query: Query, rows: int, error: str) -> Result:
    return Result(engine.name, engine.version, query.name, rows, engine.note, engine.clock, error=error)


def _read_through(source: Path) -> None:
    # every run finds the file in the page cache
    with source.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _result_json(report: Report, result: Result) -> dict[str, Any]:
    head = {
        "engine": result.engine,
        "version": result.version,
        "query": result.query,
        "rows": result.rows,
        "all_rows": result.rows == report.shape.rows,
        "note": result.note,
        "clock": result.clock,
    }
    if result.error is not None:
        return head | {"error": result.error}
    ratio = report.ratio(result)
    return head | {
        "seconds": round(result.seconds, 3),
        "rows_per_second": round(result.rate),
        "peak_mb": round(result.peak_mb, 1),
        "qanat_is_times_faster": None if ratio is None else round(ratio, 2),
        "right": result.right,
        "verdict": result.verdict.text if result.verdict else None,
        "rows_out": result.verdict.rows if result.verdict else None,
        "load_before": result.load,
        "runs": [
            {
                "seconds": round(run.seconds, 3),
                "peak_mb": round(run.usage.peak_bytes / 1e6, 1),
                "cpu_seconds": run.usage.cpu_seconds,
                "with_start_up_seconds": run.usage.wall_seconds,
            }
            for run in result.runs
        ],
    }
