"""Declared against actual: what has to be done, as stages. Pure but for two questions that it asks of `Actual`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qanat.control.actual import Actual, Commit
from qanat.control.archives import archive_changes
from qanat.control.history import Need, need_of
from qanat.control.spans import Reach, reach_of
from qanat.control.stages import History, PipelineStage, Stage, StreamStage
from qanat.errors import LogError
from qanat.log.declarations import evolve
from qanat.model.streams import DEAD_LETTERS, LATE, Stream
from qanat.sql.embedded.carried import names_clash
from qanat.sql.embedded.stored_plans import StoredPlan, stored_plan
from qanat.sql.plan import Pipeline, Program

#: Rows/s assumed of a pipeline that has not been measured.
ASSUMED_RATE = 200_000.0


def diff(program: Program, actual: Actual) -> tuple[Stage, ...]:
    """The stages that lead from `actual` to `program`: streams first, then pipelines in the order of the script."""
    declared = {table.stream.name: table.stream for table in program.tables.values() if table.stream is not None}
    stages: list[Stage] = [*_streams(declared, actual)]
    stages += [_pipeline(pipeline, actual) for pipeline in program.pipelines]
    names = {pipeline.name for pipeline in program.pipelines}
    gone = sorted({*actual.plans, *actual.commits} - names)
    reason = "no INSERT makes it any more: its positions, which hold back retention, and its state are dropped"
    return (*stages, *(PipelineStage(name, "removed", reason) for name in gone))


# --- streams -----------------------------------------------------------------------------------------------------


def _streams(declared: Mapping[str, Stream], actual: Actual) -> Iterator[StreamStage]:
    for name, wanted in declared.items():
        known = actual.streams.get(name)
        yield StreamStage(name, "new") if known is None else _stream(known.stream, wanted)
    for name in sorted(set(actual.streams) - set(declared) - {DEAD_LETTERS, LATE}):
        yield StreamStage(name, "undeclared", ("its rows stay",))


def _stream(known: Stream, wanted: Stream) -> StreamStage:
    try:
        evolve(known, wanted)
    except LogError as error:
        return StreamStage(known.name, "refused", (error.message.partition("differs: ")[2] or error.message,))
    old = {column.name for column in known.columns}
    changes = [f"column {c.name} {c.type} is new" for c in wanted.columns if c.name not in old]
    for what, before, after in (
        ("retention", _span(known.retention_ms), _span(wanted.retention_ms)),
        ("retention.bytes", known.retention_bytes, wanted.retention_bytes),
    ):
        if before != after:
            changes.append(f"{what} was {_limit(before)}, is {_limit(after)}")
    changes += archive_changes(known, wanted)
    return StreamStage(known.name, "changed" if changes else "unchanged", tuple(changes))


def _limit(value: object) -> str:
    return "unlimited" if value is None else str(value)


def _span(ms: int | None) -> str | None:
    """A duration in its largest unit."""
    if ms is None:
        return None
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms} ms"


# --- pipelines ---------------------------------------------------------------------------------------------------


def _pipeline(pipeline: Pipeline, actual: Actual) -> PipelineStage:
    name = pipeline.name
    new, old, commit = stored_plan(pipeline), actual.plans.get(name), actual.commits.get(name)
    if old is None and commit is None:
        return PipelineStage(name, "new")
    if old is None:
        return PipelineStage(name, "unchanged", note="from before plans were stored: taken over as it is")
    if new.whole == old.whole:
        return PipelineStage(name, "unchanged")
    if commit is None:
        return PipelineStage(name, "kept", "it has not read anything yet")
    if new.scans == old.scans and new.states == old.states and not names_clash(old.parts, new.parts):
        held = "its operators with state are the same" if new.states else "it has no state"
        return PipelineStage(name, "kept", f"{held}; the change counts from the next row on")
    return _rebuild(pipeline, new, old, commit, actual)


def _rebuild(pipeline: Pipeline, new: StoredPlan, old: StoredPlan, commit: Commit, actual: Actual) -> PipelineStage:
    reason = _why(new, old)
    reach = reach_of(pipeline, commit, actual)
    history = _history(reach, commit, actual)
    if reach.missing:
        return PipelineStage(pipeline.name, "lost", f"{reason}; {reach.missing}", history)
    return PipelineStage(pipeline.name, "rebuilt", reason, history, _note(need_of(pipeline.root), reach))


def _why(new: StoredPlan, old: StoredPlan) -> str:
    """What of the plan makes the old state useless."""
    if [table for table, _ in new.scans] != [table for table, _ in old.scans]:
        return f"it reads {_names(new.scans)} instead of {_names(old.scans)}"
    if new.scans != old.scans:
        return "a table that it reads, or its watermark, is declared differently"
    before = set(old.states)
    kinds = [part.kind for part in new.parts if part.state is not None and part.state not in before]
    return f"{kinds[0]} keeps other state" if kinds else "an operator with state is gone"


def _names(scans: Sequence[tuple[str, str]]) -> str:
    return ", ".join(dict.fromkeys(table for table, _ in scans))


def _history(reach: Reach, commit: Commit, actual: Actual) -> History | None:
    if reach.span is None:
        return None
    span = reach.span
    firsts = [actual.row(reach.places[name], at) for name, at in span.starts.items() if at < span.ends[name]]
    since = min((first[1] for first in firsts if first is not None), default=None)
    rate = commit.rate or ASSUMED_RATE
    return History(reach.rows, rate, commit.rate is not None, since)


def _note(need: Need, reach: Reach) -> str:
    if need.sessions and reach.truncated:
        return "complete unless a session has been open since before the oldest row that is kept"
    return ""
