"""Decoders around decoders, for payloads of other people: rows that lie deeper in the object, keys of other names.

JSON stays on its fast path: an inner object is cut out as bytes, and a renamed key is read as a column of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column

_NOTHING = np.empty(0, dtype=np.int64)


def renamed(decode: Decode, names: Mapping[str, str]) -> Decode:
    """`names`: their key -> our column. A key that is renamed feeds no column of its own name any more."""
    theirs = {ours: their for their, ours in names.items()}

    def decode_renamed(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        unread = {column.name for column in columns if column.name in names and column.name not in theirs}
        wanted = [
            replace(column, name=theirs.get(column.name, column.name))
            for column in columns
            if column.name not in unread
        ]
        decoded = decode(payloads, wanted)
        made = iter(decoded.rows.columns)
        arrays = [
            pa.nulls(decoded.rows.num_rows, to_arrow(column.type)) if column.name in unread else next(made)
            for column in columns
        ]
        schema = schema_of((column.name, column.type) for column in columns)
        return replace(decoded, rows=pa.RecordBatch.from_arrays(arrays, schema=schema))

    return decode_renamed


def json_inside(decode: Decode, path: Sequence[str]) -> Decode:
    """For JSON objects in which the row, or the array of rows, lies at `path`."""
    cut = _cutter(tuple(path))
    dotted = ".".join(path)

    def decode_inside(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        inner: list[bytes] = []
        places: list[int] = []
        bad: list[BadRow] = []
        for place, payload in enumerate(payloads):
            try:
                inner.append(cut(payload))
                places.append(place)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                bad.append(BadRow(place, bytes(payload), _reason(error, dotted)))
        return put_back(decode(inner, columns), places, payloads, bad)

    return decode_inside


def put_back(decoded: Decoded, places: Sequence[int], payloads: Sequence[bytes], bad: Sequence[BadRow]) -> Decoded:
    """What was decoded of some payloads (`places`), as of all of them; the others are bad."""
    if not bad and len(places) == len(payloads):
        return replace(decoded, bad=tuple(replace(one, data=bytes(payloads[one.index])) for one in decoded.bad))
    owners = np.array(places, dtype=np.int64) if places else _NOTHING
    also = [BadRow(places[one.index], bytes(payloads[places[one.index]]), one.reason) for one in decoded.bad]
    return Decoded(decoded.rows, owners[decoded.index], tuple(sorted([*bad, *also], key=lambda one: one.index)))


def _cutter(path: tuple[str, ...]) -> Any:
    """Payload -> the bytes at `path`. Raises `msgspec.DecodeError`, and `UnicodeDecodeError`, which that one misses."""
    kind: Any = msgspec.Raw
    for name in reversed(path):
        kind = msgspec.defstruct("Inside", [("inner", kind)], rename={"inner": name})
    decode = msgspec.json.Decoder(kind).decode

    def cut(payload: bytes) -> bytes:
        if not payload.isascii():
            payload.decode()
        value = decode(payload)
        for _ in path:
            value = value.inner
        return bytes(value)

    return cut


def _reason(error: Exception, dotted: str) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not JSON: not UTF-8: byte {error.start}"
    if isinstance(error, msgspec.ValidationError):
        return f"nothing lies at {dotted}: {error}".splitlines()[0]
    return f"not JSON: {error}".splitlines()[0]
