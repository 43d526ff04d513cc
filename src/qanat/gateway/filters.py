"""Conditions on rows, as a URL has them: `temperature > 30`, `sensor = s1`, `note is null`, times. Pure, over Arrow.

What the same texts mean is the same for pages of rows and for live rows, over every protocol.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.errors import ConfigError
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.letters import parse_instant
from qanat.model.arrow import schema_of
from qanat.model.streams import ArrivalColumn, Stream

_OPERATOR = re.compile(r"\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)
_NULL = re.compile(r"\s+is\s+(not\s+)?null\s*", re.IGNORECASE)
_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_HINT = "where=COLUMN=VALUE, with = != < <= > >=, or COLUMN is null, COLUMN is not null; may be repeated"
#: Conditions of one request.
MOST = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """`value` is an Arrow scalar of the column's type; None where `operator` is `null` or `not null`."""

    column: str
    operator: str
    value: Any = None

    def mask(self, rows: pa.RecordBatch) -> Any:
        """True where it holds; NULL compares to nothing."""
        if self.column not in rows.schema.names:  # older than the column
            return pa.array([self.operator == "null"] * rows.num_rows)
        column = rows.column(self.column)
        match self.operator:
            case "null":
                return pc.is_null(column)
            case "not null":
                return pc.is_valid(column)
            case operator:
                return pc.fill_null(_COMPARE[operator](column, self.value), False)


@dataclass(frozen=True, slots=True)
class Times:
    """Event times from `since` on and before `until` (ms), of the column that has them."""

    column: ArrivalColumn
    since: int | None = None
    until: int | None = None

    def mask(self, rows: pa.RecordBatch) -> Any:
        """True where the event time lies in between."""
        found = event_millis(rows, self.column)
        mask = pc.is_valid(found)
        if self.since is not None:
            mask = pc.and_(mask, pc.greater_equal(found, self.since))
        if self.until is not None:
            mask = pc.and_(mask, pc.less(found, self.until))
        return pc.fill_null(mask, False)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows of a stream: all of this holds."""

    conditions: tuple[Condition, ...] = ()
    times: Times | None = None

    def places(self, rows: pa.RecordBatch) -> Any:
        """The places of the rows that are meant, growing."""
        masks = [condition.mask(rows) for condition in self.conditions]
        if self.times is not None:
            masks.append(self.times.mask(rows))
        if not masks:
            return np.arange(rows.num_rows)
        whole = masks[0]
        for mask in masks[1:]:
            whole = pc.and_(whole, mask)
        return pc.indices_nonzero(whole).to_numpy(zero_copy_only=False).astype(np.int64)


EVERYTHING = Filter()


def parse_filter(stream: Stream, where: Sequence[str], since: str | None, until: str | None) -> Filter:
    """The filter that a request asks for. Raises `RefusedError` 400."""
    schema = schema_of((column.name, column.type) for column in stream.columns)
    conditions = parse_conditions(where, schema)
    first, last = _instant(since, "since"), _instant(until, "until")
    if first is None and last is None:
        return Filter(conditions)
    if stream.event_time is None:
        raise RefusedError(400, f"{stream.name} has no event time", hint="leave since and until out, or use where=")
    return Filter(conditions, Times(stream.event_time, first, last))


def _instant(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_instant(text)
    except (ConfigError, OverflowError) as error:
        raise RefusedError(400, f"{name}: {error}".splitlines()[0], hint=getattr(error, "hint", None)) from error


def event_millis(rows: pa.RecordBatch | pa.Table, column: ArrivalColumn) -> Any:
    """The event times of rows in ms since 1970."""
    values = rows.column(column.name)
    if column.per_second is None:
        return values.cast(pa.timestamp("ms", values.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_integer(values.type):
        numbers = values.cast(pa.int64())
        return pc.divide(pc.multiply(numbers, 1000), column.per_second)
    return pc.multiply(values.cast(pa.float64()), 1000 / column.per_second).cast(pa.int64(), safe=False)


def parse_conditions(texts: Sequence[str], schema: pa.Schema) -> tuple[Condition, ...]:
    """The conditions. Raises `RefusedError` 400 for an unknown column, and a value that its type does not have."""
    if len(texts) > MOST:
        raise RefusedError(400, f"{len(texts)} conditions; the most are {MOST}", hint="POST /v1/query takes SQL")
    return tuple(_parse(text, schema) for text in texts)


def _parse(text: str, schema: pa.Schema) -> Condition:
    for name in sorted(schema.names, key=len, reverse=True):
        rest = text.strip().removeprefix(name)
        if rest == text.strip():
            continue
        null = _NULL.fullmatch(rest)
        if null is not None:
            return Condition(name, "not null" if null[1] else "null")
        found = _OPERATOR.fullmatch(rest)
        if found is not None:
            return Condition(name, found[1], _value(found[2], schema.field(name)))
    known = ", ".join(schema.names)
    raise RefusedError(400, f"where={text!r} is no condition on a column", hint=f"{_HINT}; the columns are {known}")


def _value(text: str, field: pa.Field) -> Any:
    kind = field.type
    try:
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_duration(kind):
            raise pa.ArrowNotImplementedError(f"a {kind} is not compared")
        if pa.types.is_boolean(kind) and text.lower() not in ("true", "false"):
            raise pa.ArrowInvalid("expected true or false")
        value = pa.scalar(text).cast(kind)
        pc.equal(pa.nulls(0, kind), value)  # what cannot be compared is refused now, not at the first row
        return value
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError) as error:
        raise RefusedError(
            400, f"column {field.name} ({kind}) is not compared with {text!r}: {str(error).splitlines()[0]}", hint=_HINT
        ) from error
