"""The oracle against windows and sessions counted by hand, and against the plainest loop there is."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.clock import MAX_TIME
from qanat.errors import ConfigError
from qanat.sim.oracle import (
    Flow,
    expected_sessions,
    expected_windows,
    final_watermark,
    fused_pairs,
    tardy_clients,
    timed,
)


def readings(*rows: tuple[str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={"client_id": pl.String, "timestamp": pl.Int64, "consumption": pl.Float64}, orient="row"
    )


def labels(*rows: tuple[str, int, list[bool]]) -> pl.DataFrame:
    schema = {"client_id": pl.String, "timestamp": pl.Int64, "state_bitmap": pl.List(pl.Boolean)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def as_dict(windows: pl.DataFrame) -> dict[tuple[str, int], list[float]]:
    return {(c, end): v for c, end, v in windows.select("client_id", "window_end", "values").iter_rows()}


def plainly(rows: pl.DataFrame, flow: Flow, final: int) -> dict[tuple[str, int], list[float]]:
    """Row by row: a row counts in every window around it that the rows before it have left open."""
    windows: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
    newest = -(10**12)
    for place, (client, second, value) in enumerate(rows.iter_rows()):
        ts = second * 1000
        for end in range(ts // flow.step_ms * flow.step_ms + flow.step_ms, ts + flow.size_ms + 1, flow.step_ms):
            if newest - flow.delay_ms < end - 1 <= final:
                windows.setdefault((client, end), []).append((ts, place, value))
        newest = max(newest, ts)
    return {key: [value for _, _, value in sorted(found)] for key, found in windows.items()}


def test_windows_of_one_reading():
    flow = Flow(size_ms=3000, step_ms=1000, delay_ms=0)
    rows = timed(readings(("a", 10, 1.0), ("a", 20, 2.0)), flow)
    assert final_watermark(rows, flow) == 20_000
    assert as_dict(expected_windows(rows, flow, 20_000)) == {("a", end): [1.0] for end in (11_000, 12_000, 13_000)}
    assert expected_windows(rows, flow, 20_000)["window_start"].to_list() == [8000, 9000, 10_000]
    # A window is closed by the watermark at its end - 1 ms.
    assert len(expected_windows(rows, flow, 12_999)) == 3
    assert len(expected_windows(rows, flow, 12_998)) == 2


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 9).map(float)), max_size=60),
    st.sampled_from([Flow(15_000, 1000, delay_ms=5000), Flow(120_000, 30_000, delay_ms=1000), Flow(2000, 2000)]),
    st.booleans(),
)
def test_windows_are_those_of_the_plainest_loop(rows, flow, ended):
    power = timed(readings(*rows), flow)
    final = MAX_TIME if ended else final_watermark(power, flow)
    assert as_dict(expected_windows(power, flow, final)) == plainly(readings(*rows), flow, final)


def test_a_late_row_counts_in_the_windows_that_are_still_open():
    flow = Flow(size_ms=3000, step_ms=1000, delay_ms=0)
    rows = timed(readings(("a", 10, 1.0), ("b", 12, 5.0), ("a", 10, 2.0)), flow)
    assert tardy_clients(rows).to_list() == ["a"]
    windows = as_dict(expected_windows(rows, flow, MAX_TIME))
    assert [windows["a", end] for end in (11_000, 12_000, 13_000)] == [[1.0], [1.0], [1.0, 2.0]]


def test_power_and_state_are_fused_on_the_same_second_of_the_same_client():
    flow = Flow()
    power = timed(readings(("a", 1, 1.0), ("a", 2, 2.0), ("b", 2, 3.0)), flow)
    states = timed(labels(("a", 2, [True, False]), ("b", 1, [True, True])), flow)
    assert fused_pairs(power, states).rows() == [("a", 2000, 2.0, "10")]


@pytest.mark.parametrize(("last", "sets"), [(30, 0), (31, 1)])
def test_a_session_is_kept_when_it_is_longer_than_30_seconds(last, sets):
    seconds = [*range(0, last, 5), last]
    flow = Flow()
    pairs = fused_pairs(
        timed(readings(*(("a", s, float(s)) for s in seconds)), flow),
        timed(labels(*(("a", s, [True]) for s in seconds)), flow),
    )
    found = expected_sessions(pairs, flow)
    assert found.height == sets
    if sets:
        assert found.row(0) == ("a", 0, (last + 5) * 1000, [float(s) for s in seconds], ["1"] * len(seconds))


def test_a_session_ends_after_the_gap_and_not_at_it():
    flow = Flow(shortest_s=1)
    seconds = [0, 5, 11, 16, 30]
    rows = readings(*((c, s, 1.0) for c in "ab" for s in seconds))
    marks = labels(*((c, s, [True]) for c in "ab" for s in seconds))
    found = expected_sessions(fused_pairs(timed(rows, Flow(delay_ms=10**6)), timed(marks, Flow(delay_ms=10**6))), flow)
    assert found.select("client_id", "window_start", "window_end").rows() == [
        (c, start, end) for c in "ab" for start, end in ((0, 10_000), (11_000, 21_000))
    ]


def test_windows_have_to_be_whole_steps():
    with pytest.raises(ConfigError, match="no multiple"):
        Flow(size_ms=15_000, step_ms=4000)
