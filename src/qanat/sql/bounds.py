"""What each node of a plan keeps in memory, what bounds it, and where nothing does. Describes only."""

from __future__ import annotations

from dataclasses import dataclass

from qanat.sql.changelog import changes_of
from qanat.sql.plan import (
    AggregateCall,
    Deduplicate,
    GroupAggregate,
    IntervalJoin,
    LookupJoin,
    Materialize,
    Node,
    Normalize,
    Over,
    Rank,
    RegularJoin,
    Session,
    TemporalJoin,
    WindowAggregate,
    WindowJoin,
    WindowRank,
)

#: Aggregates that keep every value.
_COLLECTING = ("ARRAY_AGG", "LISTAGG")
_CLOSES = "a window is dropped when the watermark reaches its end"
_TTL = "/*+ STATE_TTL('table' = '1 d') */ behind SELECT, or SET 'table.exec.state.ttl' = '1 d'"


@dataclass(frozen=True, slots=True)
class Kept:
    """`what` is kept; `bound`: what lets it go, None where nothing does and the state grows with the input; then `hint`
    says how to bound it."""

    what: str
    bound: str | None
    hint: str | None = None


def kept_by(node: Node) -> Kept | None:
    """What the node keeps; None for a node that keeps nothing."""
    match node:
        case WindowAggregate():
            return _window_aggregate(node)
        case WindowJoin():
            return Kept("rows of open windows, both sides", _CLOSES)
        case WindowRank():
            return Kept("rows of open windows", _CLOSES)
        case IntervalJoin():
            reach = length(node.upper - node.lower)
            return Kept("rows of both sides", f"the bounds on time: {reach} and the watermark delay")
        case Over():
            return _over(node)
        case TemporalJoin(left_time=None):
            return Kept("the latest row per key of the right side", "the number of keys")
        case TemporalJoin():
            what = "versions per key of the right side, left rows that wait for the watermark"
            return Kept(what, "versions before the watermark's are dropped; one per key stays")
        case LookupJoin():
            return Kept("answers of the table", "its cache")
        case GroupAggregate() | Deduplicate() | Rank() | RegularJoin() | Normalize() | Materialize():
            return _updating(node)
        case _:
            return None


def _window_aggregate(node: WindowAggregate) -> Kept:
    what = "values of open windows" if _collects(node.aggregates) else "one accumulator per key and open window"
    if isinstance(node.window, Session):
        bound = "a session is dropped when the watermark passes its end; a key that never pauses keeps growing"
        return Kept(what, bound)
    return Kept(what, _CLOSES)


def _collects(calls: tuple[AggregateCall, ...]) -> bool:
    return any(one.function in _COLLECTING or one.distinct for one in calls)


def _over(node: Over) -> Kept:
    if node.preceding is None:
        return Kept("one accumulator per key, rows that wait for the watermark", "the number of keys")
    frame = f"{node.preceding} rows" if node.rows else length(node.preceding)
    return Kept(f"the last {frame} per key, rows that wait for the watermark", "the number of keys")


def _updating(node: GroupAggregate | Deduplicate | Rank | RegularJoin | Normalize | Materialize) -> Kept:
    if isinstance(node, RegularJoin):
        lives = [one for one in (node.left_ttl, node.right_ttl) if one is not None]
        bound = f"STATE_TTL: {' and '.join(length(one) for one in lives)}" if len(lives) == 2 else None
        return Kept("every row of both sides", bound, None if bound else _TTL)
    what = _per_key(node)
    if node.ttl is not None:
        return Kept(what, f"STATE_TTL: a key is dropped {length(node.ttl)} after its last row")
    if isinstance(node, GroupAggregate) and not node.keys and not _collects(node.aggregates):
        return Kept(what, "there is one group")
    if isinstance(node, Rank) and not node.partition and not changes_of(node.input).updates:
        return Kept(what, f"the first {node.last} rows")
    if isinstance(node, Normalize | Materialize):
        return Kept(what, "the number of keys")
    return Kept(what, None, _TTL)


def _per_key(node: Node) -> str:
    match node:
        case GroupAggregate(aggregates=calls) if _collects(calls):
            return "accumulators and distinct values per key"
        case GroupAggregate():
            return "one accumulator per key"
        case Rank() if changes_of(node.input).updates:
            return "every row of each key"
        case Rank():
            return f"the first {node.last} rows of each key"
        case _:
            return "one row per key"


def length(milliseconds: int) -> str:
    """A duration in its largest whole unit.

    >>> length(90_000), length(7_200_000)
    ('90 s', '2 h')
    """
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds} ms"
