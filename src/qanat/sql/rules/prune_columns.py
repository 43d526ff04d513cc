"""Columns that nothing above reads are not carried along; scans read only what is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qanat.sql.expressions import Column, Expression, columns
from qanat.sql.plan import (
    AggregateCall,
    Correlate,
    Deduplicate,
    Expand,
    Field,
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
    Schema,
    Session,
    TemporalJoin,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)


def prune_columns(root: Node) -> Node:
    """Keep in each node what the nodes above it read. The root keeps all; a scan keeps its time attribute too.

    before: Project[b](Scan[a, b, c])
    after:  Project[b](Scan[b])

    >>> from qanat.model.types import INT
    >>> from qanat.sql.plan import Table
    >>> fields = tuple(Field(name, INT) for name in "abc")
    >>> plan = Project(Scan(Table("t", fields, fields), fields), (Column("b", INT),), (fields[1],))
    >>> [field.name for field in prune_columns(plan).input.schema]
    ['b']
    """
    return _prune(root, {field.name for field in root.schema})


def _prune(node: Node, needed: set[str]) -> Node:
    match node:
        case Scan():
            kept = [one for one in node.schema if one.name in needed or one.time_attribute]
            return replace(node, schema=tuple(kept) or node.schema[:1])
        case Project():
            return _project(node, needed)
        case Filter():
            below = _prune(node.input, needed | columns(node.predicate))
            return Filter(below, node.predicate, below.schema)
        case Union():
            return _union(node, needed)
        case WindowAssign():
            below = _prune(node.input, (needed - set(node.names)) | {node.time})
            plain = tuple(replace(one, time_attribute=False) for one in below.schema)
            return replace(node, input=below, schema=(*plain, *node.schema[-3:]))
        case WindowAggregate():
            return replace(node, input=_prune(node.input, _read(node)))
        case GroupAggregate():
            return _group(node, needed)
        case IntervalJoin():
            return _join(node, needed, {node.left_time}, {node.right_time})
        case WindowJoin():
            return _join(node, needed, set(node.left_window), set(node.right_window))
        case RegularJoin():
            return _join(node, needed, set(), set())
        case TemporalJoin():
            return _join(node, needed, {node.left_time or ""}, {node.right_time or ""})
        case _:
            return _prune_more(node, needed)


def _prune_more(node: Node, needed: set[str]) -> Node:
    """Nodes that pass their input's columns, some with columns of their own behind them."""
    match node:
        case Expand():
            return _extended(node, (needed - {node.id}) | set(node.keys), 1)
        case WindowRank() | Rank():
            return _rank(node, needed)
        case Deduplicate():
            return _extended(node, needed | set(node.partition) | ({node.time} if node.time else set()), 0)
        case Over():
            own = set(node.partition) | ({node.time} if node.time else set()) | _called(node.calls)
            return _extended(node, needed | own, len(node.calls))
        case Correlate():
            count = len(node.schema) - len(node.input.schema)
            return _extended(node, needed | _columns(node.args), count)
        case Normalize():
            return _extended(node, needed | set(node.key), 0)
        case Materialize():
            return replace(node, input=_prune(node.input, {one.name for one in node.schema}))
        case LookupJoin():
            return _lookup(node, needed)
        case RowNumber():
            own = {*node.partition, *(one.column for one in node.order)}
            return _extended(node, needed | own, 1)
        case _:
            raise TypeError(f"{type(node).__name__} is not known to prune_columns")


def _extended(
    node: Expand | Deduplicate | Over | Correlate | Normalize | RowNumber | Rank | WindowRank,
    needed: set[str],
    own: int,
) -> Node:
    """The node over a narrower input; its last `own` columns are its own."""
    added = node.schema[len(node.schema) - own :]
    below = _prune(node.input, needed & {one.name for one in node.input.schema})
    shown = {one.name: one for one in node.schema}
    passed = tuple(shown.get(one.name, one) for one in below.schema)
    return replace(node, input=below, schema=(*passed, *added))


def _rank(node: Rank | WindowRank, needed: set[str]) -> Node:
    own = {*node.partition, *(one.column for one in node.order)}
    if isinstance(node, WindowRank):
        own |= set(node.window)
    if node.number is not None and node.number not in needed:
        node = replace(node, number=None, schema=node.schema[:-1])
    return _extended(node, needed | own, int(node.number is not None))


def _lookup(node: LookupJoin, needed: set[str]) -> Node:
    needed = needed | (columns(node.residual) if node.residual else set())
    split = len(node.left.schema)
    kept = [i for i, one in enumerate(node.schema[split:]) if one.name in needed] or [0]
    lefts = {one.name for one in node.schema[:split]}
    left = _prune(node.left, (needed & lefts) | _columns(node.left_keys))
    schema = (*left.schema, *(node.schema[split + i] for i in kept))
    return replace(node, left=left, columns=tuple(node.columns[i] for i in kept), schema=schema)


def _project(node: Project, needed: set[str]) -> Node:
    pairs = [(e, f) for e, f in zip(node.expressions, node.schema, strict=True) if f.name in needed]
    pairs = pairs or [(node.expressions[0], node.schema[0])]
    below = _prune(node.input, _columns(expression for expression, _ in pairs))
    return Project(below, tuple(expression for expression, _ in pairs), tuple(field for _, field in pairs))


def _group(node: GroupAggregate, needed: set[str]) -> GroupAggregate:
    """An aggregate that nobody reads goes, as in Flink: what nobody sees must not make a row change."""
    width = len(node.keys)
    pairs = zip(node.aggregates, node.schema[width:], strict=True)
    kept = [(call, field) for call, field in pairs if field.name in needed]
    if not (kept or width):
        kept = [(node.aggregates[0], node.schema[0])]
    calls = tuple(call for call, _ in kept)
    below = _prune(node.input, _columns(node.keys) | _called(calls))
    return replace(node, input=below, aggregates=calls, schema=(*node.schema[:width], *(field for _, field in kept)))


def _columns(expressions: Iterable[Expression]) -> set[str]:
    return {name for one in expressions for name in columns(one)}


def _read(node: WindowAggregate) -> set[str]:
    read = {node.time} | _columns(node.keys) | set(node.attached or ()) | _called(node.aggregates)
    return read | set(node.window.partition if isinstance(node.window, Session) else ())


def _called(calls: Iterable[AggregateCall]) -> set[str]:
    read: set[str] = set()
    for call in calls:
        read |= _columns(call.args) | (columns(call.filter) if call.filter else set())
    return read


def _union(node: Union, needed: set[str]) -> Node:
    places = [i for i, one in enumerate(node.schema) if one.name in needed] or [0]
    schema = tuple(node.schema[i] for i in places)
    inputs: list[Node] = []
    for one in node.inputs:
        wanted = tuple(one.schema[i] for i in places)
        inputs.append(_exactly(_prune(one, {field.name for field in wanted}), wanted))
    return Union(tuple(inputs), schema)


def _exactly(node: Node, wanted: Schema) -> Node:
    """UNION ALL goes by position, so an input has these columns and no others."""
    if [one.name for one in node.schema] == [one.name for one in wanted]:
        return node
    return Project(node, tuple(Column(one.name, one.type) for one in wanted), wanted)


def _join(
    node: IntervalJoin | WindowJoin | RegularJoin | TemporalJoin,
    needed: set[str],
    left_read: set[str],
    right_read: set[str],
) -> Node:
    needed = needed | (columns(node.residual) if node.residual else set())
    split = len(node.left.schema)
    whole = _joined(node)
    own = {mine.name: theirs.name for mine, theirs in zip(whole[split:], node.right.schema, strict=True)}
    shown = {theirs.name: mine for mine, theirs in zip(whole[split:], node.right.schema, strict=True)}
    lefts = {one.name: one for one in whole[:split]}
    left = _prune(node.left, (needed & set(lefts)) | _columns(node.left_keys) | (left_read - {""}))
    right_needed = {own[one] for one in needed & set(own)} | _columns(node.right_keys) | (right_read - {""})
    right = _prune(node.right, right_needed)
    joined: tuple[Field, ...] = (
        *(lefts[one.name] for one in left.schema),
        *(shown[one.name] for one in right.schema),
    )
    if isinstance(node, IntervalJoin | TemporalJoin):
        return replace(node, left=left, right=right, schema=joined)
    schema = joined[: len(left.schema)] if node.kind in ("SEMI", "ANTI") else joined
    return replace(node, left=left, right=right, schema=schema, joined=joined)


def _joined(node: IntervalJoin | WindowJoin | RegularJoin | TemporalJoin) -> Schema:
    """The columns of both sides as the residual sees them."""
    if isinstance(node, IntervalJoin | TemporalJoin):
        return node.schema
    return node.joined or node.schema
