"""Plan -> running operators: the table of who runs which node, and the walk that pushes a micro-batch through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from qanat.sql.embedded.aggregate import WindowAggregateOperator
from qanat.sql.embedded.attached import AttachedAggregateOperator
from qanat.sql.embedded.correlate import CorrelateOperator
from qanat.sql.embedded.flow import Batch, Context, Ints, State
from qanat.sql.embedded.interval_join import IntervalJoinOperator
from qanat.sql.embedded.lookup_join import LookupJoinOperator
from qanat.sql.embedded.over import OverOperator
from qanat.sql.embedded.session import SessionAggregateOperator
from qanat.sql.embedded.simple import (
    ExpandOperator,
    FilterOperator,
    ProjectOperator,
    UnionOperator,
    WindowAssignOperator,
)
from qanat.sql.embedded.temporal_join import TemporalJoinOperator
from qanat.sql.embedded.updating.deduplicate import DeduplicateOperator
from qanat.sql.embedded.updating.group_aggregate import GroupAggregateOperator
from qanat.sql.embedded.updating.rank import RankOperator
from qanat.sql.embedded.updating.regular_join import RegularJoinOperator
from qanat.sql.embedded.updating.upserts import MaterializeOperator, NormalizeOperator
from qanat.sql.embedded.window_join import WindowJoinOperator
from qanat.sql.embedded.window_rank import WindowRankOperator
from qanat.sql.embedded.zoned import ZonedOperator, in_local_time
from qanat.sql.plan import (
    Correlate,
    Deduplicate,
    Expand,
    Filter,
    GroupAggregate,
    IntervalJoin,
    LookupJoin,
    Materialize,
    Node,
    Normalize,
    Over,
    Project,
    Rank,
    RegularJoin,
    Scan,
    Session,
    TemporalJoin,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)
from qanat.sql.tree import inputs_of


class Operator(Protocol):
    """One node at work. Output depends only on the state and the batch; rows come out in order of their events."""

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Run one micro-batch; one batch per input, all with the same number of events."""
        ...

    def snapshot(self) -> State:
        """The state as plain values, frames and arrays."""
        ...

    def restore(self, state: State) -> None:
        """Take a state that `snapshot` gave."""
        ...

    def held(self) -> int:
        """About how many bytes of state there are. Cheap: it is asked after every micro-batch."""
        ...

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys that hold most, with their bytes (about), largest first: for the error that says so."""
        ...


@runtime_checkable
class Closable(Protocol):
    """Operators that hold something outside the process, such as a connection."""

    def close(self) -> None:
        """Let go of it; safe to call again."""
        ...


class Flow:
    """The operators of one pipeline. Scans are numbered in the order in which the plan names them.

    Parts of the plan that are equal run once, as Flink reuses them; `operators` still names them as often as the plan.
    """

    def __init__(self, root: Node) -> None:
        self.context = Context()
        self.scans: list[Scan] = []
        self._operators: list[Operator] = []
        self._built: list[tuple[Node, _Step, list[Operator]]] = []
        self._newest = 0
        self._root = self._build(root)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators, inputs before what reads them."""
        return tuple(self._operators)

    def _build(self, node: Node) -> _Step:
        if isinstance(node, Scan):
            if node not in self.scans:
                self.scans.append(node)
            return _Step(None, (), self.scans.index(node))
        for equal, step, operators in self._built:
            if equal == node:
                self._operators += operators
                step.shared = True
                return step
        first = len(self._operators)
        inputs = tuple(self._build(child) for child in inputs_of(node))
        operator = _operator(in_local_time(node), self.context)
        if isinstance(node, WindowAggregate | WindowJoin | WindowRank) and node.zone is not None:
            operator = ZonedOperator(operator, node, self.context)
        self._operators.append(operator)
        step = _Step(operator, inputs, -1)
        self._built.append((node, step, self._operators[first:]))
        return step

    def process(self, batches: Mapping[int, Batch], arrived: Ints | None = None) -> Batch:
        """Push one micro-batch through; `batches`: scan number -> rows; `arrived`: arrival time (ms) per event."""
        if arrived is None:
            arrived = np.zeros(len(next(iter(batches.values())).track) - 1, dtype=np.int64)
        # a clock that was set back does not make state younger
        self.context.arrived = np.maximum.accumulate(np.maximum(arrived, self._newest))
        self._newest = int(self.context.arrived[-1]) if len(arrived) else self._newest
        return self._root.run(batches, {})

    def snapshot(self) -> list[State]:
        """The state of every operator, in the order of the plan."""
        return [{"newest": self._newest}, *(operator.snapshot() for operator in self._operators)]

    def restore(self, states: list[State]) -> None:
        """Take the states of `snapshot`."""
        self._newest = states[0]["newest"]
        for operator, state in zip(self._operators, states[1:], strict=True):
            operator.restore(state)


class _Step:
    __slots__ = ("_inputs", "_operator", "_scan", "shared")

    def __init__(self, operator: Operator | None, inputs: tuple[_Step, ...], scan: int) -> None:
        self._operator, self._inputs, self._scan = operator, inputs, scan
        self.shared = False

    def run(self, batches: Mapping[int, Batch], done: dict[_Step, Batch]) -> Batch:
        """The rows of this step; `done`: those of shared steps that ran before in this micro-batch."""
        if self._operator is None:
            return batches[self._scan]
        if self in done:
            return done[self]
        batch = self._operator.process(tuple(step.run(batches, done) for step in self._inputs))
        if self.shared:
            done[self] = batch
        return batch


def _operator(node: Node, context: Context) -> Operator:
    match node:
        case WindowAggregate(window=Session()):
            return SessionAggregateOperator(node, context)
        case WindowAggregate(window=None):
            return AttachedAggregateOperator(node, context)
        case _:
            return _OPERATORS[type(node)](node, context)


def _without_context(make: Callable[[Any], Operator]) -> Callable[[Any, Context], Operator]:
    return lambda node, _context: make(node)


#: Who runs which node. Scans are fed, and a row number never leaves the binder.
_OPERATORS: dict[type, Callable[[Any, Context], Operator]] = {
    Project: _without_context(ProjectOperator),
    Filter: _without_context(FilterOperator),
    Union: _without_context(UnionOperator),
    WindowAssign: _without_context(WindowAssignOperator),
    Expand: _without_context(ExpandOperator),
    Correlate: _without_context(CorrelateOperator),
    WindowAggregate: WindowAggregateOperator,
    WindowRank: WindowRankOperator,
    WindowJoin: WindowJoinOperator,
    IntervalJoin: IntervalJoinOperator,
    RegularJoin: RegularJoinOperator,
    TemporalJoin: TemporalJoinOperator,
    LookupJoin: LookupJoinOperator,
    GroupAggregate: GroupAggregateOperator,
    Deduplicate: DeduplicateOperator,
    Rank: RankOperator,
    Over: OverOperator,
    Normalize: NormalizeOperator,
    Materialize: MaterializeOperator,
}
