"""The farm as it runs: a sensor's life from its registration to its end, and a frost that reaches the office."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from qanat.cli.demo import running

from .conftest import qanat, wait_for
from .sensor import Sensor

TOPIC = "farm/site-01/f2-00017/temperature"


@pytest.fixture
def project(example: Path, tmp_path: Path) -> Path:
    """A copy of the example without its data."""
    shutil.copytree(example, tmp_path / "farm", ignore=shutil.ignore_patterns("tests", "recorded", ".qanat"))
    return tmp_path / "farm"


@pytest.fixture
def office(example: Path, project: Path) -> Iterator[subprocess.Popen[str]]:
    """The receiver of the example, on a free port that the project's sink knows."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = yaml.safe_load((project / "qanat.yaml").read_text())
    config["sinks"]["office"]["webhook"]["url"] = f"http://127.0.0.1:{port}/alerts"
    (project / "qanat.yaml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen([sys.executable, example / "receiver.py", str(port)], stdout=subprocess.PIPE, text=True)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, "the office listens", 30)
    yield process
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def rows(project: Path, data: Path, sql: str) -> list[dict[str, object]]:
    said = qanat("query", sql, "--data", data, "--dir", project)
    return [json.loads(line) for line in said.splitlines()]


def test_a_sensor_comes_sends_and_goes(project, tmp_path):
    """As the README says: register, validate, credentials, first message; retired, nothing of it may send."""
    data = tmp_path / "data"
    where = ("--dir", project, "--data", data)
    like = ("f2-00017", "--kind", "temperature", "--label", "site=site-01", "--interval", "30 s")
    may = ("--publish", "farm/site-01/{id}/+")
    with running(project, data) as server:
        assert "f2-00017" not in qanat("device", "list", *where)
        qanat("device", "add", *like, *may, "--dry-run", *where)
        assert "f2-00017" not in qanat("device", "list", *where)
        secret = json.loads(qanat("device", "add", *like, *may, "--json", *where))["secret"]

        streams = f"http://127.0.0.1:{server.http_port}/v1/streams"
        wait_for(lambda: httpx.get(streams).status_code == 401, "credentials are demanded", 30)
        stranger = Sensor(server.mqtt_port, "f2-00017", "guessed")
        assert stranger.entered[0][0] != 0
        stranger.end()
        assert rows(project, data, "SELECT count(*) AS n FROM farm") == [{"n": 0}]

        sensor = Sensor(server.mqtt_port, "f2-00017", secret)
        assert sensor.entered[0][0] == 0
        assert sensor.send(TOPIC, seq=0, value=7.5, unit="C") == 0
        assert sensor.send("farm/site-02/f2-00017/temperature", seq=1, value=7.5) == 0x87
        assert sensor.send("farm/site-01/f2-00018/temperature", seq=1, value=7.5) == 0x87
        wait_for(lambda: rows(project, data, "SELECT count(*) AS n FROM readings") == [{"n": 1}], "the reading", 30)
        [row] = rows(project, data, 'SELECT site, field, sensor, kind, "value" FROM readings')
        assert row == {"site": "site-01", "field": "f2", "sensor": "f2-00017", "kind": "temperature", "value": 7.5}

        qanat("device", "remove", "f2-00017", *where)
        wait_for(lambda: sensor.gone, "its connection is closed", 30)
        sensor.end()
        again = Sensor(server.mqtt_port, "f2-00017", secret)
        assert again.entered[0][0] != 0
        again.end()
        assert "f2-00017" not in qanat("device", "list", *where)
        assert rows(project, data, "SELECT count(*) AS n FROM farm") == [{"n": 1}]  # its history stays


def test_a_frost_reaches_the_office_once_and_so_does_its_end(project, office, tmp_path):
    assert office.stdout is not None
    now = int(time.time() * 1000) - 3_600_000
    with running(project, tmp_path / "data") as server:
        sensor = Sensor(server.mqtt_port)
        degrees = [5.0, 1.4, 0.9, 1.2, -1.0, 0.5, 2.5, 3.1, 4.0, 4.0]
        for seq, value in enumerate(degrees):
            assert sensor.send(TOPIC, seq=seq, ts=now + seq * 60_000, data={"v": value, "u": "C"}) == 0
        told = [office.stdout.readline() for _ in range(2)]
        assert told[0].startswith("qanat.alert.raised site-01/f2-00017/frost ")
        assert "'value': 0.9" in told[0]
        assert told[1].startswith("qanat.alert.cleared site-01/f2-00017/frost ")
        assert "'value': 3.1" in told[1]
        sensor.end()
        where = ("--dir", project, "--data", tmp_path / "data")
        found = json.loads(qanat("sink", "list", *where, "--json"))
        assert (found["waiting"], found["raised"]) == (0, 0)
        assert httpx.get(f"http://127.0.0.1:{server.http_port}/healthz").status_code == 200
        said = qanat("sink", "test", "office", *where)
        assert "has taken the test message" in said
        assert office.stdout.readline().startswith("qanat.alert.test site/place/alert ")


QUARTER = 900_000


def payload(seq: int, at: int, value: float, vendor: int) -> dict[str, object]:
    """One measurement as acme, borealis, or cirrus (whose clock is given to it here) would write it."""
    forms: list[dict[str, object]] = [
        {"value": value, "unit": "C"},
        {"data": {"v": value, "u": "C"}},
        {"raw": round(value * 100), "scale": 100},
    ]
    return {"seq": seq, "ts": at, **forms[vendor]}


def figures(group: dict[str, Any]) -> dict[int, tuple[int, float, float, float]]:
    """Count, least, greatest and average of a group's windows that hold something, by their beginning (ms)."""
    return {
        int(datetime.fromisoformat(one["start"]).timestamp() * 1000): (
            one["count"],
            one["min"],
            one["max"],
            pytest.approx(one["avg"], abs=1e-9),
        )
        for one in group["windows"]
        if one["count"]
    }


def test_aggregates_are_those_of_what_was_sent_by_site_field_sensor_and_kind(project, tmp_path):
    """Every window of every group, over three vendors' forms and rows that come in any order."""
    begin = (int(time.time() * 1000) // QUARTER - 4) * QUARTER
    names = [f"f{1 + number // 2}-{number:05d}" for number in range(4)]
    series = [
        (site, sensor, kind) for site in ("site-01", "site-02") for sensor in names for kind in ("temperature", "ph")
    ]
    draw = random.Random(7)
    sent = [
        (*one, begin + draw.randrange(4 * QUARTER), draw.randrange(200, 3000) / 100)
        for one in series
        for _ in range(12)
    ]
    with running(project, tmp_path / "data") as server:
        sensor = Sensor(server.mqtt_port)
        sensor.send_all(
            (f"farm/{site}/{name}/{kind}", payload(seq, at, value, seq % 3))
            for seq, (site, name, kind, at, value) in enumerate(sent)
        )
        sensor.end()
        url = f"http://127.0.0.1:{server.http_port}/v1"

        def stored() -> object:
            return httpx.get(f"{url}/streams/readings").json()["rows"] == len(sent)

        wait_for(stored, "all readings", 30)

        def ask(**given: object) -> list[dict[str, Any]]:
            span = {"from": begin, "to": begin + 4 * QUARTER, "window": "15min"}
            answer = httpx.get(f"{url}/aggregate", params=span | given)
            assert answer.status_code == 200, answer.text
            groups: list[dict[str, Any]] = answer.json()["groups"]
            return groups

        asked = [
            {"site": "site-02", "kind": "temperature"},
            {"site": "site-01", "kind": "ph", "by": "field"},
            {"sensor": names[3], "by": "site,kind"},
            {"field": "f1", "by": "site,field,sensor,kind"},
            {"site": "", "kind": "temperature"},  # left empty: all sites
        ]
        for given in asked:
            found = {tuple(group["by"].values()): figures(group) for group in ask(**given)}
            assert found == expected(sent, given), given
        last = httpx.get(f"{url}/aggregate", params={"site": "site-01", "kind": "ph", "window": "15min"}).json()
        assert last["window_ms"] == QUARTER
        assert len(last["groups"][0]["windows"]) == 1


def expected(
    sent: list[tuple[str, str, str, int, float]], given: dict[str, str]
) -> dict[tuple[str, ...], dict[int, tuple[int, float, float, float]]]:
    """What `figures` must say, made of what was sent and nothing else."""
    wanted = {name: text for name, text in given.items() if name != "by" and text}
    by = given["by"].split(",") if "by" in given else []
    held: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for site, sensor, kind, at, value in sent:
        row = {"site": site, "field": sensor[:2], "sensor": sensor, "kind": kind}
        if all(row[name] == text for name, text in wanted.items()):
            windows = held.setdefault(tuple(row[name] for name in by), {})
            windows.setdefault(at // QUARTER * QUARTER, []).append(value)
    return {
        group: {at: (len(v), min(v), max(v), sum(v) / len(v)) for at, v in windows.items()}
        for group, windows in held.items()
    }


def test_the_shipped_cases(example):
    said = qanat("test", example)
    assert "3 passed" in said
    assert "5 of 5 pipelines tested" in said
