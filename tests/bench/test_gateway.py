"""The gateway's bench: it measures what was stored, and says so where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from bench.gateway import scenarios
from bench.gateway.meter import Meter
from bench.gateway.sending import send
from bench.gateway.served import PAYLOAD, READINGS, serve

from qanat.sim.load import Load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind, and no other run is disturbed."""
    monkeypatch.setenv("QANAT_BENCH_WORK", str(tmp_path / "work"))
    monkeypatch.setattr("bench.work.WORK", tmp_path / "work")


def test_a_part_of_it_is_printed_and_written_and_leaves_the_committed_figures_alone(tmp_path: Path) -> None:
    committed = (ROOT / "bench/results/gateway.json").read_bytes()
    target = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench", "gateway", "--only", "qos1,http", "--seconds", "1", "--runs", "1"]
    done = subprocess.run([*command, "--json", str(target)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())["gateway"]
    assert [(one["scenario"], one["right"]) for one in found["results"]] == [("qos1", True), ("http", True)]
    assert all(one["medians"]["per_second"] > 0 for one in found["results"])
    assert [one["wanted"] for one in found["wanted"]] == [">= 80,000", ">= 800,000"]
    assert "right" in done.stdout
    assert not (tmp_path / "gateway.json").exists()
    assert (ROOT / "bench/results/gateway.json").read_bytes() == committed


def test_a_log_that_holds_other_rows_than_were_acknowledged_is_wrong() -> None:
    with serve("judged", READINGS) as served:
        load = Load(stream="readings", payload=PAYLOAD, port=served.ports["mqtt"], connections=2, seconds=0.5)
        with Meter(served.pid):
            result = send(load)
    assert scenarios._judge("qos1", served, result, {}).right
    for change in ({"acknowledged": result.acknowledged + 1}, {"checksum": result.checksum + 0.1}):
        assert not scenarios._judge("qos1", served, msgspec.structs.replace(result, **change), {}).right
