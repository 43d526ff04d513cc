"""CBOR (RFC 8949) -> Arrow rows: a map is a row, an array of maps several. As strict as JSON, and by the same rules.

Byte strings are BYTES, the times and dates of tags 0, 1, 100 and 1004 are TIMESTAMP, TIMESTAMP_LTZ and DATE, decimal
fractions and bignums are numbers, undefined is NULL. Other tags are refused where a column would hold them.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cbor2

from qanat.codec.base import Decode, Decoded
from qanat.codec.objects import Parsed, rows_of_columns
from qanat.codec.texts import Misfit
from qanat.codec.values import found
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_DEEPEST = 64
_MOST_DIGITS = 400
_SIMPLE = frozenset({int, float, str, bool, type(None)})
_WIDE = range(-(2**63), 2**63)
_KINDS = {bytes: "a byte string", dt.datetime: "a time", dt.date: "a date", cbor2.CBORTag: "a tagged value"}
#: Shared values could refer to themselves; what the others make is the value of no column.
_REFUSED = (25, 28, 29, 30, 35, 36, 37, 256, 258, 260, 261, 43000)


def _refuse_tag(value: Any, immutable: bool) -> Any:  # noqa: ARG001  the signature that cbor2 calls
    raise ValueError("a tag that no column holds")


_SEMANTIC: dict[int, Callable[..., Any]] = dict.fromkeys(_REFUSED, _refuse_tag)


def read_cbor(data: bytes) -> Any:
    """The one value in `data`. Raises `Misfit` that says why it is not CBOR, or that something follows it."""
    file = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(file, semantic_decoders=_SEMANTIC, max_depth=_DEEPEST).decode()
    except cbor2.CBORDecodeEOF:
        raise Misfit("not CBOR: it ends too early" if data else "not CBOR: empty") from None
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise Misfit(f"not CBOR: {error}{cause}".splitlines()[0][:200]) from None
    if file.tell() != len(data):
        raise Misfit(f"not CBOR: {len(data) - file.tell()} bytes follow its value")
    return value


def decode_payloads(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    """One map or an array of maps a payload; `index` is the payload."""
    return _decode(payloads, columns, ())


def decoder_at(path: Sequence[str]) -> Decode:
    """As `decode_payloads`, for maps in which the row, or the array of rows, lies at `path`."""
    names = tuple(path)

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        return _decode(payloads, columns, names)

    return decode


def _decode(payloads: Sequence[bytes], columns: Sequence[Column], path: Sequence[str]) -> Decoded:
    parsed = Parsed()
    for number, payload in enumerate(payloads):
        try:
            parsed.add(number, _rows(read_cbor(payload), path))
        except Misfit as misfit:
            parsed.bad[number] = str(misfit)
    values = [_column(column, parsed) for column in columns]
    return rows_of_columns(values, parsed.owners, parsed.bad, payloads, columns)


def _rows(value: Any, path: Sequence[str]) -> list[Mapping[str, Any]]:
    for depth, name in enumerate(path):
        value = value.get(name) if type(value) is dict else None
        if value is None:
            raise Misfit(f"nothing lies at {'.'.join(path[: depth + 1])}")
    rows = value if type(value) is list else [value]
    for place, row in enumerate(rows):
        if type(row) is not dict:
            where = f" at [{place}]" if type(value) is list else ""
            raise Misfit(f"expected a CBOR map or an array of them, found {_found(row)}{where}")
    return rows


def _column(column: Column, parsed: Parsed) -> list[Any]:
    """The values of one column, as JSON has them; NULL where that cannot be, and why in `parsed.bad`."""
    values = [one.get(column.name) for one in parsed.objects]
    if _are_simple(values, column.type.kind):
        return values
    made = []
    for owner, value in zip(parsed.owners, values, strict=True):
        try:
            made.append(_plain(value, column.type))
        except Misfit as misfit:
            made.append(None)
            parsed.bad.setdefault(owner, f"column {column.name}{misfit}")
    return made


def _are_simple(values: list[Any], kind: Kind) -> bool:
    kinds = set(map(type, values))
    if not kinds <= _SIMPLE or (kind is Kind.FLOAT and float in kinds):
        return False
    return int not in kinds or all(one in _WIDE for one in values if type(one) is int)


def _plain(value: Any, wanted: Type) -> Any:
    match value:
        case bool() | str() | None:
            return value
        case int():
            return value if value in _WIDE else _bounded(decimal.Decimal(value), wanted)
        case float():
            return str_of_special(value) if wanted.kind is Kind.FLOAT and not math.isfinite(value) else value
        case bytes() if wanted.kind is Kind.BYTES:
            return base64.b64encode(value).decode()
        case dt.datetime() if wanted.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
            text = value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")
            return text + "Z" if wanted.kind is Kind.TIMESTAMP_LTZ else text
        case dt.date() if wanted.kind is Kind.DATE and type(value) is dt.date:
            return value.isoformat()
        case decimal.Decimal():
            return _bounded(value, wanted)
        case list() if wanted.kind is Kind.ARRAY and wanted.element is not None:
            return [_plain(one, wanted.element) for one in value]
        case dict():
            return _object(value, wanted)
        case _ if value is cbor2.undefined:
            return None
        case _:
            raise Misfit(f": expected {wanted.with_nullable(True)}, found {_found(value)}")


def _bounded(value: decimal.Decimal, wanted: Type) -> decimal.Decimal:
    """Beyond all that a column holds, arithmetic itself would fail, or take for ever."""
    if not value.is_finite() or abs(value.adjusted()) > _MOST_DIGITS:
        raise Misfit(f": expected {wanted.with_nullable(True)} (too many digits), found a number")
    return value


def _object(value: dict[Any, Any], wanted: Type) -> dict[str, Any]:
    if wanted.kind is Kind.MAP and wanted.element is not None:
        return {_key(key): _plain(one, wanted.element) for key, one in value.items()}
    if wanted.kind is Kind.ROW:
        return {name: _plain(value[name], field) for name, field in wanted.fields if name in value}
    raise Misfit(f": expected {wanted.with_nullable(True)}, found a map")


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if type(key) is int:
        return str(key)
    raise Misfit(f": expected a text or a whole number as key, found {_found(key)}")


def str_of_special(value: float) -> str:
    """As JSON writes what is no number."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _found(value: Any) -> str:
    for kind, name in _KINDS.items():
        if type(value) is kind:
            return name
    if isinstance(value, dict):
        return "a map"
    plain = value is None or isinstance(value, bool | int | float | str | list | decimal.Decimal)
    return found(value) if plain else f"a {type(value).__name__}"
