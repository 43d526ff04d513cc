"""Expected rows beside found rows -> a diff, or None where they agree. Values only; how it looks is `render`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qanat.trial.cells import equal

Values = tuple[Any, ...]
Same = Callable[[Values, Values], bool]
#: Beyond so many pairs, rows that stand between equal ones are compared one by one, not every one with every other.
_MANY = 250_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a diff: a row that is there as expected, missing or unexpected. `op` is that of a changelog.

    `changed`: places of the cells in which a missing row and the unexpected one after it differ.
    """

    mark: Literal[" ", "-", "+"]
    values: Values
    op: str = ""
    changed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Diff:
    """How expected and found rows differ. `reordered`: only in their order."""

    columns: tuple[str, ...]
    entries: tuple[Entry, ...]
    reordered: bool = False

    def count(self, mark: str) -> int:
        """How many rows have this mark."""
        return sum(entry.mark == mark for entry in self.entries)


def compare(
    columns: Sequence[str], expected: Sequence[Values], found: Sequence[Values], same: Same, *, ordered: bool
) -> Diff | None:
    """The diff. Rows begin with their op where there is one (then `columns` does not name it)."""
    pairs = _ordered(expected, found, same) if ordered else _unordered(expected, found, same)
    if all(left is not None and right is not None for left, right in pairs):
        return None
    entries = _entries(pairs, len(columns), same)
    reordered = ordered and compare(columns, expected, found, same, ordered=False) is None
    return Diff(tuple(columns), tuple(entries), reordered)


_Pair = tuple[Values | None, Values | None]


def _ordered(expected: Sequence[Values], found: Sequence[Values], same: Same) -> list[_Pair]:
    """Rows side by side; equal ones at both ends first, then the longest common sequence between them."""
    head, shortest = 0, min(len(expected), len(found))
    while head < shortest and same(expected[head], found[head]):
        head += 1
    tail = 0
    while tail < shortest - head and same(expected[-1 - tail], found[-1 - tail]):
        tail += 1
    pairs: list[_Pair] = list(zip(expected[:head], found[:head], strict=True))
    pairs += _between(expected[head : len(expected) - tail], found[head : len(found) - tail], same)
    pairs += zip(expected[len(expected) - tail :], found[len(found) - tail :], strict=True)
    return pairs


def _between(left: Sequence[Values], right: Sequence[Values], same: Same) -> list[_Pair]:
    if not left or not right or len(left) * len(right) > _MANY:
        return [(one, None) for one in left] + [(None, one) for one in right]
    length = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    match = [[same(one, other) for other in right] for one in left]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            length[i][j] = length[i + 1][j + 1] + 1 if match[i][j] else max(length[i + 1][j], length[i][j + 1])
    pairs: list[_Pair] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if match[i][j]:
            pairs.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif length[i + 1][j] >= length[i][j + 1]:
            pairs.append((left[i], None))
            i += 1
        else:
            pairs.append((None, right[j]))
            j += 1
    return pairs + [(one, None) for one in left[i:]] + [(None, one) for one in right[j:]]


def _unordered(expected: Sequence[Values], found: Sequence[Values], same: Same) -> list[_Pair]:
    """Each expected row with the first equal one that is left, whatever the order."""
    left = list(found)
    pairs: list[_Pair] = []
    for one in expected:
        place = next((number for number, other in enumerate(left) if same(one, other)), None)
        pairs.append((one, None if place is None else left.pop(place)))
    return pairs + [(None, one) for one in left]


def _entries(pairs: Sequence[_Pair], width: int, same: Same) -> list[Entry]:
    """Lines of the diff; among neighbours that differ, rows that have most cells in common stand together."""
    entries: list[Entry] = []
    missing: list[Values] = []
    unexpected: list[Values] = []

    def flush() -> None:
        for one in missing:
            entries.append(_entry("-", one, width))
            other = _closest(one, unexpected, same)
            if other is not None:
                unexpected.remove(other)
                start = len(one) - width
                changed = frozenset(n for n in range(width) if not same(one[start + n :][:1], other[start + n :][:1]))
                entries[-1] = _entry("-", one, width, changed)
                entries.append(_entry("+", other, width, changed))
        entries.extend(_entry("+", one, width) for one in unexpected)
        missing.clear()
        unexpected.clear()

    for left, right in pairs:
        if left is not None and right is not None:
            flush()
            entries.append(_entry(" ", right, width))
        elif left is not None:
            missing.append(left)
        elif right is not None:
            unexpected.append(right)
    flush()
    return entries


def _entry(mark: Literal[" ", "-", "+"], row: Values, width: int, changed: frozenset[int] = frozenset()) -> Entry:
    start = len(row) - width
    return Entry(mark, row[start:], str(row[0]) if start else "", changed)


def _closest(one: Values, others: Sequence[Values], same: Same) -> Values | None:
    """The row that agrees in most cells, and in at least one."""
    best, most = None, 0
    for other in others:
        agreed = sum(same(left, right) for left, right in zip(_cells(one), _cells(other), strict=True))
        if agreed > most:
            best, most = other, agreed
    return best


def _cells(row: Values) -> list[Values]:
    return [(value,) for value in row]


def within(tolerance: float) -> Same:
    """Rows whose values are equal, floats up to the tolerance."""
    return lambda left, right: all(equal(one, other, tolerance) for one, other in zip(left, right, strict=True))
