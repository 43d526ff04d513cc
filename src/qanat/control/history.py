"""How much of the past a plan's state depends on, by event time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qanat.sql.plan import (
    Correlate,
    Cumulate,
    Expand,
    Filter,
    Hop,
    IntervalJoin,
    LookupJoin,
    Node,
    Over,
    Project,
    Scan,
    Session,
    Tumble,
    Union,
    Window,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)
from qanat.sql.tree import inputs_of


@dataclass(frozen=True, slots=True)
class Need:
    """`ms`: rows with event times from so long before the watermark on; None: all there ever were. `sessions`: and the
    rows of open sessions, however old."""

    ms: int | None
    sessions: bool = False


def need_of(node: Node) -> Need:
    """What the state of a node, and of those below it, depends on."""
    needs = [need_of(child) for child in inputs_of(node)] or [Need(0)]
    sessions = any(need.sessions for need in needs)
    lengths = [need.ms for need in needs]
    below = None if None in lengths else max(ms for ms in lengths if ms is not None)
    need = Need(below, sessions)
    match node:
        case (
            Scan()
            | Project()
            | Filter()
            | Union()
            | Expand()
            | Correlate()
            | LookupJoin()
            | WindowRank()
            | WindowJoin()
        ):
            return need
        case WindowAggregate(window=Session()):
            return replace(need, sessions=True)
        case WindowAggregate(window=None):
            return need
        case WindowAggregate(window=window) | WindowAssign(window=window) if window is not None:
            return _longer(need, _length(window))
        case IntervalJoin(lower=lower, upper=upper):
            return _longer(need, 2 * (abs(lower) + abs(upper)))  # partners, and whether those had partners
        case Over(rows=False, preceding=int(preceding)) if node.time is not None:
            return _longer(need, preceding)
        case _:
            return Need(None, sessions)


def _longer(need: Need, ms: int) -> Need:
    return need if need.ms is None else replace(need, ms=need.ms + ms)


def _length(window: Window) -> int:
    match window:
        case Tumble(size=size) | Hop(size=size) | Cumulate(size=size):
            return size
        case Session(gap=gap):
            return gap
