"""An hour of 4,000 simulated households, out of the log and through both flows of examples/nilm as fast as it goes.

    python -m bench nilm [--households N] [--seconds N] [--runs N]

The log is loaded first, outside the clock. Then `qanat run examples/nilm/nilm.sql --state DIR` reads it from its first
row: what it writes goes into the same log, with the same transactions as in `qanat up`. The clock runs from the first
row read from the log to the last output committed, over both pipelines. Afterwards the log is judged by
`qanat.sim.parity`, which computes windows and training sets another way: every row of both outputs is compared.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.engines import last_json, pipeline_times
from bench.process import CommandError, Usage, run_watched
from bench.work import ROOT, empty_folder

SCRIPT = ROOT / "examples" / "nilm" / "nilm.sql"
WANTED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """What decides every row of the input."""

    households: int = 4_000
    seconds: int = 3_600
    seed: int = 1


#: The targets.
WHOLE = Fleet()


@dataclass(frozen=True, slots=True)
class Replay:
    """One run. `per_pipeline`: rows in and out and seconds of each flow, as qanat tells them."""

    seconds: float
    usage: Usage
    per_pipeline: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians and judgement. `report` are the figures of the parity report of the last run, `ok` its verdict."""

    fleet: Fleet
    rows_in: dict[str, int]
    replays: tuple[Replay, ...] = ()
    report: dict[str, Any] | None = None
    ok: bool = False
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Median of the runs."""
        return statistics.median(replay.seconds for replay in self.replays)

    @property
    def peak_mb(self) -> float:
        """Highest of all runs."""
        return max(replay.usage.peak_bytes for replay in self.replays) / 1e6


def measure(fleet: Fleet, runs: int, say: Callable[[str], None]) -> Outcome:
    """Load, replay, judge. What fails is said in the outcome."""
    from qanat.errors import QanatError

    rows_in: dict[str, int] = {}
    replays: list[Replay] = []
    report: dict[str, Any] = {}
    ok = True
    try:
        for number in range(runs):
            state = empty_folder("nilm")
            say(f"nilm: loading {fleet.households:,} households, {fleet.seconds:,} s")
            rows_in = load(fleet, state)
            say(f"nilm: run {number + 1} of {runs} over {sum(rows_in.values()):,} rows")
            replays.append(replay(state))
            say(f"nilm: {replays[-1].seconds:.1f} s; judging")
            report, right = judge(state)
            ok = ok and right
    except (CommandError, QanatError, OSError, ValueError, KeyError) as error:
        return Outcome(fleet, rows_in, tuple(replays), error=str(error) or repr(error))
    return Outcome(fleet, rows_in, tuple(replays), report, ok)


def load(fleet: Fleet, state: Path) -> dict[str, int]:
    """Put the fleet's rows into the log in `state` in order of arrival, ten seconds an append. Rows per stream."""
    import pyarrow.compute as pc

    from qanat.log import open_log
    from qanat.log.base import Append, Transaction
    from qanat.sim.households import fleet_batches
    from qanat.sql import compile_script

    tables = compile_script(SCRIPT.read_text(), source=SCRIPT.name).tables
    rows_in: dict[str, int] = {}
    log = open_log(_log_url(state))
    try:
        for name in ("power", "device_state"):
            stream = tables[name].stream
            if stream is None:
                raise CommandError(f"{SCRIPT.name}: {name} is not a stream of the log")
            log.create(stream)
        waiting = []
        for name, rows, at in fleet_batches(fleet.households, fleet.seconds, fleet.seed):
            times = pc.min_max(rows.column("timestamp")).as_py()
            append = Append(name, 0, rows, at, times["min"] * 1_000, times["max"] * 1_000)
            waiting.append(log.submit(Transaction([append])))
            rows_in[name] = rows_in.get(name, 0) + rows.num_rows
            if len(waiting) >= 32:
                waiting.pop(0).result()
        for future in waiting:
            future.result()
    finally:
        log.close()
    return rows_in


def replay(state: Path) -> Replay:
    """One `qanat run` over the loaded log."""
    said = state / "said.json"
    command: list[str | Path] = [Path(sys.executable).with_name("qanat"), "run", SCRIPT, "--state", state, "--json"]
    usage = run_watched(command, said, cwd=ROOT)
    summary = last_json(said)
    first, last = pipeline_times(summary)
    parts = tuple(
        {
            "name": each["name"],
            "rows_in": each["rows_in"],
            "rows_out": each["rows_out"],
            "seconds": round(each["last_commit_at"] - each["first_row_at"], 3),
        }
        for each in summary["pipelines"]
    )
    return Replay(last - first, usage, parts)


def judge(state: Path) -> tuple[dict[str, Any], bool]:
    """Figures of the parity report, and whether every expected row is there, with its contents, once."""
    from qanat.log import open_log
    from qanat.sim import parity

    log = open_log(_log_url(state), read_only=True)
    try:
        stored = replace(parity.read_stored(log), ended=True)
    finally:
        log.close()
    report = parity.judge(stored)
    figures = {
        "windows": report.windows.produced,
        "windows_expected": report.windows.expected,
        "training_sets": report.sets.produced,
        "training_sets_expected": report.sets.expected,
        "fusable_seconds": report.fusable,
        "fused_seconds": report.fused,
        "fused_in_short_stretches": report.waiting,
        "rows_out": report.rows,
        "rows_in_order": report.in_order,
        "late": report.late,
        "clients_not_judged": report.unjudged,
    }
    return figures, report.ok


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Every figure, for programs."""
    head: dict[str, Any] = {
        "households": outcome.fleet.households,
        "seconds_of_event_time": outcome.fleet.seconds,
        "seed": outcome.fleet.seed,
        "rows_in": outcome.rows_in,
        "clock": "first row read from the log to last output committed, over both pipelines; loading left out",
    }
    if outcome.error is not None:
        return head | {"error": outcome.error}
    return head | {
        "seconds": round(outcome.seconds, 2),
        "rows_per_second": round(sum(outcome.rows_in.values()) / outcome.seconds),
        "peak_mb": round(outcome.peak_mb, 1),
        "right": outcome.ok,
        "parity": outcome.report,
        "runs": [
            {
                "seconds": round(each.seconds, 3),
                "peak_mb": round(each.usage.peak_bytes / 1e6, 1),
                "cpu_seconds": each.usage.cpu_seconds,
                "with_start_up_seconds": each.usage.wall_seconds,
                "pipelines": list(each.per_pipeline),
            }
            for each in outcome.replays
        ],
        "wanted": wanted(outcome),
    }


def wanted(outcome: Outcome) -> list[dict[str, Any]]:
    """The targets for an hour of 4,000 households, and what was found."""
    report = outcome.report or {}
    fusable, fused = report.get("fusable_seconds"), report.get("fused_seconds")
    share = 100.0 * fused / fusable if fusable and fused is not None else None
    whole = (outcome.fleet.households, outcome.fleet.seconds) == (WHOLE.households, WHOLE.seconds)
    took = outcome.seconds if outcome.replays and whole else None
    return [
        {
            "what": "an hour of 4,000 households, s",
            "wanted": f"< {WANTED_SECONDS:g}",
            "found": None if took is None else round(took, 1),
            "met": None if took is None else took < WANTED_SECONDS,
        },
        {
            "what": "fusable seconds fused, %",
            "wanted": "100",
            "found": share,
            "met": None if share is None else fused == fusable and outcome.ok,
        },
    ]


def _log_url(state: Path) -> str:
    from qanat.cli.project import log_url

    return log_url(state)
