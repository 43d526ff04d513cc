"""What the operators must give, one row at a time in plain Python: the laws, written as literally as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MIN = -(10**18)
END = 10**18

#: key, value, event time (ms)
Row = tuple[str | None, float | None, int]
#: key, window start, window end, rows in order of arrival
Window = tuple[str | None, int, int, list[Row]]


@dataclass
class Source:
    """A bounded source with its clock."""

    rows: Sequence[Row]
    delay: int
    clock: int = MIN
    next: int = 0
    ended: bool = False


def events(sources: Sequence[Source]) -> Iterator[tuple[int, Row | None, int]]:
    """(source, row or None for its end, watermark before): the source that is furthest behind goes first."""
    while not all(s.ended for s in sources):
        number = min((s.clock, i) for i, s in enumerate(sources) if not s.ended)[1]
        source = sources[number]
        before = min(END if s.ended else s.clock for s in sources)
        if source.next == len(source.rows):
            source.ended = True
            yield number, None, before
            continue
        row = source.rows[source.next]
        source.next += 1
        yield number, row, before
        source.clock = max(source.clock, row[2] - source.delay)


def watermark(sources: Sequence[Source]) -> int:
    """The watermark now."""
    return min(END if s.ended else s.clock for s in sources)


def aligned(rows: Sequence[Row], delay: int, windows_of) -> tuple[list[Window], list[Row], int]:
    """TUMBLE, HOP, CUMULATE: windows in the order in which they close, late rows, how many rows were partly late."""
    sources = [Source(rows, delay)]
    open_: dict[tuple[int, int], dict[str | None, list[Row]]] = {}
    done: list[Window] = []
    late: list[Row] = []
    partly = 0
    for _, row, before in events(sources):
        if row is not None:
            windows = windows_of(row[2])
            alive = [w for w in windows if w[1] - 1 > before]
            if windows and not alive:
                late.append(row)
            elif len(alive) < len(windows):
                partly += 1
            for window in alive:
                open_.setdefault(window, {}).setdefault(row[0], []).append(row)
        now = watermark(sources) if row is None else max(before, row[2] - delay)
        for window in sorted((w for w in open_ if w[1] - 1 <= now), key=lambda w: w[1]):
            done += [(k, *window, open_[window][k]) for k in sorted(open_[window], key=lambda k: (k is not None, k))]
            del open_[window]
    return done, late, partly


@dataclass
class _Session:
    key: str | None
    first: int
    last: int
    rows: list[tuple[int, Row]] = field(default_factory=list)  # with their numbers in order of arrival


def sessions(rows: Sequence[Row], delay: int, gap: int) -> tuple[list[Window], list[Row]]:
    """SESSION per key: closed sessions (sorted within one step by end and key), late rows."""
    sources = [Source(rows, delay)]
    open_: list[_Session] = []
    done: list[Window] = []
    late: list[Row] = []
    for number, (_, row, before) in enumerate(events(sources)):
        if row is not None:
            touching = [s for s in open_ if s.key == row[0] and s.first <= row[2] + gap and row[2] <= s.last + gap]
            merged = _Session(row[0], row[2], row[2])
            for s in touching:
                merged.first, merged.last = min(merged.first, s.first), max(merged.last, s.last)
                merged.rows += s.rows
            if merged.last + gap - 1 <= before:
                late.append(row)
            else:
                merged.rows.append((number, row))
                open_ = [s for s in open_ if s not in touching] + [merged]
        now = watermark(sources) if row is None else max(before, row[2] - delay)
        closing = [s for s in open_ if s.last + gap - 1 <= now]
        open_ = [s for s in open_ if s not in closing]
        closing.sort(key=lambda s: (s.last, s.key is not None, s.key))
        done += [
            (s.key, s.first, s.last + gap, [row for _, row in sorted(s.rows, key=lambda r: r[0])]) for s in closing
        ]
    return done, late


def interval_join(
    left: Sequence[Row], right: Sequence[Row], delay: int, lower: int, upper: int
) -> tuple[list[tuple[Row, Row]], int]:
    """Pairs with equal keys and left in [right + lower, right + upper], and how many rows were late."""
    sources = [Source(left, delay), Source(right, delay)]
    kept: tuple[list[Row], list[Row]] = ([], [])
    pairs: list[tuple[Row, Row]] = []
    late = 0
    for side, row, before in events(sources):
        if row is None:
            continue
        reach = (-lower, upper)  # how long after its own time a row of each side may still find a partner
        if row[2] + reach[0] + reach[1] < before:
            late += 1
            continue
        if row[0] is None:
            continue
        for other in kept[1 - side]:
            if other[0] != row[0] or other[2] + reach[1 - side] < before:
                continue
            one, two = (row, other) if side == 0 else (other, row)
            if two[2] + lower <= one[2] <= two[2] + upper:
                pairs.append((one, two))
        kept[side].append(row)
    return pairs, late
