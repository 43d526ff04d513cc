"""What `qanat replay` does to those who are told of a stream: nobody hears of an alert twice, and none is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.notify.conftest import Receiver, wait_for

from qanat.cli.demo import Server, running

SQL = """CREATE TABLE readings (site STRING, v DOUBLE);
CREATE TABLE alerts (site STRING, state STRING, v DOUBLE);
INSERT INTO alerts SELECT site, CASE WHEN v <= {limit} THEN 'raised' ELSE 'ok' END, v FROM readings;
"""


class Farm:
    """A project on the disk whose alerts go to a receiver."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.data, self.receiver = folder, folder / ".qanat", receiver
        self.declare(1)
        (folder / "qanat.yaml").write_text(
            "sinks:\n  ops: {stream: alerts, key: [site], state: state, webhook: {url: '" + receiver.url + "'}}\n"
        )

    def declare(self, limit: int) -> None:
        """At how many degrees it freezes."""
        (self.folder / "farm.sql").write_text(SQL.format(limit=limit))

    @property
    def told(self) -> list[tuple[str, str, float]]:
        """What the receiver has heard, in order."""
        return [(body["status"], body["key"], body["row"]["v"]) for body in self.receiver.bodies]

    def replay(self) -> subprocess.CompletedProcess[str]:
        """`qanat replay alerts --from beginning`."""
        command = [sys.executable, "-m", "qanat", "replay", "alerts", "--from", "beginning", "--yes"]
        return subprocess.run(
            [*command, "--dir", self.folder, "--data", self.data], capture_output=True, text=True, timeout=120
        )


@pytest.fixture
def farm(tmp_path: Path, receiver: Receiver) -> Farm:
    """A project that has not run yet."""
    return Farm(tmp_path, receiver)


def feed(server: Server, *rows: tuple[str, float]) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{server.http_port}/streams/readings", json=[{"site": site, "v": v} for site, v in rows]
    )
    assert answer.status_code == 200, answer.text


def waiting(server: Server) -> float:
    """Rows that the sink has not dealt with, as /metrics says it."""
    text = httpx.get(f"http://127.0.0.1:{server.http_port}/metrics").text
    (line,) = (one for one in text.splitlines() if one.startswith('qanat_sink_lag_rows{sink="ops"}'))
    return float(line.split()[-1])


def alerts(server: Server) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{server.http_port}/v1/streams/alerts/rows"
    found: list[dict[str, Any]] = httpx.get(url, params={"limit": 1000}).json()["rows"]
    return found


def test_a_replay_tells_no_alert_again_and_later_ones_follow(farm: Farm) -> None:
    with running(farm.folder, farm.data) as server:
        feed(server, ("a", 0.5), ("b", -1.0), ("c", 1.5), ("a", 4.0))
        wait_for(lambda: len(farm.told) == 3, "three alerts")
        wait_for(lambda: waiting(server) == 0, "all rows are dealt with")
    before = [("raised", "a", 0.5), ("raised", "b", -1.0), ("cleared", "a", 4.0)]
    assert farm.told == before
    farm.declare(2)  # c would have been told, too
    done = farm.replay()
    assert done.returncode == 0, done.stderr
    with running(farm.folder, farm.data) as server:
        assert [(one["site"], one["state"]) for one in alerts(server)] == [
            ("a", "raised"),
            ("b", "raised"),
            ("c", "raised"),
            ("a", "ok"),
        ]
        feed(server, ("b", 5.0), ("c", 1.5))
        wait_for(lambda: len(farm.told) >= 5, "two alerts more")
        wait_for(lambda: waiting(server) == 0, "all rows are dealt with")
    assert farm.told == [*before, ("cleared", "b", 5.0), ("raised", "c", 1.5)]
    ids = [body["id"] for body in farm.receiver.bodies]
    assert len(set(ids)) == len(ids)


def test_alerts_that_nobody_has_heard_of_are_not_replayed_away(farm: Farm) -> None:
    farm.receiver.answers = [503] * 1000
    with running(farm.folder, farm.data) as server:
        feed(server, ("a", 0.5), ("a", 4.0))
        wait_for(lambda: len(farm.receiver.requests) > 0 and waiting(server) == 2, "a try")
    refused = farm.replay()
    assert refused.returncode == 5
    assert "the sink ops has not dealt with 2 rows of alerts" in refused.stderr
    assert "qanat sink list" in refused.stderr
    farm.receiver.answers.clear()
    farm.receiver.requests.clear()
    with running(farm.folder, farm.data) as server:
        wait_for(lambda: len(farm.told) == 2 and waiting(server) == 0, "what waited")
    assert farm.replay().returncode == 0
    with running(farm.folder, farm.data) as server:
        feed(server, ("z", 0.0))
        wait_for(lambda: len(farm.told) >= 3, "the next one")
    assert farm.told == [("raised", "a", 0.5), ("cleared", "a", 4.0), ("raised", "z", 0.0)]
