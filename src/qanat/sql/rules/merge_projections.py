"""Two projections in a row become one."""

from __future__ import annotations

from collections import Counter

from qanat.sql.expressions import Column, Expression, Literal, walk
from qanat.sql.plan import Node, Project
from qanat.sql.tree import map_inputs, substitute


def merge_projections(node: Node) -> Node:
    """Put the inner expressions into the outer ones, unless something would then be computed twice.

    before: Project[w = v](Project[v = a + 1](Scan[a]))
    after:  Project[w = a + 1](Scan[a])

    >>> from qanat.model.types import INT
    >>> from qanat.sql.expressions import Call
    >>> from qanat.sql.plan import Field, Scan, Table
    >>> a, v, w = (Field(name, INT) for name in "avw")
    >>> one = Call("+", (Column("a", INT), Literal(1, INT)), INT)
    >>> inner = Project(Scan(Table("t", (a,), (a,)), (a,)), (one,), (v,))
    >>> merged = merge_projections(Project(inner, (Column("v", INT),), (w,)))
    >>> merged.input is inner.input, merged.expressions == (one,)
    (True, True)
    """
    node = map_inputs(node, merge_projections)
    if not isinstance(node, Project) or not isinstance(node.input, Project):
        return node
    inner = node.input
    by_name = {field.name: one for field, one in zip(inner.schema, inner.expressions, strict=True)}
    uses = Counter(part.name for one in node.expressions for part in walk(one) if isinstance(part, Column))
    if any(count > 1 and not _is_cheap(by_name[name]) for name, count in uses.items()):
        return node
    return Project(inner.input, tuple(substitute(one, by_name) for one in node.expressions), node.schema)


def _is_cheap(expression: Expression) -> bool:
    return isinstance(expression, Column | Literal)
