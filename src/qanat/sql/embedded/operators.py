"""Plan -> running operators: the table of who runs which node, and the walk that pushes a micro-batch through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from qanat.sql.embedded.aggregate import WindowAggregateOperator
from qanat.sql.embedded.attached import AttachedAggregateOperator
from qanat.sql.embedded.flow import Batch, Context, State
from qanat.sql.embedded.join import IntervalJoinOperator, WindowJoinOperator
from qanat.sql.embedded.session import SessionAggregateOperator
from qanat.sql.embedded.simple import FilterOperator, ProjectOperator, UnionOperator, WindowAssignOperator
from qanat.sql.plan import (
    Filter,
    IntervalJoin,
    Node,
    Project,
    Scan,
    Session,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
)


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


class Flow:
    """The operators of one pipeline. Scans are numbered in the order in which the plan names them."""

    def __init__(self, root: Node) -> None:
        self.context = Context()
        self.scans: list[Scan] = []
        self._operators: list[Operator] = []
        self._root = self._build(root)

    def _build(self, node: Node) -> _Step:
        if isinstance(node, Scan):
            self.scans.append(node)
            return _Step(None, (), len(self.scans) - 1)
        inputs = tuple(self._build(child) for child in children(node))
        operator = _operator(node, self.context)
        self._operators.append(operator)
        return _Step(operator, inputs, -1)

    def process(self, batches: Mapping[int, Batch]) -> Batch:
        """Push one micro-batch through; `batches`: scan number -> rows."""
        return self._root.run(batches)

    def snapshot(self) -> list[State]:
        """The state of every operator, in the order of the plan."""
        return [operator.snapshot() for operator in self._operators]

    def restore(self, states: list[State]) -> None:
        """Take the states of `snapshot`."""
        for operator, state in zip(self._operators, states, strict=True):
            operator.restore(state)


class _Step:
    __slots__ = ("_inputs", "_operator", "_scan")

    def __init__(self, operator: Operator | None, inputs: tuple[_Step, ...], scan: int) -> None:
        self._operator, self._inputs, self._scan = operator, inputs, scan

    def run(self, batches: Mapping[int, Batch]) -> Batch:
        if self._operator is None:
            return batches[self._scan]
        return self._operator.process(tuple(step.run(batches) for step in self._inputs))


def children(node: Node) -> tuple[Node, ...]:
    """The inputs of a node."""
    match node:
        case Scan():
            return ()
        case Union(inputs=inputs):
            return inputs
        case IntervalJoin(left=left, right=right) | WindowJoin(left=left, right=right):
            return left, right
        case Project(input=one) | Filter(input=one) | WindowAssign(input=one) | WindowAggregate(input=one):
            return (one,)


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
        case Scan():
            raise TypeError("a scan is fed, not run")
