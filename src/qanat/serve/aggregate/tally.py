"""What was found: one line per group and window that holds a row. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qanat.serve.aggregate.measure import Value
from qanat.serve.aggregate.question import Question

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tally:
    """`groups`: the values of the dimensions grouped by. Cell n belongs to group `group[n]` and window `bucket[n]`;
    cells stand in that order. `found`: function -> value per cell, NaN where there is none. `left_out`: rows in the
    range that have no finite value. `newest`: the latest event time of a row that counts (ms). `as_of`: partition ->
    offset below which every row was looked at.
    """

    groups: Sequence[tuple[Value, ...]]
    group: Ints
    bucket: Ints
    found: Mapping[str, Floats]
    count: Ints
    left_out: int
    newest: int | None
    as_of: Mapping[int, int] = field(default_factory=dict)
    source: str = "recent"


def nothing(question: Question, left_out: int, as_of: Mapping[int, int], source: str = "recent") -> Tally:
    """The answer where no row counts."""
    none = np.empty(0, dtype=np.int64)
    found = {name: np.empty(0) for name in question.functions if name != "count"}
    return Tally([] if question.by else [()], none, none, found, none, left_out, None, as_of, source)


def in_order(groups: Iterable[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """Groups as answers list them: by value, what has none first."""
    return sorted(groups, key=lambda values: [_rank(value) for value in values])


def _rank(value: Value) -> tuple[bool, float, str]:
    """One column has values of one type."""
    return (value is not None, 0.0, value) if isinstance(value, str) else (value is not None, float(value or 0), "")
