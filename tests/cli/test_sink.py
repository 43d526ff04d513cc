"""`qanat sink`, and `qanat up` with sinks: from a row over HTTP to a webhook, through kill -9 again and again."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Server
from tests.notify.conftest import Receiver, wait_for
from tests.notify.conftest import receiver as receiver

SQL = """
CREATE TABLE readings (site STRING, state STRING, level DOUBLE);
CREATE TABLE alerts (site STRING, state STRING, level DOUBLE);
INSERT INTO alerts SELECT site, state, level FROM readings WHERE state IS NOT NULL;
"""


@pytest.fixture
def project(tmp_path: Path, receiver: Receiver) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "farm.sql").write_text(SQL)
    (folder / "qanat.yaml").write_text(
        "sinks:\n  office:\n    stream: alerts\n    key: [site]\n    state: state\n    repeat_after: 12 h\n"
        f"    webhook: {{url: '{receiver.url}'}}\n"
    )
    return folder


def post(server: Server, *rows: dict[str, Any]) -> None:
    answer = httpx.post(f"{server.url}/streams/readings", json=list(rows), timeout=30)
    assert answer.status_code == 200, answer.text


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(body["row"]["site"], body["status"]) for body in receiver.bodies]


def test_from_a_row_to_a_webhook_with_health_and_metrics(project: Path, receiver: Receiver, qanat: Any) -> None:
    receiver.answers = [500] * 100
    server = Server(project)
    try:
        post(server, {"site": "a", "state": "raised", "level": 1}, {"site": "a", "state": "raised", "level": 2})
        wait_for(lambda: receiver.requests, "the first try")
        wait_for(lambda: httpx.get(f"{server.url}/healthz").status_code == 503, "/healthz says what ails it")
        assert "answered 500" in httpx.get(f"{server.url}/healthz").json()["checks"]["sink office"]
        receiver.answers = []
        wait_for(lambda: httpx.get(f"{server.url}/healthz").status_code == 200, "all is well")
        post(server, {"site": "a", "state": "raised", "level": 3}, {"site": "a", "state": "ok", "level": 0})
        wait_for(lambda: ("a", "cleared") in told(receiver), "the recovery")
        ids = [headers["idempotency-key"] for headers, _ in receiver.requests]
        tries = len(ids) - 1
        assert ids == ["alerts/0/0"] * tries + ["alerts/0/3"]
        assert told(receiver) == [("a", "raised")] * tries + [("a", "cleared")]
        wait_for(lambda: 'qanat_sink_lag_rows{sink="office"} 0.0' in metrics(server), "nothing waits")
        counted = metrics(server)
        label = '{sink="office"}'
        for name, value in {"sent_total": 2, "quiet_total": 2, "raised": 0, "breaker": 0}.items():
            assert f"qanat_sink_{name}{label} {value}.0" in counted
        assert f'qanat_sink_failures_total{{kind="down",sink="office"}} {tries - 1}.0' in counted
        post(server, {"site": "b", "state": "raised"})
        wait_for(lambda: ("b", "raised") in told(receiver), "another one")
        wait_for(lambda: 'qanat_sink_lag_rows{sink="office"} 0.0' in metrics(server), "nothing waits")
        listed = qanat("sink", "list", "--dir", project).stdout
        assert listed == f"office: alerts -> webhook {receiver.url} (0 waiting, 1 raised)\n"
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=30)


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text


def test_killed_again_and_again_every_alert_comes_and_no_flood(project: Path, receiver: Receiver) -> None:
    """Twelve sites raise, each many times; qanat is killed after each round. By their ids each comes once."""
    rounds, sites = 4, 3
    for number in range(rounds):
        server = Server(project)
        if number % 2:
            receiver.answers = [503, "close"]
        names = [f"site-{number}-{n}" for n in range(sites)]
        post(server, *({"site": name, "state": "raised", "level": n} for n in range(5) for name in names))
        if number % 2 == 0:
            wait_for(lambda want=number * sites + 1: len(set(told(receiver))) >= want, "one of this round")
        server.process.send_signal(signal.SIGKILL)
        server.process.communicate(timeout=30)
    receiver.answers = []
    server = Server(project)
    try:
        wait_for(lambda: len(set(told(receiver))) == rounds * sites, "every alert, in the end")
        post(server, *({"site": f"site-{number}-0", "state": "raised"} for number in range(rounds)))
        wait_for(lambda: 'qanat_sink_lag_rows{sink="office"} 0.0' in metrics(server), "all is read")
        time.sleep(0.3)
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=30)
    by_id = {headers["idempotency-key"]: body["row"]["site"] for (headers, _), body in
             zip(receiver.requests, receiver.bodies, strict=True)}  # fmt: skip
    assert len(by_id) == rounds * sites
    assert len(set(by_id.values())) == rounds * sites
    assert len(receiver.requests) <= rounds * sites + 3 * rounds


def test_a_test_message(project: Path, receiver: Receiver, qanat: Any) -> None:
    done = qanat("sink", "test", "office", "--dir", project)
    assert done.stdout == f"sink office: {receiver.url} has taken the test message\n"
    [body] = receiver.bodies
    assert body["test"] is True
    assert body["id"].startswith("test/alerts/0/")
    assert body["row"] == {"site": "site", "state": "state", "level": 0.0}
    receiver.answers = [403]
    failed = qanat("sink", "test", "office", "--dir", project)
    assert failed.returncode == 1
    assert "answered 403" in failed.stderr
    receiver.answers = [403]
    failed = qanat("sink", "test", "office", "--dir", project, "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["delivered"] is False
    assert qanat("sink", "test", "offic", "--dir", project).returncode == 2


def test_before_the_first_start(project: Path, receiver: Receiver, qanat: Any) -> None:
    assert qanat("sink", "list", "--dir", project).stdout == (
        f"office: alerts -> webhook {receiver.url} (has not run yet)\n"
    )
    found = json.loads(qanat("sink", "list", "--dir", project, "--json").stdout)
    assert found["has_run"] is False


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("stream: alerts", "stream: alert", "no stream 'alert'"),
        ("key: [site]", "key: [sites]", "has no column 'sites'"),
        ("    webhook:", "    email: {host: x, sender: a@b.c, to: [a@b.c]}\n    webhook:", "webhook and email"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(project: Path, qanat: Any, old: str, new: str, said: str) -> None:
    config = project / "qanat.yaml"
    config.write_text(config.read_text().replace(old, new))
    done = qanat("up", project, "--mqtt-port", 0, "--http-port", 0)
    assert done.returncode == 2
    assert said in done.stderr
