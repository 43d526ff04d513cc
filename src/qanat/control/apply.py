"""Does what a plan says: each pipeline in one transaction, so that a crash leaves it as it was or as it is to be.

The log must be open for writing, which nobody else can have then. Asks nobody: whoever calls has shown the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qanat.control.actual import Actual, Commit, read_actual
from qanat.control.archives import release
from qanat.control.spans import reach_of
from qanat.control.stages import PipelineStage, Stage, StreamStage
from qanat.errors import ChangedPipelineError, LogError
from qanat.log.base import Log, Transaction
from qanat.sql.embedded.connectors.sinks import open_sink
from qanat.sql.embedded.rebuild import Before, Rebuild
from qanat.sql.embedded.skipped import skipped_key
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.embedded.stored_plans import PLANS, StoredPlan, dump_plans, stored_plan
from qanat.sql.plan import Pipeline, Program, Table

#: Called with the pipeline, and the rows read so far of a rebuild.
Tell = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """How to apply. `live`: the project is one of `qanat up` (streams never end), not a script that was run."""

    live: bool = True
    rows: int = 131_072
    allow_loss: bool = False
    tell: Tell = field(default=lambda _name, _rows: None)


def apply(program: Program, log: Log, stages: Sequence[Stage], changes: Changes) -> None:
    """Make the log what the program declares. `stages`: what `diff` says of this log now.

    Raises `ChangedPipelineError` before anything is done where state would be lost and `allow_loss` is not set, and
    `LogError` where a stream cannot be changed as declared.
    """
    refuse(stages, allow_loss=changes.allow_loss)
    actual = read_actual(log, (pipeline.name for pipeline in program.pipelines))
    for table in program.tables.values():
        if table.stream is not None:
            log.create(table.stream)
    release(log)
    actual = replace(actual, streams=log.status())
    plans = dict(actual.plans)
    pipelines = {pipeline.name: pipeline for pipeline in program.pipelines}
    for stage in stages:
        if isinstance(stage, StreamStage):
            continue
        transaction = _transaction(stage, pipelines, log, actual, changes)
        if stage.action == "removed":
            plans.pop(stage.name, None)
        else:
            plans[stage.name] = stored_plan(pipelines[stage.name])
        state = {**transaction.state, PLANS: dump_plans(plans)}
        log.submit(replace(transaction, state=state)).result()


def refuse(stages: Sequence[Stage], *, allow_loss: bool) -> None:
    """Raise for what must not or cannot be done."""
    for stage in stages:
        if stage.action == "refused" and isinstance(stage, StreamStage):
            raise LogError(
                f"stream {stage.name} cannot become what is declared: {'; '.join(stage.changes)}",
                hint="declare it as it was, or choose another name for the new stream",
            )
    lost = [stage for stage in stages if isinstance(stage, PipelineStage) and stage.action == "lost"]
    if lost and not allow_loss:
        raise ChangedPipelineError(
            f"the state of {lost[0].name} would be lost: {lost[0].reason}",
            hint="--allow-loss rebuilds it from what the log still has",
        )


def _transaction(
    stage: PipelineStage, pipelines: Mapping[str, Pipeline], log: Log, actual: Actual, changes: Changes
) -> Transaction:
    """Positions and state of one pipeline as they are to be."""
    name = stage.name
    commit = actual.commits.get(name)
    if stage.action == "removed":
        _finish_files(actual.plans.get(name), None, commit)
        return forgotten(name)
    if commit is None or stage.action in ("unchanged", "new"):
        return Transaction()
    pipeline, old = pipelines[name], actual.plans.get(name)
    sink = _finish_files(old, pipeline, commit)
    if stage.action == "kept":
        return _kept(name, log, old, {**commit.whole, "sink": sink})
    return rebuilt(pipeline, log, actual, commit, changes, sink)


def forgotten(name: str) -> Transaction:
    """A pipeline that never ran."""
    keys = (f"commit/{name}", f"snapshot/{name}", f"failure/{name}", skipped_key(name))
    return Transaction(state=dict.fromkeys(keys), forget=(name, f"{name}@snapshot"))


def _kept(name: str, log: Log, old: StoredPlan | None, commit: Mapping[str, object]) -> Transaction:
    """The state stays; an old snapshot learns whose states it holds."""
    state: dict[str, bytes | None] = {f"commit/{name}": pack(dict(commit))}
    data = log.state(f"snapshot/{name}")
    if data is not None and old is not None:
        snapshot = unpack(data)
        snapshot.setdefault("plan", [[part.kind, part.state, list(part.names)] for part in old.parts])
        state[f"snapshot/{name}"] = pack(snapshot)
    return Transaction(state=state)


def rebuilt(
    pipeline: Pipeline, log: Log, actual: Actual, commit: Commit, changes: Changes, sink: object
) -> Transaction:
    """Run the new operators over the history; what they give was given before."""
    reach = reach_of(pipeline, commit, actual)
    if reach.span is None:  # its inputs are others: it begins anew
        return forgotten(pipeline.name)
    run = Rebuild(pipeline, log, reach.span, before(pipeline, actual, commit), live=changes.live, rows=changes.rows)
    for _ in run.run():
        changes.tell(pipeline.name, run.rows_read)
    return committed(pipeline.name, run, commit, sink)


def before(pipeline: Pipeline, actual: Actual, commit: Commit) -> Before:
    """Where a pipeline stands, for a rebuild."""
    old, new = actual.plans.get(pipeline.name), stored_plan(pipeline)
    same = old is not None and [table for table, _ in old.scans] == [table for table, _ in new.scans]
    same = same and old is not None and old.scans == new.scans
    return Before(commit.feeds, commit.watermarks if same else None)


def committed(name: str, run: Rebuild, commit: Commit, sink: object) -> Transaction:
    """What a rebuild leaves: a snapshot at the very place of the last commit."""
    feeds, places = run.feeds(), run.places()
    whole = {**commit.whole, "feeds": feeds, "watermarks": run.watermarks, "sink": sink}
    state = {f"commit/{name}": pack(whole), f"snapshot/{name}": pack(run.snapshot(feeds)), f"failure/{name}": None}
    consumers = (name, f"{name}@snapshot")
    return Transaction(state=state, forget=consumers, positions=dict.fromkeys(consumers, places))


def _finish_files(old: StoredPlan | None, pipeline: Pipeline | None, commit: Commit | None) -> object:
    """What the sink needs to go on. One that writes elsewhere from now on first gives committed files their names."""
    table = pipeline.sink if pipeline is not None else None
    if commit is None or old is None:
        return commit.whole["sink"] if commit is not None else None
    sink, connector = commit.whole["sink"], table.connector if table is not None else None
    if table is not None and connector == old.connector and dict(table.options) == old.options:
        return sink
    if old.connector == "filesystem" and sink is not None:
        open_sink(Table("", (), (), connector="filesystem", options=old.options), "").recover(sink)
    return sink if table is not None and connector == old.connector else None
