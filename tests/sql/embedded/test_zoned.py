"""Windows in a time zone: the arrays against zoneinfo, and windows over the ends of summer time for every cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.sql.embedded.zoned import zone_named
from tests.sql.embedded.drive import drive

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca")


@settings(deadline=None)  # the first look at a zone finds its changes
@given(st.sampled_from(_ZONES), st.integers(-(10**12), 4 * 10**12))
def test_local_time_is_that_of_zoneinfo(name: str, ms: int) -> None:
    shown = (_EPOCH + timedelta(milliseconds=ms)).astimezone(ZoneInfo(name)).replace(tzinfo=UTC)
    assert zone_named(name).local(np.array([ms]))[0] == (shown - _EPOCH) // timedelta(milliseconds=1)


@settings(deadline=None)  # the first look at a zone finds its changes
@given(st.sampled_from(_ZONES), st.integers(-(10**12), 4 * 10**12))
def test_an_instant_comes_back_or_is_the_first_of_two(name: str, ms: int) -> None:
    zone = zone_named(name)
    back = int(zone.instant(zone.local(np.array([ms])))[0])
    assert back == ms or zone.local(np.array([back]))[0] == zone.local(np.array([ms]))[0]
    assert back <= ms


@settings(deadline=None)  # the first look at a zone finds its changes
@given(st.sampled_from(_ZONES), st.lists(st.integers(10**12, 2 * 10**12), min_size=2))
def test_the_watermark_never_falls_and_closes_what_it_passed(name: str, found: list[int]) -> None:
    zone = zone_named(name)
    times = np.sort(np.array(found))
    closed = zone.closed(times)
    assert bool((np.diff(closed) >= 0).all())
    assert bool((closed <= zone.local(times)).all())


_DAYS = """
SET 'table.local-time-zone' = '{zone}';
CREATE TABLE t (k STRING, v INT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts);
SELECT k, window_start, window_time, COUNT(*) AS c, MAX(ts) AS newest
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY k, window_start, window_end, window_time
"""


@pytest.mark.parametrize(("zone", "first"), [("Europe/Berlin", (2026, 10, 24)), ("America/New_York", (2026, 3, 7))])
def test_days_are_local_days(zone: str, first: tuple[int, int, int]) -> None:
    """A day of 25 hours, and one of 23: every row is in the window of its local day, whatever the cut."""
    start = datetime(*first, tzinfo=UTC)
    times = [start + timedelta(minutes=20 * i) for i in range(300)]
    frame = pl.DataFrame({"k": ["a"] * 300, "v": range(300), "ts": times}).with_columns(
        pl.col("ts").dt.cast_time_unit("ms")
    )
    wanted: dict[datetime, int] = {}
    for time in times:
        local = time.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        day = local.replace(hour=0, minute=0)
        wanted[day] = wanted.get(day, 0) + 1
    runs = [drive(_DAYS.format(zone=zone), {"t": frame}, cut, snapshots=True) for cut in (1, 7, 300)]
    assert runs[0] == runs[1] == runs[2]
    rows, late = runs[0]
    assert not late
    assert {row["window_start"]: row["c"] for row in rows} == wanted
    assert sorted(set(wanted.values()))[-1] in (75, 72)  # 25 or 24 hours
    for row in rows:
        end = row["window_time"].astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert end == row["window_start"] + timedelta(days=1) - timedelta(milliseconds=1)
        assert row["newest"].astimezone(ZoneInfo(zone)).date() == row["window_start"].date()
