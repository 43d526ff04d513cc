"""The simulated fleet on real sockets, and the demo itself: sent, acknowledged, stored and computed are one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from qanat.clock import now_ms
from qanat.log import open_log
from qanat.sim.fleet import FleetOptions, play
from qanat.sim.households import Neighbourhood, messages
from qanat.sim.oracle import LIVE
from qanat.sim.parity import judge, read_stored, text
from qanat.sim.watch import behind, look


@pytest.mark.parametrize("version", ["mixed"])
def test_what_the_fleet_sends_is_what_comes_out(live, version):
    seconds = 180
    hood = Neighbourhood(
        households=60, seconds=seconds, growth=20, start_ms=now_ms() - seconds * 1000, malformed=0.002, no_clock=0.1
    )
    account = play(messages(hood), FleetOptions(port=live.mqtt_port, version=version, speed=0, lead_ms=500))
    assert account.sent == account.acknowledged == len(account.messages) > 6000
    log = open_log(live.log_url, read_only=True)
    try:
        live.settle(lambda: behind(log) == 0)
        report = judge(read_stored(log), LIVE, account)
        reading = look(log, f"http://127.0.0.1:{live.http_port}/metrics")
    finally:
        log.close()
    assert report.ok, text(report)
    assert report.delivery.lost == report.delivery.foreign == report.delivery.repeated == 0
    assert report.dead > 0
    assert report.windows.expected > 60 * 150
    assert report.sets.expected > 20
    assert reading.windows == report.windows.produced
    assert reading.watermark_ms is not None
    assert reading.p99_s is not None


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
