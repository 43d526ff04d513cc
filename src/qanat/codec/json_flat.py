"""Many JSON objects that a machine wrote alike: the same keys in the same order with the same white space, and only
scalars. Exactly what `json_rows` accepts, or nothing: `read_flat` gives None where anything differs.

The first row is the template. What stands around its values (`pieces`) must stand in every row, and the commas say
where: as many as the template has, so none is inside of a value. As no quote, backslash or control character is left
for the values, strings are taken as they are, and numbers and literals have only their own syntax to be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.json_bulk import Rows, is_utf8
from qanat.model.arrow import schema_of
from qanat.model.streams import Column
from qanat.model.types import Kind

_FIELD = re.compile(rb' *"([^"\\,]*)" *: *("[^"\\,]*"|[^"\\,{}\[\]\s]+) *(?:,|(}\Z))')
#: A column's Arrow type, and what the first row may hold for it: each value is looked at in full later.
_KINDS = {
    Kind.STRING: (pa.string(), re.compile(rb'"')),
    Kind.BIGINT: (pa.int64(), re.compile(rb"-?[0-9]+\Z|null\Z")),
    Kind.INT: (pa.int32(), re.compile(rb"-?[0-9]+\Z|null\Z")),
    Kind.DOUBLE: (pa.float64(), re.compile(rb"-?[0-9]|null\Z")),
    Kind.BOOLEAN: (pa.bool_(), re.compile(rb"true\Z|false\Z|null\Z")),
}
_SAMPLE = 128  # one row of as many is looked at before all are, but no more than eight
_CHUNK = 2048  # rows
_PART = 1 << 17  # bytes
_LARGEST = (1 << 31) - 1  # bytes; Arrow's offsets have 32 bits
_COMMA, _QUOTE, _MINUS, _ZERO, _NULL, _SPACE = b',"-0n '

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Template:
    """The first row: `pieces[i]` stands before value i (with its quote, if it is a string), the last one after all."""

    names: tuple[str, ...]
    values: tuple[bytes, ...]
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where one field's values are in `block`, which goes on after each."""

    block: bytes
    begins: Places
    ends: Places

    def bytes_at(self, places: Places) -> Bytes:
        found: Bytes = np.frombuffer(self.block, dtype=np.uint8)[places]
        return found

    def texts(self, nulls: npt.NDArray[np.bool_] | None = None) -> pa.Array:
        """The values as strings; None where `nulls`."""
        offsets = np.empty(2 * len(self.begins), dtype=np.int32)
        offsets[0::2], offsets[1::2] = self.begins, self.ends  # every second one is what stands between two values
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.block)]
        both = pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
        return both.take(pa.array(np.arange(0, len(offsets), 2, dtype=np.int32), mask=nulls))


def read_flat(rows: Rows, columns: Sequence[Column]) -> pa.RecordBatch | None:
    """All rows, or None."""
    template = _template(rows.data[int(rows.starts[0]) : int(rows.ends[0])])
    if template is None or not _fits(template, columns) or not _looks_alike(rows, template):
        return None
    begin, end = int(rows.starts[0]), int(rows.ends[-1])
    block = rows.data if end - begin == len(rows.data) else rows.data[begin:end]
    starts, ends = rows.starts - begin, rows.ends - begin
    if not _is_plain(block, starts, ends, template) or not _are_lines(block, starts, ends):
        return None
    cells = _cells(block, starts, ends, template)
    if cells is None or not (block.isascii() or is_utf8(block)):
        return None
    try:
        return _batch(cells, template, columns)
    except pa.ArrowInvalid:
        return None


def _template(row: bytes) -> _Template | None:
    fields: list[re.Match[bytes]] = []
    pieces: list[bytes] = []
    place, after = 1, 0
    while not fields or not fields[-1][3]:
        field = _FIELD.match(row, place)
        if field is None:
            return None
        is_text = field[2].startswith(b'"')
        fields.append(field)
        pieces.append(row[after : field.start(2) + is_text])
        place, after = field.end(), field.end(2) - is_text
    names = tuple(field[1].decode(errors="replace") for field in fields)
    if len(set(names)) < len(names) or not row.startswith(b"{"):
        return None
    return _Template(names, tuple(field[2] for field in fields), (*pieces, row[after:]))


def _fits(template: _Template, columns: Sequence[Column]) -> bool:
    values = dict(zip(template.names, template.values, strict=True))
    for column in columns:
        if column.type.kind not in _KINDS:
            return False
        value = values.get(column.name)
        if not column.type.nullable if value is None else not _KINDS[column.type.kind][1].match(value):
            return False
    return True


def _looks_alike(rows: Rows, template: _Template) -> bool:
    """A few rows, before all are searched: only there to give up soon."""
    some = slice(len(rows) - 1, 0, -max(_SAMPLE, len(rows) // 8))
    for start, end in zip(rows.starts[some].tolist(), rows.ends[some].tolist(), strict=True):
        row = rows.data[start:end]
        if b"\\" in row or not all(piece in row for piece in template.pieces):
            return False
    return True


def _is_plain(block: bytes, starts: Places, ends: Places, template: _Template) -> bool:
    """Whether all quotes and commas are the template's, and nothing is escaped."""
    whole = np.frombuffer(block, dtype=np.uint8)
    quotes, commas = (sum(piece.count(mark) for piece in template.pieces) for mark in (b'"', b","))
    for first in range(0, len(starts), _CHUNK):  # a chunk's flags fit into the cache, and the first odd one is the end
        count = min(_CHUNK, len(starts) - first)
        begin, end = int(starts[first]), int(ends[first + count - 1])
        part = whole[begin:end]
        if block.find(b"\\", begin, end) >= 0 or np.count_nonzero(part == _QUOTE) != count * quotes:
            return False
        if np.count_nonzero(part == _COMMA) != count * commas:
            return False
    return len(block) <= _LARGEST


def _are_lines(block: bytes, starts: Places, ends: Places) -> bool:
    """Whether all control characters are between rows, one or two."""
    whole = np.frombuffer(block, dtype=np.uint8)
    gaps = starts[1:] - ends[:-1]
    if not ((gaps <= 2).all() and (whole[ends[:-1]] < _SPACE).all() and (whole[starts[1:] - 1] < _SPACE).all()):
        return False
    parts = (whole[begin : begin + _PART] for begin in range(0, len(whole), _PART))
    return bool(sum(np.count_nonzero(part < _SPACE) for part in parts) == gaps.sum())


def _cells(block: bytes, starts: Places, ends: Places, template: _Template) -> list[_Cells] | None:
    """Each field's values, if every row is the template but for these."""
    pieces = template.pieces
    commas = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _COMMA)
    inside = np.ascontiguousarray(commas.reshape(len(starts), len(pieces) - 2).T)
    before = [starts, *(at - piece.index(b",") for at, piece in zip(inside, pieces[1:-1], strict=True))]
    before.append(ends - len(pieces[-1]))
    cells = [_Cells(block, at + len(piece), till) for at, piece, till in zip(before, pieces, before[1:], strict=False)]
    if any((one.ends < one.begins).any() for one in cells):  # before any look: so all is inside of its row
        return None
    return cells if all(_stands(block, at, piece) for at, piece in zip(before, pieces, strict=True)) else None


def _stands(block: bytes, places: Places, piece: bytes) -> bool:
    """Whether `piece` stands in all places: up to eight bytes a look, of which the last two may overlap."""
    width = next(width for width in (8, 4, 2, 1) if width <= len(piece))
    words = np.ndarray((len(block) - width + 1,), np.dtype(f"<u{width}"), block, 0, (1,))
    for at in {*range(0, len(piece) - width, width), len(piece) - width}:
        if not (words[places + at] == int.from_bytes(piece[at : at + width], "little")).all():
            return False
    return True


def _batch(cells: list[_Cells], template: _Template, columns: Sequence[Column]) -> pa.RecordBatch | None:
    """Fields that are no columns are read, too: their values must be right as well."""
    kinds = {column.name: column.type.kind for column in columns}
    arrays: dict[str, pa.Array] = {}
    for name, value, one in zip(template.names, template.values, cells, strict=True):
        array = one.texts() if value.startswith(b'"') else _bare(one, kinds.get(name))
        if array is None:
            return None
        arrays[name] = array
    count = len(cells[0].begins)
    found = [arrays[name] if name in arrays else pa.nulls(count, _KINDS[kind][0]) for name, kind in kinds.items()]
    if any(array.null_count and not column.type.nullable for array, column in zip(found, columns, strict=True)):
        return None
    return pa.RecordBatch.from_arrays(found, schema=schema_of((column.name, column.type) for column in columns))


def _bare(cells: _Cells, kind: Kind | None) -> pa.Array | None:
    """Numbers or literals; of a field that is no column, what its first value is."""
    first = cells.bytes_at(cells.begins)
    nulls = first == _NULL
    some = bool(nulls.any())
    if some and not _are_null(cells, nulls):
        return None
    texts = cells.texts(nulls if some else None)
    if kind is Kind.BOOLEAN or (kind is None and first[nulls.argmin()] in b"tfn"):
        truths = pc.equal(texts, "true")
        return truths if pc.all(pc.or_(truths, pc.equal(texts, "false"))).as_py() is not False else None
    whole = kind in (Kind.INT, Kind.BIGINT)
    if not _are_numbers(cells, first, nulls, whole) or not (whole or _are_decimals(cells, texts, nulls)):
        return None
    numbers = texts.cast(_KINDS[kind or Kind.DOUBLE][0])
    return numbers if whole or _are_finite(cells, numbers) else None


def _are_null(cells: _Cells, nulls: npt.NDArray[np.bool_]) -> bool:
    begins = cells.begins[nulls]
    return bool((cells.ends[nulls] - begins == 4).all()) and _stands(cells.block, begins, b"null")


def _are_numbers(cells: _Cells, first: Bytes, nulls: npt.NDArray[np.bool_], whole: bool) -> bool:
    """Whether each begins as a number: a digit, maybe after a minus, and no zero that others follow."""
    signs = first == _MINUS
    at = cells.begins + signs if signs.any() else cells.begins
    digits = cells.bytes_at(at)
    if not (_is_digit(digits) | nulls).all():
        return False
    zeros = digits == _ZERO
    if not zeros.any():
        return True
    if whole:  # "0" alone; -0 is for `json_rows`
        return bool((cells.ends - cells.begins)[zeros].max() == 1)
    return not _is_digit(cells.bytes_at(at[zeros] + 1)).any()


def _are_decimals(cells: _Cells, texts: pa.Array, nulls: npt.NDArray[np.bool_]) -> bool:
    """Whether none is 1. or 1.e5, which Arrow would take for doubles; what else begins with a digit it knows."""
    if not (_is_digit(cells.bytes_at(cells.ends - 1)) | nulls).all():
        return False
    written = b"" if texts.null_count == len(texts) else texts.buffers()[2].to_pybytes()
    return not any(power in written and b"." + power in written for power in (b"e", b"E"))


def _are_finite(cells: _Cells, numbers: pa.Array) -> bool:
    """Whether each is the right double: none is beyond DOUBLE, nor -0, which is the integer 0 and no negative zero."""
    values = numbers.to_numpy(zero_copy_only=False)
    zeros = (values == 0) & np.signbit(values)
    return not (np.isinf(values).any() or (zeros.any() and (cells.ends - cells.begins)[zeros].min() == len("-0")))


def _is_digit(array: Bytes) -> npt.NDArray[np.bool_]:
    return array - np.uint8(_ZERO) < np.uint8(10)  # unsigned: what is below "0" is far above
