"""Many JSON objects of a few shapes: what `json_flat` does for rows that are all alike and flat, for objects in
objects, for TIMESTAMP and other times, and for rows that differ in which fields they have or have null for a ROW.

Rows with as many commas as each other are taken for one shape, whose template is the first of them, until one differs;
every row is held against its template, so a wrong guess costs time and nothing else. Only the columns asked for are
made; of what nobody asked for numbers and literals are still looked at, as it must be JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from qanat.codec.base import Rows
from qanat.codec.json_bulk import is_utf8
from qanat.codec.json_cells import (
    COMMA,
    LARGEST,
    PART,
    QUOTE,
    SCALARS,
    Cells,
    Mask,
    Places,
    are_lines,
    bare,
    stands,
    where_stands,
)
from qanat.codec.texts import TEXT_KINDS, column_of
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_KEY = re.compile(rb' *"([^"\\,]*)" *: *(\{)?')
_VALUE = re.compile(rb'("[^"\\,]*"|[^"\\,{}\[\]\s]+) *')
_CLOSE = re.compile(rb"\} *")
_NEXT = re.compile(rb",")
#: As many rows are looked at before all are, and as many times rows may turn out to be of two shapes or one.
_SAMPLE, _GUESSES = 4, 16
#: Objects within objects; what is deeper is left to those who count how deep it is.
_DEEPEST = 16
_TIMES = TEXT_KINDS - {Kind.BYTES}
_QUOTED = _TIMES | {Kind.STRING}

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """A row without its values: `pieces[i]` stands before value i (with its quote, if it is a string), the last one
    after all. `paths` and `values` are the leaves'; `objects` the paths that hold an object. A null that stands for a
    ROW belongs to its piece."""

    paths: tuple[Path, ...]
    values: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    objects: frozenset[Path]

    def count(self, mark: bytes) -> int:
        """How often a byte stands in the pieces."""
        return sum(piece.count(mark) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one shape, by number, and where the values of each leaf are."""

    shape: _Shape
    rows: Places
    cells: dict[Path, Cells]


def read_shapes(rows: Rows, columns: Sequence[Column]) -> pa.RecordBatch | None:
    """All rows, or None."""
    types = dict(_leaves(columns))
    if not all(_is_known(column.type) for column in columns) or not _sample_fits(rows, types):
        return None
    block, starts, ends = _block(rows)
    if len(block) > LARGEST or b"\\" in block:
        return None
    groups = _groups(block, starts, ends, types)
    if groups is None or not are_lines(block, starts, ends) or not (block.isascii() or is_utf8(block)):
        return None
    try:
        return _batch(groups, len(rows), columns, types)
    except pa.ArrowInvalid:
        return None


def _block(rows: Rows) -> tuple[bytes, Places, Places]:
    """The bytes of the rows, which is all of their data if only a line end is behind them; and where they are in it."""
    begin, end = int(rows.starts[0]), int(rows.ends[-1])
    if begin == 0 and len(rows.data) - end <= 2:
        return rows.data, rows.starts, rows.ends
    return rows.data[begin:end], rows.starts - begin, rows.ends - begin


def _leaves(columns: Sequence[Column]) -> Iterator[tuple[Path, Type]]:
    """Every column and every field in it, by path, ROWs included."""
    below: list[tuple[Path, Type]] = [((column.name,), column.type) for column in columns]
    while below:
        path, sql_type = below.pop()
        yield path, sql_type
        below += [((*path, name), field) for name, field in sql_type.fields]


def _is_known(sql_type: Type, *, top: bool = True) -> bool:
    if sql_type.kind is Kind.ROW:
        names = {name for name, _ in sql_type.fields}
        return len(names) == len(sql_type.fields) > 0 and all(_is_known(one, top=False) for _, one in sql_type.fields)
    return (sql_type.kind in SCALARS or sql_type.kind in _TIMES) and (top or sql_type.nullable)


# --- templates -------------------------------------------------------------------------------------------------------


def _sample_fits(rows: Rows, types: Mapping[Path, Type]) -> bool:
    """Whether a few rows look as if it were worth to go on."""
    some = slice(0, len(rows), -(-len(rows) // _SAMPLE))
    for start, end in zip(rows.starts[some].tolist(), rows.ends[some].tolist(), strict=True):
        shape = _shape(rows.data[start:end], types)
        if shape is None or not _fits(shape, types):
            return False
    return True


def _shape(row: bytes, types: Mapping[Path, Type]) -> _Shape | None:
    """The template that a row makes; None where it has an array, an escape, a comma in a text or no values."""
    leaves: list[tuple[Path, bytes]] = []
    pieces: list[bytes] = []
    seen: set[Path] = set()
    objects: set[Path] = set()
    path: Path = ()
    place, after = 1, 0
    if not row.startswith(b"{"):
        return None
    while True:
        key = _KEY.match(row, place)
        if key is None:
            return None
        here = (*path, key[1].decode(errors="replace"))
        if here in seen or len(here) > _DEEPEST:
            return None
        seen.add(here)
        place = key.end()
        if key[2]:
            path = here
            objects.add(here)
            continue
        value = _VALUE.match(row, place)
        if value is None:
            return None
        place = value.end()
        if not (value[1] == b"null" and here in types and types[here].kind is Kind.ROW):
            is_text = value[1].startswith(b'"')
            leaves.append((here, value[1]))
            pieces.append(row[after : value.start(1) + is_text])
            after = value.end(1) - is_text
        while path and (close := _CLOSE.match(row, place)):
            path, place = path[:-1], close.end()
        if row[place:] == b"}" and not path and leaves:
            break
        if not _NEXT.match(row, place):
            return None
        place += 1
    return _Shape(
        tuple(one for one, _ in leaves), tuple(one for _, one in leaves), (*pieces, row[after:]), frozenset(objects)
    )


def _fits(shape: _Shape, types: Mapping[Path, Type]) -> bool:
    """Whether the template has nothing that its column cannot hold."""
    for path in shape.objects:
        if path in types and types[path].kind is not Kind.ROW:
            return False
    for path, value in zip(shape.paths, shape.values, strict=True):
        if path in types:
            kind = types[path].kind
            if kind is Kind.ROW or not (value.startswith(b'"') if kind in _TIMES else SCALARS[kind][1].match(value)):
                return False
    return True


# --- places ----------------------------------------------------------------------------------------------------------


def _groups(block: bytes, starts: Places, ends: Places, types: Mapping[Path, Type]) -> list[_Group] | None:
    """The rows by shape, if each is its template but for the values, and no quote is left for a value."""
    commas = _marks(block, COMMA)
    till = np.searchsorted(commas, ends)
    counts = np.diff(till, prepend=0)
    waiting = [np.flatnonzero(counts == count) for count in np.unique(counts).tolist()]
    groups: list[_Group] = []
    for _ in range(_GUESSES):
        if not waiting:
            break
        rows = waiting.pop()
        shape, count = _shape(block[starts[rows[0]] : ends[rows[0]]], types), int(counts[rows[0]])
        if shape is None or shape.count(b",") != count or not _fits(shape, types):
            return None
        found = _cells(block, starts[rows], ends[rows], commas, till[rows] - count, shape)
        if isinstance(found, list):
            groups.append(_Group(shape, rows, dict(zip(shape.paths, found, strict=True))))
        else:
            waiting += [rows[~found], rows[found]]  # the first row is always among those found
    quotes = sum(len(group.rows) * group.shape.count(b'"') for group in groups)
    return groups if not waiting and _count(block, QUOTE) == quotes else None


def _marks(block: bytes, mark: int) -> Places:
    """Where a byte stands; in parts that fit into the cache."""
    whole = np.frombuffer(block, dtype=np.uint8)
    return np.concatenate([np.flatnonzero(whole[at : at + PART] == mark) + at for at in range(0, len(whole), PART)])


def _count(block: bytes, mark: int) -> int:
    whole = np.frombuffer(block, dtype=np.uint8)
    return sum(int(np.count_nonzero(whole[at : at + PART] == mark)) for at in range(0, len(whole), PART))


def _cells(
    block: bytes, starts: Places, ends: Places, commas: Places, first: Places, shape: _Shape
) -> list[Cells] | Mask:
    """Each leaf's values if all rows are of the shape; else which may be. `first`: which comma is a row's first."""
    before = [starts]
    passed = shape.pieces[0].count(b",")
    for piece in shape.pieces[1:-1]:
        before.append(commas[first + passed] - piece.index(b","))
        passed += piece.count(b",")
    last = shape.pieces[-1]
    before.append(ends - len(last))
    cells = [
        Cells(block, at + len(piece), till) for at, piece, till in zip(before, shape.pieces, before[1:], strict=False)
    ]
    inside: Mask = np.logical_and.reduce([one.begins <= one.ends for one in cells])
    if not inside.all():  # before any look: so each is inside of its row
        return inside
    for at, piece in zip(before, shape.pieces, strict=True):
        if not stands(block, at, piece):
            return where_stands(block, at, piece)
    return cells


# --- columns ---------------------------------------------------------------------------------------------------------


def _batch(
    groups: Sequence[_Group], count: int, columns: Sequence[Column], types: Mapping[Path, Type]
) -> pa.RecordBatch | None:
    for group in groups:
        for path, value in zip(group.shape.paths, group.shape.values, strict=True):
            if path not in types and not value.startswith(b'"') and bare(group.cells[path], None) is None:
                return None
    maker = _Maker(groups, count)
    arrays = []
    for column in columns:
        array = maker.array((column.name,), column.type)
        if array is None or (array.null_count and not column.type.nullable):
            return None
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of((column.name, column.type) for column in columns))


@dataclass(frozen=True, slots=True)
class _Spread:
    """How the values of some groups, one after the other, become a column of all rows. `which`: for each row the value
    (int32, NULL where none of the groups has the row), None: as they are; `absent`: the rows without one."""

    which: pa.Array | None = None
    absent: pa.Array | None = None


class _Maker:
    """Columns of all rows out of the groups' cells."""

    def __init__(self, groups: Sequence[_Group], count: int) -> None:
        self._groups, self._count = groups, count
        self._spreads: dict[tuple[int, ...], _Spread] = {}

    def array(self, path: Path, sql_type: Type) -> pa.Array | None:
        """A column or a field of one; None where a value does not fit."""
        if sql_type.kind is not Kind.ROW:
            return self._scalars(path, sql_type)
        fields = [self.array((*path, name), field) for name, field in sql_type.fields]
        if any(one is None for one in fields):
            return None
        there = tuple(at for at, group in enumerate(self._groups) if path in group.shape.objects)
        return pa.StructArray.from_arrays(fields, fields=list(to_arrow(sql_type)), mask=self._spread(there).absent)

    def _scalars(self, path: Path, sql_type: Type) -> pa.Array | None:
        there = tuple(at for at, group in enumerate(self._groups) if path in group.cells)
        if not there:
            return pa.nulls(self._count, to_arrow(sql_type))
        spread = self._spread(there)
        cells = [self._groups[at].cells[path] for at in there]
        if sql_type.kind is Kind.STRING and len(cells) == 1:
            return cells[0].texts(which=spread.which)
        made = (bare(one, sql_type.kind) if sql_type.kind not in _QUOTED else one.texts() for one in cells)
        parts = [part for part in made if part is not None]
        if len(parts) < len(cells):
            return None
        whole = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
        values = column_of(whole, sql_type) if sql_type.kind in _TIMES else whole
        return values if spread.which is None else values.take(spread.which)

    def _spread(self, there: tuple[int, ...]) -> _Spread:
        if there not in self._spreads:
            self._spreads[there] = _spread([self._groups[at].rows for at in there], self._count)
        return self._spreads[there]


def _spread(rows: Sequence[Places], count: int) -> _Spread:
    total = sum(map(len, rows))
    if total == count and len(rows) == 1:
        return _Spread()
    which = np.zeros(count, dtype=np.int32)
    absent = np.ones(count, dtype=np.bool_)
    if rows:
        places = np.concatenate(rows)
        which[places] = np.arange(total, dtype=np.int32)
        absent[places] = False
    return _Spread(pa.array(which, mask=absent), pa.array(absent) if total < count else None)
