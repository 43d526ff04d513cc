"""Columns that nothing above reads are not carried along; scans read only what is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qanat.sql.expressions import Column, Expression, columns
from qanat.sql.plan import (
    Field,
    Filter,
    IntervalJoin,
    Node,
    Project,
    Scan,
    Schema,
    Session,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
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
        case IntervalJoin():
            return _join(node, needed, {node.left_time}, {node.right_time})
        case WindowJoin():
            return _join(node, needed, set(node.left_window), set(node.right_window))


def _project(node: Project, needed: set[str]) -> Node:
    pairs = [(e, f) for e, f in zip(node.expressions, node.schema, strict=True) if f.name in needed]
    pairs = pairs or [(node.expressions[0], node.schema[0])]
    below = _prune(node.input, _columns(expression for expression, _ in pairs))
    return Project(below, tuple(expression for expression, _ in pairs), tuple(field for _, field in pairs))


def _columns(expressions: Iterable[Expression]) -> set[str]:
    return {name for one in expressions for name in columns(one)}


def _read(node: WindowAggregate) -> set[str]:
    read = {node.time} | _columns(node.keys) | set(node.attached or ())
    for call in node.aggregates:
        read |= _columns(call.args) | (columns(call.filter) if call.filter else set())
    return read | set(node.window.partition if isinstance(node.window, Session) else ())


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
    node: IntervalJoin | WindowJoin, needed: set[str], left_read: set[str], right_read: set[str]
) -> IntervalJoin | WindowJoin:
    needed = needed | (columns(node.residual) if node.residual else set())
    split = len(node.left.schema)
    own = {mine.name: theirs.name for mine, theirs in zip(node.schema[split:], node.right.schema, strict=True)}
    shown = {theirs: mine for mine, theirs in own.items()}
    lefts = {one.name for one in node.schema[:split]}
    left = _prune(node.left, (needed & lefts) | _columns(node.left_keys) | left_read)
    right = _prune(node.right, {own[one] for one in needed & set(own)} | _columns(node.right_keys) | right_read)
    renamed = tuple(replace(one, name=shown[one.name]) for one in right.schema)
    schema: tuple[Field, ...] = (*left.schema, *renamed)
    return replace(node, left=left, right=right, schema=schema)
