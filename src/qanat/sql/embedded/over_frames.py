"""Frames of OVER on a sorted batch. Pure numpy.

    rows of one piece   [h h n n n] [n] [h n n]     segments: one per key (and life of its state)
                         h: rows of the history that a frame may reach, n: new rows, in order of time, then arrival

New rows that see the same frame form a *step*: one row with ROWS, all rows of one time with RANGE. Frames of the steps
of a segment only move forward, so that a running aggregate takes rows back and adds rows, as Flink's does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qanat.sql.embedded.flow import Array, Ints

Mask = npt.NDArray[np.bool_]
#: Segments up to this many rows are scanned side by side, longer ones one by one.
_SIDE_BY_SIDE = 48


@dataclass(frozen=True, slots=True)
class Frames:
    """`new`: places of new rows; `step`: the step of each. Per step: `low` to `high` (places, inclusive), the place of
    its `first` new row, its `segment`. Per segment: `start` and `end` (places, inclusive), `key` (number), `fresh`: the
    state of the key does not count; `last`: of the segments of its key. `bounded`: frames do not begin with the
    segment."""

    new: Ints
    step: Ints
    low: Ints
    high: Ints
    first: Ints
    segment: Ints
    start: Ints
    end: Ints
    key: Ints
    fresh: Mask
    last: Mask
    bounded: bool

    @property
    def height(self) -> int:
        """Rows, old and new."""
        return int(self.end[-1]) + 1

    def state(self, values: Array, neutral: float | int) -> Array:
        """What each segment starts from."""
        return np.where(self.fresh, np.asarray(neutral, dtype=values.dtype), values[self.key])

    def store(self, values: Array, found: Array) -> None:
        """`found` (per step) behind the last step of each key becomes its state."""
        steps = np.flatnonzero(np.append(self.segment[1:] != self.segment[:-1], True))
        ends = self.last[self.segment[steps]]
        values[self.key[self.segment[steps[ends]]]] = found[steps[ends]]


def lay_out(
    segment: Ints, time: Ints, new: Mask, key: Ints, fresh: Mask, *, by_rows: bool, preceding: int | None
) -> Frames:
    """Frames of sorted rows. `segment`: ascending numbers from 0; `key`, `fresh`: per segment."""
    start = np.flatnonzero(np.concatenate([[True], segment[1:] != segment[:-1]]))
    end = np.append(start[1:], len(segment)) - 1
    places = np.flatnonzero(new)
    opens = np.ones(len(places), dtype=np.bool_)
    if not by_rows:
        mine, at = segment[places], time[places]
        opens[1:] = (mine[1:] != mine[:-1]) | (at[1:] != at[:-1])
    first = places[opens]
    high = places[np.append(np.flatnonzero(opens)[1:], len(places)) - 1]
    of = segment[first]
    low = start[of]
    if preceding is not None:
        low = np.maximum(low, high - preceding) if by_rows else _reach(segment, time, first, preceding)
    last = np.append(key[1:] != key[:-1], True)
    step = np.cumsum(opens) - 1
    return Frames(places, step, low, high, first, of, start, end, key, fresh, last, preceding is not None)


def _reach(segment: Ints, time: Ints, first: Ints, preceding: int) -> Ints:
    """The place of the first row of the same segment at most `preceding` ms before each of the rows `first`."""
    moments, rank = np.unique(time, return_inverse=True)
    code = segment * (len(moments) + 1) + rank
    earliest = np.searchsorted(moments, time[first] - preceding)
    return np.searchsorted(code, segment[first] * (len(moments) + 1) + earliest)


def prefix(values: Ints) -> Ints:
    """Sums of the first 0, 1, 2 ... values."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def whole_sums(frames: Frames, values: Ints, state: Ints) -> Ints:
    """Per step the sum of whole numbers over its frame, wrapping; kept up in `state` where frames are unbounded."""
    if frames.bounded:
        sums = prefix(values)
        return np.asarray(sums[frames.high + 1] - sums[frames.low])
    fresh_only = np.zeros(len(values), dtype=np.int64)
    fresh_only[frames.new] = values[frames.new]
    sums = prefix(fresh_only)
    found = frames.state(state, 0)[frames.segment] + sums[frames.high + 1] - sums[frames.start[frames.segment]]
    frames.store(state, found)
    return np.asarray(found)


def running(frames: Frames, operation: np.ufunc, values: Array, state: Array, neutral: float) -> Array:
    """Per step the aggregate of its frame, computed as Flink does, one row after the other: what left the frame is
    subtracted (bounded frames; only for sums), then what entered is added. `values`: `neutral` where a row does not
    take part."""
    taken = no_places()
    if frames.bounded:
        taken = np.arange(frames.height)
        step_of = np.searchsorted(frames.low, taken, side="right")
        steps = len(frames.low)
        leaves = (step_of < steps) & (_segments(frames) == frames.segment[np.minimum(step_of, steps - 1)])
        taken, step_of = taken[leaves], step_of[leaves]
    else:
        step_of = no_places()
    count = len(taken) + len(frames.new)
    step = np.concatenate([step_of, frames.step])
    order = np.argsort(step, kind="stable")  # what is taken back stands first, each in order of rows
    events = np.concatenate([-values[taken], values[frames.new]])[order] if len(taken) else values[frames.new]
    step = step[order]
    segment = frames.segment[step]
    heads = np.searchsorted(segment, np.arange(len(frames.start))) + np.arange(len(frames.start))
    whole = np.empty(count + len(heads), dtype=state.dtype)
    whole[np.arange(count) + segment + 1] = events
    whole[heads] = frames.state(state, neutral)
    accumulate(operation, whole, heads, np.diff(np.append(heads, len(whole))))
    last = np.searchsorted(step, np.arange(len(frames.low)), side="right") - 1
    found = whole[last + frames.segment + 1]
    frames.store(state, found)
    return np.asarray(found)


def _segments(frames: Frames) -> Ints:
    return np.repeat(np.arange(len(frames.start)), frames.end - frames.start + 1)


def no_places() -> Ints:
    """None."""
    return np.empty(0, dtype=np.int64)


def accumulate(operation: np.ufunc, whole: Array, heads: Ints, lengths: Ints) -> None:
    """Running `operation` in place, strictly in order, over the pieces of `whole` that begin at `heads`."""
    by_length = np.argsort(-lengths, kind="stable")
    lengths = lengths[by_length]
    long = int(np.searchsorted(-lengths, -_SIDE_BY_SIDE, side="left"))
    for head, length in zip(heads[by_length[:long]].tolist(), lengths[:long].tolist(), strict=True):
        part = whole[head : head + length]
        operation.accumulate(part, out=part)
    heads, lengths = heads[by_length[long:]], lengths[long:]
    for step in range(1, int(lengths[0]) if len(lengths) else 0):
        here = heads[: int(np.searchsorted(-lengths, -step, side="left"))] + step
        whole[here] = operation(whole[here - 1], whole[here])


def extremes(frames: Frames, operation: np.ufunc, values: Ints) -> Ints:
    """Per step the minimum or maximum over its frame: a sparse table, two lookups a step."""
    width = frames.high - frames.low + 1
    level = np.zeros(len(width), dtype=np.int64)
    found = np.empty(len(width), dtype=np.int64)
    table, size, most = values, 1, int(width.max(initial=1))
    level = np.frexp(width.astype(np.float64))[1].astype(np.int64) - 1
    for number in range(int(most).bit_length()):
        here = level == number
        found[here] = operation(table[frames.low[here]], table[frames.high[here] - size + 1])
        if 2 * size <= most:
            table = operation(table[: len(table) - size], table[size:])
            size *= 2
    return found
