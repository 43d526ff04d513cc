"""The farm as it runs: a sensor's life from its registration to its end, and a frost that reaches the office."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
import pytest
import yaml

from qanat.cli.demo import Server, running

from .conftest import qanat, wait_for

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


class Sensor:
    """A paho client with QoS 1; `codes` are what the broker said to its messages."""

    def __init__(self, server: Server, user: str | None = None, password: str | None = None) -> None:
        self.entered: list[object] = []
        self.codes: list[int] = []
        self.gone: list[object] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.entered.append(reason)
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self.codes.append(reason.value)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.gone.append(reason)
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.connect("127.0.0.1", server.mqtt_port)
        self.client.loop_start()
        wait_for(lambda: self.entered, "an answer to CONNECT", 30)

    def send(self, topic: str, **row: object) -> int:
        """The broker's word on one message."""
        known = len(self.codes)
        self.client.publish(topic, json.dumps(row), 1)
        wait_for(lambda: len(self.codes) > known, "an acknowledgement", 30)
        return self.codes[-1]

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


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

        stranger = Sensor(server, "f2-00017", "guessed")
        assert stranger.entered[0].is_failure
        stranger.end()
        assert rows(project, data, "SELECT count(*) AS n FROM farm") == [{"n": 0}]

        sensor = Sensor(server, "f2-00017", secret)
        assert not sensor.entered[0].is_failure
        assert sensor.send(TOPIC, seq=0, value=7.5, unit="C") == 0
        assert sensor.send("farm/site-02/f2-00017/temperature", seq=1, value=7.5) == 0x87
        assert sensor.send("farm/site-01/f2-00018/temperature", seq=1, value=7.5) == 0x87
        wait_for(lambda: rows(project, data, "SELECT count(*) AS n FROM readings") == [{"n": 1}], "the reading", 30)
        [row] = rows(project, data, 'SELECT site, field, sensor, kind, "value" FROM readings')
        assert row == {"site": "site-01", "field": "f2", "sensor": "f2-00017", "kind": "temperature", "value": 7.5}

        qanat("device", "remove", "f2-00017", *where)
        wait_for(lambda: sensor.gone, "its connection is closed", 30)
        sensor.end()
        again = Sensor(server, "f2-00017", secret)
        assert again.entered[0].is_failure
        again.end()
        assert "f2-00017" not in qanat("device", "list", *where)
        assert rows(project, data, "SELECT count(*) AS n FROM farm") == [{"n": 1}]  # its history stays


def test_a_frost_reaches_the_office_once_and_so_does_its_end(project, office, tmp_path):
    assert office.stdout is not None
    now = int(time.time() * 1000) - 3_600_000
    with running(project, tmp_path / "data") as server:
        sensor = Sensor(server)
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


def test_the_shipped_cases(example):
    said = qanat("test", example)
    assert "3 passed" in said
    assert "5 of 5 pipelines tested" in said
