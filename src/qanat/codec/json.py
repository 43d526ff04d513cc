"""JSON <-> Arrow rows, strictly: a value that does not fit its column makes a bad row with a reason, never a NULL.

Few rows go through `json_rows` (one by one, exact), many through `json_bulk` (Arrow's parser, guarded); what that one
does not take as a whole goes in pieces, and the piece that holds the trouble row by row. Both give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.codec.base import Decoded, Rows, split_lines
from qanat.codec.json_bulk import bulk_schema, read_rows
from qanat.codec.json_encode import encode_lines
from qanat.codec.json_flat import read_flat
from qanat.codec.json_rows import decode_documents
from qanat.codec.json_shapes import read_shapes
from qanat.model.streams import Column

__all__ = ["decode_lines", "decode_payloads", "encode_lines"]

#: From this many rows on, reading all at once (0.3 ms to start) beats the exact path (0.6 us a row).
_MANY = 500
#: Rows that are tried at once, and how many pieces they are cut into where they do not pass.
_BLOCK = 1 << 16
_PIECES = 8

Places = npt.NDArray[np.int64]


def decode_lines(data: bytes, columns: Sequence[Column]) -> Decoded:
    """One JSON object a line; `index` is the line, from 0. Blank lines are passed over."""
    rows, numbers = split_lines(data)
    return _decode(rows, numbers, columns, arrays=False)


def decode_payloads(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    """One JSON object or an array of objects a payload; `index` is the payload.

    A payload is taken whole or not at all: one bad element refuses its array.
    """
    count = len(payloads)
    if isinstance(payloads, Rows):
        return _decode(payloads, np.arange(count, dtype=np.int64), columns, arrays=True)
    if count < _MANY:
        return decode_documents(payloads, range(count), columns, arrays=True)
    data = b"\n".join(payloads)
    ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, count) + 1) - 1
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1] + 1])
    return _decode(Rows(data, starts, ends), np.arange(count, dtype=np.int64), columns, arrays=True)


def _decode(rows: Rows, places: Places, columns: Sequence[Column], arrays: bool) -> Decoded:
    schema = bulk_schema(columns) if len(rows) >= _MANY else None
    if schema is None:
        return decode_documents(rows.documents(), places.tolist(), columns, arrays)
    spans = range(0, len(rows), _BLOCK)
    parts = [
        part
        for first in spans
        for part in _attempt(rows.part(first, first + _BLOCK), places[first : first + _BLOCK], columns, schema, arrays)
    ]
    return parts[0] if len(parts) == 1 else _join(parts)


def _attempt(
    rows: Rows, places: Places, columns: Sequence[Column], schema: pa.Schema, arrays: bool
) -> Iterator[Decoded]:
    """All rows at once; or in pieces, and these in pieces, down to the few rows that hold what is not plain."""
    batch = read_flat(rows, columns)
    if batch is None:
        batch = read_shapes(rows, columns)
    if batch is None:
        batch = read_rows(rows, columns, schema)
    if batch is not None:
        yield Decoded(batch, places)
        return
    size = -(-len(rows) // _PIECES)
    if size < _MANY:
        yield decode_documents(rows.documents(), places.tolist(), columns, arrays)
        return
    for first in range(0, len(rows), size):
        yield from _attempt(rows.part(first, first + size), places[first : first + size], columns, schema, arrays)


def _join(parts: Sequence[Decoded]) -> Decoded:
    bad = tuple(one for part in parts for one in part.bad)
    batches = [part.rows for part in parts]
    return Decoded(pa.concat_batches(batches), np.concatenate([part.index for part in parts]), bad)
