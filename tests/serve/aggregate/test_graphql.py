"""Aggregates asked for by GraphQL: the answer of GET /v1/aggregate/NAME, to the same caller, with the same refusals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.serve.aggregate.conftest import NOW, Row, Server, Start

ROWS: list[Row] = [
    ("north", 1, "s1", NOW - 1_000_000, 10.0),
    ("north", 1, "s1", NOW - 2000, 20.0),
    ("köln", 2, "s2", NOW - 1000, 30.0),
    ("a+b", 1, "s3", NOW - 500, 40.0),
]
ASKED = "query($name: String!, $query: String!) { aggregate(name: $name, query: $query) }"


@pytest.fixture
def server(start: Start) -> Server:
    running = start()
    running.append(ROWS)
    running.catch_up()
    return running


def ask(server: Server, query: str, name: str = "readings", **headers: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{server.gateway.http_port}/graphql"
    body = {"query": ASKED, "variables": {"name": name, "query": query}}
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    "query",
    [
        "",
        "window=15 min",
        "site=north&by=sensor&window=30 min&from=-1h&functions=count,avg,p95",
        "by=site,field&from=-30d",  # by SQL
        "site=k%C3%B6ln",
        "site=a%2Bb",
        "site=west&by=site",
    ],
)
def test_the_answer_is_that_of_the_path(server: Server, query: str) -> None:
    path = httpx.get(f"http://127.0.0.1:{server.gateway.http_port}/v1/aggregate/readings?{query}", timeout=60)
    assert path.status_code == 200
    found = ask(server, query)
    assert "errors" not in found
    assert found["data"]["aggregate"] == path.json()


def test_text_that_a_url_would_have_to_escape_is_found(server: Server) -> None:
    told = ask(server, "site=köln&by=site")["data"]["aggregate"]
    assert [(group["by"], group["windows"][0]["count"]) for group in told["groups"]] == [({"site": "köln"}, 1)]


def test_both_ways_share_what_is_kept(server: Server) -> None:
    ask(server, "site=north")
    assert server.get("/v1/aggregate/readings", site="north").headers["cache-status"] == "qanat; hit"


def test_refusals_are_those_of_the_path(server: Server) -> None:
    for name, query in (("readings", "senser=s1"), ("nope", ""), ("readings", "from=-1d&window=1s"), ("a/b", "")):
        path = httpx.get(f"http://127.0.0.1:{server.gateway.http_port}/v1/aggregate/{name}?{query}", timeout=60)
        (error,) = ask(server, query, name)["errors"]
        content = path.json()
        expected = {"status": path.status_code, "hint": content["hint"]}
        assert (error["message"], error["extensions"]) == (content["detail"], expected), name


def test_who_may_ask(server: Server) -> None:
    mine, others = server.key("read:readings"), server.key("read:power", name="other")
    assert ask(server, "site=north", authorization=f"Bearer {mine}")["data"]["aggregate"]["rows"] == 2
    (error,) = ask(server, "site=north", **{"x-api-key": others})["errors"]
    assert error["extensions"]["status"] == 403
    assert "read:readings" in error["extensions"]["hint"]


def test_no_aggregate_is_declared(start: Start) -> None:
    (error,) = ask(start(aggregates={}), "")["errors"]
    assert (error["extensions"]["status"], "qanat.yaml" in error["extensions"]["hint"]) == (404, True)
