"""In which order rows go into a file. Pure: columns in, places out.

Every column becomes whole numbers with the same order, all of them together one number per row, and that is sorted:
about twice as fast as comparing the columns one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def order_of(columns: Sequence[pa.Array | pa.ChunkedArray], rows: int) -> Ints:
    """The places of the rows, sorted by `columns`; equal rows stay in their order. NULL is last."""
    if not columns:
        return np.arange(rows, dtype=np.int64)
    codes = [_codes(_whole(column)) for column in columns]
    bits = [int(code.max(initial=0)).bit_length() for code in codes]
    if sum(bits) > 62:
        return np.lexsort(codes[::-1])
    key = codes[0].copy()
    for code, width in zip(codes[1:], bits[1:], strict=True):
        key <<= width
        key |= code
    return np.argsort(key, kind="stable")


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _codes(column: pa.Array) -> Ints:
    """Numbers from 0 on that are ordered as the values are."""
    p, kind = pa.types, column.type
    if p.is_timestamp(kind) or p.is_int64(kind) or p.is_duration(kind):
        return _spans(column.cast(pa.int64()))
    if p.is_integer(kind) or p.is_date32(kind) or p.is_time32(kind):
        return _spans(column.cast(pa.int32() if p.is_date32(kind) or p.is_time32(kind) else pa.int64()))
    if p.is_string(kind) or p.is_binary(kind):
        return _ranks(column)
    return _dense(column)


def _spans(column: pa.Array) -> Ints:
    ends = pc.min_max(column).as_py()
    low, high = ends["min"], ends["max"]
    if low is None:
        return np.zeros(len(column), dtype=np.int64)
    if high - low >= 2**62:
        return _dense(column)
    values = pc.fill_null(column, high).to_numpy(zero_copy_only=False).astype(np.int64) - low
    if column.null_count:
        values[column.is_null().to_numpy(zero_copy_only=False)] = high - low + 1
    return np.asarray(values, dtype=np.int64)


def _ranks(column: pa.Array) -> Ints:
    """Of text: few different ones are sorted, not all rows."""
    encoded = column.dictionary_encode()
    ranks = np.empty(len(encoded.dictionary) + 1, dtype=np.int64)
    ranks[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(encoded.dictionary))
    ranks[-1] = len(encoded.dictionary)
    found: Ints = ranks[pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy()]
    return found


def _dense(column: pa.Array) -> Ints:
    found = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    return np.asarray(found.to_numpy(), dtype=np.int64)
