"""Aggregates that go row by row: an accumulator per key, in the shape of a cell of `running.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints, State, polars_type
from qanat.sql.embedded.updating.accumulators import Accumulator, Deviation, accumulator_of
from qanat.sql.embedded.updating.layout import Mask
from qanat.sql.embedded.updating.running import Rows, Taking
from qanat.sql.plan import AggregateCall


class RowByRow:
    """One aggregate call. Its `scan` gives the padded column and, per place, whether the value differs from the one
    before it."""

    def __init__(self, call: AggregateCall) -> None:
        self._call = call
        self._make: Callable[[], Accumulator] = accumulator_of(call)
        self._accumulators: list[Accumulator | None] = []
        self._filter = Taking(None, call.filter)
        self._dtype = polars_type(call.type)
        self._stored = [physical(polars_type(one.type)) for one in call.args[:1]]
        self._held = 0

    def grow(self, count: int) -> None:
        """Make room."""
        self._accumulators += [None] * (count - len(self._accumulators))

    def _values(self, rows: Rows) -> Iterator[Any]:
        series = [rows.columns[one] for one in self._call.args]
        if self._call.user is not None and len(series) > 1:
            return zip(*(one.to_list() for one in series), strict=True)
        if not series:
            return repeat(None)
        plain = series[0] if self._call.user is not None else series[0].cast(physical(series[0].dtype))
        return iter(plain.to_list())

    def scan(self, rows: Rows) -> tuple[pl.Series, Mask]:
        """Row by row, key by key."""
        layout, mask = rows.layout, rows.mask(self._filter)
        values, sign = self._values(rows), repeat(1) if layout.sign is None else iter(layout.sign.tolist())
        takes = repeat(True) if mask is None else iter(mask.tolist())
        results: list[Any] = []
        changed = np.zeros(layout.size, dtype=np.bool_)
        segments = zip(layout.numbers.tolist(), layout.fresh.tolist(), layout.lengths.tolist(), strict=True)
        for number, fresh, length in segments:
            found = None if fresh else self._accumulators[number]
            old = self._accumulators[number]
            self._held -= old.size() if old is not None else 0
            one = found if found is not None else self._make()
            self._accumulators[number] = one
            results.append(one.value())
            for _ in range(length):
                value, step, taken = next(values), next(sign), next(takes)
                before = _compared(one, results[-1])
                if taken:
                    (one.add if step > 0 else one.retract)(value)
                after = one.value()
                changed[len(results)] = _differs(before, _compared(one, after))
                results.append(after)
            self._held += one.size()
        return self._column(results), changed

    def _column(self, results: list[Any]) -> pl.Series:
        if self._call.user is not None:
            return pl.Series("", results, dtype=self._dtype)
        return pl.Series("", results, dtype=physical(self._dtype)).cast(self._dtype)

    def keep(self, renumber: Ints, count: int) -> None:
        """Move what is left."""
        self._accumulators = [one for one, new in zip(self._accumulators, renumber.tolist(), strict=False) if new >= 0]
        self.grow(count)
        self._held = sum(one.size() for one in self._accumulators if one is not None)

    def per_key(self, count: int) -> Ints:
        """Bytes by key."""
        sizes = [0 if one is None else one.size() for one in self._accumulators[:count]]
        return np.array(sizes + [0] * (count - len(sizes)), dtype=np.int64)

    def forget(self, numbers: Ints) -> None:
        """These keys are gone."""
        for number in numbers.tolist():
            one = self._accumulators[number]
            self._held -= one.size() if one is not None else 0
            self._accumulators[number] = None

    def snapshot(self, count: int) -> State:
        """What the accumulators hold, values in one column."""
        present = [(i, one.dump()) for i, one in enumerate(self._accumulators[:count]) if one is not None]
        values = [value for _, dump in present for value in dump[1]]
        dtype = self._stored[0] if self._stored else pl.Int64()
        return {
            "numbers": np.array([i for i, _ in present], dtype=np.int64),
            "plain": [dump[0] for _, dump in present],
            "values": pl.DataFrame({"v": pl.Series("v", values, dtype=dtype)}),
            "lengths": np.array([len(dump[1]) for _, dump in present], dtype=np.int64),
            "counts": [dump[2] for _, dump in present],
            "size": count,
        }

    def restore(self, state: State) -> None:
        """Take the state of `snapshot`."""
        self._accumulators = [None] * state["size"]
        values = state["values"]["v"].to_list()
        at = 0
        parts = zip(state["numbers"].tolist(), state["plain"], state["lengths"].tolist(), state["counts"], strict=True)
        for number, plain, length, counts in parts:
            one = self._make()
            one.load((plain, values[at : at + length], counts))
            at += length
            self._accumulators[number] = one
        self._held = sum(one.size() for one in self._accumulators if one is not None)

    def held(self) -> int:
        """About."""
        return self._held + 8 * len(self._accumulators)


def physical(dtype: pl.DataType) -> pl.DataType:
    """The type under which values of `dtype` are added and kept: dates and times as whole numbers."""
    if isinstance(dtype, pl.List):
        return pl.List(physical(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: physical(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return pl.Series("", [], dtype=dtype).to_physical().dtype if dtype.is_temporal() else dtype


def _compared(one: Accumulator, value: Any) -> Any:
    """Flink compares what the aggregate is computed from where that is more than its value."""
    return one.compared if isinstance(one, Deviation) else value


def _differs(before: Any, after: Any) -> bool:
    """As Flink's comparison of rows: NaN is not equal to itself, nor is an array with a NULL in it."""
    if isinstance(after, list):
        return before != after or any(one is None for one in after)
    return bool(before != after)
