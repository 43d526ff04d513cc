"""Plan -> running operators: the table of who runs which node, and the walk that pushes a micro-batch through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from qanat.sql.embedded.aggregate import WindowAggregateOperator
from qanat.sql.embedded.attached import AttachedAggregateOperator
from qanat.sql.embedded.flow import Batch, Context, Ints, State
from qanat.sql.embedded.interval_join import IntervalJoinOperator
from qanat.sql.embedded.session import SessionAggregateOperator
from qanat.sql.embedded.simple import (
    ExpandOperator,
    FilterOperator,
    ProjectOperator,
    UnionOperator,
    WindowAssignOperator,
)
from qanat.sql.embedded.window_join import WindowJoinOperator
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
    RowNumber,
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


class Flow:
    """The operators of one pipeline. Scans are numbered in the order in which the plan names them."""

    def __init__(self, root: Node) -> None:
        self.context = Context()
        self.scans: list[Scan] = []
        self._operators: list[Operator] = []
        self._newest = 0
        self._root = self._build(root)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators, inputs before what reads them."""
        return tuple(self._operators)

    def _build(self, node: Node) -> _Step:
        if isinstance(node, Scan):
            self.scans.append(node)
            return _Step(None, (), len(self.scans) - 1)
        inputs = tuple(self._build(child) for child in inputs_of(node))
        operator = _operator(node, self.context)
        self._operators.append(operator)
        return _Step(operator, inputs, -1)

    def process(self, batches: Mapping[int, Batch], arrived: Ints | None = None) -> Batch:
        """Push one micro-batch through; `batches`: scan number -> rows; `arrived`: arrival time (ms) per event."""
        if arrived is None:
            arrived = np.zeros(len(next(iter(batches.values())).track) - 1, dtype=np.int64)
        # a clock that was set back does not make state younger
        self.context.arrived = np.maximum.accumulate(np.maximum(arrived, self._newest))
        self._newest = int(self.context.arrived[-1]) if len(arrived) else self._newest
        return self._root.run(batches)

    def snapshot(self) -> list[State]:
        """The state of every operator, in the order of the plan."""
        return [{"newest": self._newest}, *(operator.snapshot() for operator in self._operators)]

    def restore(self, states: list[State]) -> None:
        """Take the states of `snapshot`."""
        self._newest = states[0]["newest"]
        for operator, state in zip(self._operators, states[1:], strict=True):
            operator.restore(state)


class _Step:
    __slots__ = ("_inputs", "_operator", "_scan")

    def __init__(self, operator: Operator | None, inputs: tuple[_Step, ...], scan: int) -> None:
        self._operator, self._inputs, self._scan = operator, inputs, scan

    def run(self, batches: Mapping[int, Batch]) -> Batch:
        if self._operator is None:
            return batches[self._scan]
        return self._operator.process(tuple(step.run(batches) for step in self._inputs))


def _operator(node: Node, context: Context) -> Operator:
    match node:
        case Project():
            return ProjectOperator(node)
        case Filter():
            return FilterOperator(node)
        case Union():
            return UnionOperator(node)
        case WindowAssign():
            return WindowAssignOperator(node)
        case WindowAggregate(window=Session()):
            return SessionAggregateOperator(node, context)
        case WindowAggregate(window=None):
            return AttachedAggregateOperator(node, context)
        case WindowAggregate():
            return WindowAggregateOperator(node, context)
        case IntervalJoin():
            return IntervalJoinOperator(node, context)
        case WindowJoin():
            return WindowJoinOperator(node, context)
        case Expand():
            return ExpandOperator(node)
        case WindowRank():
            from qanat.sql.embedded.window_rank import WindowRankOperator

            return WindowRankOperator(node, context)
        case RegularJoin():
            from qanat.sql.embedded.updating.regular_join import RegularJoinOperator

            return RegularJoinOperator(node, context)
        case TemporalJoin():
            from qanat.sql.embedded.temporal_join import TemporalJoinOperator

            return TemporalJoinOperator(node, context)
        case LookupJoin():
            from qanat.sql.embedded.lookup_join import LookupJoinOperator

            return LookupJoinOperator(node, context)
        case GroupAggregate():
            from qanat.sql.embedded.updating.group_aggregate import GroupAggregateOperator

            return GroupAggregateOperator(node, context)
        case Deduplicate():
            from qanat.sql.embedded.updating.deduplicate import DeduplicateOperator

            return DeduplicateOperator(node, context)
        case Rank():
            from qanat.sql.embedded.updating.rank import RankOperator

            return RankOperator(node, context)
        case Over():
            from qanat.sql.embedded.over import OverOperator

            return OverOperator(node, context)
        case Correlate():
            from qanat.sql.embedded.correlate import CorrelateOperator

            return CorrelateOperator(node)
        case Normalize():
            from qanat.sql.embedded.updating.upserts import NormalizeOperator

            return NormalizeOperator(node, context)
        case Materialize():
            from qanat.sql.embedded.updating.upserts import MaterializeOperator

            return MaterializeOperator(node, context)
        case Scan() | RowNumber():
            raise TypeError(f"{type(node).__name__} is not run")
