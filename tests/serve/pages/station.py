"""A running farm and a real browser in front of it. Used by the tests and by the screenshots."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

COMMAND = [sys.executable, "-m", "qanat"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SQL = """
CREATE TABLE farm (
  site STRING NOT NULL, sensor STRING NOT NULL, kind STRING NOT NULL, ts TIMESTAMP_LTZ(3), v DOUBLE NOT NULL,
  WATERMARK FOR ts AS ts - INTERVAL '10' SECOND
);
CREATE TABLE warm (site STRING, sensor STRING, v DOUBLE);
INSERT INTO warm SELECT site, sensor, v FROM farm WHERE v > 20;
"""
SETTINGS = """
sources:
  sensors: {topic: "farm/{site}/{sensor}/{kind}", stream: farm, format: json}
serve:
  aggregates:
    farm: {stream: farm, value: v, dimensions: [site, sensor, kind]}
"""
RANGES = {"temperature": (18.0, 4.0), "humidity": (60.0, 15.0), "soil_moisture": (31.0, 6.0), "milk_yield": (12.0, 3.0)}


class Farm:
    """`qanat up` of a small farm on free ports. `key` is what it demands, None where nobody is asked."""

    def __init__(self, folder: Path, *, demanded: bool = False, settings: str = SETTINGS) -> None:
        self.folder = folder
        (folder / "farm.sql").write_text(SQL)
        (folder / "qanat.yaml").write_text(settings)
        self.key = self.make_key("operator", "admin") if demanded else None
        self._ports = {"mqtt": 0, "http": 0}
        self.start()

    def start(self) -> None:
        """Let it run; on the same ports as before, where it ran before."""
        ports = [f"--{name}-port={port}" for name, port in self._ports.items()]
        with (self.folder / "said.txt").open("a") as said:
            self._process = subprocess.Popen(
                [*COMMAND, "up", ".", *ports, "--json"],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=said,
                encoding="utf-8",
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                self._ports[event["protocol"]] = event["port"]
            if event["event"] == "ready":
                return
        raise AssertionError((self.folder / "said.txt").read_text())

    @property
    def url(self) -> str:
        """The HTTP address."""
        return f"http://127.0.0.1:{self._ports['http']}"

    @property
    def mqtt_port(self) -> int:
        """Where MQTT listens."""
        return self._ports["mqtt"]

    def make_key(self, name: str, *scopes: str) -> str:
        """A key of this station, with `qanat key add`."""
        wanted = [part for scope in scopes for part in ("--scope", scope)]
        done = subprocess.run(
            [*COMMAND, "key", "add", name, *wanted, "--json"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        return str(json.loads(done.stdout)["key"])

    def get(self, path: str) -> Any:
        """The JSON of an answer, asked with the key."""
        headers = {} if self.key is None else {"x-api-key": self.key}
        answer = httpx.get(self.url + path, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, topic: str, body: object) -> None:
        """Rows for a topic, stored when this returns; or bytes as they are."""
        headers = {"content-type": "application/json"} | ({} if self.key is None else {"x-api-key": self.key})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        httpx.post(f"{self.url}/streams/{topic}", content=content, headers=headers, timeout=60)

    def post(self, path: str, content: object) -> Any:
        """The JSON of an answer to JSON."""
        headers = {} if self.key is None else {"x-api-key": self.key}
        answer = httpx.post(self.url + path, json=content, headers=headers, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def simulate(self, sites: int = 2, sensors: int = 2, hours: float = 2, step_s: int = 60) -> int:
        """Readings of all kinds, until now; how many."""
        now, sent = int(time.time()), 0
        for site in range(sites):
            for place, (kind, (middle, swing)) in enumerate(RANGES.items()):
                for sensor in range(sensors):
                    rows = [
                        {"ts": _instant(at), "v": round(middle + swing * _wave(at, site + sensor + place), 3)}
                        for at in range(now - int(hours * 3600), now, step_s)
                    ]
                    self.send(f"farm/farm-{site}/{kind}-{sensor}/{kind}", rows)
                    sent += len(rows)
        return sent

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)


def _instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _wave(at: int, phase: int) -> float:
    """Between -1 and 1: a slow wave with a small quick one on it; the same for the same time."""
    import math

    return 0.8 * math.sin(at / 2500 + phase) + 0.2 * math.sin(at / 130 + 2 * phase)


class Watched:
    """A page, and what it has asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requested: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.requested.append(request.url)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser, without a window."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=[*root, "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


Open = Callable[..., Watched]
