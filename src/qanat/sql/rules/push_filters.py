"""Filters move towards the scans, so that fewer rows are computed and kept."""

from __future__ import annotations

from dataclasses import replace

from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.joins import conjunction, renamed
from qanat.sql.plan import Filter, IntervalJoin, Node, Project
from qanat.sql.tree import map_inputs, substitute


def push_filters(node: Node) -> Node:
    """Below projections that only pass the columns it reads, and into the side of a join that it reads.

    before: Filter[v > 1](Project[v = a](Scan[a]))
    after:  Project[v = a](Filter[a > 1](Scan[a]))

    >>> from qanat.model.types import BOOLEAN, INT
    >>> from qanat.sql.plan import Field, Scan, Table
    >>> a, v = Field("a", INT), Field("v", INT)
    >>> project = Project(Scan(Table("t", (a,), (a,)), (a,)), (Column("a", INT),), (v,))
    >>> pushed = push_filters(Filter(project, Call(">", (Column("v", INT), Literal(1, INT)), BOOLEAN), (v,)))
    >>> type(pushed).__name__, type(pushed.input).__name__, pushed.input.predicate.args[0].name
    ('Project', 'Filter', 'a')
    """
    if isinstance(node, Filter):
        match node.input:
            case Project():
                node = _below_project(node, node.input)
            case IntervalJoin(kind="INNER"):
                node = _into_join(node, node.input)
            case _:
                pass
    return map_inputs(node, push_filters)


def _below_project(node: Filter, project: Project) -> Node:
    by_name = {field.name: one for field, one in zip(project.schema, project.expressions, strict=True)}
    if not all(isinstance(by_name[name], Column | Literal) for name in columns(node.predicate)):
        return node
    below = Filter(project.input, substitute(node.predicate, by_name), project.input.schema)
    return replace(project, input=below)


def _into_join(node: Filter, join: IntervalJoin) -> Node:
    split = len(join.left.schema)
    left = {field.name for field in join.schema[:split]}
    right = {mine.name: own.name for mine, own in zip(join.schema[split:], join.right.schema, strict=True)}
    to_left: list[Expression] = []
    to_right: list[Expression] = []
    stays: list[Expression] = []
    for one in _conjuncts(node.predicate):
        used = columns(one)
        if used and used <= left:
            to_left.append(one)
        elif used and used <= set(right):
            to_right.append(renamed(one, right))
        else:
            stays.append(one)
    join = replace(join, left=_filtered(join.left, to_left), right=_filtered(join.right, to_right))
    return _filtered(join, stays)


def _filtered(node: Node, conditions: list[Expression]) -> Node:
    condition = conjunction(conditions)
    return node if condition is None else Filter(node, condition, node.schema)


def _conjuncts(expression: Expression) -> list[Expression]:
    if isinstance(expression, Call) and expression.function == "AND":
        return [part for one in expression.args for part in _conjuncts(one)]
    return [expression]
