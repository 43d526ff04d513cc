"""`qanat up` archives: beside ingest, and again after a fault; what came last is there when it has ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable

from qanat.log import open_log
from tests.cli.conftest import Server
from tests.lake.conftest import READINGS


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    (tmp_path / "all.sql").write_text(READINGS)
    (tmp_path / "qanat.yaml").write_text("lake: {interval: 100 ms}\n")
    return tmp_path


@pytest.fixture
def server(farm: Path) -> Iterator[Server]:
    made = Server(farm)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.communicate()


def send(server: Server, first: int, count: int) -> None:
    rows = [
        {"sensor": f"s{n % 3}", "v": n, "ts": f"2026-01-01T10:00:{n % 60:02d}"} for n in range(first, first + count)
    ]
    assert httpx.post(f"{server.url}/streams/readings", json=rows).json()["accepted"] == count


def archived(farm: Path) -> int:
    path = farm / ".qanat/lake/readings"
    return int(DeltaTable(path).count()) if (path / "_delta_log").is_dir() else 0


def wait_for(farm: Path, rows: int) -> None:
    deadline = time.monotonic() + 30
    while archived(farm) < rows:
        assert time.monotonic() < deadline, f"{archived(farm)} of {rows} rows are archived"
        time.sleep(0.05)


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f'{name}{{stream="readings"}}')).split()[-1])


def test_rows_go_to_the_lake_while_it_runs(server: Server, farm: Path) -> None:
    send(server, 0, 100)
    wait_for(farm, 100)
    assert httpx.get(f"{server.url}/healthz").json()["checks"]["lake readings"] == "ok"
    deadline = time.monotonic() + 10
    while metric(server, "qanat_lake_lag_rows") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(server, "qanat_lake_rows_total") == 100
    assert metric(server, "qanat_lake_files_total") >= 1
    assert metric(server, "qanat_lake_bytes_total") > 1000
    assert metric(server, "qanat_lake_lag_seconds") == 0
    assert abs(metric(server, "qanat_lake_committed_ms") / 1000 - time.time()) < 60
    assert server.stop()[0] == 0


def test_what_came_last_is_archived_when_it_ends(farm: Path) -> None:
    (farm / "qanat.yaml").write_text("lake: {interval: 1 h}\n")
    server = Server(farm)
    send(server, 0, 150)
    assert archived(farm) == 0
    assert server.stop()[0] == 0
    assert archived(farm) == 150
    log = open_log(f"sqlite:///{farm}/.qanat/log.db", read_only=True)
    assert log.positions("lake:readings") == {("readings", 0): 150}
    log.close()


def test_a_lake_that_cannot_be_written_stops_nothing_and_is_tried_again(farm: Path) -> None:
    (farm / ".qanat").mkdir()
    (farm / ".qanat/lake").write_text("a file where the folder should be")
    server = Server(farm)
    try:
        send(server, 0, 10)
        deadline = time.monotonic() + 30
        while (health := httpx.get(f"{server.url}/healthz")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "lake/readings" in health.json()["checks"]["lake readings"]
        send(server, 10, 10)
        (farm / ".qanat/lake").unlink()
        wait_for(farm, 20)
        while httpx.get(f"{server.url}/healthz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.stop()[0] == 0
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def test_without_deltalake_it_says_what_to_install(farm: Path) -> None:
    blocked = "import sys; sys.modules['deltalake'] = None; sys.argv = ['qanat', *sys.argv[1:]]; "
    command = [sys.executable, "-c", blocked + "from qanat.cli.main import main; main()"]
    ended = subprocess.run(
        [*command, "up", str(farm), "--mqtt-port", "0", "--http-port", "0"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "pip install 'qanat[lake]'" in ended.stderr
    (farm / "all.sql").write_text(READINGS.replace("'true', 'archive.sort' = 'sensor'", "'false'"))
    again = subprocess.Popen(
        [*command, "up", str(farm), "--mqtt-port", "0", "--http-port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert again.stdout is not None
    events = [json.loads(again.stdout.readline())["event"] for _ in range(3)]
    again.terminate()
    again.communicate()
    assert events[-1] == "ready"
