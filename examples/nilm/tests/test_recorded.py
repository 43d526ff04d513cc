"""REFIT's homes through `qanat run` in one go and through the running gateway; every window and set compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from qanat.sim.oracle import RECORDED
from qanat.sim.parity import judge, read_stored, text

TIMES = {"DELAY": "01:00", "STEP": "00:30", "WINDOW": "02:00", "GAP": "01:00", "SHORTEST": "600"}
#: How many hours the gateway is given; `qanat run` gets everything.
HOURS = 6


def qanat(*arguments: object) -> str:
    command = [sys.executable, "-m", "qanat", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lines(refit, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    qanat("sim", "replay", *sorted(refit.glob("House_*.csv.gz")), "--out", folder)
    return folder


@pytest.fixture(scope="module")
def outputs(lines, example, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    params = [
        f"--param={name}={value}" for name, value in (TIMES | {"INPUT": str(lines), "OUTPUT": str(folder)}).items()
    ]
    qanat("run", example / "batch" / "nilm.sql", *params)
    return folder


def produced(folder: Path, name: str) -> pl.DataFrame:
    parts = [path for path in (folder / name).iterdir() if not path.name.startswith((".", "_"))]
    rows = pl.concat([pl.read_ndjson(path, infer_schema_length=None) for path in parts])
    times = pl.col("window_start", "window_end").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms")
    return rows.with_columns(times.dt.epoch("ms")).sort("client_id", "window_end")


def test_every_window(lines, outputs):
    """The plain way: put every reading into each of its four windows, and group."""
    power = pl.read_ndjson(lines / "power.jsonl").with_columns(ts=pl.col("timestamp") * 1000)
    first = pl.col("ts") // 30_000 * 30_000 + 30_000
    expected = (
        power.with_columns(window_end=pl.int_ranges(first, first + 120_000, 30_000))
        .explode("window_end")
        .group_by("client_id", "window_end")
        .agg(readings=pl.len().cast(pl.Int64), values=pl.col("consumption").sort_by("ts"))
        .with_columns(window_start=pl.col("window_end") - 120_000)
        .sort("client_id", "window_end")
    )
    assert expected.height == 31_676
    columns = ["client_id", "window_start", "window_end", "readings", "values"]
    assert produced(outputs, "predictions").select(columns).equals(expected.select(columns))


def test_every_training_set(lines, outputs):
    """The plain way: number the stretches between pauses of more than a minute, and group."""
    power, states = pl.read_ndjson(lines / "power.jsonl"), pl.read_ndjson(lines / "device_state.jsonl")
    pause = pl.col("timestamp").diff().over("client_id").fill_null(0) > 60
    expected = (
        power.join(states, on=["client_id", "timestamp"])
        .sort("client_id", "timestamp")
        .with_columns(stretch=pause.cum_sum().over("client_id"))
        .group_by("client_id", "stretch")
        .agg(
            window_start=pl.col("timestamp").min() * 1000,
            window_end=pl.col("timestamp").max() * 1000 + 60_000,
            readings=pl.len().cast(pl.Int64),
            consumption=pl.col("consumption"),
            state_bitmap=pl.col("state_bitmap"),
        )
        .filter(pl.col("window_end") - 60_000 - pl.col("window_start") > 600_000)
        .sort("client_id", "window_end")
        .drop("stretch")
    )
    assert expected.height == 43
    assert expected["readings"].sum() > 149_000
    assert produced(outputs, "dataset2train").select(expected.columns).equals(expected)


def test_the_same_homes_through_the_running_gateway(refit, recorded):
    from qanat.log import open_log
    from qanat.sim.watch import behind

    files = sorted(refit.glob("House_*.csv.gz"))
    options = ["--speed", 0, "--seconds", HOURS * 3600, "--mqtt-port", recorded.mqtt_port, "--json"]
    told = json.loads(qanat("sim", "replay", *files, *options))
    assert told["sent"] == told["acknowledged"] > 90_000
    log = open_log(recorded.log_url, read_only=True)
    try:
        recorded.settle(lambda: behind(log) == 0)
        stored = read_stored(log)
    finally:
        log.close()
    assert stored.power.height + stored.device_state.height == told["acknowledged"]
    report = judge(stored, RECORDED)
    assert report.ok, text(report)
    assert report.windows.expected > 15 * HOURS * 100
    assert report.sets.expected > 0
    assert (report.late, report.dead, report.unjudged) == (0, 0, 0)
