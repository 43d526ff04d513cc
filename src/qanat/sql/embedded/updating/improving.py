"""Whether the rows under a Top-N can only rise: then an update moves a row up, as Flink's UpdateFastStrategy has it.

True for counts, maxima in descending and minima in ascending order, over a GROUP BY of inserts. Sums are none: they
fall where a value is negative.
"""

from __future__ import annotations

from qanat.sql.changelog import changes_of
from qanat.sql.expressions import Column
from qanat.sql.plan import Filter, GroupAggregate, Node, Project, Rank

_RISES = {"COUNT": True, "MAX": True, "MIN": False}


def only_improves(node: Rank) -> bool:
    """Whether every order column of the Top-N only moves rows up, and each partition has whole keys of the input."""
    for one in node.order:
        aggregate, rises = _origin(node.input, one.column)
        if aggregate is None or rises is None or rises != one.descending:
            return False
    names = [_origin(node.input, column) for column in node.partition]
    return all(aggregate is not None and rises is None for aggregate, rises in names)


def _origin(node: Node, column: str) -> tuple[GroupAggregate | None, bool | None]:
    """The GROUP BY of inserts that makes a column, and whether the column rises (None: a key of it)."""
    while not isinstance(node, GroupAggregate):
        if isinstance(node, Project):
            expression = node.expressions[[field.name for field in node.schema].index(column)]
            if not isinstance(expression, Column):
                return None, None
            column = expression.name
        elif not isinstance(node, Filter):
            return None, None
        node = node.input
    if changes_of(node.input).updates:
        return None, None
    place = [field.name for field in node.schema].index(column) - len(node.keys)
    if place < 0:
        return node, None
    call = node.aggregates[place]
    return (node, _RISES[call.function]) if call.function in _RISES else (None, None)
