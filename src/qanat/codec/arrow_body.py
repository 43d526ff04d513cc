"""Arrow IPC -> rows: the stream and the file format, from senders that nobody trusts.

A body is measured (`arrow_sizes`) before it is decoded, validated before a value is touched, and brought to plain types
before anything is cast. Which of its values fit a stream's columns is `fit`'s business. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.arrow_sizes import TooLargeError, broken, claims_of, is_file
from qanat.codec.base import BadRow, Block, Decoded
from qanat.codec.fit import fit_rows
from qanat.codec.json_encode import encode_lines
from qanat.codec.values import found
from qanat.errors import DataError
from qanat.model.streams import Column
from qanat.model.types import Kind

_LETTERS = 1024
_BITS = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}
_PLAIN = (pa.types.is_primitive, pa.types.is_decimal128, pa.types.is_string, pa.types.is_binary, pa.types.is_null)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one body: its rows, and its bytes once decoded."""

    rows: int = 2_000_000
    bytes: int = 64 << 20


@dataclass(slots=True, eq=False)
class ArrowBody(Block):
    """The rows of one body. As they have no bytes of their own, each shows itself as a JSON object."""

    rows: pa.RecordBatch
    _shown: int = field(default=-1, init=False)
    _lines: list[bytes] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> ArrowBody: ...

    def __getitem__(self, place: int | slice) -> bytes | ArrowBody:
        if isinstance(place, slice):
            first, last, _ = place.indices(len(self))
            return ArrowBody(self.rows.slice(first, max(0, last - first)))
        if not 0 <= place < len(self):
            raise IndexError(place)
        if place // _LETTERS != self._shown:  # some of them at once: one alone costs as much
            self._shown = place // _LETTERS
            self._lines = encode_lines(self.rows.slice(self._shown * _LETTERS, _LETTERS)).splitlines()
        return self._lines[place % _LETTERS]

    @property
    def size(self) -> int:
        """Bytes of the columns."""
        return int(self.rows.nbytes)

    def decode(self, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        """Rows of this body or a slice of it; those with a value that does not fit its column are bad."""
        assert isinstance(payloads, ArrowBody)
        rows = payloads.rows
        given = dict(zip(rows.schema.names, rows.columns, strict=True))
        beyond: dict[int, str] = {}
        for column in columns:
            if column.name in given and column.type.kind in _BITS:
                given[column.name] = _without_beyond(given[column.name], column, beyond)
        batch, reasons = fit_rows(given, columns, rows.num_rows)
        reasons.update(beyond)
        index: npt.NDArray[np.int64] = np.arange(rows.num_rows, dtype=np.int64)
        if reasons:
            keep = np.ones(rows.num_rows, dtype=np.bool_)
            keep[list(reasons)] = False
            batch, index = batch.filter(pa.array(keep)), index[keep]
        return Decoded(batch, index, tuple(BadRow(place, payloads[place], reasons[place]) for place in sorted(reasons)))


def _without_beyond(array: pa.Array, column: Column, reasons: dict[int, str]) -> pa.Array:
    """NULL for numbers that are no integer of the column: found at once, as `fit` would find them one by one."""
    bits = _BITS[column.type.kind]
    if pa.types.is_floating(array.type):
        inside = pc.and_(pc.greater_equal(array, -(2.0**bits)), pc.less(array, 2.0**bits))
        mask = pc.invert(pc.and_(inside, pc.equal(pc.floor(array), array)))
    elif pa.types.is_integer(array.type) and not _is_inside(array.type, bits):
        mask = pc.greater(array, pa.scalar(2**bits - 1, array.type))
        if pa.types.is_signed_integer(array.type):
            mask = pc.or_(mask, pc.less(array, pa.scalar(-(2**bits), array.type)))
    else:
        return array
    places = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
    if not len(places):
        return array
    kind = column.type.with_nullable(True)
    for place, value in zip(places.tolist(), array.take(pa.array(places)).to_pylist(), strict=True):
        reasons.setdefault(place, f"column {column.name}: expected {kind}, found {found(value)}")
    return pc.if_else(mask, pa.scalar(None, array.type), array)


def _is_inside(arrow: pa.DataType, bits: int) -> bool:
    """Whether every integer of the Arrow type fits into so many bits and a sign."""
    return bool(arrow.bit_width - pa.types.is_signed_integer(arrow) <= bits)


def read_arrow(data: bytes, limits: Limits) -> ArrowBody:
    """All rows of a body in the stream or the file format. Raises `DataError`, `TooLargeError`."""
    claims_of(data, limits.rows, limits.bytes)
    try:
        with (pa.ipc.open_file if is_file(data) else pa.ipc.open_stream)(pa.BufferReader(data)) as reader:
            table = reader.read_all()
        table.validate(full=True)
        names = table.schema.names
        if len(set(names)) < len(names):
            raise DataError("two columns have the same name", hint="name columns once")
        return ArrowBody(_plain(table.combine_chunks(), limits))
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise broken(f"not Arrow IPC: {error}") from error


def _plain(table: pa.Table, limits: Limits) -> pa.RecordBatch:
    """One batch without dictionaries, views and other ways to say the same."""
    arrays: list[pa.Array] = []
    size = 0
    for name, column in zip(table.schema.names, table.columns, strict=True):
        wanted = _plain_type(column.type, name)
        chunks = [_stored(chunk) for chunk in column.chunks]
        size += sum(map(_expanded, chunks))
        if size > limits.bytes:
            raise TooLargeError(f"more than {limits.bytes} bytes without its dictionaries")
        parts = [_cast(chunk, wanted) for chunk in chunks]
        arrays.append(pa.concat_arrays(parts) if parts else pa.array([], wanted))
    if not arrays:
        raise DataError("it has no columns", hint="a column is found by its name")
    return pa.RecordBatch.from_arrays(arrays, names=table.schema.names)


def _stored(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(array, pa.DictionaryArray):  # by hand, since not every type of value can be decoded
        return _cast(array.dictionary, wanted).take(array.indices)
    return array if array.type.equals(wanted) else array.cast(wanted)


def _plain_type(arrow: pa.DataType, name: str) -> pa.DataType:
    """The type that holds the same values in the simplest way. Raises `DataError` for types that are not taken."""
    p = pa.types
    if isinstance(arrow, pa.BaseExtensionType):
        return _plain_type(arrow.storage_type, name)
    if p.is_dictionary(arrow):
        return _plain_type(arrow.value_type, name)
    if p.is_large_string(arrow) or p.is_string_view(arrow):
        return pa.string()
    if p.is_large_binary(arrow) or p.is_binary_view(arrow) or p.is_fixed_size_binary(arrow):
        return pa.binary()
    if p.is_float16(arrow):
        return pa.float32()
    if p.is_timestamp(arrow) and arrow.tz is not None:
        return pa.timestamp(arrow.unit, "UTC")
    if p.is_map(arrow):
        return pa.map_(_plain_type(arrow.key_type, name), _plain_type(arrow.item_type, name))
    if p.is_list(arrow) or p.is_large_list(arrow) or p.is_fixed_size_list(arrow):
        return pa.list_(_plain_type(arrow.value_type, name))
    if p.is_struct(arrow):
        names = [one.name for one in arrow]
        if names and len(set(names)) == len(names):
            return pa.struct([(one.name, _plain_type(one.type, name)) for one in arrow])
    elif any(is_plain(arrow) for is_plain in _PLAIN) and not p.is_interval(arrow):
        return arrow
    raise DataError(f"column {name}: the Arrow type {arrow} is not taken", hint="cast the column before sending it")


def _expanded(array: pa.Array) -> int:
    """Bytes of the array in its plain type. Raises `DataError` for dictionaries of what has parts itself."""
    p, arrow = pa.types, array.type
    if isinstance(array, pa.DictionaryArray):
        values = array.dictionary
        if p.is_nested(arrow.value_type) or p.is_dictionary(arrow.value_type):
            raise DataError(
                f"a dictionary of {arrow.value_type} is not taken", hint="cast the column before sending it"
            )
        lengths = _lengths(values)
        if lengths is None:
            return 16 * len(array)
        return 4 * len(array) + int(pc.sum(pa.array(lengths).take(array.indices)).as_py() or 0)
    if p.is_list(arrow) or p.is_large_list(arrow) or p.is_fixed_size_list(arrow) or p.is_map(arrow):
        return 4 * len(array) + _expanded(array.values)
    if p.is_struct(arrow):
        return sum(_expanded(array.field(place)) for place in range(arrow.num_fields))
    lengths = _lengths(array)
    return 16 * len(array) if lengths is None else 4 * len(array) + int(lengths.sum())


def _lengths(array: pa.Array) -> npt.NDArray[np.int64] | None:
    """Bytes of each text, 0 for NULL; None for values of a fixed width."""
    p, arrow = pa.types, array.type
    if p.is_string_view(arrow) or p.is_binary_view(arrow):
        views = np.frombuffer(array.buffers()[1], dtype=np.int32)[4 * array.offset :][: 4 * len(array) : 4]
        there = array.is_valid().to_numpy(zero_copy_only=False)
        return np.where(there, views, 0).astype(np.int64)
    if p.is_fixed_size_binary(arrow):
        return np.full(len(array), arrow.byte_width, dtype=np.int64)
    if p.is_string(arrow) or p.is_binary(arrow) or p.is_large_string(arrow) or p.is_large_binary(arrow):
        lengths = pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False)
        return np.asarray(lengths, dtype=np.int64)
    return None
