"""Protobuf's well-known messages as the values that they stand for: times, durations, wrapped scalars, JSON."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from qanat.codec.side_by_side import Cursors, Places

_SECOND = 10**9
#: Seconds that fit into 64 bits as nanoseconds: 1677-09-21 to 2262-04-11.
_FARTHEST = (2**63 - 1) // _SECOND - 1
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Known:
    """`whole`: read from the message's bytes; else from its fields as a struct."""

    make: Callable[..., pa.Array]
    whole: bool = False


def convert(name: str, rows: Cursors, fields: pa.Array | None = None) -> pa.Array:
    """The messages of this well-known type as values."""
    known = KNOWN[name]
    return known.make(rows, name) if known.whole else known.make(rows, fields)


def _nanos(rows: Cursors, fields: pa.Array) -> Places:
    seconds = fields.field("seconds").to_numpy(zero_copy_only=False)
    far = np.abs(seconds) > _FARTHEST
    if far.any():
        rows.fail(np.flatnonzero(far), "a time beyond the years 1677 to 2262")
    nanos: Places = np.where(far, 0, seconds) * _SECOND + fields.field("nanos").to_numpy(zero_copy_only=False)
    return nanos


def _timestamp(rows: Cursors, fields: pa.Array) -> pa.Array:
    return pa.array(_nanos(rows, fields)).view(pa.timestamp("ns", tz="UTC"))


def _duration(rows: Cursors, fields: pa.Array) -> pa.Array:
    return pa.array(_nanos(rows, fields)).view(pa.duration("ns"))


def _wrapped(_: Cursors, fields: pa.Array) -> pa.Array:
    return fields.field(0)


def _date(rows: Cursors, fields: pa.Array) -> pa.Array:
    made: list[int | None] = []
    for place, one in enumerate(fields.to_pylist()):
        try:
            made.append(dt.date(one["year"], one["month"], one["day"]).toordinal() - _EPOCH)
        except ValueError as error:
            rows.fail(np.array([place]), f"a date that is none: {error}")
            made.append(None)
    return pa.array(made, pa.int32()).view(pa.date32())


def _time_of_day(_: Cursors, fields: pa.Array) -> pa.Array:
    hours, minutes, seconds, nanos = (one.to_numpy().astype(np.int64) for one in fields.flatten())
    micros = ((hours * 60 + minutes) * 60 + seconds) * 10**6 + nanos // 1000
    return pa.array(np.clip(micros, 0, 86_399_999_999)).view(pa.time64("us"))


def _decimal(rows: Cursors, fields: pa.Array) -> pa.Array:
    values = [
        decimal.Decimal(int.from_bytes(one["value"], "big", signed=True)).scaleb(-one["scale"])
        for one in fields.to_pylist()
    ]
    scales = (one["scale"] for one in fields.to_pylist())
    try:
        return pa.array(values, pa.decimal128(38, min(max(scales, default=0, key=int), 37)))
    except pa.ArrowInvalid:
        rows.fail(np.arange(len(rows)), "a decimal of more than 38 digits")
        return pa.nulls(len(rows), pa.decimal128(38, 0))


def _json(rows: Cursors, name: str) -> pa.Array:
    from google.protobuf import json_format, struct_pb2

    kind = getattr(struct_pb2, name.rpartition(".")[2])
    made: list[str | None] = []
    for place, (start, end) in enumerate(zip(rows.pos.tolist(), rows.end.tolist(), strict=True)):
        try:
            value = json_format.MessageToDict(kind.FromString(rows.data[start:end].tobytes()))
            made.append(orjson.dumps(value).decode())
        except Exception as error:  # noqa: BLE001  the library's own errors; the payload is what is wrong
            rows.fail(np.array([place]), f"a {name} that cannot be read: {error}")
            made.append(None)
    return pa.array(made, pa.string())


_WRAPPERS = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
KNOWN: dict[str, Known] = {
    "google.protobuf.Timestamp": Known(_timestamp),
    "google.protobuf.Duration": Known(_duration),
    **{f"google.protobuf.{name}Value": Known(_wrapped) for name in _WRAPPERS},
    "google.type.Date": Known(_date),
    "google.type.TimeOfDay": Known(_time_of_day),
    "confluent.type.Decimal": Known(_decimal),
    **{f"google.protobuf.{name}": Known(_json, whole=True) for name in ("Struct", "Value", "ListValue")},
}
