"""A site's whole way, from its registration to a sensor's end: over HTTP and MQTT, as anybody could do it."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from qanat.cli.demo import running

from .conftest import qanat, wait_for
from .sensor import Sensor

QUARTER = 900_000
SITE = "site-09"
FROSTY, NEIGHBOUR, SILENT = "f1-00001", "f1-00002", "f2-00003"
SENSORS = (FROSTY, NEIGHBOUR, SILENT)
#: Degrees of the sensor that freezes, a minute apart: once below 1, wavering, and back above 3.
DEGREES = [5.0, 1.4, 0.9, 1.2, -1.0, 0.5, 2.5, 3.1, 4.0]


class Office(ThreadingHTTPServer):
    """The webhook: remembers what was posted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Desk)
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def told(self) -> list[tuple[str, str, float]]:
        """Type, subject and value of each."""
        return [(one["type"], one["subject"], one["data"]["value"]) for one in self.events]


class _Desk(BaseHTTPRequestHandler):
    server: Office

    def do_POST(self) -> None:
        self.server.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def office() -> Iterator[Office]:
    """A webhook on loopback."""
    one = Office()
    yield one
    one.shutdown()
    one.server_close()


def comes(port: int, name: str, password: str) -> tuple[int, bool]:
    """What CONNACK says (0: come in), and whether a session was kept."""
    one = Sensor(port, name, password)
    one.end()
    return one.entered[0]


class Api:
    """The API as the operator sees it."""

    def __init__(self, port: int, key: str) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=30)

    def get(self, path: str, **asked: object) -> Any:
        answer = self.http.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, stream: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/v1/streams/{stream}/rows", limit=1000)["rows"]
        return found

    def site(self) -> dict[str, Any]:
        """What is known of the site."""
        (found,) = (one for one in self.get("/v1/sites")["sites"] if one["site"] == SITE)
        return found

    def latest(self) -> dict[str, float]:
        """The latest value of each sensor of the site, in whichever form its vendor writes it."""
        readings = {one["name"]: one["reading"] for one in self.site()["sensors"]}
        return {
            name: row["data"]["v"] if row.get("data") else row["value"]
            for name, row in readings.items()
            if "sensor" in row  # others are streams of the whole site
        }

    def counted(self, name: str) -> float:
        """A number of /metrics."""
        found = re.search(rf"^{name} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def world(api: Api) -> object:
    """Everything that could have come to life: rows and places of streams, state and positions of pipelines."""
    streams = [(one["name"], one["rows"], one["partitions"]) for one in api.get("/v1/streams")["streams"]]
    pipelines = [
        (one["name"], one["state"], one["rows_in"], one["rows_out"], one["state_bytes"])
        for one in api.get("/v1/pipelines")["pipelines"]
    ]
    return streams, pipelines


def described(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "kind": "temperature",
        "interval": "30 s",
        "labels": {"site": SITE, "field": name[:2]},
        "publish": [f"farm/{SITE}/{{id}}/+"],
    }


def topic(name: str) -> str:
    return f"farm/{SITE}/{name}/temperature"


@pytest.fixture
def project(example: Path, office: Office, tmp_path: Path) -> Path:
    """A copy of the example without its data, whose sink posts to the office."""
    shutil.copytree(example, tmp_path / "farm", ignore=shutil.ignore_patterns("tests", "recorded", ".qanat"))
    config = yaml.safe_load((tmp_path / "farm" / "qanat.yaml").read_text())
    config["sinks"]["office"]["webhook"]["url"] = f"http://127.0.0.1:{office.server_address[1]}/alerts"
    (tmp_path / "farm" / "qanat.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "farm"


def register(api: Api) -> dict[str, str]:
    """Validate, then register the site's sensors; the passwords."""
    assert httpx.get(str(api.http.base_url) + "/v1/devices").status_code == 401
    for wrong in (
        {"id": "a/b"},
        {"id": "x", "interval": "soon"},
        {"id": "x", "publish": ["farm/#/x"]},
        {"id": "x", "y": 1},
    ):
        refused = api.http.post("/v1/devices", json=[described(FROSTY), wrong])
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    tried = api.http.post("/v1/devices?dry_run=true", json=[described(name) for name in SENSORS])
    assert tried.status_code == 200
    assert "secret" not in tried.text
    assert api.get("/v1/devices")["devices"] == []
    made = api.http.post("/v1/devices", json=[described(name) for name in SENSORS])
    assert made.status_code == 201
    assert api.http.post("/v1/devices", json=described(FROSTY)).status_code == 409
    listed = api.get("/v1/devices", label=f"site={SITE}")["devices"]
    assert [(one["id"], one["interval"]) for one in listed] == [(name, "30 s") for name in SENSORS]
    return {one["id"]: one["secret"] for one in made.json()["devices"]}


def test_a_site_is_registered_measures_warns_and_loses_a_sensor(project, office, tmp_path):
    data = tmp_path / "data"
    key = qanat("key", "add", "operator", "--scope", "admin", "--dir", project, "--data", data).strip()
    with running(project, data) as server:
        api = Api(server.http_port, key)

        # Registered, and nothing but a row of the registry exists.
        before = world(api)
        passwords = register(api)
        assert world(api) == before
        assert api.counted("qanat_devices_known") == 3
        assert api.counted("qanat_devices_connected") == 0
        assert (api.site()["devices"], api.site()["sensors"]) == (list(SENSORS), [])
        assert api.get("/v1/aggregate", site=SITE, by="sensor", **{"from": "-1d"})["groups"] == []

        # The first message brings everything to life; a sensor speaks for itself only.
        begin = (int(time.time() * 1000) // QUARTER - 3) * QUARTER
        assert comes(server.mqtt_port, FROSTY, passwords[NEIGHBOUR])[0] != 0
        frosty = Sensor(server.mqtt_port, FROSTY, passwords[FROSTY])
        neighbour = Sensor(server.mqtt_port, NEIGHBOUR, passwords[NEIGHBOUR])
        for number, value in enumerate(DEGREES):
            at = begin + number * 60_000
            assert frosty.send(topic(FROSTY), seq=number, ts=at, value=value, unit="C") == 0
        assert frosty.send(topic(NEIGHBOUR), seq=90, ts=begin, value=-40) == 0x87
        assert frosty.send(f"farm/site-01/{FROSTY}/temperature", seq=91, ts=begin, value=-40) == 0x87
        assert neighbour.send(topic(NEIGHBOUR), seq=0, ts=begin + QUARTER + 60_000, data={"v": 7.5, "u": "C"}) == 0
        wait_for(lambda: len(api.rows("readings")) == len(DEGREES) + 1, "all readings", 60)
        wait_for(lambda: len(api.rows("quarters")) == 1, "the first quarter closes", 60)
        quarter = api.rows("quarters")[0]
        assert (quarter["site"], quarter["readings"], quarter["lowest"], quarter["highest"]) == (SITE, 9, -1.0, 5.0)
        assert world(api) != before
        history(api, begin)
        assert api.latest() == {FROSTY: 4.0, NEIGHBOUR: 7.5}

        # The frost is told once, and so is its end.
        wait_for(lambda: len(office.events) >= 2, "the frost and its end", 60)
        frost = [
            ("qanat.alert.raised", f"{SITE}/{FROSTY}/frost", 0.9),
            ("qanat.alert.cleared", f"{SITE}/{FROSTY}/frost", 3.1),
        ]
        assert office.told == frost

        # Its session is kept over a break, as long as it is registered.
        frosty.end()
        frosty = Sensor(server.mqtt_port, FROSTY, passwords[FROSTY])
        assert frosty.entered == [(0, True)]

        # Retired: nothing of it may come in, nothing but history is left, and nobody else notices.
        assert api.http.delete(f"/v1/devices/{FROSTY}?dry_run=true").status_code == 200
        assert frosty.send(topic(FROSTY), seq=9, ts=begin + 9 * 60_000, value=4.0) == 0
        assert api.http.delete(f"/v1/devices/{FROSTY}").status_code == 200
        wait_for(lambda: frosty.gone, "its connection is closed", 30)
        frosty.end()
        assert frosty.gone[0] == 0x98
        assert comes(server.mqtt_port, FROSTY, passwords[FROSTY])[0] == 0x86
        assert api.http.get(f"/v1/devices/{FROSTY}").status_code == 404
        assert api.site()["devices"] == [NEIGHBOUR, SILENT]
        assert api.latest() == {NEIGHBOUR: 7.5}
        assert neighbour.send(topic(NEIGHBOUR), seq=1, ts=begin + QUARTER + 120_000, data={"v": 8.5, "u": "C"}) == 0
        assert neighbour.gone == []
        wait_for(lambda: api.latest() == {NEIGHBOUR: 8.5}, "the neighbour goes on", 30)
        neighbour.end()
        history(api, begin, last=1)
        assert retained(api, server.mqtt_port) == [NEIGHBOUR]

        # Whoever is called so next begins with nothing of it.
        again = api.http.post("/v1/devices", json=described(FROSTY)).json()["secret"]
        assert again != passwords[FROSTY]
        assert comes(server.mqtt_port, FROSTY, passwords[FROSTY])[0] == 0x86
        assert comes(server.mqtt_port, FROSTY, again) == (0, False)
        assert office.told == frost
        api.http.close()


def retained(api: Api, port: int) -> list[str]:
    """The sensors of which MQTT keeps a reading for whoever subscribes next."""
    panel = api.http.post("/v1/devices", json={"id": "panel", "subscribe": ["readings"]}).json()["secret"]
    heard: list[tuple[bool, str]] = []
    one = Sensor(port, "panel", panel)
    one.client.on_message = lambda _c, _u, message: heard.append(
        (message.retain, json.loads(message.payload)["sensor"])
    )
    one.client.subscribe("readings", 1)
    wait_for(lambda: heard, "what is retained", 30)
    one.end()
    return [sensor for is_retained, sensor in heard if is_retained]


def history(api: Api, begin: int, last: int = 0) -> None:
    """All that the sensor has ever said, in rows and in windows."""
    values = DEGREES + [4.0] * last
    wait_for(lambda: [r["value"] for r in api.rows("readings") if r["sensor"] == FROSTY] == values, "its readings", 30)
    # Another end each time: an answer that was given before is given again for two minutes.
    span: dict[str, Any] = {"from": begin, "to": begin + QUARTER - len(values), "window": "15min"}
    (group,) = api.get("/v1/aggregate", site=SITE, kind="temperature", sensor=FROSTY, **span)["groups"]
    (window,) = group["windows"]
    assert (window["count"], window["min"], window["max"]) == (len(values), min(values), max(values))
    assert window["avg"] == pytest.approx(sum(values) / len(values))
