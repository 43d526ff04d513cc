"""Archived rows in the order of their offsets, as appends as they once stood in the log.

Files are sorted by key, not by offset, so a stretch of offsets is taken out of all files that reach into it, sorted and
kept for the next reads, which mostly go on where the last one ended. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.lake.prune import reaching
from qanat.lake.table import File, LakeTable, told
from qanat.lake.types import stored_schema, to_declared
from qanat.log.admission import declared_schema
from qanat.log.archive import AT, OFFSET, PARTITION, SEQ
from qanat.log.base import Chunk
from qanat.model.streams import Stream

#: Rows of a stretch, and its bytes in the files.
_ROWS = 1_000_000
_LEAST = 1024
_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """All rows of a partition from `begin` to before `end`, sorted. `base`: where the first append began."""

    stream: Stream
    partition: int
    begin: int
    end: int
    base: int
    rows: pa.Table


class History:
    """Remembers the last stretch."""

    def __init__(self) -> None:
        self._last: Stretch | None = None

    def read(
        self,
        table: LakeTable,
        files: Sequence[File],
        stream: Stream,
        partition: int,
        span: tuple[int, int],
        max_rows: int,
    ) -> list[Chunk]:
        """Appends with offsets within `span`, until there are `max_rows` rows; the last one is not cut."""
        offset, end = span
        while offset < end:
            stretch = self._stretch(table, files, stream, partition, offset, end)
            found = _taken(stretch, offset, end, max_rows)
            if found:
                return found
            offset = stretch.end
        return []

    def _stretch(
        self, table: LakeTable, files: Sequence[File], stream: Stream, partition: int, offset: int, end: int
    ) -> Stretch:
        last = self._last
        known = last is not None and last.stream == stream and last.partition == partition
        if last is not None and known and last.begin <= offset < last.end:
            return last
        self._last = None  # its memory is needed
        self._last = _load(table, files, stream, partition, offset, end)
        return self._last


def _load(table: LakeTable, files: Sequence[File], stream: Stream, partition: int, offset: int, end: int) -> Stretch:
    width = _width(files)
    while True:
        upto = min(end, offset + width)
        reached = reaching(files, partition, offset - 1, upto)
        rows = _rows(table, reached, stream, _where(partition, offset - 1, upto))
        rows = rows.sort_by(OFFSET)
        base, rows = _begin(table, reached, stream, partition, offset, rows)
        if upto == end:
            return _made(stream, partition, offset, end, base, rows)
        seqs = rows.column(SEQ).to_numpy()
        whole = int(np.searchsorted(seqs, seqs[-1])) if len(seqs) else 0
        if not len(seqs):
            return _made(stream, partition, offset, upto, offset, rows)
        if whole:  # the last append may go on behind the stretch
            first = rows.column(OFFSET)[whole].as_py()
            return _made(stream, partition, offset, first, base, rows.slice(0, whole))
        width *= 4


def _made(stream: Stream, partition: int, begin: int, end: int, base: int, rows: pa.Table) -> Stretch:
    return Stretch(stream, partition, begin, end, base, rows.combine_chunks())


def _begin(
    table: LakeTable, files: Sequence[File], stream: Stream, partition: int, offset: int, rows: pa.Table
) -> tuple[int, pa.Table]:
    """Where the append of the first row began, and the rows without the one before `offset`."""
    offsets, seqs = rows.column(OFFSET).to_numpy(), rows.column(SEQ).to_numpy()
    if not len(offsets):
        return offset, rows
    if offsets[0] >= offset:
        return int(offsets[0]), rows
    if len(offsets) > 1 and seqs[0] == seqs[1]:  # the read begins in the middle of an append
        where = (pc.field(PARTITION) == partition) & (pc.field(SEQ) == int(seqs[0]))
        known = reaching(files, partition, 0, offset)
        found = _rows(table, known, stream, where, [OFFSET])
        return int(pc.min(found.column(OFFSET)).as_py()), rows.slice(1)
    return int(offsets[1]) if len(offsets) > 1 else offset, rows.slice(1)


def _where(partition: int, begin: int, end: int) -> Any:
    return (pc.field(PARTITION) == partition) & (pc.field(OFFSET) >= begin) & (pc.field(OFFSET) < end)


def _rows(
    table: LakeTable, files: Sequence[File], stream: Stream, where: Any, columns: list[str] | None = None
) -> pa.Table:
    """Stored rows, with all columns that the stream has now. Raises `ArchiveError` where a file is gone."""
    schema = stored_schema(stream)
    if not files:
        return schema.empty_table() if columns is None else schema.empty_table().select(columns)
    with told(f"read {table.url}"):
        return table.dataset(files, schema).to_table(columns=columns, filter=where)


def _width(files: Sequence[File]) -> int:
    rows, size = sum(one.rows for one in files), sum(one.size for one in files)
    return max(_LEAST, min(_ROWS, _BYTES * rows // size)) if size and rows else _ROWS


def _taken(stretch: Stretch, offset: int, end: int, max_rows: int) -> list[Chunk]:
    found: list[Chunk] = []
    rows = 0
    for chunk in _chunks(stretch, offset, end):
        found.append(chunk)
        rows += chunk.rows.num_rows
        if rows >= max_rows:
            break
    return found


def _chunks(stretch: Stretch, offset: int, end: int) -> Iterator[Chunk]:
    """One chunk per append, or per run of offsets where compaction of the log had made gaps."""
    offsets, seqs = stretch.rows.column(OFFSET).to_numpy(), stretch.rows.column(SEQ).to_numpy()
    first, last = np.searchsorted(offsets, [offset, end])
    if first == last:
        return
    begins = _bases(seqs, offsets, stretch.base)
    cuts = np.flatnonzero((np.diff(seqs[first:last]) != 0) | (np.diff(offsets[first:last]) != 1)) + first + 1
    declared = declared_schema(stretch.stream)
    for begin, stop in pairwise([int(first), *cuts.tolist(), int(last)]):
        part = stretch.rows.slice(begin, stop - begin)
        columns = [
            to_declared(part.column(one.name), one.type).combine_chunks() if part.num_rows else part.column(one.name)
            for one in declared
        ]
        rows = pa.RecordBatch.from_arrays([_array(column) for column in columns], schema=declared)
        at = part.column(AT)[0].as_py()
        row = int(offsets[begin] - begins[begin])
        yield Chunk(stretch.stream.name, stretch.partition, int(offsets[begin]), int(seqs[begin]), row, at, rows)


def _bases(seqs: Any, offsets: Any, base: int) -> Any:
    """For every row, where its append began."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(seqs) != 0]))
    first = offsets[starts].copy()
    first[0] = base
    return np.repeat(first, np.diff([*starts, len(seqs)]))


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
