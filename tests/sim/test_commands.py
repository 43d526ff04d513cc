"""`qanat sim`: files, and what it refuses."""

from __future__ import annotations

import gzip
import json

import orjson
import polars as pl
import pytest
from typer.testing import CliRunner

from qanat.cli.sim import app
from qanat.errors import ConfigError

HOME = "Time,Unix,Aggregate," + ",".join(f"Appliance{i}" for i in range(1, 10)) + "\n"


def sim(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_households_as_files(tmp_path):
    said = json.loads(sim("households", "--households", 5, "--seconds", 60, "--seed", 3, "--out", tmp_path, "--json"))
    assert said == {name: str(tmp_path / f"{name}.jsonl") for name in ("power", "device_state")}
    power = pl.read_ndjson(tmp_path / "power.jsonl")
    assert power.columns == ["client_id", "username", "timestamp", "consumption"]
    assert power["client_id"].n_unique() == 5
    assert power.height == pytest.approx(5 * 60 / 2.05, rel=0.2)
    states = [
        orjson.loads(line)["state_bitmap"] for line in (tmp_path / "device_state.jsonl").read_bytes().splitlines()
    ]
    assert {len(bitmap) for bitmap in states} == {9}


def test_recorded_homes_as_files(tmp_path):
    home = tmp_path / "House_7.csv.gz"
    home.write_bytes(gzip.compress((HOME + "x,1383343278,94,11,0,0,0,0,0,0,0,0\n").encode()))
    sim("replay", home, "--out", tmp_path / "out")
    assert orjson.loads((tmp_path / "out" / "power.jsonl").read_bytes()) == {
        "client_id": "house-7",
        "username": "house-7",
        "timestamp": 1383343278,
        "consumption": 94.0,
    }


def test_a_meter_without_a_clock_cannot_be_hurried():
    with pytest.raises(ConfigError, match="lives in real time"):
        sim("households", "--no-clock", 0.5, "--speed", 10)
