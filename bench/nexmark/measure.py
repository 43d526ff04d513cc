"""The Nexmark bench: the same file of events, ten queries, qanat and Flink; results are compared before rates are.

python -m bench nexmark [--events N] [--runs N] [--queries q0,q1,...] [--peers qanat,flink]
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.data import prefix_file
from bench.flink import FlinkError
from bench.nexmark.answers import Answer, file_digest
from bench.nexmark.engines import FIRST_EVENTS, Flink, Measured, Qanat
from bench.nexmark.events import Shape, events_file
from bench.nexmark.queries import MEASURED, Query, script
from bench.process import CommandError
from bench.work import folder, write_json

#: The targets: on no query slower than Flink, and over all, as a geometric mean, three times as fast.
WANTED_LEAST, WANTED_MEAN = 1.0, 3.0
USUAL_RUNS = 5

Engine = Qanat | Flink
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One engine at one query. `verdict`: None where its rows are the right ones, else what is wrong with them."""

    engine: str
    version: str
    query: Query
    events: int
    clock: str
    note: str
    runs: tuple[Measured, ...] = ()
    verdict: str | None = None
    error: str | None = None
    load: float = 0.0

    @property
    def right(self) -> bool:
        """Whether it ran, and its figures may be compared."""
        return self.error is None and self.verdict is None and bool(self.runs)

    @property
    def seconds(self) -> float:
        """Median of the runs."""
        return statistics.median(one.run.seconds for one in self.runs)

    @property
    def rate(self) -> float:
        """Events of the file a second, by the median."""
        return self.events / self.seconds

    @property
    def peak_mb(self) -> float:
        """Highest of all runs, in units of 10^6 bytes."""
        return max(one.run.usage.peak_bytes for one in self.runs) / 1e6


@dataclass(frozen=True, slots=True)
class Report:
    """All results, and what the file was."""

    shape: Shape
    file_bytes: int
    compared: int
    results: list[Result] = field(default_factory=list)

    def times(self, query: str) -> float | None:
        """qanat's rate over Flink's, where both gave the right rows."""
        rates = {one.engine: one.rate for one in self.results if one.query.name == query and one.right}
        return rates["qanat"] / rates["flink"] if {"qanat", "flink"} <= set(rates) else None

    @property
    def mean_times(self) -> float | None:
        """The geometric mean over all queries; None where one of them has no ratio."""
        found = [self.times(query.name) for query in self._queries()]
        ratios = [one for one in found if one is not None]
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios and len(ratios) == len(found) else None

    def _queries(self) -> list[Query]:
        return list({one.query.name: one.query for one in self.results}.values())


def measure(shape: Shape, engines: Sequence[Engine], runs: int | None, queries: Sequence[Query], say: Say) -> Report:
    """Run everything; what fails is part of the report and does not end it."""
    say(f"nexmark: {shape.events:,} events")
    source = events_file(shape)
    count = min(FIRST_EVENTS, shape.events)
    first = prefix_file(source, count)
    report = Report(shape, source.stat().st_size, count)
    work = _Work(shape, source, first, _right_answers(engines, first, shape.seed, say), runs or USUAL_RUNS)
    for query in queries:
        for engine in engines:
            report.results.append(_measure(engine, query, work, say))
    return report


def as_json(report: Report) -> dict[str, Any]:
    """Every figure, for programs."""
    mean = report.mean_times
    return {
        "input": {**asdict(report.shape), "bytes": report.file_bytes, "compared_events": report.compared},
        "results": [_result_json(report, one) for one in report.results],
        "geometric_mean": None if mean is None else round(mean, 2),
        "wanted": wanted(report),
    }


def wanted(report: Report) -> list[dict[str, Any]]:
    """The targets, and what was found; `found` None where it could not be measured."""
    ratios = [report.times(query.name) for query in MEASURED]
    least = min((one for one in ratios if one is not None), default=None) if None not in ratios else None
    mean = report.mean_times if least is not None else None
    rows = (("least times Flink", WANTED_LEAST, least), ("times Flink, geometric mean", WANTED_MEAN, mean))
    return [
        {
            "what": f"Nexmark: {what}",
            "wanted": f">= {want:g}",
            "found": None if found is None else round(found, 2),
            "met": None if found is None else found >= want,
        }
        for what, want, found in rows
    ]


def _right_answers(engines: Sequence[Engine], first: Path, seed: int, say: Say) -> Mapping[str, Answer]:
    """Flink's answers over the first events: what every engine is held against. Asked once, then kept."""
    path = folder("expected") / f"{first.stem}.json"
    key = file_digest([first]) + "".join(script(query) for query in MEASURED)
    if path.exists() and (kept := json.loads(path.read_text()))["key"] == key:
        return {name: Answer(**one) for name, one in kept["answers"].items()}
    flink = next((engine for engine in engines if isinstance(engine, Flink)), None)
    if flink is None:
        return {}
    say("nexmark: asking Flink for the right answers")
    with flink:
        answers = flink.answers(MEASURED, first, seed)
    write_json(path, {"key": key, "answers": {name: asdict(one) for name, one in answers.items()}})
    return answers


@dataclass(frozen=True, slots=True)
class _Work:
    """What every engine gets. `first`: the events over which answers are compared, `right`: Flink's."""

    shape: Shape
    source: Path
    first: Path
    right: Mapping[str, Answer]
    runs: int


def _measure(engine: Engine, query: Query, work: _Work, say: Say) -> Result:
    events, seed = work.shape.events, work.shape.seed
    head = (engine.name, engine.version, query, events, engine.clock, engine.note)
    load = machine.load()
    done: list[Measured] = []
    try:
        verdict = _judge(engine, query, work)
        for number in range(work.runs):
            say(f"{engine.name}: {query.name}, {query.title}, run {number + 1} of {work.runs}")
            _read_through(work.source)
            done.append(engine.measure(query, work.source, seed))
            say(f"{engine.name}: {query.name}, {events / done[-1].run.seconds:,.0f} events/s")
    except (CommandError, FlinkError, OSError, ValueError, KeyError) as error:
        return Result(*head, error=str(error) or repr(error), load=load)
    said = {(one.rows_in, one.rows_out) for one in done}
    if verdict is None and (len(said) > 1 or any(rows not in (None, events) for rows, _ in said)):
        verdict = f"rows in and out differ between runs, or not all events were read: {sorted(said)}"
    return Result(*head, tuple(done), verdict, load=load)


def _judge(engine: Engine, query: Query, work: _Work) -> str | None:
    """What is wrong with the rows over the first events; Flink's are the right ones."""
    if isinstance(engine, Flink):
        return None
    if query.name not in work.right:
        return "not compared: Flink did not run"
    wanted, found = work.right[query.name], engine.answer(query, work.first, work.shape.seed)
    if (found.rows, found.digest) == (wanted.rows, wanted.digest):
        return None
    return f"{found.rows:,} rows, Flink gives {wanted.rows:,}" if found.rows != wanted.rows else "other rows"


def _read_through(source: Path) -> None:
    # every run finds the file in the page cache
    with source.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def _result_json(report: Report, result: Result) -> dict[str, Any]:
    head = {
        "engine": result.engine,
        "version": result.version,
        "query": result.query.name,
        "title": result.query.title,
        "note": result.note,
        "clock": result.clock,
    }
    if result.error is not None:
        return head | {"error": result.error}
    times = report.times(result.query.name) if result.engine != "qanat" else None
    return head | {
        "seconds": round(result.seconds, 3),
        "events_per_second": round(result.rate),
        "peak_mb": round(result.peak_mb, 1),
        "qanat_is_times_faster": None if times is None else round(times, 2),
        "right": result.right,
        "verdict": result.verdict,
        "rows_out": result.runs[0].rows_out,
        "load_before": result.load,
        "runs": [
            {
                "seconds": round(one.run.seconds, 3),
                "peak_mb": round(one.run.usage.peak_bytes / 1e6, 1),
                "cpu_seconds": one.run.usage.cpu_seconds,
                "with_start_up_seconds": one.run.usage.wall_seconds,
            }
            for one in result.runs
        ],
    }
