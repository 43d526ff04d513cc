"""Rows as they come."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from qanat.errors import ConfigError, UnknownStreamError
from qanat.log import open_log
from qanat.log.base import Chunk, Log, Place
from qanat.query import Start, parse_start, tail

from .conftest import append

WRITER = Path(__file__).with_name("writer.py")


def values(chunks: Iterator[Chunk]) -> list[float]:
    return [value for chunk in chunks for value in chunk.rows.column("v").to_pylist()]


ALL = [number + 0.1 * row for number in range(6) for row in range(2)]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("beginning", ALL),
        ("end", []),
        (0, ALL),
        (3, [2.1, 3.1, 4.0, 4.1, 5.0, 5.1]),
        (99, []),
        (-1, ALL[-1:]),
        (-3, ALL[-3:]),
        (-12, ALL),
        (-100, ALL),
        (dt.datetime(1970, 1, 1, 0, 0, 4), ALL[8:]),
        (dt.datetime(1970, 1, 1, 1, 0, 3, 500, tzinfo=dt.timezone(dt.timedelta(hours=1))), ALL[6:]),
        (dt.datetime(1970, 1, 1, 0, 0, 2, 1000), ALL[6:]),
        (dt.datetime(1969, 1, 1), ALL),
        (dt.datetime(2026, 1, 1), []),
    ],
)
def test_starts(log: Log, start: Start, expected: list[float]) -> None:
    chunks = list(tail(log, "readings", start))
    assert values(iter(chunks)) == expected
    assert [chunk.seq for chunk in chunks] == sorted(chunk.seq for chunk in chunks)


def test_a_log_without_rows() -> None:
    log = open_log("memory://")
    with pytest.raises(UnknownStreamError, match="the streams are: none"):
        tail(log, "readings")


def test_unknown_stream(log: Log) -> None:
    with pytest.raises(UnknownStreamError, match="dead_letters, readings"):
        tail(log, "reading")


def test_the_start_is_settled_by_the_call(log: Log) -> None:
    rows = tail(log, "readings", "end")
    append(log, 6)
    assert values(rows) == [6.0, 6.1]


def test_follow_until_told_to_stop(log: Log) -> None:
    steps = iter([lambda: append(log, 6), lambda: append(log, 7), lambda: None, lambda: append(log, 9)])
    waits = 0

    def again() -> bool:
        nonlocal waits
        waits += 1
        step = next(steps, None)
        if step is not None:
            step()
        return step is not None

    assert values(tail(log, "readings", -1, follow=again)) == [5.1, 6.0, 6.1, 7.0, 7.1, 9.0, 9.1]
    assert waits == 5


def test_nothing_is_late_between_partitions(log: Log) -> None:
    """A commit to the first partition, while the second is being read, waits for its turn."""

    class Growing:
        """Commits to both partitions just before the second is read the first time."""

        grown = False

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
            before = log.read(place, offset, max_rows)
            if place[1] == 0 and not before and not self.grown:
                self.grown = True
                append(log, 8)
                append(log, 9)
            return before

    rows = tail(Growing(), "readings", "beginning", follow=lambda: False)
    assert values(rows) == [*ALL, 8.0, 8.1, 9.0, 9.1]


def test_follow_another_process(url: str) -> None:
    reading = open_log(url, read_only=True)
    rows = tail(reading, "readings", "end", follow=True)
    with subprocess.Popen([sys.executable, WRITER, url, "100"], stdout=subprocess.DEVNULL):
        taken = list(islice(rows, 100))
    assert values(iter(taken)) == [float(number) for number in range(100)]
    reading.close()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", "beginning"),
        ("end", "end"),
        ("12", 12),
        ("-5", -5),
        ("2026-01-01T00:00:00Z", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ("2026-01-01", dt.datetime(2026, 1, 1)),
    ],
)
def test_parse_start(text: str, start: Start) -> None:
    assert parse_start(text) == start


def test_parse_start_refuses() -> None:
    with pytest.raises(ConfigError, match="the last ten rows"):
        parse_start("yesterday")
