"""What the rows of a node may say: inserts only, or also updates and deletes; and by which columns they are known.

Computed from the plan bottom-up; nothing is stored. See docs/design/updates.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from qanat.sql.expressions import Column, Expression
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
    Table,
    TemporalJoin,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a node gives. `updates`: rows other than +I. `key`: columns by which a row is known among all that are valid
    at one time; None: by all of its columns, and there may be equal ones."""

    updates: bool
    key: Key | None = None


_INSERTS = Changes(False)


def changes_of(node: Node) -> Changes:
    """What the rows of this node are."""
    match node:
        case Scan(table=table):
            return Changes(table.changes != "insert", _present(table.key, node) if table.changes != "insert" else None)
        case Project():
            return _projected(node)
        case Filter(input=below) | WindowAssign(input=below) | RowNumber(input=below):
            return changes_of(below)
        case Expand(input=below):
            return Changes(changes_of(below).updates)
        case Correlate(input=below):
            return Changes(changes_of(below).updates)
        case Union(inputs=inputs):
            return Changes(any(changes_of(one).updates for one in inputs))
        case RegularJoin():
            return _joined(node)
        case GroupAggregate():
            return Changes(True, tuple(one.name for one in node.schema[: len(node.keys)]))
        case Deduplicate():
            return Changes(not (node.keep == "FIRST" and node.time is None), node.partition)
        case Rank():
            return Changes(True, _ranked(node))
        case Normalize() | Materialize():
            return Changes(True, node.key)
        case WindowAggregate() | IntervalJoin() | WindowJoin() | WindowRank() | TemporalJoin() | LookupJoin() | Over():
            return _INSERTS


def _present(key: Key, node: Node) -> Key | None:
    names = {one.name for one in node.schema}
    return key if key and set(key) <= names else None


def _projected(node: Project) -> Changes:
    below = changes_of(node.input)
    if below.key is None:
        return below
    return Changes(below.updates, passed(below.key, node.expressions, tuple(one.name for one in node.schema)))


def passed(key: Key, expressions: tuple[Expression, ...], names: Key) -> Key | None:
    """The key under the names that a projection gives it; None where it does not pass all of it."""
    found: dict[str, str] = {}
    for expression, name in zip(expressions, names, strict=True):
        if isinstance(expression, Column):
            found.setdefault(expression.name, name)
    return tuple(found[one] for one in key) if all(one in found for one in key) else None


def _joined(node: RegularJoin) -> Changes:
    left, right = changes_of(node.left), changes_of(node.right)
    if node.kind in ("SEMI", "ANTI"):
        return Changes(left.updates or right.updates or node.kind == "ANTI", left.key)
    updates = left.updates or right.updates or node.kind != "INNER"
    if left.key is None or right.key is None:
        return Changes(updates)
    split = len(node.left.schema)
    renamed = {own.name: mine.name for mine, own in zip(node.schema[split:], node.right.schema, strict=True)}
    theirs = tuple(renamed[one] for one in right.key)
    right_known = set(right.key) <= {one.name for one in node.right_keys if isinstance(one, Column)}
    left_known = set(left.key) <= {one.name for one in node.left_keys if isinstance(one, Column)}
    if right_known and node.kind in ("INNER", "LEFT"):
        return Changes(updates, left.key)
    if left_known and node.kind in ("INNER", "RIGHT"):
        return Changes(updates, theirs)
    # outer joins leave NULLs in one side's key, which is still told apart by the other
    return Changes(updates, (*left.key, *theirs))


def _ranked(node: Rank) -> Key | None:
    if node.number is not None:
        return (*node.partition, node.number)
    if node.first == node.last:
        return node.partition
    return changes_of(node.input).key


def sink_takes(table: Table) -> bool:
    """Whether rows other than +I may be written into the table."""
    match table.connector:
        case None:
            return bool(table.key)
        case "filesystem":
            return table.options.get("format") == "debezium-json"
        case _:
            return True
