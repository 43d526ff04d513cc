"""SenML packs (RFC 8428), JSON or CBOR -> Arrow rows: one row per resolved record. No XML, no EXI.

A pack is taken whole or not at all. Times below 2**28 s count from the arrival (`RelativeTimes`); a record without a
time has NULL, which the gateway takes for the arrival. A record that only sets base fields makes no row.
"""

from __future__ import annotations

import base64
import decimal
import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from qanat.codec.base import Decoded
from qanat.codec.cbor import read_cbor
from qanat.codec.objects import settle
from qanat.codec.texts import Misfit
from qanat.codec.values import column_array, found
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import ArrivalColumn, Column
from qanat.model.types import Kind

#: What a resolved record has, as `fields` of a source names it.
FIELDS = (
    "name",
    "unit",
    "value",
    "string_value",
    "boolean_value",
    "data_value",
    "sum",
    "time",
    "update_time",
)
#: Times from here on count from 1970, others from now (RFC 8428, 4.5.3).
RELATIVE_BELOW = 2**28
_VERSION = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*", re.ASCII)
_BASES = {-1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs"}
_LABELS = {0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd"}
_CBOR_LABELS: Mapping[int, str] = {**_BASES, **_LABELS}
_TEXTS = frozenset({"bn", "bu", "n", "u", "vs"})
_NUMBERS = frozenset({"bt", "bv", "bs", "bver", "v", "s", "t", "ut"})
_VALUES = ("v", "vs", "vb", "vd")
_MEASURED = tuple(FIELDS.index(one) for one in ("value", "string_value", "boolean_value", "data_value", "sum"))
_TIME, _DATA = FIELDS.index("time"), FIELDS.index("data_value")
_LARGEST, _MOST_DIGITS = 2**64, 300
_FIRST_SECOND, _LAST_SECOND, _LAST_NANOSECOND = -62_135_596_800, 253_402_300_799, 9_223_372_035
_DATA_TEXT = re.compile(r"[A-Za-z0-9_-]*")
_PLAIN_BASE64 = str.maketrans("-_", "+/")

#: A resolved record: name, unit, value, string, boolean, data, sum, time, update time.
Record = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SenmlDecoder:
    """`places`: column -> its place in `FIELDS`. `event_time`: the column that takes the arrival where no time is said.

    `relative_below`: see `codec.base.RelativeTimes`.
    """

    places: Mapping[str, int]
    event_time: ArrivalColumn | None
    relative_below: int = RELATIVE_BELOW * 1000

    def __call__(self, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        """One pack a payload, JSON or CBOR as its first byte says."""
        homes = {self.places[column.name] for column in columns if column.name in self.places}
        records: list[Record] = []
        owners: list[int] = []
        bad: dict[int, str] = {}
        for number, payload in enumerate(payloads):
            try:
                resolved = resolve(read_pack(payload))
                _check_homes(resolved, homes)
            except Misfit as misfit:
                bad[number] = str(misfit)
                continue
            records.extend(resolved)
            owners.extend([number] * len(resolved))
        fields: list[Sequence[Any]] = list(zip(*records, strict=True)) if records else [()] * len(FIELDS)
        reasons: dict[int, str] = {}
        arrays = [self._array(column, fields, len(records), reasons) for column in columns]
        schema = schema_of((column.name, column.type) for column in columns)
        return settle(pa.RecordBatch.from_arrays(arrays, schema=schema), reasons, owners, bad, payloads)

    def _array(self, column: Column, fields: Sequence[Sequence[Any]], count: int, reasons: dict[int, str]) -> pa.Array:
        place = self.places.get(column.name)
        if place is None:
            return column_array(column, [None] * count, reasons)
        values = fields[place]
        if place == _DATA:
            return column_array(column, _data(values, column), reasons)
        if place == _TIME:
            return self._times(column, values, reasons)
        return column_array(column, list(values), reasons)

    def _times(self, column: Column, values: Sequence[Any], reasons: dict[int, str]) -> pa.Array:
        is_event_time = self.event_time is not None and self.event_time.name == column.name
        if not is_event_time:
            for row, value in enumerate(values):
                if value is not None and abs(value) < RELATIVE_BELOW:
                    reasons.setdefault(row, f"column {column.name}: the time counts from now, not from 1970")
        if column.type.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
            arrow = to_arrow(column.type)
            per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[arrow.unit]
            return pa.array(_counts(column, values, per_second, reasons), pa.int64()).cast(arrow)
        if self.event_time is None or not is_event_time:
            return column_array(column, list(values), reasons)
        unit = self.event_time.per_second or 1
        if column.type.kind in (Kind.INT, Kind.BIGINT):
            return column_array(column, _counts(column, values, unit, reasons), reasons)
        return column_array(column, [None if one is None else one * unit for one in values], reasons)


def _check_homes(records: Sequence[Record], homes: Set[int]) -> None:
    """What a record measures must have a column, or it would be lost. Raises `Misfit`."""
    for place, record in enumerate(records):
        if not any(record[one] is not None and one in homes for one in _MEASURED):
            names = " and ".join(FIELDS[one] for one in _MEASURED if record[one] is not None)
            raise Misfit(f"record [{place}]: no column takes its {names}; see `fields` of the source")


# --- a pack ----------------------------------------------------------------------------------------------------------


def read_pack(payload: bytes) -> list[dict[str, Any]]:
    """The records with the labels of JSON. Raises `Misfit` for what is no pack."""
    if payload and payload[0] >> 5 == 4:  # an array of CBOR; JSON begins with [ or white space
        pack, is_cbor = read_cbor(payload), True
    else:
        pack, is_cbor = _read_json(payload), False
    if type(pack) is not list:
        raise Misfit(f"not SenML: expected an array of records, found {_kind(pack)}")
    for place, record in enumerate(pack):
        if type(record) is not dict:
            raise Misfit(f"not SenML: expected a record at [{place}], found {_kind(record)}")
    return [_labelled(record) for record in pack] if is_cbor else pack


def _read_json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except ValueError as error:
        raise Misfit(f"not SenML: {error}".splitlines()[0][:200]) from None


def _labelled(record: Mapping[Any, Any]) -> dict[str, Any]:
    """CBOR's numbers as labels; texts are the labels of extensions, whatever they look like."""
    made: dict[str, Any] = {}
    for label, value in record.items():
        if type(label) is str:
            made[f"_{label}" if not label.endswith("_") else label] = value
        elif label in _CBOR_LABELS:
            name = _CBOR_LABELS[label]
            made[name] = _as_json(value, name)
    return made


def _as_json(value: Any, label: str) -> Any:
    if label == "vd":
        return base64.urlsafe_b64encode(value).decode().rstrip("=") if type(value) is bytes else None
    if type(value) is decimal.Decimal and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS:
        return float(value)
    return value


def _kind(value: Any) -> str:
    plain = value is None or isinstance(value, bool | int | float | str | list | dict)
    return found(value) if plain else f"a {type(value).__name__}"


def resolve(pack: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The records with what the base fields before them say (RFC 8428, 4.6), in the order of the pack.

    Raises `Misfit` with the place of the record that is wrong.
    """
    base: dict[str, Any] = {}
    records = []
    for place, raw in enumerate(pack):
        try:
            _check(raw)
            version = raw.get("bver", base.get("bver", _VERSION))
            if version > _VERSION or (place and version != base.get("bver", _VERSION)):
                raise Misfit(f"version {version}; {_VERSION} is known here, and one in a pack")
            base.update((label, raw[label]) for label in _BASES.values() if label in raw)
            record = _resolved(raw, base)
        except Misfit as misfit:
            raise Misfit(f"not SenML: record [{place}]: {misfit}") from None
        if record is not None:
            records.append(record)
    return records


def _check(raw: Mapping[str, Any]) -> None:
    for label, value in raw.items():
        if label in _TEXTS:
            fits = type(value) is str
        elif label in _NUMBERS:
            fits = (type(value) is int and abs(value) < _LARGEST) or (type(value) is float and math.isfinite(value))
        elif label == "vb":
            fits = type(value) is bool
        elif label == "vd":
            fits = type(value) is str and _DATA_TEXT.fullmatch(value) is not None
        elif label.endswith("_"):
            raise Misfit(f"the field {label} must be understood, and is not")
        else:
            continue
        if not fits:
            raise Misfit(f"{label} is {_kind(value)}")


def _resolved(raw: Mapping[str, Any], base: Mapping[str, Any]) -> Record | None:
    given = [label for label in _VALUES if label in raw]
    total = _added(raw.get("s"), base.get("bs"))
    value = raw.get("v")
    if "bv" in base and (value is not None or (not given and "s" not in raw and "n" in raw)):
        value = _added(value, base["bv"])
    if not given and value is None and "s" not in raw:
        if "n" in raw:
            raise Misfit("it has no value")
        return None
    if len(given) > 1:
        raise Misfit(f"it has {' and '.join(given)}; one value is allowed")
    name = base.get("bn", "") + raw.get("n", "")
    if not _NAME.fullmatch(name):
        raise Misfit(f"its name is {found(name)}" if name else "it has no name")
    time = _added(raw.get("t"), base.get("bt")) or None
    unit = raw.get("u", base.get("bu"))
    return name, unit, value, raw.get("vs"), raw.get("vb"), raw.get("vd"), total, time, raw.get("ut")


def _added(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    total = one + other
    if not math.isfinite(total):
        raise Misfit("a sum with its base is out of range")
    return total


# --- columns ---------------------------------------------------------------------------------------------------------


def _data(values: Sequence[Any], column: Column) -> list[Any]:
    """Data values as `values` takes bytes: plain base64, with its padding."""
    if column.type.kind is not Kind.BYTES:
        return list(values)
    return [None if one is None else one.translate(_PLAIN_BASE64) + "=" * (-len(one) % 4) for one in values]


def _counts(column: Column, values: Sequence[Any], per_second: int, reasons: dict[int, str]) -> list[int | None]:
    """Seconds as whole units. A double of today has microseconds; what is finer than the unit is cut."""
    counts: list[int | None] = []
    last = _LAST_NANOSECOND if per_second > 10**6 else _LAST_SECOND
    for row, value in enumerate(values):
        if value is None:
            counts.append(None)
        elif _FIRST_SECOND <= value <= last and value >= -last:
            counts.append(round(value * 1_000_000) * per_second // 1_000_000)
        else:
            counts.append(None)
            reasons.setdefault(row, f"column {column.name}: the time {value} s is out of range")
    return counts
