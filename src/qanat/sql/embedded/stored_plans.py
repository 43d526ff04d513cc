"""Which plan the stored state of each pipeline belongs to: written by the engine at the first start, compared later.

One value of the log's state holds those of all pipelines. Decides nothing about changes (see `qanat.control`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from qanat.errors import ChangedPipelineError, LogCorruptError
from qanat.log.base import Log
from qanat.sql.fingerprint import Part, fingerprint
from qanat.sql.plan import Pipeline, Scan
from qanat.sql.tree import walk

#: The key of the log's state.
PLANS = "plans"


class StoredPlan(msgspec.Struct, frozen=True):
    """What is known of a pipeline that has run. `reads`: streams of the log; `writes`: the stream, where it is one."""

    whole: str
    parts: tuple[Part, ...]
    scans: tuple[tuple[str, str], ...]
    text: str
    reads: tuple[str, ...] = ()
    writes: str | None = None
    connector: str | None = None
    options: dict[str, str] = {}

    @property
    def states(self) -> tuple[str, ...]:
        """What its operators with state are, in order."""
        return tuple(part.state for part in self.parts if part.state is not None)


class _Plans(msgspec.Struct, frozen=True):
    version: int
    pipelines: dict[str, StoredPlan]


def stored_plan(pipeline: Pipeline) -> StoredPlan:
    """What is stored of a declared pipeline."""
    found = fingerprint(pipeline)
    tables = [node.table for node in walk(pipeline.root) if isinstance(node, Scan)]
    reads = sorted({table.stream.name for table in tables if table.stream is not None})
    sink = pipeline.sink
    writes = sink.stream.name if sink is not None and sink.stream is not None else None
    connector = sink.connector if sink is not None else None
    options = dict(sink.options) if sink is not None and connector is not None else {}
    return StoredPlan(found.whole, found.parts, found.scans, pipeline.text, tuple(reads), writes, connector, options)


def load_plans(log: Log) -> dict[str, StoredPlan]:
    """The stored plans by pipeline; empty for a log that has none yet. Raises `LogCorruptError`."""
    data = log.state(PLANS)
    if data is None:
        return {}
    try:
        return msgspec.msgpack.decode(data, type=_Plans).pipelines
    except msgspec.MsgspecError as error:
        raise LogCorruptError(
            f"the stored plans cannot be read: {error}", hint="restore the log from a backup"
        ) from error


def dump_plans(plans: Mapping[str, StoredPlan]) -> bytes:
    """The value to store under `PLANS`."""
    return msgspec.msgpack.encode(_Plans(1, dict(plans)))


def check_plans(stored: Mapping[str, StoredPlan], pipelines: Sequence[Pipeline]) -> dict[str, StoredPlan]:
    """The plans to be stored now: known ones, and those that are new or from before plans were stored.

    Raises `ChangedPipelineError` where a pipeline is not what its state was made by.
    """
    declared = {pipeline.name: stored_plan(pipeline) for pipeline in pipelines}
    changed = [name for name, plan in declared.items() if name in stored and stored[name].whole != plan.whole]
    if changed:
        what = f"pipeline {changed[0]} is" if len(changed) == 1 else f"pipelines {', '.join(changed)} are"
        raise ChangedPipelineError(
            f"{what} not what the log's positions and state were made by",
            hint="see what a change does: qanat plan; make it: qanat apply (for a script: --data with its --state DIR)",
        )
    return {**declared, **stored}
