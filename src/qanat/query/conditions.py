"""What is known of a column's values in the rows that matter: a set of them, or the lowest and the highest. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeGuard

from qanat.query.constants import Moment, Value


class Domain(Enum):
    """How a column's values are compared: as text, as whole numbers, or as instants (microseconds since 1970)."""

    TEXT = "text"
    WHOLE = "whole"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Condition:
    """`among`: the only values possible (None: any); `low`, `high`: inclusive, of whole numbers and instants."""

    among: frozenset[object] | None = None
    low: int | None = None
    high: int | None = None


#: By column (casefolded). A column that is missing is not bounded.
Conditions = dict[str, Condition]


def condition_of(domain: Domain, value: Value) -> Condition | None:
    """Equal to a value; None where that says nothing that is understood."""
    match domain, value:
        case Domain.TEXT, str():
            return Condition(frozenset({value}))
        case Domain.WHOLE, int() if not isinstance(value, bool):
            return Condition(frozenset({value}), value, value)
        case Domain.TIME, _:
            moment = _instant(value)
            exact = moment is not None and not moment.moving
            return Condition(None, moment.micros, moment.micros) if moment is not None and exact else None
    return None


def range_of(domain: Domain, *, low: Value | None = None, high: Value | None = None) -> Condition | None:
    """Not below, or not above, a value. Strict comparisons are loosened to these."""
    match domain:
        case Domain.WHOLE:
            return _range(_floor(low), _ceiling(high))
        case Domain.TIME:
            lowest, highest = _instant(low), _instant(high)
            # "now" has moved on when DuckDB computes it: it bounds from below only
            above = None if highest is None or highest.moving else highest.micros
            return _range(None if lowest is None else lowest.micros, above)
    return None


def both(one: Conditions, other: Conditions) -> Conditions:
    """What holds where both hold."""
    found = dict(one)
    for name, condition in other.items():
        known = found.get(name)
        found[name] = condition if known is None else _both(known, condition)
    return found


def either(one: Conditions, other: Conditions) -> Conditions:
    """What holds where at least one holds."""
    shared = {name: _either(one[name], other[name]) for name in one.keys() & other.keys()}
    return {name: condition for name, condition in shared.items() if condition != Condition()}


def _both(one: Condition, other: Condition) -> Condition:
    if one.among is None or other.among is None:
        among = one.among if other.among is None else other.among
    else:
        among = one.among & other.among
    return Condition(among, _highest(one.low, other.low), _lowest(one.high, other.high))


def _either(one: Condition, other: Condition) -> Condition:
    among = None if one.among is None or other.among is None else one.among | other.among
    low = None if one.low is None or other.low is None else min(one.low, other.low)
    high = None if one.high is None or other.high is None else max(one.high, other.high)
    return Condition(among, low, high)


def _highest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _lowest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _range(low: int | None, high: int | None) -> Condition | None:
    return None if low is None and high is None else Condition(None, low, high)


def _floor(value: Value | None) -> int | None:
    return math.floor(value) if _is_exact(value) else None


def _ceiling(value: Value | None) -> int | None:
    return math.ceil(value) if _is_exact(value) else None


def _is_exact(value: Value | None) -> TypeGuard[int | float]:
    """A whole number, or a float that is small enough to lie between the whole numbers that it should."""
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) < 1 << 52
    return isinstance(value, int) and not isinstance(value, bool)


def _instant(value: Value | None) -> Moment | None:
    match value:
        case Moment():
            return value
        case str():
            return Moment.parsed(value)
    return None
