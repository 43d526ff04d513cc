"""What there is: streams, health; ETags, HEAD, gzip, CORS and errors that hold for all of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from qanat.model.api import Api

from .conftest import NOW, reading

Start = Callable[..., Any]


def test_a_stream_is_described_as_it_is_now(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0), reading(1)])
    found = server.get("/v1/streams/readings").json()
    assert found["columns"][3] == {"name": "temperature", "type": "DOUBLE", "nullable": True}
    assert (found["rows"], found["event_time"], found["key"], found["archived"]) == (2, "at", [], False)
    assert found["partitions"] == [{"partition": 0, "start": 0, "end": 2}]
    assert found["newest"] == "2023-11-14T21:13:21.000Z"
    assert found["lag_ms"] == 3_599_000
    assert found["bytes"] > 0
    names = [one["name"] for one in server.get("/v1/streams").json()["streams"]]
    assert names == sorted(["readings", "spread", "größen", "totals", "dead_letters", "late"])
    assert server.get("/v1/streams/größen").json()["columns"][0]["name"] == "höhe"
    assert server.now == NOW


def test_an_unknown_stream_is_a_problem_with_a_hint(start: Start) -> None:
    answer = start().get("/v1/streams/redings")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "readings" in answer.json()["hint"]


def test_what_has_not_changed_is_not_sent_again(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    first = server.get("/v1/streams/readings")
    tag = first.headers["etag"]
    again = server.get("/v1/streams/readings", headers={"if-none-match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    server.feed("readings", [reading(1)])
    changed = server.get("/v1/streams/readings", headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert changed.headers["cache-control"] == "private, no-cache"


def test_head_has_the_headers_of_get_and_no_body(start: Start) -> None:
    server = start()
    for path in ("/v1/streams", "/v1/streams/readings", "/readyz", "/openapi.json"):
        get, head = server.get(path), httpx.head(server.url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("etag") == get.headers.get("etag")
        assert head.headers["content-type"] == get.headers["content-type"]
    assert httpx.head(f"{server.url}/v1/streams/none").status_code == 404


def test_large_answers_are_compressed_for_who_understands_it(start: Start) -> None:
    server = start()
    assert server.get("/v1/streams", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in server.get("/v1/streams", headers={"accept-encoding": "identity"}).headers


def test_pages_of_other_origins_are_let_in_only_where_it_was_said(start: Start) -> None:
    origin = {"origin": "https://farm.example"}
    assert "access-control-allow-origin" not in start().get("/v1/streams", headers=origin).headers


def test_configured_origins_are_let_in(start: Start) -> None:
    server = start(api=Api(cors=("https://farm.example",)))
    allowed = server.get("/v1/streams", headers={"origin": "https://farm.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://farm.example"
    other = server.get("/v1/streams", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    asked = {"origin": "https://farm.example", "access-control-request-method": "POST"}
    assert httpx.options(f"{server.url}/v1/query", headers=asked).status_code == 200


def test_ready_says_exactly_what_is_not_well(start: Start) -> None:
    server = start()
    assert server.get("/readyz").json() == {"ready": True, "faults": []}
    server.faults |= {"log": None, "pipeline climate": "state limit reached"}
    answer = server.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "faults": [{"part": "pipeline climate", "fault": "state limit reached"}]}
