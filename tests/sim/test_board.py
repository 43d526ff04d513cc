"""The numbers of the live view, and how they are drawn."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qanat.sim.board import Board, Moment, report_table, sparkline
from qanat.sim.parity import Delivery, Outcome, Report
from qanat.sim.watch import Reading, quantile, with_metrics

METRICS = """
# TYPE qanat_pipeline_watermark_ms gauge
qanat_pipeline_watermark_ms{pipeline="predictions"} 1.767225660000e+12
qanat_pipeline_watermark_ms{pipeline="dataset2train"} 1.767225659000e+12
# TYPE qanat_pipeline_partly_late_rows_total counter
qanat_pipeline_partly_late_rows_total{pipeline="predictions"} 3.0
# TYPE qanat_pipeline_latency_seconds histogram
qanat_pipeline_latency_seconds_bucket{le="0.01",pipeline="predictions"} 50.0
qanat_pipeline_latency_seconds_bucket{le="0.02",pipeline="predictions"} 80.0
qanat_pipeline_latency_seconds_bucket{le="+Inf",pipeline="predictions"} 80.0
qanat_pipeline_latency_seconds_bucket{le="0.01",pipeline="dataset2train"} 0.0
qanat_pipeline_latency_seconds_bucket{le="0.02",pipeline="dataset2train"} 20.0
qanat_pipeline_latency_seconds_bucket{le="+Inf",pipeline="dataset2train"} 20.0
"""
ROWS = {"power": 1000, "device_state": 500, "predictions": 3000, "dataset2train": 2, "late": 4, "dead_letters": 0}


def moment(at: float, sent: int, **rows: int) -> Moment:
    reading = with_metrics(ROWS | rows, METRICS)
    return Moment(at, sent, sent - 5, 0, 100, reading, 3.4, 20.6)


def test_metrics_become_a_reading():
    reading = with_metrics(ROWS, METRICS)
    assert reading.watermark_ms == 1_767_225_659_000  # the pipeline that is furthest behind
    assert reading.p50_s == pytest.approx(0.010)
    assert reading.p99_s == pytest.approx(0.0198)
    assert (reading.stored, reading.windows, reading.sets, reading.late, reading.dead) == (1500, 3000, 2, 4, 0)
    assert reading.partly_late == 3


def test_before_anything_happened_nothing_is_made_up():
    reading = with_metrics({}, 'qanat_pipeline_watermark_ms{pipeline="predictions"} -9.2e+18\n')
    assert reading == Reading()


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert quantile({0.1: 1.0, float("inf"): 100.0}, 0.99) == 0.1
    assert quantile({}, 0.5) is None


def test_a_line_for_a_pipe():
    board = Board("x", 60)
    assert board.line() == "starting ..."
    board.add(moment(0.0, 0))
    board.add(moment(2.0, 500, predictions=3600))
    assert board.line() == (
        "0:02  sent 500 (250/s)  acknowledged 495  log 1,500 rows  watermark 2026-01-01 00:00:59  windows 3,600 (300/s)"
        "  training sets 2  late 4  dead 0  to result p50 10 ms p99 20 ms"
    )


def drawn(what: object) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(what)
    return console.file.getvalue()


def test_the_board_shows_every_number():
    board = Board("500 simulated households", 60)
    for second in range(30):
        board.add(moment(float(second), 200 * second))
    board.state = "playing"
    text = drawn(board)
    for wanted in (
        "500 simulated households",
        "playing   0:29 / 1:00",
        "5,800",
        "200/s",
        "1,500",
        "2026-01-01 00:00:59",
    ):
        assert wanted in text
    for wanted in ("messages sent", "acknowledged", "training sets", "late rows", "10 ms  20 ms", "3 ms  21 ms", "█"):
        assert wanted in text
    assert "\x1b" not in text


def test_a_sparkline_has_a_bar_for_every_value():
    assert sparkline([0, 1, 2, 4]) == "▁▃▅█"
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"


def test_the_report_is_drawn():
    delivery = Delivery(10, 10, 2, 0, 9, 1, 0, 0, 0)
    report = Report(delivery, Outcome(5, 5), Outcome(), 0, 0, 3, 5, 5, 0, 0, 0)
    text = drawn(report_table(report))
    assert "✗" in text
    assert "acknowledged, not stored" in text
    assert "parity failed" in text
