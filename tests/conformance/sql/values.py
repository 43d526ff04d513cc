"""Values of both engines as the same JSON values, and the names of types.

| type | JSON |
| --- | --- |
| integers, BOOLEAN, STRING, NULL | as they are |
| DOUBLE, FLOAT | a number of 12 (FLOAT: 6) significant digits: sums may be added in another order; "NaN", "Infinity" |
| DECIMAL(p, s) | a string with s digits behind the point |
| DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ | a string, at least 3 digits of seconds; an instant in UTC with a Z |
| INTERVAL | milliseconds or months |
| BYTES | base64 |
| ARRAY, ROW | a list |
| MAP | a list of [key, value] in order of the keys' texts |

Character types are one type here (STRING): Flink gives literals CHAR(n), which no result depends on.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qanat.model.types import Kind, Type

_FLINK_KINDS = {
    "CHAR": Kind.STRING,
    "VARCHAR": Kind.STRING,
    "BINARY": Kind.BYTES,
    "VARBINARY": Kind.BYTES,
    "INTEGER": Kind.INT,
    "TIME_WITHOUT_TIME_ZONE": Kind.TIME,
    "TIMESTAMP_WITHOUT_TIME_ZONE": Kind.TIMESTAMP,
    "TIMESTAMP_WITH_LOCAL_TIME_ZONE": Kind.TIMESTAMP_LTZ,
    "INTERVAL_DAY_TIME": Kind.INTERVAL_DAY,
    "INTERVAL_YEAR_MONTH": Kind.INTERVAL_YEAR,
    "MULTISET": Kind.MAP,
}


def type_of_flink(logical: Mapping[str, Any]) -> Type:
    """The type of a `logicalType` of the SQL Gateway."""
    name = logical["type"]
    kind = _FLINK_KINDS[name] if name in _FLINK_KINDS else Kind(name)
    element = logical.get("elementType") or logical.get("valueType")
    key = logical.get("keyType")
    return Type(
        kind,
        bool(logical["nullable"]),
        logical.get("precision"),
        logical.get("scale"),
        type_of_flink(element) if element else None,
        type_of_flink(key) if key else None,
        tuple((field["name"], type_of_flink(field["fieldType"])) for field in logical.get("fields", ())),
    )


def type_name(t: Type) -> str:
    """The name under which types of both engines are compared: without NOT NULL, characters as STRING."""
    match t.kind:
        case Kind.ARRAY:
            return f"ARRAY<{type_name(_inner(t.element))}>"
        case Kind.MAP:
            return f"MAP<{type_name(_inner(t.key))}, {type_name(_inner(t.element))}>"
        case Kind.ROW:
            return "ROW<" + ", ".join(type_name(field) for _, field in t.fields) + ">"
        case Kind.DECIMAL:
            return f"DECIMAL({t.precision}, {t.scale})"
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            return f"{t.kind.value}({6 if t.precision is None else t.precision})"
        case kind:
            return str(kind.value)


def canonical(value: Any, t: Type) -> object:
    """A value of either engine (Flink's from JSON, qanat's from polars) as JSON; see above."""
    if value is None:
        return None
    match t.kind:
        case Kind.DOUBLE | Kind.FLOAT:
            return _float(float(value), 12 if t.kind is Kind.DOUBLE else 6)
        case Kind.DECIMAL:
            return f"{Decimal(str(value)):.{t.scale or 0}f}"
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            return _timestamp(value, t)
        case Kind.TIME | Kind.DATE:
            return str(value)
        case Kind.INTERVAL_DAY:
            return round(value.total_seconds() * 1000) if isinstance(value, dt.timedelta) else int(value)
        case Kind.BYTES:
            return base64.b64encode(value).decode() if isinstance(value, bytes) else value
        case Kind.ARRAY:
            return [canonical(one, _inner(t.element)) for one in value]
        case Kind.MAP:
            pairs = [[canonical(k, _inner(t.key)), canonical(v, _inner(t.element))] for k, v in _pairs(value)]
            return sorted(pairs, key=lambda pair: str(pair[0]))
        case Kind.ROW:
            inside = value.values() if isinstance(value, Mapping) else value
            return [canonical(one, field) for one, (_, field) in zip(inside, t.fields, strict=True)]
        case _:
            return int(value) if isinstance(value, Decimal) else value


def _inner(t: Type | None) -> Type:
    assert t is not None
    return t


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return [tuple(pair.values()) if isinstance(pair, Mapping) else tuple(pair) for pair in value]


def _float(value: float, digits: int) -> object:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    short = float(f"{value:.{digits}g}")
    return short + 0.0  # -0.0 and 0.0 are one number


def _timestamp(value: Any, t: Type) -> str:
    mark = "Z" if t.kind is Kind.TIMESTAMP_LTZ else ""
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        value = value.isoformat(sep=" ")
    day, _, rest = str(value).rstrip("Z").replace("T", " ").partition(" ")
    clock, _, fraction = rest.partition(".")
    if clock.count(":") == 1:
        clock += ":00"
    fraction = fraction.rstrip("0")
    return f"{day} {clock}.{fraction.ljust(3, '0')}{mark}"
