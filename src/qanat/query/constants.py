"""The values of expressions without columns: literals, parameters, TIMESTAMP '...', epoch_ms(...), now() - INTERVAL ...

Only what is certain to mean here what it means to DuckDB; everything else is None. Times without a zone are UTC, as in
every session of `query`. Pure.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?\s*(?:Z|\+00(?::?00)?)?"
)
_SPAN = re.compile(r"\s*(-?\d+)\s*([a-z]+?)s?\s*", re.IGNORECASE)
_UNITS = {
    "microsecond": 1,
    "millisecond": 1000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 7 * 86_400_000_000,
}
_NOW = frozenset({"now", "current_timestamp", "get_current_timestamp", "transaction_timestamp"})


@dataclass(frozen=True, slots=True)
class Moment:
    """Microseconds since 1970. `moving`: made of now(), which is a little later when DuckDB asks for it."""

    micros: int
    moving: bool = False

    @staticmethod
    def parsed(text: str) -> Moment | None:
        """`2026-01-01`, `2026-01-01 10:00`, with seconds, fractions and Z; None for everything else."""
        match = _TIME.fullmatch(text.strip())
        if match is None:
            return None
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        fraction = int((match[7] or "").ljust(6, "0"))
        try:
            return Moment.at(dt.datetime(year, month, day, hour, minute, second, fraction, dt.UTC))
        except ValueError:
            return None

    @staticmethod
    def at(time: dt.datetime) -> Moment:
        """A time, UTC unless it says otherwise."""
        zoned = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
        return Moment((zoned - _EPOCH) // dt.timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time in microseconds."""

    micros: int


Value = str | int | float | bool | Moment | Span


@dataclass(frozen=True, slots=True)
class Values:
    """What an expression may refer to: the statement's parameters, and now in microseconds since 1970."""

    parameters: Sequence[object] | Mapping[str, object]
    now: int


def value_of(node: dict[str, Any], values: Values) -> Value | None:
    """The value of an expression; None where it is NULL, has columns in it or is not understood."""
    match node:
        case {"class": "CONSTANT", "literal": {"kind": kind, "text": text}}:
            return _literal(str(kind), str(text))
        case {"class": "PARAMETER", "identifier": name}:
            return _parameter(str(name), values)
        case {"class": "COLUMN_REF", "column_names": [name]} if str(name).casefold() == "current_timestamp":
            return Moment(values.now, moving=True)
        case {"class": "CAST", "try_cast": False, "child": child, "type_expr": {"type_name": kind, "children": []}}:
            inner = value_of(child, values)
            return None if inner is None else _cast(inner, str(kind).casefold())
        case {"class": "FUNCTION", "function_name": name, "arguments": arguments, "distinct": False, "schema": ""}:
            given = [value_of(one["expression"], values) for one in arguments if not one.get("name")]
            known = [one for one in given if one is not None]
            return _call(str(name).casefold(), known, values) if len(known) == len(arguments) else None
    return None


def _literal(kind: str, text: str) -> Value | None:
    match kind:
        case "STRING":
            return text
        case "INTEGER":
            return int(text) if re.fullmatch(r"-?\d+", text) else None
        case "NUMERIC":
            return _number(text)
        case "BOOLEAN":
            return text.casefold() == "true"
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parameter(name: str, values: Values) -> Value | None:
    given = values.parameters
    if isinstance(given, Mapping):
        value = given.get(name)
    else:
        place = int(name) - 1 if name.isdigit() else -1
        value = given[place] if 0 <= place < len(given) else None
    match value:
        case str() | int() | float():
            return value
        case dt.datetime():
            return Moment.at(value)
        case dt.date():
            return Moment.at(dt.datetime(value.year, value.month, value.day))
    return None


def _cast(value: Value, kind: str) -> Value | None:
    match kind, value:
        case (("timestamp" | "timestamptz" | "datetime" | "timestamp with time zone"), str()):
            return Moment.parsed(value)
        case (("timestamp" | "timestamptz" | "datetime" | "timestamp with time zone"), Moment()):
            return value
        case "date", str():
            moment = Moment.parsed(value)
            return moment if moment is not None and moment.micros % _UNITS["day"] == 0 else None
        case "interval", str():
            return _span(value)
        case "double", int() | float():
            return float(value)
        case (("bigint" | "integer"), float()) if value.is_integer():
            return int(value)
        case (("bigint" | "integer"), int()):
            return value
        case (("varchar" | "text" | "string"), str()):
            return value
    return None


def _span(text: str) -> Span | None:
    match = _SPAN.fullmatch(text)
    if match is None or match[2].casefold() not in _UNITS:
        return None
    return Span(int(match[1]) * _UNITS[match[2].casefold()])


def _call(name: str, given: list[Value], values: Values) -> Value | None:
    if name in _NOW and not given:
        return Moment(values.now, moving=True)
    if len(given) == 1 and isinstance(given[0], int | float) and name in _OF_NUMBER:
        return _OF_NUMBER[name](given[0])
    match name, given:
        case "+", [Moment() as moment, Span() as span]:
            return Moment(moment.micros + span.micros, moment.moving)
        case "-", [Moment() as moment, Span() as span]:
            return Moment(moment.micros - span.micros, moment.moving)
        case "-", [int() | float() as number]:
            return -number
    return None


def _spans(unit: str) -> Callable[[float], Value | None]:
    return lambda count: Span(round(count * _UNITS[unit])) if math.isfinite(count) else None


def _micros(factor: int) -> Callable[[float], Value | None]:
    return lambda count: Moment(math.floor(count * factor)) if isinstance(count, int) else None


_OF_NUMBER: dict[str, Callable[[float], Value | None]] = {
    **{f"to_{unit}s": _spans(unit) for unit in _UNITS},
    "trunc": lambda number: float(math.trunc(number)) if math.isfinite(number) else None,
    "epoch_ms": _micros(1000),
    "to_timestamp": _micros(1_000_000),
    "make_timestamp": _micros(1),
    "make_timestamptz": _micros(1),
}
