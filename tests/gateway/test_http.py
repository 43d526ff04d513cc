"""HTTP: bodies, statuses, credentials, and 200 only after the commit."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from qanat.errors import BackpressureError, LogError, LogFullError
from qanat.gateway import IngestLimits
from qanat.gateway.http.rows import RowsEndpoint
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

NOW = 1_700_000_000_000
USERS = (User("h1", hash_password("secret", Cost.DEVICE), ("power",)),)


def reading(number: int) -> dict[str, Any]:
    return {"client_id": f"h{number % 7}", "timestamp": NOW // 1000 - 10_000 + number, "consumption": number / 2}


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


THREE = [reading(0), reading(1), reading(2)]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps(THREE).encode()),
        ("application/json; charset=utf-8", json.dumps(THREE, indent=2).encode()),
        ("application/x-ndjson", lines(THREE)),
        ("application/jsonl", lines(THREE).rstrip() + b"\n\n  \n"),
        ("application/ndjson", lines(THREE).replace(b"\n", b"\r\n")),
        ("", lines(THREE)),
        ("", json.dumps(THREE).encode()),
        ("application/x-www-form-urlencoded", lines(THREE)),
    ],
)
def test_bodies_of_every_kind(start: Callable[..., Any], kind: str, body: bytes) -> None:
    running = start()
    answer = httpx.post(f"{running.url}/streams/power", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "dead_letters": 0})
    assert running.log.rows("power") == THREE


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_is_one_row(start: Callable[..., Any], kind: str, indent: int | None) -> None:
    running = start()
    body = json.dumps(reading(1), indent=indent)
    answer = httpx.post(f"{running.url}/streams/power", content=body, headers={"content-type": kind})
    assert answer.json() == {"accepted": 1, "dead_letters": 0}
    assert running.log.rows("power") == [reading(1)]


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert content["status"] == status
    assert content["detail"]
    assert content["hint"]
    return content


@pytest.mark.parametrize("body", [b"", b" \n\n ", b"[]"])
def test_a_body_without_rows_is_refused(start: Callable[..., Any], body: bytes) -> None:
    running = start()
    assert "hint" in is_problem(httpx.post(f"{running.url}/streams/power", content=body), 400)
    assert running.log.stored == []


def test_unknown_streams_are_told_which_there_are(start: Callable[..., Any]) -> None:
    running = start()
    content = is_problem(httpx.post(f"{running.url}/streams/powr", json=reading(0)), 404)
    assert "power" in content["hint"]
    assert "dead_letters" not in content["hint"]
    assert running.log.stored == []


@pytest.mark.parametrize("name", ["dead_letters", "late", "predictions"])
def test_streams_that_qanat_writes_itself_take_no_input(start: Callable[..., Any], name: str) -> None:
    is_problem(httpx.post(f"{start().url}/streams/{name}", json={}), 403)


def test_sizes_and_kinds_that_are_not_taken(start: Callable[..., Any]) -> None:
    running = start(max_body_bytes=100)
    url = f"{running.url}/streams/power"
    is_problem(httpx.post(url, content=bytes(101)), 413)
    is_problem(httpx.post(url, content=iter([bytes(60), bytes(60)])), 413)  # chunked: the size is not said
    is_problem(httpx.post(url, content=b"<a/>", headers={"content-type": "text/xml"}), 415)


def test_a_body_of_bad_rows_only_is_422_and_kept(start: Callable[..., Any]) -> None:
    running = start()
    for body in (b"{not json", b"[1, 2", b'{"consumption": "much"}'):
        content = is_problem(httpx.post(f"{running.url}/streams/power", content=body), 422)
        assert (content["accepted"], content["dead_letters"]) == (0, 1)
        row = running.log.rows("dead_letters")[-1]
        assert row["data"] == body
        assert (row["stream"], row["source"], row["origin"]) == ("power", "http", "/streams/power")
        assert row["client"] == "127.0.0.1"


def test_four_thousand_rows_good_and_bad(start: Callable[..., Any]) -> None:
    running = start()
    bad = {i: json.dumps({"client_id": "h", "consumption": f"bad {i}"}).encode() for i in range(0, 4000, 3)}
    body = b"\n".join(bad.get(i) or json.dumps(reading(i)).encode() for i in range(4000))
    answer = httpx.post(f"{running.url}/streams/power", content=body)
    assert answer.status_code == 200
    content = answer.json()
    assert (content["accepted"], content["dead_letters"]) == (4000 - len(bad), len(bad))
    assert [error["row"] for error in content["errors"]] == list(bad)[:10]
    assert running.log.rows("power") == [reading(i) for i in range(4000) if i not in bad]
    assert [row["data"] for row in running.log.rows("dead_letters")] == list(bad.values())
    assert running.log.transactions == 1  # rows and dead letters become visible together


def test_credentials(start: Callable[..., Any]) -> None:
    running = start(users=USERS)
    url = f"{running.url}/streams/power"
    for auth in (None, ("h1", "wrong"), ("nobody", "secret")):
        answer = httpx.post(url, json=reading(0), auth=auth)
        is_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Basic")
    for header in ("Bearer x", "Basic !!!", "Basic aDE="):
        is_problem(httpx.post(url, json=reading(0), headers={"authorization": header}), 401)
    assert httpx.post(url, json=reading(0), auth=("h1", "secret")).status_code == 200
    is_problem(httpx.post(f"{running.url}/streams/plain", json={}, auth=("h1", "secret")), 403)
    is_problem(httpx.get(f"{running.url}/metrics"), 401)
    assert httpx.get(f"{running.url}/healthz").status_code == 200
    assert len(running.log.rows("power")) == 1


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_200_comes_after_the_commit_and_not_before(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log)
    thread, answers = in_background(lambda: httpx.post(f"{running.url}/streams/power", json=reading(0)))
    assert fake_log.submitted.acquire(timeout=20)
    assert httpx.get(f"{running.url}/healthz").status_code == 200  # the server goes on
    assert answers == []
    running.loop.call_soon_threadsafe(fake_log.release)
    thread.join(20)
    assert answers[0].json() == {"accepted": 1, "dead_letters": 0}


def test_when_too_much_waits_requests_are_told_to_come_back(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log, ingest=IngestLimits(max_pending_messages=3))
    url = f"{running.url}/streams/power"
    thread, answers = in_background(lambda: httpx.post(url, json=THREE))
    assert fake_log.submitted.acquire(timeout=20)
    refused = httpx.post(url, json=reading(9))
    is_problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    health = httpx.get(f"{running.url}/healthz")
    assert health.status_code == 503
    assert health.json()["checks"]["gateway"] == "waits for the log"
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    thread.join(20)
    assert answers[0].status_code == 200
    assert httpx.post(url, json=reading(9)).status_code == 200
    assert len(fake_log.rows("power")) == 4


@pytest.mark.parametrize(("error", "status"), [(LogFullError("the disk is full"), 507), (LogError("broken"), 503)])
def test_a_log_that_fails_is_an_error_with_a_time(
    start: Callable[..., Any], fake_log: Any, error: LogError, status: int
) -> None:
    fake_log.fail_with = error
    running = start(fake_log)
    answer = httpx.post(f"{running.url}/streams/power", json=reading(0))
    is_problem(answer, status)
    assert int(answer.headers["retry-after"]) >= 1
    assert fake_log.stored == []


def test_a_busy_log_is_waited_for(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.busy = [BackpressureError("busy", retry_after=0.001) for _ in range(3)]
    running = start(fake_log)
    assert httpx.post(f"{running.url}/streams/power", json=reading(0)).status_code == 200


def test_other_paths_and_methods_are_problems_too(start: Callable[..., Any]) -> None:
    running = start()
    assert "hint" in is_problem(httpx.get(f"{running.url}/nowhere"), 404)
    is_problem(httpx.get(f"{running.url}/streams/power"), 405)


def test_a_fault_that_nobody_foresaw_is_a_problem_too(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("the password is tomato")

    running = start(checks=fail)
    told = is_problem(httpx.get(f"{running.url}/healthz"), 500)
    assert told["detail"] == "ZeroDivisionError: this should not have happened"
    monkeypatch.setattr(RowsEndpoint, "respond", fail)
    told = is_problem(httpx.post(f"{running.url}/streams/power", json=THREE), 500)
    assert "tomato" not in str(told)
    running.stop()  # what is logged comes after the answer
    assert caplog.text.count("\nZeroDivisionError: the password is tomato") == 2


def test_what_is_no_http_is_a_problem_too(start: Callable[..., Any]) -> None:
    running = start()
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as peer:
        peer.sendall(b"GET /\xff\x00 nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_health_says_what_is_wrong(start: Callable[..., Any]) -> None:
    faults: dict[str, str | None] = {"log": None, "pipelines": None}
    running = start(checks=lambda: faults)
    assert httpx.get(f"{running.url}/healthz").json()["status"] == "ok"
    faults["pipelines"] = "predict has stopped"
    answer = httpx.get(f"{running.url}/healthz")
    assert answer.status_code == 503
    listeners = {"listener mqtt": "ok", "listener http": "ok"}
    assert answer.json()["checks"] == {"gateway": "ok", **listeners, "log": "ok", "pipelines": "predict has stopped"}


def test_metrics_are_served(start: Callable[..., Any]) -> None:
    running = start()
    httpx.post(f"{running.url}/streams/power", json=THREE)
    answer = httpx.get(f"{running.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'qanat_gateway_rows_accepted_total{stream="power"} 3.0' in answer.text
    assert 'qanat_gateway_messages_total{protocol="http",stream="power"} 3.0' in answer.text
