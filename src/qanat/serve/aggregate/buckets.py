"""Where windows begin and end. Pure.

In UTC a window of width w begins at a multiple of w since 1970. In another zone a window of whole days begins at
midnight there, days counted from 1970, whether a day has 23, 24 or 25 hours; a shorter one is counted from each
midnight, and the last one of a day ends with the day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from qanat.serve.aggregate.question import Question, QuestionError

_DAY_MS = 86_400_000
_FIRST_DAY = dt.date(1970, 1, 1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: What a chart may want instead, in ms and as it is written.
_WIDTHS = (
    (1000, "1 s"),
    (10_000, "10 s"),
    (60_000, "1 min"),
    (900_000, "15 min"),
    (3_600_000, "1 h"),
    (_DAY_MS, "1 d"),
)


def edges(question: Question, start: int, end: int, most: int) -> list[int]:
    """The beginnings of all windows that hold times from `start` to `end`, and the end of the last one (ms).

    The first may begin before `start`, the last end after `end`. Raises `QuestionError` for more than `most` windows.
    """
    width = question.window_ms
    if width is None:
        return [start, end]
    if (end - start) // width > most:
        raise _too_many(start, end, width, most)
    if not question.aligned:
        found = [*range(start, end, width), start + -(-(end - start) // width) * width]
    elif question.zone == "UTC":
        found = list(range(start // width * width, -(-end // width) * width + 1, width))
    else:
        found = _in_zone(start, end, width, ZoneInfo(question.zone))
    if len(found) - 1 > most:
        raise _too_many(start, end, width, most)
    return found


def _in_zone(start: int, end: int, width: int, zone: ZoneInfo) -> list[int]:
    if width > _DAY_MS and width % _DAY_MS:
        raise QuestionError(
            f"a window of {width} ms in {zone.key} is neither shorter than a day nor whole days",
            hint="take 1 d, 2 d, ..., or leave tz out, or align=from",
        )
    days = max(1, width // _DAY_MS)
    day = _local_day(start, zone) // days * days
    found: list[int] = []
    while True:
        begin, after = _midnight(day, zone), _midnight(day + days, zone)
        found += [begin] if width >= _DAY_MS else range(begin, after, width)
        day += days
        if after >= end:
            break
    found.append(after)
    return list(_trimmed(found, start, end))


def _trimmed(found: list[int], start: int, end: int) -> Iterator[int]:
    """Without the windows of the first and the last day in which nothing can be."""
    for place, edge in enumerate(found):
        ends_before = place + 1 < len(found) and found[place + 1] <= start
        begins_after = place > 0 and found[place - 1] >= end
        if not ends_before and not begins_after:
            yield edge


def _local_day(ms: int, zone: ZoneInfo) -> int:
    """Days since 1970 as the calendar of the zone counts them."""
    local = (_EPOCH + dt.timedelta(milliseconds=ms)).astimezone(zone)
    return (local.date() - _FIRST_DAY).days


def _midnight(day: int, zone: ZoneInfo) -> int:
    """When the day begins; where midnight is left out by a change of clocks, at the first instant after it."""
    begin = dt.datetime.combine(_FIRST_DAY + dt.timedelta(days=day), dt.time(), zone)
    return (begin.astimezone(dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)


def _too_many(start: int, end: int, width: int, most: int) -> QuestionError:
    wide = next((text for ms, text in _WIDTHS if (end - start) // ms < most), "1 d, or a shorter range")
    return QuestionError(
        f"{(end - start) // width:,} windows of {width:,} ms; the most are {most:,}", hint=f"window={wide}"
    )
