"""Stored appends as chunks: decoding Arrow IPC without copying, and the gaps that compaction leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.errors import LogCorruptError
from qanat.log.base import Chunk, Place


@dataclass(frozen=True, slots=True)
class Stored:
    """One append as it lies in the log.

    `span` rows were appended at `offset`; `kept` (int32, ascending) are the places within the append of the rows that
    compaction left, None while all are there.
    """

    place: Place
    seq: int
    offset: int
    span: int
    at: int
    kept: bytes | None
    rows: pa.RecordBatch

    def places(self) -> npt.NDArray[np.int32]:
        """The place of every row within the append."""
        return np.arange(self.span, dtype=np.int32) if self.kept is None else np.frombuffer(self.kept, dtype=np.int32)

    @property
    def start(self) -> int:
        """The offset of the first row that is left."""
        return self.offset + first_place(self.kept)

    @property
    def end(self) -> int:
        """The offset after the last row that was appended."""
        return self.offset + self.span


def first_place(kept: bytes | None) -> int:
    """The place within its append of the first row that is left."""
    return int(np.frombuffer(kept, dtype=np.int32, count=1)[0]) if kept else 0


def decode_rows(data: bytes | pa.Buffer, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of an Arrow IPC message; they point into `data`. Raises `LogCorruptError`."""
    try:
        return pa.ipc.read_record_batch(pa.py_buffer(data), schema)
    except (pa.ArrowException, OSError) as error:
        raise LogCorruptError(
            f"a stored batch is not readable: {error}",
            hint="restore the log from a backup, or save what is left with `sqlite3 LOG .recover | sqlite3 NEW`",
        ) from error


def chunks_of(stored: Stored, offset: int) -> Iterator[Chunk]:
    """The rows from `offset` on, one chunk per run of consecutive offsets."""
    if stored.kept is None:
        first = max(offset - stored.offset, 0)
        if first < stored.span:
            yield _chunk(stored, first, first, stored.span - first)
        return
    kept = np.frombuffer(stored.kept, dtype=np.int32)
    start = int(np.searchsorted(kept, max(offset - stored.offset, 0)))
    for begin, end in _runs(kept[start:]):
        yield _chunk(stored, int(kept[start + begin]), start + begin, end - begin)


def _runs(places: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Where consecutive places begin and end."""
    if len(places) == 0:
        return
    cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    yield from itertools.pairwise(cuts)


def _chunk(stored: Stored, row: int, start: int, length: int) -> Chunk:
    rows = stored.rows if length == stored.rows.num_rows else stored.rows.slice(start, length)
    stream, partition = stored.place
    return Chunk(stream, partition, stored.offset + row, stored.seq, row, stored.at, rows)


def take_chunks(batches: Iterator[Stored], offset: int, max_rows: int) -> list[Chunk]:
    """Chunks from `offset` on until there are `max_rows` rows; the last one is not cut."""
    found: list[Chunk] = []
    rows = 0
    for stored in batches:
        for chunk in chunks_of(stored, offset):
            found.append(chunk)
            rows += chunk.rows.num_rows
            if rows >= max_rows:
                return found
    return found
