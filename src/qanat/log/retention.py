"""Which stored rows may go: by age, by size, by key. Pure; drivers say what they hold and do the deleting."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.log.base import Place
from qanat.log.chunks import Stored, decode_rows
from qanat.model.streams import Stream

#: A partition of at least so many rows is compacted again only after a tenth of it is new.
_SMALL = 100_000


@dataclass(frozen=True, slots=True)
class Held:
    """One stored append without its rows."""

    seq: int
    partition: int
    offset: int
    span: int
    rows: int
    at: int
    bytes: int


def doomed(
    stream: Stream, partitions: Sequence[Iterable[Held]], floors: Mapping[int, int | None], size: int, now_ms: int
) -> Iterator[Held]:
    """The appends that retention deletes, oldest first: always the first ones of their partition.

    `partitions`: what each one holds, in order; `floors`: offsets below which all consumers have read (None: there are
    none); `size`: bytes of the whole stream.
    """
    kept: set[int] = set()  # partitions that keep what is left
    for held in heapq.merge(*partitions, key=attrgetter("seq")):
        if held.partition in kept:
            continue
        old = stream.retention_ms is not None and held.at < now_ms - stream.retention_ms
        large = stream.retention_bytes is not None and size > stream.retention_bytes
        floor = floors.get(held.partition)
        if not (old or large) or (floor is not None and held.offset + held.span > floor):
            kept.add(held.partition)
            if len(kept) == len(partitions):
                return
            continue
        size -= held.bytes
        yield held


def superseded(batches: Iterable[Stored], key: Sequence[str], floor: int | None) -> dict[int, npt.NDArray[np.int32]]:
    """By seq, what is left of the appends that lose rows: the places, within the append, of the rows that stay.

    A row stays if it is the last one of its key (NULL is a key like others) or not below `floor`. `batches` are all of
    one partition; only their keys are held in memory.
    """
    seqs, places, offsets, keys = [], [], [], []
    for stored in batches:
        held = stored.places()
        seqs.append(np.full(len(held), stored.seq))
        places.append(held)
        offsets.append(held.astype(np.int64) + stored.offset)
        keys.append(_keys(stored.rows, key))
    if not keys:
        return {}
    seq, place, offset = np.concatenate(seqs), np.concatenate(places), np.concatenate(offsets)
    stays = _is_last(pa.Table.from_batches(keys), offset)
    if floor is not None:
        stays |= offset >= floor
    losing = np.unique(seq[~stays])
    bounds = zip(losing, np.searchsorted(seq, losing), np.searchsorted(seq, losing, "right"), strict=True)
    return {int(number): place[begin:end][stays[begin:end]] for number, begin, end in bounds}


def _keys(rows: pa.RecordBatch, key: Sequence[str]) -> pa.RecordBatch:
    """A copy of the key columns, so that the rest of the append can be forgotten."""
    columns = pa.RecordBatch.from_arrays([rows.column(name) for name in key], names=[f"k{n}" for n in range(len(key))])
    return decode_rows(columns.serialize(), columns.schema)


def _is_last(keys: pa.Table, offset: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    names = keys.column_names
    newest = keys.append_column("offset", pa.array(offset)).group_by(names).aggregate([("offset", "max")])
    found: npt.NDArray[np.bool_] = np.isin(offset, newest.column("offset_max").to_numpy())
    return found


class Compacted:
    """What compaction saw last of each place, so that it does not read again what has hardly changed."""

    def __init__(self) -> None:
        self._seen: dict[Place, int] = {}

    def is_due(self, place: Place, rows: int, end: int, floor: int | None) -> bool:
        """Whether enough has come, or been read by consumers, since the last time this was true."""
        progress = end + (end if floor is None else min(floor, end))
        moved = progress - self._seen.get(place, 0)
        if moved <= 0 or (rows >= _SMALL and moved * 10 < rows):
            return False
        self._seen[place] = progress
        return True
