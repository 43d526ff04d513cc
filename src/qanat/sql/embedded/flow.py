"""What flows between operators: frames that carry their watermark. Values only, no I/O.

See docs/design/runtime.md for why a watermark is an array here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from qanat.clock import MAX_TIME, MIN_TIME
from qanat.model.arrow import to_arrow
from qanat.model.types import Type
from qanat.sql.plan import Schema

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Kinds = npt.NDArray[np.int8]
State = dict[str, Any]

#: Kinds of rows of a changelog, numbered as Flink's RowKind.
INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE = (np.int8(one) for one in range(4))

#: Watermarks are clipped to this range before arithmetic, so that no sum of them and a duration overflows.
_FAR = np.int64(2**61)
#: The event time of a row whose time attribute is NULL: before everything, so that it is late everywhere.
NULL_TIME = -(2**62)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one operator for one micro-batch of n events.

    `seq`: int64, one per row, non-decreasing, 0 <= seq < n: the event that made the row. `track`: int64, n + 1,
    non-decreasing: the watermark before event i. `kinds`: int8, one per row: INSERT, UPDATE_BEFORE, UPDATE_AFTER or
    DELETE; None: all are inserts. An UPDATE_BEFORE stands right before its UPDATE_AFTER, with the same seq.
    """

    frame: pl.DataFrame
    seq: Ints
    track: Ints
    kinds: Kinds | None = None

    @property
    def before(self) -> Ints:
        """For each row the watermark that judges it."""
        return self.track[self.seq]

    @property
    def end(self) -> int:
        """The watermark after the last event."""
        return int(self.track[-1])

    def select(self, keep: npt.NDArray[np.bool_]) -> Batch:
        """The rows where `keep` holds."""
        if bool(keep.all()):
            return self
        kinds = None if self.kinds is None else self.kinds[keep]
        return Batch(self.frame.filter(pl.Series(keep)), self.seq[keep], self.track, kinds)

    @property
    def all_kinds(self) -> Kinds:
        """One kind per row."""
        return np.zeros(len(self.seq), dtype=np.int8) if self.kinds is None else self.kinds


@dataclass(frozen=True, slots=True)
class LateRows:
    """Rows that an operator had to leave out, with the watermark that condemned each and the event that brought it."""

    operator: str
    reason: str
    frame: pl.DataFrame
    time: Ints
    watermark: Ints
    event: Ints


@dataclass(slots=True)
class Counters:
    """What a pipeline counts."""

    rows_in: int = 0
    rows_out: int = 0
    late: int = 0
    partly_late: int = 0
    dead: int = 0


@dataclass(slots=True)
class Context:
    """What operators of one pipeline share: counters, the late rows of the micro-batch at hand, and `arrived`: for each
    event of it the arrival time (ms, never falling; 0 where unknown), by which a TTL counts."""

    counters: Counters = field(default_factory=Counters)
    late: list[LateRows] = field(default_factory=list)
    arrived: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def reject(self, operator: str, batch: Batch, late: npt.NDArray[np.bool_], time: Ints, reason: str) -> None:
        """Send the rows where `late` holds to the late side stream."""
        count = int(np.count_nonzero(late))
        if count:
            frame = batch.frame.filter(pl.Series(late))
            self.late.append(LateRows(operator, reason, frame, time[late], batch.before[late], batch.seq[late]))
            self.counters.late += count


def safe(times: Ints) -> Ints:
    """Watermarks, clipped so that adding durations cannot overflow."""
    return np.clip(times, -_FAR, _FAR)


def advance(track_start: int, times: Ints, delay: int) -> Ints:
    """The track of one source partition: n + 1 watermarks from n event times (ms) and the declared delay (ms).

    The watermark after a row is the largest event time so far less the delay; it never falls below `track_start`.
    """
    track = np.empty(len(times) + 1, dtype=np.int64)
    track[0] = track_start
    np.subtract(times, delay, out=track[1:])
    return np.maximum.accumulate(track, out=track)


def fired_at(track: Ints, ends: Ints) -> Ints:
    """For windows that close in this batch (`ends`: window end, ms): the event that closed each."""
    return np.maximum(np.searchsorted(track, ends - 1, side="left") - 1, 0)


def instants(column: pl.Series) -> Ints:
    """Event times of a TIMESTAMP or TIMESTAMP_LTZ column as int64 ms; NULL becomes NULL_TIME."""
    ms = column.dt.cast_time_unit("ms") if column.dtype != pl.Datetime("ms") else column
    physical = ms.to_physical()
    if physical.null_count():
        physical = physical.fill_null(NULL_TIME)
    return np.asarray(physical.to_numpy(), dtype=np.int64)


def timestamps(times: Ints, sql_type: Type) -> pl.Series:
    """int64 ms -> a column of `sql_type` (TIMESTAMP or TIMESTAMP_LTZ)."""
    return (
        pl.Series("", times).cast(pl.Datetime("ms")).cast(polars_type(sql_type))
        if len(times)
        else empty_column(sql_type)
    )


@lru_cache(maxsize=1024)
def polars_type(sql_type: Type) -> pl.DataType:
    """The polars type of a column of `sql_type`."""
    return empty_column(sql_type).dtype


def empty_column(sql_type: Type) -> pl.Series:
    """A column of `sql_type` without rows."""
    made = pl.from_arrow(pa.array([], type=to_arrow(sql_type)))
    if not isinstance(made, pl.Series):
        raise TypeError(f"{sql_type} is not one column")
    return made


def empty_frame(schema: Schema) -> pl.DataFrame:
    """A frame of `schema` without rows."""
    return pl.DataFrame({f.name: empty_column(f.type) for f in schema})


def nullable(values: Array, valid: npt.NDArray[np.bool_] | None) -> pl.Series:
    """Values with NULL where `valid` is False."""
    if valid is None or bool(valid.all()):
        return pl.Series("", values)
    made = pl.from_arrow(pa.array(values, mask=~valid))
    if not isinstance(made, pl.Series):
        raise TypeError("one column expected")
    return made


def no_rows() -> Ints:
    """An empty int64 array."""
    return np.empty(0, dtype=np.int64)


__all__ = [
    "DELETE",
    "INSERT",
    "MAX_TIME",
    "MIN_TIME",
    "NULL_TIME",
    "UPDATE_AFTER",
    "UPDATE_BEFORE",
    "Array",
    "Batch",
    "Context",
    "Counters",
    "Ints",
    "Kinds",
    "LateRows",
    "State",
    "advance",
    "empty_column",
    "empty_frame",
    "fired_at",
    "instants",
    "no_rows",
    "nullable",
    "polars_type",
    "safe",
    "timestamps",
]
