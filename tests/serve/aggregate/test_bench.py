"""The bench of aggregates: it asks what it says it asks, and writes what it found."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.asking import Asked

from bench import serve


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind, and a minute of history will do."""
    monkeypatch.setattr("bench.work.WORK", tmp_path)
    monkeypatch.setattr(serve, "_HISTORY_S", 12)
    monkeypatch.setattr(serve, "_ALONE_S", 0.2)
    monkeypatch.setattr(serve, "RATE", 100)


def test_hits_and_misses_are_told_apart_and_all_are_answered() -> None:
    (found,) = serve.measure(["mix"], 2.0, lambda _: None)
    assert found.error is None
    assert found.right
    figures = found.figures
    assert figures["answered_share"] == 1
    assert 0.55 < figures["hit_share"] < 0.85
    assert 0 < figures["hit_server_ms_p50"] < figures["hit_ms_p50"]
    assert 0 < figures["miss_server_ms_p50"] < figures["miss_ms_p50"]
    told = serve.as_json([found])
    assert [one["wanted"] for one in told["wanted"]] == ["< 0.4", "< 1", "< 5"]


def test_an_answer_that_is_wrong_makes_the_bench_wrong() -> None:
    measured = serve.Measured("mix", serve._figures(Asked(hit_ms=[1.0], hit_server_ms=[0.1], wrong=1, seconds=1.0), 2))
    assert not measured.right
