"""`qanat up`: from a device's message to a row in another process, and an end in order."""

from __future__ import annotations

import json
import selectors
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import paho.mqtt.publish as publish
import pytest
from tests.cli.conftest import COMMAND, Run, Server

from qanat.cli.project import log_url
from qanat.log import open_log

Up = Callable[..., Server]


@pytest.fixture
def farm(qanat: Run, tmp_path: Path) -> Path:
    assert qanat("init", "farm").returncode == 0
    return tmp_path / "farm"


def row(second: int, temperature: object = 20.5) -> dict[str, Any]:
    return {"sensor": "gewächshaus", "ts": f"2026-01-01T10:00:{second:02d}Z", "temperature": temperature}


def send(server: Server, *rows: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}/streams/readings", json=list(rows))


def first_line(folder: Path, *args: str) -> dict[str, Any]:
    """The first row that a following `qanat tail` prints; it waits for it."""
    with subprocess.Popen([*COMMAND, "tail", *args, "--json"], cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            came = ready.select(timeout=30)
        process.send_signal(signal.SIGINT)
        line = process.stdout.readline()
        assert process.wait(timeout=30) == 130
    assert came, "no row within 30 s"
    return dict(json.loads(line))


def test_rows_go_in_by_http_and_windows_come_out_in_another_process(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    assert [event["event"] for event in server.events] == ["listening", "listening", "pipeline", "ready"]
    assert server.events[-1]["inputs"] == ["readings"]
    assert send(server, row(1), row(2, 21.5), row(13)).json() == {"accepted": 3, "dead_letters": 0}
    window = first_line(farm, "climate", "--from", "beginning")
    assert (window["sensor"], window["readings"], window["average"]) == ("gewächshaus", 2, 21.0)
    rows = qanat("tail", "readings", "--no-follow", "--json", cwd=farm).stdout.splitlines()
    assert len(rows) == 3
    assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"
    assert 'qanat_pipeline_rows_in_total{pipeline="climate"} 3.0' in httpx.get(f"{server.url}/metrics").text
    code, said = server.stop()
    assert (code, said) == (0, "")


def test_rows_go_in_by_mqtt_and_survive_a_restart(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    topic, payload = "readings/north", json.dumps(row(1))
    publish.single(topic, payload, qos=1, port=server.port("mqtt"), protocol=mqtt.MQTTv5)
    publish.single("readings", json.dumps(row(2)), qos=1, port=server.port("mqtt"), protocol=mqtt.MQTTv311)
    assert server.stop(signal.SIGINT)[0] == 0
    assert len(qanat("tail", "readings", "--no-follow", cwd=farm).stdout.splitlines()) == 2
    server = up(farm)
    send(server, row(13))
    assert first_line(farm, "climate", "--from", "beginning")["readings"] == 2


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="make services installs mosquitto_pub")
@pytest.mark.parametrize("version", ["311", "5"])
def test_the_command_that_init_prints_works(up: Up, farm: Path, version: str) -> None:
    server = up(farm)
    command = ["mosquitto_pub", "-V", version, "-q", "1", "-p", str(server.port("mqtt")), "-t", "readings/greenhouse"]
    subprocess.run([*command, "-m", '{"sensor": "greenhouse", "temperature": 21.5}'], check=True, timeout=30)
    stored = first_line(farm, "readings")
    assert (stored["sensor"], stored["temperature"]) == ("greenhouse", 21.5)
    assert stored["ts"] is not None


def test_what_does_not_fit_is_in_dead_letters(up: Up, farm: Path) -> None:
    server = up(farm)
    assert send(server, row(1), row(2, "warm")).json()["dead_letters"] == 1
    letter = first_line(farm, "dead_letters")
    assert letter["stream"] == "readings"
    assert "temperature" in letter["reason"]


@pytest.mark.parametrize("stream", ["climate", "late", "dead_letters"])
def test_what_pipelines_write_takes_no_input(up: Up, farm: Path, stream: str) -> None:
    assert httpx.post(f"{up(farm).url}/streams/{stream}", json=[{}]).status_code == 403


def test_a_failed_pipeline_leaves_the_others_running(up: Up, farm: Path) -> None:
    (farm / "broken.sql").write_text(
        "CREATE TABLE lost (a INT) WITH ('connector' = 'filesystem', 'path' = 'nowhere', 'format' = 'json');\n"
        "CREATE TABLE found (a INT);\nINSERT INTO found SELECT a FROM lost;"
    )
    server = up(farm)
    assert server.process.stdout is not None
    failed = json.loads(server.process.stdout.readline())
    assert (failed["event"], failed["name"]) == ("pipeline_restarting", "found")
    health = httpx.get(f"{server.url}/healthz")
    assert health.status_code == 503
    assert "nowhere" in health.json()["checks"]["pipeline found"]
    assert health.json()["checks"]["pipeline climate"] == "ok"
    send(server, row(1), row(13))
    assert first_line(farm, "climate", "--from", "beginning")["readings"] == 1
    assert server.stop()[0] == 0


def test_a_taken_port_is_said_plainly(qanat: Run, farm: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = qanat("up", "--mqtt-port", port, "--http-port", 0, cwd=farm)
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "--mqtt-port" in done.stderr


def test_a_second_process_on_the_same_log_is_refused(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    done = qanat("up", "--mqtt-port", 0, "--http-port", 0, cwd=farm)
    assert done.returncode == 5
    assert str(server.process.pid) in done.stderr


def test_text_for_people(farm: Path) -> None:
    command = [*COMMAND, "up", str(farm), "--mqtt-port", "0", "--http-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert [line.split()[0] for line in lines] == ["mqtt", "http", "pipeline", "ready"]
    assert lines[0].startswith("mqtt 127.0.0.1:")
    assert rest == "stopping\n"


def test_an_address_that_others_reach_demands_users(up: Up, qanat: Run, farm: Path) -> None:
    done = qanat("up", "--host", "0.0.0.0", "--mqtt-port", 0, "--http-port", 0, cwd=farm)
    assert done.returncode == 2
    assert "open to everybody" in done.stderr


def test_users_of_qanat_yaml_are_asked_for_their_password(up: Up, farm: Path) -> None:
    (farm / "qanat.yaml").write_text(
        "users:\n"
        "  - {name: north, password_env: NORTH, publish: [readings]}\n"
        "  - {name: guest, password: guest, publish: []}\n"
    )
    server = up(farm, NORTH="geheim")
    url = f"{server.url}/streams/readings"
    assert httpx.post(url, json=[row(1)]).status_code == 401
    assert httpx.post(url, json=[row(1)], auth=("north", "falsch")).status_code == 401
    assert httpx.post(url, json=[row(1)], auth=("guest", "guest")).status_code == 403
    assert httpx.post(url, json=[row(1)], auth=("north", "geheim")).status_code == 200


def test_listeners_of_qanat_yaml(farm: Path) -> None:
    (farm / "qanat.yaml").write_text("listeners: {mqtt: {port: null}, http: {port: 0}}")
    command = [*COMMAND, "up", str(farm), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.terminate()
    assert process.returncode == 0
    assert (first["protocol"], second["event"]) == ("http", "pipeline")


def test_status_counts_rows_and_lag(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    send(server, row(1), row(13))
    first_line(farm, "climate", "--from", "beginning")
    server.stop()
    found = json.loads(qanat("status", "--json", cwd=farm).stdout)
    rows = {stream["name"]: stream["rows"] for stream in found["streams"]}
    assert rows == {"readings": 2, "climate": 1, "dead_letters": 0, "late": 0}
    assert found["pipelines"] == [{"name": "climate", "lag": 0, "error": None}]
    assert "has read everything" in qanat("status", cwd=farm).stdout


def test_retention_of_qanat_yaml_holds_for_every_stream(up: Up, farm: Path) -> None:
    (farm / "qanat.yaml").write_text("retention: {age: 1 d}")
    assert up(farm).stop()[0] == 0
    log = open_log(log_url(farm / ".qanat"), read_only=True)
    kept = {name: status.stream.retention_ms for name, status in log.status().items()}
    log.close()
    assert kept == dict.fromkeys(("readings", "climate", "late", "dead_letters"), 86_400_000)
