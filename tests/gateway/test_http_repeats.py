"""Requests that come again: Idempotency-Key and CloudEvents, also across a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from qanat.errors import LogFullError
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

NOW = 1_700_000_000_000
SECONDS = NOW // 1000
BODY = b'{"client_id": "h1"}\nbad\n{"client_id": "h2"}'
ANSWER = {"accepted": 2, "dead_letters": 1}


def post(running: Any, body: bytes, key: str | None, auth: Any = None, **headers: str) -> httpx.Response:
    if key is not None:
        headers["idempotency-key"] = key
    return httpx.post(f"{running.url}/streams/power", content=body, headers=headers, auth=auth, timeout=30)


def told(answer: httpx.Response) -> tuple[int, bool, int, int]:
    content = answer.json()
    replayed = answer.headers.get("idempotency-replayed") == "true"
    return answer.status_code, replayed, content["accepted"], content["dead_letters"]


def test_the_same_key_stores_once_and_answers_alike(start: Callable[..., Any]) -> None:
    running = start()
    first, second = post(running, BODY, '"k-1"'), post(running, BODY, "k-1")
    assert (told(first), told(second)) == ((200, False, 2, 1), (200, True, 2, 1))
    assert first.content == second.content
    assert len(running.log.rows("power")) == 2
    assert len(running.log.rows("dead_letters")) == 1
    assert told(post(running, BODY, "k-2")) == (200, False, 2, 1)
    assert told(post(running, BODY, None)) == (200, False, 2, 1)
    assert len(running.log.rows("power")) == 6


def test_the_same_key_with_another_body_is_422(start: Callable[..., Any]) -> None:
    running = start()
    post(running, BODY, "k")
    for other in (post(running, BODY + b"\n", "k"), post(running, BODY, "k", **{"content-type": "text/plain"})):
        assert other.status_code == 422
        assert "new Idempotency-Key" in other.json()["hint"]
    assert len(running.log.rows("power")) == 2


def test_a_body_of_bad_rows_only_is_replayed_as_the_422_that_it_was(start: Callable[..., Any]) -> None:
    running = start()
    first, second = post(running, b"bad", "k"), post(running, b"bad", "k")
    assert told(second) == (422, True, 0, 1)
    assert first.json() == second.json()
    assert len(running.log.rows("dead_letters")) == 1


def test_keys_of_users_and_streams_do_not_meet(start: Callable[..., Any]) -> None:
    users = tuple(User(name, hash_password("s", Cost.DEVICE)) for name in ("a", "b"))
    running = start(users=users)
    for auth in (("a", "s"), ("b", "s")):
        assert told(post(running, BODY, "k", auth)) == (200, False, 2, 1)
    other = httpx.post(f"{running.url}/streams/plain", content=BODY, headers={"idempotency-key": "k"}, auth=("a", "s"))
    assert "idempotency-replayed" not in other.headers
    assert told(post(running, BODY, "k", ("a", "s"))) == (200, True, 2, 1)


def test_keys_that_are_none_are_400(start: Callable[..., Any]) -> None:
    running = start()
    for key in ("", '""', "x" * 256):
        assert post(running, BODY, key).status_code == 400


def test_a_request_that_failed_may_come_again_with_its_key(start: Callable[..., Any], fake_log: Any) -> None:
    running = start(fake_log)
    fake_log.fail_with = LogFullError("the disk is full")
    assert post(running, BODY, "k").status_code == 507
    fake_log.fail_with = None
    assert told(post(running, BODY, "k")) == (200, False, 2, 1)
    assert told(post(running, BODY, "k")) == (200, True, 2, 1)


def test_of_two_at_once_one_is_stored_and_the_other_waits(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(post(running, BODY, "k"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert fake_log.submitted.acquire(timeout=20)
    assert post(running, b"{}", "k").status_code == 422  # another body need not wait
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    for thread in threads:
        thread.join(20)
    assert sorted(map(told, answers)) == [(200, False, 2, 1), *[(200, True, 2, 1)] * 4]
    assert len(fake_log.rows("power")) == 2


def test_after_a_day_the_key_is_free_again(start: Callable[..., Any]) -> None:
    running = start()
    post(running, BODY, "k")
    running.now += 86_400_000 - 1
    assert told(post(running, BODY, "k"))[1]
    running.now += 1
    assert not told(post(running, BODY, "k"))[1]


# --- CloudEvents -----------------------------------------------------------------------------------------------------


def event(number: int, data: Any = None, **more: Any) -> dict[str, Any]:
    data = {"client_id": f"h{number}", "consumption": number} if data is None else data
    return {"specversion": "1.0", "id": str(number), "source": "/meters", "type": "reading", "data": data, **more}


def send(running: Any, content: Any, kind: str, stream: str = "power") -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(f"{running.url}/streams/{stream}", content=body, headers={"content-type": kind})


STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


@pytest.mark.parametrize("convert", [to_binary_event, to_structured_event])
def test_events_of_the_python_sdk_are_rows(start: Callable[..., Any], convert: Any) -> None:
    running = start()
    made = CloudEvent(
        {"type": "reading", "source": "/meters/ä", "id": "1", "time": _instant(NOW - 60_000)},
        {"client_id": "h1", "consumption": 2.5},
    )
    message = convert(made)
    answer = httpx.post(f"{running.url}/streams/power", content=message.body, headers=dict(message.headers))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "dead_letters": 0})
    assert running.log.rows("power") == [{"client_id": "h1", "timestamp": SECONDS - 60, "consumption": 2.5}]
    again = httpx.post(f"{running.url}/streams/power", content=message.body, headers=dict(message.headers))
    assert again.headers["idempotency-replayed"] == "true"
    assert len(running.log.rows("power")) == 1


def _instant(at: int) -> Any:
    import datetime as dt

    return dt.datetime.fromtimestamp(at / 1000, dt.UTC)


def test_time_stands_in_where_the_data_has_none_in_the_unit_of_its_column(start: Callable[..., Any]) -> None:
    running = start()
    time = "2023-11-14T23:00:00.5+01:00"
    for stream in ("power", "power_ms"):
        send(running, event(1, {"client_id": "a"}, time=time), STRUCTURED, stream)
        send(running, event(2, {"client_id": "b", "timestamp": 7}, time=time), STRUCTURED, stream)
        send(running, event(3, {"client_id": "c"}), STRUCTURED, stream)
    assert [row["timestamp"] for row in running.log.rows("power")] == [1_699_999_200, 7, SECONDS]
    assert [row["timestamp"] for row in running.log.rows("power_ms")] == [1_699_999_200_500, 7, NOW]
    send(running, event(4, {"id": "x"}, time=time), STRUCTURED, "stamped")
    assert running.log.rows("stamped")[0]["ts"] == _instant(1_699_999_200_500)


def test_columns_named_like_attributes_take_them(start: Callable[..., Any]) -> None:
    running = start()
    time = "2023-11-14T22:00:00Z"
    assert send(running, event(1, {"v": 1}, time=time, subject="s"), STRUCTURED, "events").status_code == 200
    row = running.log.rows("events")[0]
    assert (row["v"], row["ce_id"], row["ce_source"], row["ce_type"], row["ce_subject"]) == (
        1,
        "1",
        "/meters",
        "reading",
        "s",
    )
    assert row["ce_time"] == _instant(1_699_999_200_000)


def test_a_batch_stores_each_event_once_and_tells_of_all(start: Callable[..., Any]) -> None:
    running = start()
    assert send(running, [event(1), event(2, "no object")], BATCH).json()["accepted"] == 1
    answer = send(running, [event(2, "no object"), event(1), event(3), event(3), event(4, [])], BATCH)
    assert answer.json() == {
        "accepted": 3,
        "dead_letters": 2,
        "repeated": 3,
        "errors": [
            {"row": 0, "reason": "not a CloudEvent: its data is not a JSON object"},
            {"row": 4, "reason": "not a CloudEvent: its data is not a JSON object"},
        ],
    }
    assert [row["client_id"] for row in running.log.rows("power")] == ["h1", "h3"]
    letters = [json.loads(row["data"]) for row in running.log.rows("dead_letters")]
    assert letters == [event(2, "no object"), event(4, [])]
    again = send(running, [event(1), event(3)], BATCH)
    assert (again.json(), again.headers["idempotency-replayed"]) == ({"accepted": 2, "dead_letters": 0}, "true")


def test_the_same_id_of_another_source_is_another_event(start: Callable[..., Any]) -> None:
    running = start()
    send(running, [event(1), event(1, source="/others")], BATCH)
    assert len(running.log.rows("power")) == 2


def test_data_as_base64_and_data_that_is_no_json(start: Callable[..., Any]) -> None:
    running = start()
    encoded = {key: value for key, value in event(1).items() if key != "data"}
    encoded["data_base64"] = "eyJjbGllbnRfaWQiOiAiaDEifQ=="
    assert send(running, encoded, STRUCTURED).status_code == 200
    headers = {"ce-specversion": "1.0", "ce-id": "2", "ce-source": "s", "ce-type": "t"}
    answer = httpx.post(f"{running.url}/streams/power", content=b"{not json", headers=headers)
    assert answer.status_code == 422
    letter = json.loads(running.log.rows("dead_letters")[0]["data"])
    assert (letter["id"], letter["data_base64"]) == ("2", "e25vdCBqc29u")
    csv = httpx.post(f"{running.url}/streams/power", content=b"a", headers={**headers, "content-type": "text/csv"})
    assert csv.status_code == 415


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (STRUCTURED, b"{"),
        (STRUCTURED, event(1, specversion="0.3")),
        (STRUCTURED, {**event(1), "id": ""}),
        (STRUCTURED, {**event(1), "source": 5}),
        (STRUCTURED, {"specversion": "1.0", "id": "1", "source": "s"}),
        (BATCH, event(1)),
        (BATCH, []),
    ],
)
def test_what_is_no_event_is_refused_whole(start: Callable[..., Any], kind: str, content: Any) -> None:
    running = start()
    answer = send(running, content, kind)
    assert answer.status_code == 400
    assert answer.json()["hint"]
    assert running.log.stored == []


def test_an_event_whose_time_is_none_is_a_dead_letter(start: Callable[..., Any]) -> None:
    running = start()
    for number, time in enumerate(("yesterday", "2023-11-14T22:00:00", "0001-01-01T00:00:00+10:00")):
        assert send(running, event(number, time=time), STRUCTURED).status_code == 422
    assert len(running.log.rows("dead_letters")) == 3


# --- across a kill ---------------------------------------------------------------------------------------------------

SQL = "CREATE TABLE power (client_id STRING, v BIGINT);\n"


class Station:
    """`qanat up` in a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "power.sql").write_text(SQL)
        self.begin()

    def begin(self) -> None:
        command = [
            sys.executable,
            "-m",
            "qanat",
            "up",
            str(self.folder),
            "--http-port",
            "0",
            "--mqtt-port",
            "0",
            "--json",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said.get("protocol") == "http":
                self.url = f"http://127.0.0.1:{said['port']}"
            if said["event"] == "ready":
                return
        raise AssertionError("it did not start")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def rows(self) -> list[Any]:
        command = [
            sys.executable,
            "-m",
            "qanat",
            "query",
            "--json",
            "--dir",
            str(self.folder),
            "SELECT v FROM power ORDER BY v",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(line)["v"] for line in done.stdout.splitlines()]


def test_answers_survive_kill_9(tmp_path: Path) -> None:
    station = Station(tmp_path)
    try:
        for number in range(40):
            post(station, b'{"v": %d}' % number, f"k{number}")
        send(station, [event(number, {"v": 100 + number}) for number in range(40)], BATCH)
        station.kill()
        station.begin()
        for number in range(40):
            assert told(post(station, b'{"v": %d}' % number, f"k{number}")) == (200, True, 1, 0)
        again = send(station, [event(number, {"v": 100 + number}) for number in range(41)], BATCH)
        assert (again.json()["accepted"], again.json()["repeated"]) == (41, 40)
        assert post(station, b"{}", "k3").status_code == 422
    finally:
        station.kill()
    assert station.rows() == [*range(40), *range(100, 141)]
