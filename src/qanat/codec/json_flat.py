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
import pyarrow as pa

from qanat.codec.base import Rows
from qanat.codec.json_bulk import is_utf8
from qanat.codec.json_cells import COMMA, LARGEST, QUOTE, SCALARS, Cells, Places, are_lines, bare, stands
from qanat.model.arrow import schema_of
from qanat.model.streams import Column

_FIELD = re.compile(rb' *"([^"\\,]*)" *: *("[^"\\,]*"|[^"\\,{}\[\]\s]+) *(?:,|(}\Z))')
_SAMPLE = 128  # one row of as many is looked at before all are, but no more than eight
_CHUNK = 2048  # rows


@dataclass(frozen=True, slots=True)
class _Template:
    """The first row: `pieces[i]` stands before value i (with its quote, if it is a string), the last one after all."""

    names: tuple[str, ...]
    values: tuple[bytes, ...]
    pieces: tuple[bytes, ...]


def read_flat(rows: Rows, columns: Sequence[Column]) -> pa.RecordBatch | None:
    """All rows, or None."""
    template = _template(rows.data[int(rows.starts[0]) : int(rows.ends[0])])
    if template is None or not _fits(template, columns) or not _looks_alike(rows, template):
        return None
    begin, end = int(rows.starts[0]), int(rows.ends[-1])
    block = rows.data if end - begin == len(rows.data) else rows.data[begin:end]
    starts, ends = rows.starts - begin, rows.ends - begin
    if not _is_plain(block, starts, ends, template) or not are_lines(block, starts, ends):
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
        if column.type.kind not in SCALARS:
            return False
        value = values.get(column.name)
        if not column.type.nullable if value is None else not SCALARS[column.type.kind][1].match(value):
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
        if block.find(b"\\", begin, end) >= 0 or np.count_nonzero(part == QUOTE) != count * quotes:
            return False
        if np.count_nonzero(part == COMMA) != count * commas:
            return False
    return len(block) <= LARGEST


def _cells(block: bytes, starts: Places, ends: Places, template: _Template) -> list[Cells] | None:
    """Each field's values, if every row is the template but for these."""
    pieces = template.pieces
    commas = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == COMMA)
    inside = np.ascontiguousarray(commas.reshape(len(starts), len(pieces) - 2).T)
    before = [starts, *(at - piece.index(b",") for at, piece in zip(inside, pieces[1:-1], strict=True))]
    before.append(ends - len(pieces[-1]))
    cells = [Cells(block, at + len(piece), till) for at, piece, till in zip(before, pieces, before[1:], strict=False)]
    if any((one.ends < one.begins).any() for one in cells):  # before any look: so all is inside of its row
        return None
    return cells if all(stands(block, at, piece) for at, piece in zip(before, pieces, strict=True)) else None


def _batch(cells: list[Cells], template: _Template, columns: Sequence[Column]) -> pa.RecordBatch | None:
    """Fields that are no columns are read, too: their values must be right as well."""
    kinds = {column.name: column.type.kind for column in columns}
    arrays: dict[str, pa.Array] = {}
    for name, value, one in zip(template.names, template.values, cells, strict=True):
        array = one.texts() if value.startswith(b'"') else bare(one, kinds.get(name))
        if array is None:
            return None
        arrays[name] = array
    count = len(cells[0].begins)
    found = [arrays[name] if name in arrays else pa.nulls(count, SCALARS[kind][0]) for name, kind in kinds.items()]
    if any(array.null_count and not column.type.nullable for array, column in zip(found, columns, strict=True)):
        return None
    return pa.RecordBatch.from_arrays(found, schema=schema_of((column.name, column.type) for column in columns))
