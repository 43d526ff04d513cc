"""The rows of the last hours of one aggregate, in memory, as the log gives them. Reads no clock and knows no thread.

`RecentRows.take` is called by one thread (`follow`), `tally` by any. What was taken in one call is seen as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.log.base import Chunk
from qanat.model.arrow import to_arrow
from qanat.model.streams import ArrivalColumn, Column
from qanat.serve.aggregate.blocks import ROW_BYTES, Block, Wanted
from qanat.serve.aggregate.measure import Measure, Value
from qanat.serve.aggregate.pieces import combine, needs_times
from qanat.serve.aggregate.question import Question
from qanat.serve.aggregate.series import SeriesNumbers
from qanat.serve.aggregate.tally import Floats, Ints, Tally, nothing

Mask = npt.NDArray[np.bool_]

#: The horizon lies in about so many blocks.
_BLOCKS = 64
_SHORTEST_SHIFT = 14
#: Where there are more series, memory says nothing about rows any more: SQL answers.
MOST_SERIES = 1_000_000
_SERIES_BYTES = 200
#: Rows further ahead of now are not kept.
_AHEAD_MS = 86_400_000
_LAST_TIME = 1 << 62
_LARGEST = (1 << 62) // 1000
_KEPT_CHOICES = 1024


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a reader sees: blocks by their beginning; every row from `since` to `until` that the log holds before
    `positions` is there."""

    blocks: Mapping[int, Block]
    since: int
    until: int = _LAST_TIME
    positions: Mapping[int, int] = field(default_factory=dict)


class RecentRows:
    """`since`: from when on (ms) rows are kept, which must be all that the log has from then on. `max_bytes`: beyond it
    the oldest rows go, and `since` with them."""

    def __init__(
        self, measure: Measure, horizon_ms: int, max_bytes: int, since: int, positions: Mapping[int, int]
    ) -> None:
        self.measure = measure
        self._horizon_ms, self._max_bytes = horizon_ms, max_bytes
        self._shift = max(_SHORTEST_SHIFT, (horizon_ms // _BLOCKS).bit_length())
        self._series = SeriesNumbers(measure.dimensions)
        self._seen = _Seen({}, since, positions=dict(positions))
        self._groups: dict[object, tuple[int, _Chosen]] = {}

    @property
    def since(self) -> int:
        """From when on (ms) the rows are complete."""
        return self._seen.since

    @property
    def bytes(self) -> int:
        """Memory, about."""
        return sum(block.bytes for block in self._seen.blocks.values()) + len(self._series.table) * _SERIES_BYTES

    @property
    def positions(self) -> Mapping[int, int]:
        """Partition -> next offset."""
        return self._seen.positions

    # --- in ----------------------------------------------------------------------------------------------------------

    def take(self, chunks: Sequence[Chunk], now_ms: int) -> Sequence[Ints]:
        """More rows of the log; gives the series of each row. Rows without a time, and too old ones, do not count."""
        seen = self._seen
        blocks, until, touched = dict(seen.blocks), seen.until, []
        for rows in _batches(chunks):
            times, kept = _times(rows, self.measure.time)
            far = kept & (times > now_ms + _AHEAD_MS)
            if far.any():
                until = min(until, int(times[far].min()))
            kept &= (times >= seen.since) & ~far
            if kept.any():
                touched.append(self._add(blocks, rows, times, kept))
        ends = {chunk.partition: chunk.end for chunk in chunks}
        self._seen = _Seen(blocks, seen.since, until, {**seen.positions, **ends})
        self.expire(now_ms)
        return touched

    def expire(self, now_ms: int) -> None:
        """Forget what lies beyond the horizon, and the oldest rows where memory is short."""
        seen = self._seen
        width = 1 << self._shift
        since = max(seen.since, (now_ms - self._horizon_ms) // width * width)
        blocks = {begin: block for begin, block in seen.blocks.items() if begin + width > since}
        room = self._max_bytes - len(self._series.table) * _SERIES_BYTES
        if sum(block.bytes for block in blocks.values()) > room:
            since = max(since, _shrink(blocks, width, room - room // 8))
        if since != seen.since:
            self._seen = _Seen(blocks, since, seen.until, seen.positions)

    def _add(self, blocks: dict[int, Block], rows: pa.RecordBatch, times: Ints, kept: Mask) -> Ints:
        columns = [_column(rows, column) for column in self.measure.dimensions]
        series = self._series.encode(columns, rows.num_rows)
        values = _floats(_column(rows, self.measure.value))
        if not kept.all():
            series, times, values = series[kept], times[kept], values[kept]
        low, high = int(times.min()) >> self._shift, int(times.max()) >> self._shift
        numbers = [low] if low == high else np.unique(times >> self._shift).tolist()
        for number in numbers:
            begin = number << self._shift
            inside = slice(None) if low == high else times >> self._shift == number
            block = blocks.get(begin) or Block(begin, self._shift)
            blocks[begin] = block.added(series[inside], times[inside], values[inside])
        return series

    # --- out ---------------------------------------------------------------------------------------------------------

    def covers(self, start: int, end: int) -> bool:
        """Whether all rows of a range are there."""
        seen = self._seen
        return seen.since <= start and end <= seen.until and len(self._series.table) <= MOST_SERIES

    def cost(self, question: Question, start: int, end: int) -> int:
        """About how many rows have to be looked at."""
        share = len(self.series_of(question)) / max(1, len(self._series.table))
        blocks = _between(self._seen.blocks, self._shift, start, end)
        rows = sum(block.bytes * block.share(start, end) for block in blocks) / ROW_BYTES
        return round(rows * share)

    def tally(self, question: Question, edges: Sequence[int], start: int, end: int) -> Tally | None:
        """The answer; None where rows of the range are not there (any more). `edges`: see `buckets.edges`."""
        if not self.covers(start, end):
            return None
        seen = self._seen
        if seen.since > start or end > seen.until:  # it went on in the meantime
            return None
        chosen = self._choose(question)
        windows = len(edges) - 1
        everything = len(chosen.series) == len(self._series.table)
        times = needs_times(question.functions)
        wanted = Wanted(chosen.series, chosen.groups * windows, np.array(edges), start, end, everything, times)
        blocks = _between(seen.blocks, self._shift, start, end)
        found = combine([piece for block in blocks for piece in block.pieces(wanted)], question.functions)
        gaps = sum(block.count_gaps(wanted) for block in blocks)
        if found is None:
            return nothing(question, gaps, seen.positions)
        if not question.by:
            group = np.zeros(len(found.cells), dtype=np.int64)
            return Tally([()], group, found.cells, found.found, found.count, gaps, found.newest, seen.positions)
        group, bucket = np.divmod(found.cells, windows)
        there, group = np.unique(group, return_inverse=True)
        named = [chosen.values[number] for number in there.tolist()]
        return Tally(named, group, bucket, found.found, found.count, gaps, found.newest, seen.positions)

    def series_of(self, question: Question) -> Ints:
        """The series that a question looks at, as `take` tells them."""
        return self._choose(question).series

    def _choose(self, question: Question) -> _Chosen:
        """Kept for questions that come again, until there is a new series."""
        size = len(self._series.table)
        name = question.chosen, question.by
        kept = self._groups.get(name)
        if kept is None or kept[0] != size:
            series = self._series.choose(dict(question.chosen))
            kept = size, _Chosen(series, *self._series.group(series, question.by))
            if len(self._groups) >= _KEPT_CHOICES:
                self._groups.clear()
            self._groups[name] = kept
        return kept[1]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Series, the group of each, and the values of each group."""

    series: Ints
    groups: Ints
    values: Sequence[tuple[Value, ...]]


def _between(blocks: Mapping[int, Block], shift: int, start: int, end: int) -> list[Block]:
    width = 1 << shift
    return [block for begin, block in blocks.items() if start < begin + width and begin < end]


def _shrink(blocks: dict[int, Block], width: int, room: int) -> int:
    """Take the oldest rows out until the rest fits; from when on it is complete."""
    size = sum(block.bytes for block in blocks.values())
    since = 0
    while size > room and blocks:
        begin = min(blocks)
        block = blocks.pop(begin)
        size -= block.bytes
        since = begin + width
        if size < room:
            since = block.time_at(1 - (room - size) / block.bytes) + 1
            rest = block.since(since)
            size += rest.bytes
            if rest.bytes:
                blocks[begin] = rest
    return since


def _batches(chunks: Sequence[Chunk]) -> list[pa.RecordBatch]:
    """The rows of chunks that have the same columns as one batch: many small ones cost more than a few large ones."""
    alike: dict[pa.Schema, list[pa.RecordBatch]] = {}
    for chunk in chunks:
        if chunk.rows.num_rows:
            alike.setdefault(chunk.rows.schema, []).append(chunk.rows)
    return [rows[0] if len(rows) == 1 else pa.concat_batches(rows) for rows in alike.values()]


def _column(rows: pa.RecordBatch, column: Column) -> Any:
    """Columns that were declared later are NULL in rows that are older."""
    if column.name in rows.schema.names:
        return rows.column(column.name)
    return pa.nulls(rows.num_rows, to_arrow(column.type))


def _times(rows: pa.RecordBatch, time: ArrivalColumn) -> tuple[Ints, Mask]:
    """Event times (ms) and where there is one."""
    if time.name not in rows.schema.names:
        return np.zeros(rows.num_rows, dtype=np.int64), np.zeros(rows.num_rows, dtype=bool)
    column = rows.column(time.name)
    kept: Mask = column.is_valid().to_numpy(zero_copy_only=False).copy()
    if time.per_second is None:
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False)
    numbers: Ints = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if time.per_second is None or time.per_second == 1000:
        return numbers, kept
    return np.clip(numbers, -_LARGEST, _LARGEST) * 1000 // time.per_second, kept


def _floats(column: Any) -> Floats:
    """NULL becomes NaN, which counts as little."""
    found: Floats = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return found
