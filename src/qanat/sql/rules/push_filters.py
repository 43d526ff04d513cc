"""Filters move towards the scans, so that fewer rows are computed and kept."""

from __future__ import annotations

from dataclasses import replace

from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.joins import conjunction, renamed
from qanat.sql.plan import Filter, IntervalJoin, Node, Project, RegularJoin, TemporalJoin, WindowJoin
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
            case IntervalJoin() | WindowJoin() | RegularJoin() | TemporalJoin():
                node = _into_join(node, node.input)
            case _:
                pass
    elif isinstance(node, IntervalJoin | WindowJoin | RegularJoin):
        node = _out_of_condition(node)
    return map_inputs(node, push_filters)


def _below_project(node: Filter, project: Project) -> Node:
    by_name = {field.name: one for field, one in zip(project.schema, project.expressions, strict=True)}
    if not all(isinstance(by_name[name], Column | Literal) for name in columns(node.predicate)):
        return node
    below = Filter(project.input, substitute(node.predicate, by_name), project.input.schema)
    return replace(project, input=below)


_Join = IntervalJoin | WindowJoin | RegularJoin | TemporalJoin
#: Kinds of joins into whose left and right input a condition on the result may move: those that add no NULLs there.
_ABOVE = (("INNER", "LEFT", "SEMI", "ANTI"), ("INNER", "RIGHT"))
#: And a condition of ON: where a row that fails it must not come out by itself.
_WITHIN = (("INNER", "RIGHT", "SEMI"), ("INNER", "LEFT", "SEMI", "ANTI"))


def _into_join(node: Filter, join: _Join) -> Node:
    """Conditions above a join that read one side go into that side."""
    sides = [join.kind in kinds for kinds in _ABOVE]
    if isinstance(join, TemporalJoin):
        sides[1] = False  # another version would take the place of one that is filtered out
    to_left, to_right, stays = _by_side(join, node.predicate, sides)
    return _filtered(_narrowed(join, to_left, to_right), stays)


def _out_of_condition(join: IntervalJoin | WindowJoin | RegularJoin) -> Node:
    """Conditions of ON that read one side only are a filter of that side."""
    if join.residual is None:
        return join
    to_left, to_right, stays = _by_side(join, join.residual, [join.kind in kinds for kinds in _WITHIN])
    if not (to_left or to_right):
        return join
    return _narrowed(replace(join, residual=conjunction(stays)), to_left, to_right)


def _by_side(
    join: _Join, predicate: Expression, sides: list[bool]
) -> tuple[list[Expression], list[Expression], list[Expression]]:
    """The conditions that only read the left input, the right one (over its own columns), and the others."""
    whole = getattr(join, "joined", ()) or join.schema
    split = len(join.left.schema)
    left = {field.name for field in whole[:split]}
    right = {mine.name: own.name for mine, own in zip(whole[split:], join.right.schema, strict=True)}
    to_left: list[Expression] = []
    to_right: list[Expression] = []
    stays: list[Expression] = []
    for one in _conjuncts(predicate):
        used = columns(one)
        if sides[0] and used and used <= left:
            to_left.append(one)
        elif sides[1] and used and used <= set(right):
            to_right.append(renamed(one, right))
        else:
            stays.append(one)
    return to_left, to_right, stays


def _narrowed(join: _Join, left: list[Expression], right: list[Expression]) -> _Join:
    return replace(join, left=_filtered(join.left, left), right=_filtered(join.right, right))


def _filtered(node: Node, conditions: list[Expression]) -> Node:
    condition = conjunction(conditions)
    return node if condition is None else Filter(node, condition, node.schema)


def _conjuncts(expression: Expression) -> list[Expression]:
    if isinstance(expression, Call) and expression.function == "AND":
        return [part for one in expression.args for part in _conjuncts(one)]
    return [expression]
