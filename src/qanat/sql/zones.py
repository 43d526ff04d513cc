"""Time zones by name, and the pass that tells every expression of a plan which one the session has."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from qanat.model.types import Kind
from qanat.sql.expressions import UTC, Call, Cast
from qanat.sql.plan import WindowAggregate, WindowAssign, WindowJoin, WindowRank

T = TypeVar("T")

_SHORT = {
    "PST": "America/Los_Angeles", "PNT": "America/Phoenix", "CST": "America/Chicago", "JST": "Asia/Tokyo",
    "IST": "Asia/Kolkata", "CTT": "Asia/Shanghai", "ECT": "Europe/Paris", "AET": "Australia/Sydney",
    "EST": "GMT-05:00", "MST": "GMT-07:00", "HST": "GMT-10:00",
}  # fmt: skip


@lru_cache(maxsize=256)
def zone_of(name: str) -> str | None:
    """A zone as it is kept in a plan: an IANA name, `UTC`, or an offset in minutes such as `+120`; None: there is none.

    >>> zone_of("Europe/Berlin"), zone_of("GMT+02:00"), zone_of("Z"), zone_of("Nope")
    ('Europe/Berlin', '+120', 'UTC', None)
    """
    if name.upper() in ("UTC", "GMT", "Z", "UT"):
        return UTC
    match = re.fullmatch(r"(?:UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{2}))?", name)
    if match:
        minutes = int(match.group(2)) * 60 + int(match.group(3) or 0)
        return f"{match.group(1)}{minutes}" if minutes else UTC
    if name in _SHORT:
        return zone_of(_SHORT[name])
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    return name


def java_zone(name: str) -> str:
    """What TimeZone.getTimeZone makes of a name: UTC of all that it does not know, an offset without GMT included."""
    return UTC if name[:1] in ("+", "-") else zone_of(name) or UTC


_WINDOWED = (WindowAssign, WindowAggregate, WindowJoin, WindowRank)


def _of_instants(node: WindowAssign | WindowAggregate | WindowJoin | WindowRank) -> bool:
    """Whether the windows of a node are over TIMESTAMP_LTZ."""
    match node:
        case WindowJoin():
            time = next(one for one in node.left.schema if one.name == node.left_window[2])
        case WindowRank():
            time = next(one for one in node.input.schema if one.name == node.window[2])
        case _:
            time = node.schema[-1]
    return time.type.kind is Kind.TIMESTAMP_LTZ


def in_zone(part: T, zone: str) -> T:
    """The plan, table or expression with the zone in every call and cast in it."""
    if isinstance(part, tuple):
        changed = tuple(in_zone(one, zone) for one in part)
        return part if all(a is b for a, b in zip(part, changed, strict=True)) else changed  # type: ignore[return-value]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes: dict[str, object] = {}
    for one in fields(part):
        value = getattr(part, one.name)
        found = in_zone(value, zone) if isinstance(value, tuple) or is_dataclass(value) else value
        if found is not value:
            changes[one.name] = found
    if isinstance(part, Call | Cast) or (isinstance(part, _WINDOWED) and _of_instants(part)):
        changes["zone"] = zone
    return replace(part, **changes) if changes else part
