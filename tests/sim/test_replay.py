"""Recordings become messages and files without a reading lost or a cadence changed."""

from __future__ import annotations

import csv
import gzip

import orjson
import polars as pl
import pytest

from qanat.errors import ConfigError, DataError
from qanat.sim.replay import messages, read_homes, recordings, write_lines

HEAD = "Time,Unix,Aggregate," + ",".join(f"Appliance{i}" for i in range(1, 10))


def write_home(path, start, steps, watts=(11, 10, 0, 0, 0, 0, 0, 0, 500)):
    lines, at = [HEAD], start
    for step in (0, *steps):
        at += step
        lines.append(f"x,{at},{400 + at - start}," + ",".join(map(str, watts)))
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def homes(tmp_path):
    one = write_home(tmp_path / "House_2.csv.gz", 1_380_000_000, [3, 7, 90])
    other = write_home(tmp_path / "House_10.csv.gz", 1_390_000_000, [5, 5])
    return [one, other]


def test_homes_start_together_and_keep_their_cadence(homes):
    rows = read_homes(homes)
    by_home = {name: part["timestamp"].to_list() for (name,), part in rows.group_by("client_id")}
    base = 1_380_000_000
    assert by_home == {"house-2": [base, base + 3, base + 10, base + 100], "house-10": [base, base + 5, base + 10]}
    assert rows["timestamp"].is_sorted()


def test_recorded_dates_stay_where_they_are_wanted(homes):
    rows = read_homes(homes, dates=True)
    assert rows.filter(pl.col("client_id") == "house-10")["timestamp"].min() == 1_390_000_000


def test_an_appliance_is_on_above_the_threshold(homes):
    assert read_homes(homes)["state_bitmap"][0].to_list() == [True] + [False] * 7 + [True]
    assert read_homes(homes, threshold=9)["state_bitmap"][0].to_list() == [True, True] + [False] * 6 + [True]
    assert not any(read_homes(homes, threshold=500)["state_bitmap"][0])


def test_files_and_messages_say_the_same(homes, tmp_path):
    rows = read_homes(homes)
    paths = write_lines(rows, tmp_path / "out")
    lines = {p.stem: [orjson.loads(line) for line in p.read_bytes().splitlines()] for p in paths}
    said = {"power": [], "device_state": []}
    for message in messages(rows):
        row = orjson.loads(message.payload)
        assert message.at_ms == row["timestamp"] * 1000
        assert message.topic.split("/")[1] == message.client == row["client_id"]
        said[message.topic.split("/")[0]].append(row)
    assert said == lines
    assert set(lines["power"][0]) == {"client_id", "username", "timestamp", "consumption"}
    assert len(said["power"]) == len(said["device_state"]) == rows.height


def test_a_part_of_the_recording(homes):
    assert len(list(messages(read_homes(homes), seconds=10))) == 2 * (2 + 2)


def test_recordings_are_found_in_the_order_of_their_numbers(homes, tmp_path):
    assert [p.name for p in recordings(tmp_path)] == ["House_2.csv.gz", "House_10.csv.gz"]
    with pytest.raises(ConfigError, match=r"no House_\*\.csv\.gz"):
        recordings(tmp_path / "nowhere")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "House_1.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column Unix"):
        read_homes([path])
    with pytest.raises(ConfigError, match="no recording"):
        read_homes([])


def test_the_real_recordings_come_whole(refit):
    paths = recordings(refit)
    rows = read_homes(paths)
    assert len(paths) == 15
    assert rows.height == 150_000
    assert (rows["state_bitmap"].list.len() == 9).all()
    on = rows.filter(pl.col("client_id") == "house-20")["state_bitmap"].list.to_struct(fields=[*"123456789"])
    # SOURCES.md counts the samples above 10 W of house 20 like this:
    assert [on.struct.field(n).sum() for n in "123456789"] == [3421, 3871, 0, 0, 0, 105, 3741, 24, 41]
    with gzip.open(paths[0], "rt") as lines:
        first = list(csv.DictReader(lines))
    mine = rows.filter(pl.col("client_id") == "house-1")
    assert mine["consumption"].to_list() == [float(row["Aggregate"]) for row in first]
    recorded = [int(row["Unix"]) - int(first[0]["Unix"]) for row in first]
    assert (mine["timestamp"] - mine["timestamp"][0]).to_list() == recorded
