"""kill -9 of `qanat up` at random moments under load: nothing acknowledged is lost, nothing repeated (laws 6 and 8)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from tests.crash.load import Account, HttpSender, MqttSender

KILLS = int(os.environ.get("QANAT_KILLS", "50"))
SQL = """
CREATE TABLE readings (k STRING, n BIGINT, v DOUBLE, t BIGINT, ts AS TO_TIMESTAMP_LTZ(t, 3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE sliding (k STRING, window_start TIMESTAMP(3), c BIGINT, s DOUBLE, vs ARRAY<DOUBLE>);
CREATE TABLE pairs (k STRING, n BIGINT, m BIGINT, at_ TIMESTAMP_LTZ(3), WATERMARK FOR at_ AS at_ - INTERVAL '1' SECOND);
CREATE TABLE stretches (k STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), c BIGINT);
CREATE TABLE per_minute (k STRING, window_start TIMESTAMP(3), c BIGINT);

INSERT INTO sliding SELECT k, window_start, COUNT(*), SUM(v), ARRAY_AGG(v)
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' SECOND))
GROUP BY k, window_start, window_end;
INSERT INTO pairs SELECT a.k, a.n, b.n, a.ts FROM readings AS a JOIN readings AS b ON a.k = b.k AND a.ts = b.ts
WHERE a.n < b.n;
INSERT INTO stretches SELECT k, window_start, window_end, COUNT(*)
FROM TABLE(SESSION(TABLE readings PARTITION BY k, DESCRIPTOR(ts), INTERVAL '0.6' SECOND(1, 1)))
GROUP BY k, window_start, window_end;
INSERT INTO per_minute SELECT k, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE pairs, DESCRIPTOR(at_), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
"""
OUTPUTS = ("sliding", "pairs", "stretches", "per_minute", "late")


class Up:
    """A running `qanat up`."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "qanat", "up", str(folder), "--mqtt-port", "0", "--http-port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ports: dict[str, int] = {}

    def ready(self) -> Up:
        """Wait for the line that says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if words[0] in ("mqtt", "http"):
                self.ports[words[0]] = int(words[1].rsplit(":", 1)[1])
            if words == ["ready"]:
                return self
        assert self.process.stderr is not None
        pytest.fail(f"qanat up ended: {self.process.stderr.read()}")

    def kill(self) -> None:
        """As the power would."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def rows(log: Log, stream: str) -> list[dict[str, object]]:
    """All rows of a stream, in order."""
    found: list[dict[str, object]] = []
    offset = 0
    while chunks := log.read((stream, 0), offset, 1_000_000):
        for chunk in chunks:
            found += chunk.rows.to_pylist()
            offset = chunk.end
    return found


def caught_up(log: Log) -> bool:
    """Whether every pipeline has read all of its input. Positions first: an output grows until its writer is done."""
    pipelines = {"sliding": "readings", "pairs": "readings", "stretches": "readings", "per_minute": "pairs"}
    places = {name: log.positions(name).get((stream, 0), 0) for name, stream in pipelines.items()}
    ends = {name: status.ends.get(0, 0) for name, status in log.status().items()}
    return all(places[name] == ends[stream] for name, stream in pipelines.items())


def wait_until_caught_up(url: str) -> None:
    deadline = time.monotonic() + 60
    log = open_log(url, read_only=True)
    try:
        while not caught_up(log):
            assert time.monotonic() < deadline, "the pipelines do not catch up"
            time.sleep(0.05)
    finally:
        log.close()


def without_crashes(stored: Log) -> dict[str, list[dict[str, object]]]:
    """The outputs of one engine that was never killed, over the same input."""
    log = open_log("memory://")
    engine = Engine(compile_script(SQL), log, EngineOptions(live=True))
    thread = threading.Thread(target=engine.run)
    thread.start()
    for chunk in stored.read(("readings", 0), 0, 10**9):
        log.submit(Transaction([Append("readings", 0, chunk.rows, chunk.at)])).result()
    deadline = time.monotonic() + 60
    while not caught_up(log):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.stop()
    thread.join()
    return {stream: rows(log, stream) for stream in OUTPUTS}


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_law_6_and_8_kill_at_random_moments_under_load(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "all.sql").write_text(SQL)
    url = f"sqlite:///{folder}/.qanat/log.db"
    chance = random.Random(20261121)
    accounts = [Account("mqtt-1"), Account("mqtt-2"), Account("http-1")]
    for _ in range(KILLS):
        up = Up(folder)
        if chance.random() < 0.15:  # while it recovers
            time.sleep(chance.uniform(0.2, 1.5))
            up.kill()
            continue
        up.ready()
        senders: list[MqttSender | HttpSender] = [MqttSender(a, up.ports["mqtt"]) for a in accounts[:2]]
        senders.append(HttpSender(accounts[2], up.ports["http"]))
        for sender in senders:
            sender.start()
        time.sleep(chance.uniform(0.02, 0.8))
        up.kill()
        for sender in senders:
            sender.join()
    up = Up(folder).ready()
    wait_until_caught_up(url)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    up.kill()
    stored = open_log(url, read_only=True)
    check(stored, accounts)
    stored.close()


def check(stored: Log, accounts: list[Account]) -> None:
    """Everything acknowledged is there, and the outputs are those of a run that was never killed."""
    readings = rows(stored, "readings")
    assert len(readings) > 1000
    assert not rows(stored, "dead_letters")
    present: dict[object, set[object]] = {}
    for row in readings:
        present.setdefault(row["k"], set()).add(row["n"])
    for account in accounts:
        assert len(account.acknowledged) > 100
        assert account.acknowledged <= present[account.client]
    expected = without_crashes(stored)
    for stream in OUTPUTS:
        key = sorted if stream == "late" else list
        assert key(map(str, rows(stored, stream))) == key(map(str, expected[stream])), stream
    assert expected["sliding"]
    assert expected["stretches"]
