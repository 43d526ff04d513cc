"""Feeds, one per scan and partition: prepared rows of a source (columns computed, event times, clock) to be merged.

A feed knows in which order its rows stand among those of other feeds: `order` is the log's sequence number for live
streams and the feed's own clock for bounded inputs. It does no arithmetic on windows and writes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import polars as pl

from qanat.clock import MAX_TIME, MIN_TIME
from qanat.codec.base import BadRow
from qanat.model.streams import CHANGE
from qanat.model.types import TINYINT
from qanat.sql.embedded.flow import Ints, advance, empty_column, instants, polars_type
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.expressions import columns
from qanat.sql.plan import Field, Scan

Token = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Physical rows of a source. `token`: where the block begins, for `Source.blocks`; `at`: arrival (ms) or None;
    `seq`: the log's sequence number or None; `bad`: what could not be decoded, with where it stood."""

    frame: pl.DataFrame
    token: Token
    at: int | None = None
    seq: int | None = None
    bad: Sequence[tuple[BadRow, str]] = ()


class Source(Protocol):
    """Where blocks come from. `blocks` yields from a token on, in order; the same token gives the same rows again.

    A bounded source ends its iterator; a live one yields None when there is nothing now.
    """

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """Blocks from `token` (None: the beginning)."""
        ...


class Preparer:
    """Physical rows -> the columns of a scan, and event times."""

    def __init__(self, scan: Scan) -> None:
        table = scan.table
        names = [f.name for f in scan.schema]
        watermark = table.watermark
        wanted = set(names) | ({watermark.column} if watermark else set())
        computed = [(name, e) for name, e in table.computed if name in wanted]
        needed = wanted.union(*(columns(e) for _, e in computed)) if computed else wanted
        self.physical = [f for f in table.physical if f.name in needed]
        self._computed = [to_polars(e).alias(name) for name, e in computed]
        self._names = names
        self._time = watermark.column if watermark else None
        if table.changes != "insert":
            self.physical = [*self.physical, Field(CHANGE, TINYINT)]
            self._names = [*names, CHANGE]
        reads = dict(scan.reads)
        #: As `physical`, ROWs with the fields that are read: what a source has to give.
        self.needed = [_with_fields(f, reads[f.name]) if f.name in reads else f for f in self.physical]
        pairs = zip(self.physical, self.needed, strict=True)
        self._types = [(f.name, (polars_type(f.type), polars_type(n.type))) for f, n in pairs]
        self.delay = watermark.delay_ms if watermark else 0
        self.idle_ms = watermark.idle_timeout_ms if watermark else None

    @property
    def timed(self) -> bool:
        """Whether the scan has event times."""
        return self._time is not None

    def prepare(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
        """Rows with the scan's columns, and their event times (ms)."""
        frame = self._fitted(frame)
        if self._computed:
            frame = frame.with_columns(self._computed)
        times = instants(frame[self._time]) if self._time else np.full(frame.height, MIN_TIME, dtype=np.int64)
        if self._names[-1] == CHANGE:
            frame = frame.with_columns(pl.col(CHANGE).fill_null(0))
        return frame.select(self._names), times

    def _fitted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns that older rows lack are NULL; types as declared."""
        height = frame.height
        present = dict(frame.schema)
        made = []
        for field, (name, fitting) in zip(self.physical, self._types, strict=True):
            if name not in present:
                made.append(empty_column(field.type).extend_constant(None, height).alias(name))
            elif present[name] not in fitting:
                made.append(frame[name].cast(fitting[0]))
            else:
                made.append(frame[name])
        return pl.DataFrame(made) if made else pl.DataFrame(height=height)


def _with_fields(column: Field, names: Collection[str]) -> Field:
    fields = tuple((name, kind) for name, kind in column.type.fields if name in names)
    return replace(column, type=replace(column.type, fields=fields))


@dataclass(slots=True)
class _Waiting:
    """Prepared rows of one block that are not yet merged, from `skip` on."""

    frame: pl.DataFrame
    order: Ints
    after: Ints  # the feed's clock after each row
    token: Token
    at: int | None
    skip: int = 0
    final: bool = False  # stands for the end of the source
    bad: Sequence[tuple[BadRow, str]] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows taken from a feed, in order: frames, clock after each event, order of each event; the last event is the
    end of the source where `ended`. `arrived`: for each event the arrival time (ms), 0 where unknown; `before`: the
    clock before the first of them; `woke`: the feed was idle before."""

    frames: list[pl.DataFrame]
    before: int
    after: Ints
    arrived: Ints
    ended: bool
    woke: bool


class Feed:
    """Rows of one source that wait to be merged with those of others."""

    def __init__(
        self, scan: int, preparer: Preparer, source: Source, name: str, *, by_clock: bool, isolate: bool = False
    ) -> None:
        self.scan, self.source, self.name = scan, source, name
        self.delay, self.idle_ms = preparer.delay, preparer.idle_ms
        self._preparer, self._by_clock, self._isolate = preparer, by_clock, isolate
        self.clock = MIN_TIME  # after the last row that was taken
        self.consumed = 0  # events taken since the beginning, the end being one
        self.finished = False
        self.idle = False
        self.bad: list[tuple[BadRow, str]] = []  # of rows taken since the caller last emptied it
        self._unplaced: list[tuple[BadRow, str]] = []
        self.drained = False  # the last `load` got all there was
        self._loaded_clock = MIN_TIME
        self._queue: deque[_Waiting] = deque()
        self._count = 0
        self._resume: Token | None = None
        self._blocks: Iterator[Block | None] | None = None
        self._closed = False
        self.loaded_seq = -1
        #: Rows that could not be prepared, if `load` raised: where each stands, and the error.
        self.faults: list[tuple[Token, Exception]] = []

    def load(self, rows: int) -> bool:
        """Fetch blocks until `rows` rows wait, or there is nothing now. Whether more might be fetched at once."""
        if self._blocks is None:
            self._blocks = self.source.blocks(self._resume)
        self.drained = self._closed
        while not self._closed and self._count < rows:
            try:
                block = next(self._blocks)
            except StopIteration:
                self._end()
                self.drained = True
                return False
            if block is None:
                self.drained = True
                return False
            self._accept(block)
        return not self._closed

    def _accept(self, block: Block) -> None:
        skip = int(block.token.get("skip", 0))
        frame = block.frame[skip:] if skip else block.frame
        self._unplaced += block.bad if not skip else ()
        try:
            frame, times = self._preparer.prepare(frame)
        except Exception:
            if self._isolate:
                found = _faulty(self._preparer, frame)
                self.faults = [({**block.token, "skip": skip + row}, error) for row, error in found]
            raise
        if self._preparer.timed:
            track = advance(self._loaded_clock, times, self.delay)
        else:
            track = np.full(len(times) + 1, MIN_TIME, dtype=np.int64)
        if self._by_clock or block.seq is None:
            order = track[:-1]
        else:
            order = np.full(len(times), block.seq, dtype=np.int64)
            self.loaded_seq = block.seq
        self._loaded_clock = int(track[-1])
        token = {key: value for key, value in block.token.items() if key != "skip"}
        if frame.height:
            self._wait(_Waiting(frame, order, track[1:], token, block.at, skip))

    def _wait(self, waiting: _Waiting) -> None:
        """Bad rows belong to the next good row (or the end), so that they are committed with it, once."""
        waiting.bad, self._unplaced = self._unplaced, []
        self._queue.append(waiting)
        self._count += len(waiting.order)

    def _end(self) -> None:
        self._closed = True
        order = np.array([self._loaded_clock if self._by_clock else np.iinfo(np.int64).max])
        after = np.array([MAX_TIME])
        self._wait(_Waiting(pl.DataFrame(height=1), order, after, {}, None, final=True))

    def orders(self) -> Ints:
        """The order of every waiting event, ascending."""
        if not self._queue:
            return np.empty(0, dtype=np.int64)
        return np.concatenate([waiting.order for waiting in self._queue])

    @property
    def open_order(self) -> int | None:
        """A lower bound for the order of rows not loaded yet; None where there are none to come."""
        if self._closed:
            return None
        return self._loaded_clock if self._by_clock else self.loaded_seq

    def take(self, count: int) -> Taken:
        """The next `count` events."""
        frames: list[pl.DataFrame] = []
        after: list[Ints] = []
        arrived: list[Ints] = []
        ended, before, woke = False, self.clock, self.idle
        self.consumed += count
        self._count -= count
        while count:
            waiting = self._queue[0]
            self.bad += waiting.bad
            waiting.bad = ()
            size = min(count, len(waiting.order))
            count -= size
            after.append(waiting.after[:size])
            arrived.append(np.full(size, waiting.at or 0, dtype=np.int64))
            if waiting.final:
                ended = self.finished = True
            else:
                frames.append(waiting.frame[:size] if size < len(waiting.order) else waiting.frame)
            if size == len(waiting.order):
                self._queue.popleft()
                if not waiting.final:
                    self._resume = {**waiting.token, "skip": waiting.skip + size}
            else:
                waiting.frame, waiting.order = waiting.frame[size:], waiting.order[size:]
                waiting.after = waiting.after[size:]
                waiting.skip += size
                self._resume = {**waiting.token, "skip": waiting.skip}
        clocks = np.concatenate(after) if after else np.empty(0, dtype=np.int64)
        times = np.concatenate(arrived) if arrived else np.empty(0, dtype=np.int64)
        if len(clocks):
            self.clock = int(clocks[-1])
        return Taken(frames, before, clocks, times, ended, woke)

    def next_token(self) -> Token | None:
        """Where the next row stands, if one waits."""
        first = self._queue[0] if self._queue else None
        return None if first is None or first.final else {**first.token, "skip": first.skip}

    def position(self) -> Token:
        """Where the next event stands, with the clock there: plain values."""
        return {
            "token": self._resume,
            "clock": self.clock,
            "consumed": self.consumed,
            "finished": self.finished,
            "idle": self.idle,
        }

    def seek(self, position: Token) -> None:
        """Go to a `position`. Only before the first `load`."""
        self._resume = position["token"]
        self.clock = self._loaded_clock = position["clock"]
        self.consumed, self.finished = position["consumed"], position["finished"]
        self.idle = position["idle"]
        self._closed = self.finished
        self._blocks = iter(()) if self.finished else None


def _faulty(preparer: Preparer, frame: pl.DataFrame, first: int = 0) -> list[tuple[int, Exception]]:
    """The rows that cannot be prepared, and why, found by halving."""
    try:
        preparer.prepare(frame)
    except Exception as error:  # noqa: BLE001  what it is, the caller's caller decides
        if frame.height == 1:
            return [(first, error)]
        half = frame.height // 2
        return [*_faulty(preparer, frame[:half], first), *_faulty(preparer, frame[half:], first + half)]
    return []
