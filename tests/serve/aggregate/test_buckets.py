"""Windows: aligned in UTC, at midnight elsewhere, on days of 23, 24 and 25 hours."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.aggregate.conftest import MEASURE

from qanat.serve.aggregate.buckets import edges
from qanat.serve.aggregate.question import QuestionError, parse

HOUR = 3_600_000
DAY = 24 * HOUR


def at(text: str, zone: str = "UTC") -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def windows(query: str, start: int, end: int, most: int = 10_000) -> list[int]:
    return edges(parse(f"from={start}&to={end}&{query}", MEASURE), start, end, most)


@pytest.mark.parametrize(
    ("day", "hours"), [("2024-03-31", 23), ("2024-04-01", 24), ("2024-10-27", 25), ("2024-10-28", 24)]
)
def test_days_of_berlin(day: str, hours: int) -> None:
    start = at(f"{day}T12:00", "Europe/Berlin")
    found = windows("window=1d&tz=Europe/Berlin", start, start + 1)
    assert found == [at(f"{day}T00:00", "Europe/Berlin"), at(f"{day}T00:00", "Europe/Berlin") + hours * HOUR]
    inside = windows("window=1h&tz=Europe/Berlin", found[0], found[1])
    assert len(inside) - 1 == hours
    assert {b - a for a, b in pairwise(inside)} == {HOUR}
    assert len(windows("window=6h&tz=Europe/Berlin", found[0], found[1])) - 1 == (5 if hours == 25 else 4)


def test_a_year_of_days_meets_every_midnight() -> None:
    zone = "America/New_York"
    start, end = at("2024-01-01T00:00", zone), at("2025-01-01T00:00", zone)
    found = windows(f"window=1d&tz={zone}", start, end)
    first = dt.date(2024, 1, 1)
    assert found == [at(f"{first + dt.timedelta(days=n)}T00:00", zone) for n in range(367)]


def test_a_midnight_that_does_not_exist() -> None:
    """Clocks in Santiago went from 24:00 to 01:00 on 2024-09-08."""
    start = at("2024-09-08T12:00", "America/Santiago")
    found = windows("window=1d&tz=America/Santiago", start, start + 1)
    assert found[1] - found[0] == 23 * HOUR


def test_clock_and_from() -> None:
    assert windows("window=15min", 1_000_000, 2_000_000) == [900_000, 1_800_000, 2_700_000]
    assert windows("window=15min&align=from", 1_000_000, 2_000_000) == [1_000_000, 1_900_000, 2_800_000]
    assert windows("", 1_000_000, 2_000_000) == [1_000_000, 2_000_000]
    assert windows("window=1h&tz=Asia/Kolkata", at("2024-01-01"), at("2024-01-01") + 1)[0] == at("2023-12-31T23:30")


def test_too_many_windows_are_refused_with_a_width_that_would_do() -> None:
    with pytest.raises(QuestionError) as refused:
        windows("window=1s", 0, DAY)
    assert refused.value.message.startswith("86,400 windows")
    assert refused.value.hint == "window=10 s"
    assert len(windows("window=10s", 0, DAY)) == 8641
    with pytest.raises(QuestionError, match="neither shorter than a day nor whole days"):
        windows("window=36h&tz=Europe/Berlin", 0, DAY)


@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(1, 40 * DAY),
    st.sampled_from(["7 h", "15 min", "1 h", "1 d", "3 d", "6 h"]),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns", "Africa/Cairo"]
    ),
    st.sampled_from(["clock", "from"]),
)
def test_windows_cover_the_range_and_nothing_more(start: int, length: int, window: str, zone: str, align: str) -> None:
    found = windows(f"window={window}&tz={zone}&align={align}", start, start + length)
    assert found[0] <= start < found[1]
    assert found[-2] < start + length <= found[-1]
    assert all(a < b for a, b in pairwise(found))
