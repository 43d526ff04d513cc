"""ROW_NUMBER() with a condition on it -> `Rank` (Top-N), `Deduplicate` or `WindowRank`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from qanat.model.types import BIGINT
from qanat.sql.changelog import changes_of
from qanat.sql.expressions import Call, Column, Expression, Literal
from qanat.sql.joins import conjunction
from qanat.sql.plan import (
    AggregateCall,
    Deduplicate,
    Filter,
    Node,
    Over,
    Project,
    Rank,
    RowNumber,
    WindowRank,
)
from qanat.sql.tree import map_inputs

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
_TOP = "WHERE row_num <= 10 on the query that computes it"


@dataclass(frozen=True, slots=True)
class _Bounds:
    first: int = 1
    last: int | None = None

    def narrowed(self, operator: str, number: int) -> _Bounds:
        """With `row_number operator number` on top."""
        first, last = self.first, self.last
        if operator in (">", ">=", "="):
            first = max(first, number + (operator == ">"))
        if operator in ("<", "<=", "="):
            high = number - (operator == "<")
            last = high if last is None else min(last, high)
        return _Bounds(first, last)


def filtered(node: Node, condition: Expression, ttl: int | None = None) -> Node:
    """The rows of `node` for which the condition holds; conditions on a row number below it become a rank."""
    found = _find(node, {one.name: one.name for one in node.schema})
    if found is None:
        return Filter(node, condition, node.schema)
    number, names = found
    bounds, rest = _Bounds(), []
    limited = False
    for one in conjuncts(condition):
        limit = _limit(one, {name for name, below in names.items() if below == number.number})
        if limit is None:
            rest.append(one)
        else:
            bounds, limited = bounds.narrowed(*limit), True
    if not limited:
        return Filter(node, condition, node.schema)
    if bounds.last is None:
        raise number.source.unsupported("a rank without an upper end", number.at, _TOP)
    ranked = _replaced(node, lambda below: _ranked(below, bounds.first, bounds.last or 0, ttl))
    remaining = conjunction(rest)
    return ranked if remaining is None else Filter(ranked, remaining, ranked.schema)


def _find(node: Node, names: dict[str, str]) -> tuple[RowNumber, dict[str, str]] | None:
    """The row number that the rows come from, and for each column of the top its name down there."""
    match node:
        case RowNumber():
            return node, names
        case Filter():
            return _find(node.input, names)
        case Project():
            passed = {
                field.name: expression.name
                for field, expression in zip(node.schema, node.expressions, strict=True)
                if isinstance(expression, Column)
            }
            return _find(node.input, {top: passed[below] for top, below in names.items() if below in passed})
        case _:
            return None


def _replaced(node: Node, change: Callable[[RowNumber], Node]) -> Node:
    if isinstance(node, RowNumber):
        return change(node)
    if isinstance(node, Filter | Project):
        return replace(node, input=_replaced(node.input, change))
    return node


def _limit(condition: Expression, numbers: set[str]) -> tuple[str, int] | None:
    """`row_number operator constant` of a condition; None for any other."""
    if not isinstance(condition, Call) or condition.function not in _FLIPPED:
        return None
    left, right = (_plain(one) for one in condition.args)
    operator = condition.function
    if isinstance(left, Literal):
        left, right, operator = right, left, _FLIPPED[operator]
    if not isinstance(left, Column) or left.name not in numbers or not isinstance(right, Literal):
        return None
    return (operator, right.value) if isinstance(right.value, int) else None


def _plain(expression: Expression) -> Expression:
    inner = getattr(expression, "arg", expression)
    return inner if isinstance(inner, Column | Literal) else expression


def conjuncts(expression: Expression) -> list[Expression]:
    """The conditions that AND joins together."""
    if isinstance(expression, Call) and expression.function == "AND":
        return [part for one in expression.args for part in conjuncts(one)]
    return [expression]


def _ranked(node: RowNumber, first: int, last: int, ttl: int | None) -> Node:
    fields = {one.name: one for one in node.input.schema}
    if node.window is not None and set(node.window[:2]) <= set(node.partition) and not changes_of(node.input).updates:
        partition = tuple(one for one in node.partition if one not in node.window[:2])
        return WindowRank(node.input, node.window, partition, node.order, first, last, node.number, node.schema)
    time = fields[node.order[0].column]
    by_time = len(node.order) == 1 and (time.time_attribute or time.processing_time)
    if by_time and first == last == 1 and not changes_of(node.input).updates:
        keep = Deduplicate(
            node.input,
            node.partition,
            None if time.processing_time else time.name,
            "LAST" if node.order[0].descending else "FIRST",
            node.input.schema,
            ttl,
        )
        one = Literal(1, BIGINT.with_nullable(False))
        return Project(keep, (*(Column(f.name, f.type) for f in keep.schema), one), node.schema)
    return Rank(node.input, node.partition, node.order, first, last, node.number, node.schema, ttl)


def settled(node: Node) -> Node:
    """The plan with every row number that no condition limits as an OVER aggregate. Raises `SqlError` where it cannot
    be one."""
    node = map_inputs(node, settled)
    if not isinstance(node, RowNumber):
        return node
    time = next(one for one in node.input.schema if one.name == node.order[0].column)
    by_time = time.time_attribute or time.processing_time
    if len(node.order) > 1 or node.order[0].descending or not by_time or changes_of(node.input).updates:
        message = "ROW_NUMBER() in this order has no end: a new row would renumber all behind it"
        raise node.source.unsupported(message, node.at, _TOP)
    call = AggregateCall("ROW_NUMBER", (), BIGINT.with_nullable(False))
    name = None if time.processing_time else time.name
    # a frame of rows: rows of one time are numbered one by one
    return Over(node.input, node.partition, name, True, None, (call,), node.schema)
