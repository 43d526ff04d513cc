"""Numbers for series: each combination of values of the dimensions gets one, in the order in which they are first seen.

One thread adds, others may look at the same time: what has a number keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.arrow import to_arrow
from qanat.model.streams import Column
from qanat.serve.aggregate.measure import Value
from qanat.serve.aggregate.tally import Ints, in_order

_BITS = 31
_MANY_VALUES = 4096


class Dimension:
    """The values of one column. NULL is number 0."""

    def __init__(self, column: Column) -> None:
        self._type = to_arrow(column.type)
        self._known = pa.array([None], self._type)
        self.values: list[Value] = [None]
        self._numbers: dict[Value, int] = {None: 0}

    def number(self, value: Value) -> int | None:
        """None for a value that no row has had."""
        return self._numbers.get(value)

    def encode(self, column: Any) -> Ints:
        """The number of each row's value; new values get theirs."""
        if column.type != self._type:
            column = column.cast(self._type)
        if len(self.values) > _MANY_VALUES:
            return self._encode_distinct(column)
        found = pc.index_in(column, value_set=self._known)
        if found.null_count:
            new = pc.unique(column.filter(pc.is_null(found)))
            for value in new.to_pylist():
                self._numbers[value] = len(self.values)
                self.values.append(value)
            self._known = pa.concat_arrays([self._known, new])
            found = pc.index_in(column, value_set=self._known)
        numbers: Ints = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return numbers

    def _encode_distinct(self, column: Any) -> Ints:
        """Arrow makes a table of all known values each time; with some thousand of them, this is the shorter way."""
        encoded = pc.dictionary_encode(column)
        numbers = np.array([self._number_of(value) for value in encoded.dictionary.to_pylist()] or [0], dtype=np.int64)
        places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return np.where(column.is_null().to_numpy(zero_copy_only=False), 0, numbers[places])

    def _number_of(self, value: Value) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number


class _Pairs:
    """A number for each pair of numbers below 2^31."""

    def __init__(self) -> None:
        self._keys: Ints = np.empty(0, dtype=np.int64)
        self._numbers: Ints = np.empty(0, dtype=np.int64)

    def encode(self, left: Ints, right: Ints) -> Ints:
        keys = left << _BITS | right
        places = np.searchsorted(self._keys, keys)
        known = places < len(self._keys)
        known[known] = self._keys[places[known]] == keys[known]
        if not known.all():
            new, first = np.unique(keys[~known], return_index=True)
            numbers = np.empty(len(new), dtype=np.int64)
            numbers[np.argsort(first)] = np.arange(len(self._keys), len(self._keys) + len(new))
            at = np.searchsorted(self._keys, new)
            self._keys, self._numbers = np.insert(self._keys, at, new), np.insert(self._numbers, at, numbers)
            places = np.searchsorted(self._keys, keys)
        return self._numbers[places]


class SeriesNumbers:
    """All series of one aggregate."""

    def __init__(self, dimensions: Sequence[Column]) -> None:
        self._places = {column.name: place for place, column in enumerate(dimensions)}
        self.dimensions = [Dimension(column) for column in dimensions]
        self._pairs = [_Pairs() for _ in dimensions[1:]]
        #: Per series the numbers of its values; grown by replacing it, so that whoever has one may go on.
        self.table: npt.NDArray[np.int32] = np.zeros((0, len(dimensions)), dtype=np.int32)

    def encode(self, columns: Sequence[Any], rows: int) -> Ints:
        """The series of each row."""
        if not self.dimensions:
            if rows and not len(self.table):
                self.table = np.zeros((1, 0), dtype=np.int32)
            return np.zeros(rows, dtype=np.int64)
        codes = [dimension.encode(column) for dimension, column in zip(self.dimensions, columns, strict=True)]
        series = codes[0]
        for pairs, more in zip(self._pairs, codes[1:], strict=True):
            series = pairs.encode(series, more)
        self._enter(series, codes)
        return series

    def _enter(self, series: Ints, codes: Sequence[Ints]) -> None:
        """With one dimension numbers are those of its values, of which NULL may never come: its line stands empty."""
        size = int(series.max(initial=-1)) + 1
        if size > len(self.table):
            grown = np.zeros((size, len(codes)), dtype=np.int32)
            grown[: len(self.table)] = self.table
            fresh = series >= len(self.table)
            for place, code in enumerate(codes):
                grown[series[fresh], place] = code[fresh]
            self.table = grown

    def choose(self, chosen: Mapping[str, tuple[Value, ...]]) -> Ints:
        """The series whose dimensions have one of these values."""
        table = self.table
        mask = np.ones(len(table), dtype=bool)
        for name, values in chosen.items():
            place = self._places[name]
            numbers = [number for value in values if (number := self.dimensions[place].number(value)) is not None]
            mask &= np.isin(table[:, place], numbers)
        return np.flatnonzero(mask)

    def group(self, series: Ints, by: Sequence[str]) -> tuple[Ints, list[tuple[Value, ...]]]:
        """The group of each of these series, and the values of each group."""
        if not by:
            return np.zeros(len(series), dtype=np.int64), [()]
        places = [self._places[name] for name in by]
        lines, groups = np.unique(self.table[series][:, places], axis=0, return_inverse=True)
        values = [
            tuple(self.dimensions[place].values[number] for place, number in zip(places, line, strict=True))
            for line in lines.tolist()
        ]
        ranks = {line: rank for rank, line in enumerate(in_order(values))}
        ranked = np.array([ranks[line] for line in values], dtype=np.int64)
        return ranked[groups.reshape(-1)], list(ranks)
