"""Dead letters over HTTP: found, looked into and repaired by those who may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from qanat.log import open_log
from qanat.log.base import Log
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

BAD = '{"client_id":"a","timestamp":1700000000,"consumption":"warm"}\n{"client_id":"b"\n{"client_id":"c"}'


@pytest.fixture
def log(streams: Any) -> Iterator[Log]:
    found = open_log("memory://")
    for stream in streams.values():
        found.create(stream)
    yield found
    found.close()


def user(name: str, **rights: Any) -> User:
    return User(name, hash_password(name, Cost.DEVICE), **rights)


def feed(url: str, **more: Any) -> None:
    answer = httpx.post(f"{url}/streams/power", content=BAD, headers={"content-type": "application/x-ndjson"}, **more)
    assert answer.json()["dead_letters"] == 2


def rows(log: Log, stream: str) -> list[dict[str, Any]]:
    return [row for chunk in log.read((stream, 0), 0, 1000) for row in chunk.rows.to_pylist()]


def test_a_letter_is_found_looked_into_and_repaired_once(start: Callable[..., Any], log: Log) -> None:
    url = start(log).url
    feed(url)
    page = httpx.get(f"{url}/v1/dead-letters", params={"limit": 1}).json()
    assert [(one["id"], one["client"], page["next"]) for one in page["letters"]] == [("0:1", "127.0.0.1", "0:1")]
    page = httpx.get(f"{url}/v1/dead-letters", params={"before": page["next"], "reason": "warm"}).json()
    assert ([one["id"] for one in page["letters"]], page["next"]) == (["0:0"], None)
    counts = httpx.get(f"{url}/v1/dead-letters/counts", params={"by": "stream"}).json()
    assert counts == {"counts": [{"stream": "power", "letters": 2}]}
    one = httpx.get(f"{url}/v1/dead-letters/0:0").json()
    assert one["fate"] == "does not fit"
    assert {c["name"]: c["fault"] for c in one["columns"]}["consumption"] == 'expected DOUBLE, found string "warm"'
    body = {"letters": [{"id": "0:0"}, {"id": "0:1", "data": '{"client_id":"b"}'}], "set": {"consumption": "2.5"}}
    would = httpx.post(f"{url}/v1/dead-letters/retry", json={**body, "dry_run": True}).json()
    assert [one["fate"] for one in would["letters"]] == ["would fit", "would fit"]
    assert len(rows(log, "power")) == 1
    for fate in ("repaired", "repaired before"):
        tried = httpx.post(f"{url}/v1/dead-letters/retry", json=body).json()
        assert [one["fate"] for one in tried["letters"]] == [fate, fate]
    assert [(row["client_id"], row["consumption"]) for row in rows(log, "power")] == [
        ("c", None), ("a", 2.5), ("b", 2.5)
    ]  # fmt: skip
    assert httpx.get(f"{url}/v1/dead-letters").json()["letters"] == []
    assert len(httpx.get(f"{url}/v1/dead-letters", params={"all": "true"}).json()["letters"]) == 2


def test_rights_are_those_of_reading_and_of_feeding(start: Callable[..., Any], log: Log) -> None:
    users = (
        user("meter"),
        user("reader", publish=("plain",), subscribe=("dead_letters",)),
        user("keeper", subscribe=("dead_letters",)),
        user("boss", publish=(), admin=True),
    )
    url = start(log, users=users).url
    feed(url, auth=("meter", "meter"))
    body = {"letters": [{"id": "0:1", "data": '{"client_id":"b"}'}]}

    def retry(name: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/dead-letters/retry", json=body, auth=(name, name))

    assert httpx.get(f"{url}/v1/dead-letters").status_code == 401
    for path in ("", "/counts", "/0:1"):
        assert httpx.get(f"{url}/v1/dead-letters{path}", auth=("meter", "meter")).status_code == 403
        assert httpx.get(f"{url}/v1/dead-letters{path}", auth=("boss", "boss")).status_code == 200
    assert retry("meter").status_code == 403
    for name in ("reader", "boss"):
        (tried,) = retry(name).json()["letters"]
        assert (tried["fate"], tried["reason"]) == ("refused", "this user may not publish to power")
    assert retry("keeper").json()["letters"][0]["fate"] == "repaired"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "?limit=0", None, 400),
        ("GET", "?limit=x", None, 400),
        ("GET", "?since=yesterday", None, 400),
        ("GET", "?before=1:1", None, 400),
        ("GET", "?colour=red", None, 400),
        ("GET", "/counts?by=colour", None, 400),
        ("GET", "/0:77", None, 404),
        ("GET", "/x", None, 400),
        ("POST", "/retry", "{", 400),
        ("POST", "/retry", '{"letters": []}', 400),
        ("POST", "/retry", '{"letters": [{"id": "0:1", "colour": 1}]}', 400),
        ("POST", "/retry", '{"letters": [{"id": "x"}]}', 400),
        ("POST", "/retry", '{"letters": [{"id": "0:1", "data_base64": "?"}]}', 400),
    ],
)
def test_what_makes_no_sense_is_a_problem_with_a_hint(
    start: Callable[..., Any], log: Log, method: str, path: str, sent: str | None, status: int
) -> None:
    answer = httpx.request(method, f"{start(log).url}/v1/dead-letters{path}", content=sent)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["hint"]


def test_letters_that_came_as_csv_are_repaired_as_csv(start: Callable[..., Any], log: Log) -> None:
    url = start(log).url
    body = "client_id,timestamp,consumption\na,1,2.5\nb,2,warm\n"
    assert (
        httpx.post(f"{url}/streams/power", content=body, headers={"content-type": "text/csv"}).json()["accepted"] == 1
    )
    one = httpx.get(f"{url}/v1/dead-letters/0:0", params={"format": "csv"}).json()
    assert {c["name"]: c["fault"] is None for c in one["columns"]}["client_id"]
    retry = {"letters": [{"id": "0:0"}], "set": {"consumption": "7"}, "format": "csv"}
    assert httpx.post(f"{url}/v1/dead-letters/retry", json=retry).json()["letters"][0]["fate"] == "repaired"
    assert [row["consumption"] for row in rows(log, "power")] == [2.5, 7.0]
    wrong = httpx.post(f"{url}/v1/dead-letters/retry", json={**retry, "format": "xml"})
    assert (wrong.status_code, "csv" in wrong.json()["hint"]) == (400, True)
