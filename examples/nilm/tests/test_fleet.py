"""The simulated fleet on real sockets, and the demo itself: sent, acknowledged, stored and computed are one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qanat.cli.demo import Server
from qanat.clock import now_ms
from qanat.log import open_log
from qanat.sim.fleet import Account, FleetOptions, play
from qanat.sim.households import Neighbourhood, messages
from qanat.sim.oracle import LIVE
from qanat.sim.parity import Report, judge, read_stored, text
from qanat.sim.watch import Reading, behind, look


def verdict(server: Server, account: Account) -> tuple[Report, Reading]:
    """The report once the pipelines have read everything, and what the metrics say then."""
    log = open_log(server.log_url, read_only=True)
    try:
        server.settle(lambda: behind(log) == 0)
        reading = look(log, f"http://127.0.0.1:{server.http_port}/metrics")
        return judge(read_stored(log), LIVE, account), reading
    finally:
        log.close()


def test_what_the_fleet_sends_is_what_comes_out(live):
    seconds = 180
    start_ms = now_ms() - seconds * 1000
    hood = Neighbourhood(households=60, seconds=seconds, growth=20, start_ms=start_ms, malformed=0.002)
    account = play(messages(hood), FleetOptions(port=live.mqtt_port, version="mixed", speed=0, lead_ms=500))
    assert account.sent == account.acknowledged == len(account.messages) > 6000
    report, reading = verdict(live, account)
    assert report.ok, text(report)
    assert report.delivery.lost == report.delivery.foreign == report.delivery.repeated == 0
    assert report.dead > 0
    assert report.windows.expected > 60 * 150
    assert report.sets.expected > 20
    assert (report.late, report.unjudged) == (0, 0)
    assert reading.windows == report.windows.produced
    assert reading.watermark_ms is not None
    assert reading.p99_s is not None


def test_meters_without_a_clock_in_real_time(live):
    hood = Neighbourhood(households=40, seconds=9, growth=0, start_ms=now_ms(), no_clock=0.5)
    account = play(messages(hood), FleetOptions(port=live.mqtt_port, version="3.1.1"))
    report, _ = verdict(live, account)
    assert report.ok, text(report)
    assert report.delivery.stored == account.acknowledged == account.sent
    assert report.windows.expected > 40


def test_the_demo_shows_counts_and_judges():
    command = [sys.executable, "-m", "qanat", "demo", "--households", "30", "--seconds", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("30 simulated households; mqtt 127.0.0.1:")
    assert any(line.startswith("0:05  sent ") for line in lines)
    assert lines[-1] == "parity: everything that was acknowledged is there"


def test_the_demo_tells_programs_in_json(tmp_path):
    command = [sys.executable, "-m", "qanat", "demo", "--households", "5", "--seconds", "2", "--json"]
    done = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["delivery"]["sent"] == report["delivery"]["stored"] > 0
    assert (tmp_path / "log.db").exists()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the server's process in /proc (Linux)")
def test_the_demo_says_so_when_qanat_dies():
    command = [sys.executable, "-m", "qanat", "demo", "--households", "5", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert "5 simulated households" in demo.stdout.readline()  # printed once qanat is ready
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        said = demo.communicate(timeout=60)[1]
    assert demo.returncode == 2
    assert "qanat up ended with exit code -9" in said


def test_a_demo_whose_terminal_goes_away_takes_its_server_along(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "qanat",
        "demo",
        "--households",
        "5",
        "--seconds",
        "60",
        "--data",
        str(tmp_path / "d"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        deadline = time.monotonic() + 30
        while not (tmp_path / "d" / "log.db.lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server = int((tmp_path / "d" / "log.db.lock").read_text())
        time.sleep(1.0)
        demo.send_signal(signal.SIGHUP)
        assert demo.wait(30) == 128 + signal.SIGHUP
    assert not Path(f"/proc/{server}").exists()
