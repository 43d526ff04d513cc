"""Aggregates of OVER that go row by row: DISTINCT, deviations, decimals, texts, arrays, the user's own.

An accumulator per key takes back what leaves the frame and adds what enters it, as in Flink. A user's aggregate that
cannot take back is computed anew for each frame.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl

from qanat.sql.embedded.groups import argument_names
from qanat.sql.embedded.over_columns import Piece
from qanat.sql.embedded.over_frames import Frames, Mask
from qanat.sql.embedded.updating.accumulators import Accumulator
from qanat.sql.embedded.updating.row_by_row import RowByRow, physical
from qanat.sql.embedded.user_functions import aggregate_value, call_method
from qanat.sql.plan import AggregateCall


class FrameByFrame(RowByRow):
    """One call; accumulators by key number as in `RowByRow`."""

    by_row = False

    def __init__(self, number: int, call: AggregateCall) -> None:
        super().__init__(call)
        self._names, self._keep_name = argument_names(number, call)
        self._anew = call.user is not None and not hasattr(call.user.body, "retract")

    def steps(self, piece: Piece) -> pl.Series:
        """The value of each step."""
        if self._anew and piece.frames.bounded:
            return self._column(self._afresh(piece))
        values, takes = self._rows(piece)
        frames, results = piece.frames, []
        current, one, low = -1, self._make(), 0
        columns = (frames.segment, frames.low, frames.first, frames.high)
        for segment, begin, first, high in zip(*(column.tolist() for column in columns), strict=True):
            if segment != current:
                self._held += one.size() if current >= 0 else 0
                current, low = segment, int(frames.start[segment])
                one = self._accumulator(frames, segment)
            if frames.bounded:
                for row in range(low, begin):
                    if takes[row]:
                        one.retract(values[row])
            for row in range(first, high + 1):
                if takes[row]:
                    one.add(values[row])
            low = begin
            results.append(one.value())
        self._held += one.size()
        return self._column(results)

    def _accumulator(self, frames: Frames, segment: int) -> Accumulator:
        number = int(frames.key[segment])
        old = self._accumulators[number]
        self._held -= old.size() if old is not None else 0
        found = self._make() if old is None or frames.fresh[segment] else old
        self._accumulators[number] = found
        return found

    def _rows(self, piece: Piece) -> tuple[list[Any], list[bool]]:
        """Argument values and whether FILTER takes the row."""
        takes = [True] * piece.rows.height
        if self._keep_name is not None:
            takes = piece.rows[self._keep_name].fill_null(value=False).to_list()
        if not self._names:
            return list(repeat(None, piece.rows.height)), takes
        if self._call.user is not None:
            columns = [piece.rows[name].to_list() for name in self._names]
            return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)), takes
        column = piece.rows[self._names[0]]
        return column.cast(physical(column.dtype)).to_list(), takes

    def _afresh(self, piece: Piece) -> list[Any]:
        function, results = self._call.user, []
        assert function is not None
        for low, high in zip(piece.frames.low.tolist(), piece.frames.high.tolist(), strict=True):
            rows = piece.rows[low : high + 1]
            rows = rows.filter(pl.col(self._keep_name)) if self._keep_name is not None else rows
            accumulator = call_method(function, function.body)
            if rows.height:
                arrays = [rows[name].to_arrow(compat_level=pl.CompatLevel.oldest()) for name in self._names]
                call_method(function, partial(accumulator.add, *arrays))
            results.append(aggregate_value(function, accumulator))
        return results

    def needed(self, piece: Piece) -> Mask | None:
        """No rows beyond the frame."""
        del piece
        return None

    def keep(self, used: Any, count: int | None = None) -> None:
        """Forget the keys that are not used."""
        super().keep(np.where(used, 0, -1), int(used.sum()) if count is None else count)
