"""A plan in words, and as plain values for `--json`. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from qanat.control.stages import History, PipelineStage, Stage, StreamStage, is_change

_MARKS: Mapping[str, str] = {
    "new": "+",
    "changed": "~",
    "refused": "!",
    "kept": "~",
    "rebuilt": "~",
    "lost": "!",
    "removed": "-",
    "unchanged": " ",
    "undeclared": " ",
}
_SAYS: Mapping[str, str] = {
    "new": "is new: reads its streams from the beginning",
    "kept": "changed, its state is kept",
    "rebuilt": "changed, its state is rebuilt from the log",
    "lost": "changed, ITS STATE IS LOST",
    "removed": "is removed",
    "unchanged": "unchanged",
}


def render(stages: Sequence[Stage]) -> str:
    """The plan as lines for people."""
    lines: list[str] = []
    for stage in stages:
        lines += _stream(stage) if isinstance(stage, StreamStage) else _pipeline(stage)
    changes = sum(map(is_change, stages))
    lines.append("" if lines else "nothing is declared")
    lines.append(f"{changes} change{'s' if changes != 1 else ''}" if changes else "no changes")
    return "\n".join(line for line in lines if line)


def _stream(stage: StreamStage) -> list[str]:
    says = {
        "new": "is new",
        "changed": "changed",
        "refused": "CANNOT BE CHANGED LIKE THIS",
        "undeclared": "is not declared any more",
    }.get(stage.action, "unchanged")
    detail = f": {'; '.join(stage.changes)}" if stage.changes else ""
    return [f"{_MARKS[stage.action]} stream {stage.name} {says}{detail}"]


def _pipeline(stage: PipelineStage) -> list[str]:
    lines = [f"{_MARKS[stage.action]} pipeline {stage.name} {_SAYS[stage.action]}"]
    lines += [f"    {text}" for text in (stage.reason, stage.note) if text]
    if stage.history is not None:
        left = "what is left: " if stage.action == "lost" else ""
        lines.append(f"    {left}{history_text(stage.history)}")
    return lines


def history_text(history: History) -> str:
    """What a rebuild reads, and about how long that takes."""
    if not history.rows:
        return "no rows to read"
    since = "" if history.since_ms is None else f" that arrived since {instant(history.since_ms)}"
    how = "measured" if history.measured else "assumed"
    return f"{history.rows:,} rows{since}, about {seconds_text(history.seconds)} ({history.rate:,.0f} rows/s, {how})"


def seconds_text(seconds: float) -> str:
    """A time that somebody waits.

    >>> seconds_text(0.2), seconds_text(42.4), seconds_text(600), seconds_text(9000)
    ('a second', '42 s', '10 min', '2.5 h')
    """
    if seconds < 1.5:
        return "a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def instant(milliseconds: int) -> str:
    """Milliseconds since 1970 as a time in UTC."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def as_values(stages: Sequence[Stage]) -> dict[str, object]:
    """The plan for programs."""
    streams = [asdict(stage) for stage in stages if isinstance(stage, StreamStage)]
    pipelines = [_values(stage) for stage in stages if isinstance(stage, PipelineStage)]
    return {"streams": streams, "pipelines": pipelines, "changes": sum(map(is_change, stages))}


def _values(stage: PipelineStage) -> dict[str, object]:
    found = asdict(stage)
    if stage.history is not None:
        found["history"]["seconds"] = round(stage.history.seconds, 3)
    return found
