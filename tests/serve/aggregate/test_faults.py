"""What nobody foresaw, on a route that FastAPI does not see: one problem, one entry in the log, and it goes on."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.serve.aggregate.conftest import NOW, Server, Start

from qanat.gateway.http.problems import problem_of_fault
from qanat.serve.v1 import aggregate

PROBLEM = json.loads(bytes(problem_of_fault(KeyError("secret")).body))


@pytest.fixture
def server(start: Start) -> Server:
    running = start()
    running.append([("north", 1, "s1", NOW - 2000, 20.0)])
    running.catch_up()
    return running


def broken(*_: object, **__: object) -> Any:
    raise KeyError("secret")


def finding(server: Server, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(type(server.aggregates._aside), "peek", broken)


def answering(server: Server, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aggregate, "_answer", broken)


def refusing(server: Server, patch: pytest.MonkeyPatch) -> None:
    """Where nothing of the endpoint was reached yet."""
    patch.setitem(server.gateway.parts.at_hand, b"/v1/aggregate", broken)
    patch.setattr(aggregate.AggregateEndpoint, "__call__", broken)


@pytest.mark.parametrize("headers", [{}, {"origin": "https://farm.example"}])
@pytest.mark.parametrize("part", [finding, answering, refusing])
def test_a_fault_is_a_problem_and_the_connection_goes_on(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: Callable[[Server, pytest.MonkeyPatch], None],
    headers: dict[str, str],
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.gateway.http_port or 0, timeout=20)
    connection.connect()
    socket = connection.sock
    with monkeypatch.context() as patch:
        part(server, patch)
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, "/v1/aggregate/readings?site=north", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json"), method
            assert b"secret" not in body
            assert body == b"" if method == "HEAD" else json.loads(body) == PROBLEM
    connection.request("GET", "/v1/aggregate/readings?site=north", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, len(answer.read()) > 100) == (200, True)
    assert connection.sock is socket
    connection.close()
    assert len([one for one in caplog.records if one.levelno >= logging.ERROR]) == 3, caplog.text


def instead(server: Server, patch: pytest.MonkeyPatch, app: Any) -> None:
    """Something else answers, in the ordinary way."""
    patch.delitem(server.gateway.parts.at_hand, b"/v1/aggregate")
    patch.setattr(aggregate.AggregateEndpoint, "__call__", lambda self, *arguments: app(*arguments))


def test_a_fault_behind_a_whole_answer_is_logged_and_harms_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    async def answer_and_break(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})
        raise KeyError("secret")

    instead(server, monkeypatch, answer_and_break)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.gateway.http_port}", timeout=20) as client:
        assert [client.get("/v1/aggregate").text for _ in range(3)] == ["done"] * 3
    assert len([one for one in caplog.records if one.levelno >= logging.ERROR]) >= 2


def test_a_fault_in_the_middle_of_an_answer_ends_the_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of an answer must not look like a whole one."""

    async def half(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        raise KeyError("secret")

    instead(server, monkeypatch, half)
    with pytest.raises(httpx.RemoteProtocolError):
        server.get()
    wait_until_written(caplog)


def wait_until_written(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is there before the entry in the log is."""
    ending = time.monotonic() + 20
    while not caplog.records:
        assert time.monotonic() < ending
        time.sleep(0.01)
    assert len(caplog.records) == 1


def test_a_fault_is_told_by_graphql_as_by_the_path(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    finding(server, monkeypatch)
    url = f"http://127.0.0.1:{server.gateway.http_port}/graphql"
    answer = httpx.post(url, json={"query": '{ aggregate(name: "readings") }'}, timeout=60)
    (error,) = answer.json()["errors"]
    assert (error["message"], error["extensions"]["status"]) == (PROBLEM["detail"], 500)
