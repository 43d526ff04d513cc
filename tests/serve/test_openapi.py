"""The OpenAPI document: complete, right about what is answered, and shown on a page that needs nothing from the net."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from qanat.contracts.decoders import Contracts
from qanat.contracts.registry import Registry
from qanat.model.serve import Aggregate, Serve

from .conftest import reading

Start = Callable[..., Any]
#: Examples of each operation.
EXAMPLES = 6
#: Live rows do not end by themselves.
ENDLESS = "/rows/live"
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
COLUMNS = {"name": "readings"}
METER = {"name": "meter-17"}
LETTER = {"letters": [{"id": "0:0"}], "set": {"temperature": "20.5"}}
#: (method, path) -> a request that succeeds, in an order in which all of them do.
GOOD: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/streams/{name}"): {"path_parameters": COLUMNS, "body": [{"sensor": "s1"}]},
    ("GET", "/healthz"): {},
    ("GET", "/metrics"): {},
    ("GET", "/readyz"): {},
    ("GET", "/v1/streams"): {},
    ("GET", "/v1/streams/{name}"): {"path_parameters": COLUMNS},
    ("POST", "/v1/streams/{name}/rows"): {"path_parameters": COLUMNS, "body": [{"sensor": "s2"}]},
    ("GET", "/v1/streams/{name}/rows"): {"path_parameters": COLUMNS, "query": {"where": ["count>1"], "limit": 2}},
    ("GET", "/v1/sites"): {"query": {"site": "north"}},
    ("GET", "/v1/pipelines"): {},
    ("GET", "/v1/query"): {"query": {"sql": "SELECT count(*) AS n FROM readings"}},
    ("POST", "/v1/query"): {"body": {"sql": "SELECT 1 AS n"}},
    ("GET", "/v1/aggregate"): {"query": {"window": "1 h", "by": "site", "functions": "count,avg,p95"}},
    ("GET", "/v1/aggregate/{name}"): {"path_parameters": COLUMNS, "query": {"from": "-1d", "window": "1 h"}},
    ("POST", "/graphql"): {"body": {"query": '{ streams aggregate(name: "readings") }'}},
    ("GET", "/v1/dead-letters"): {"query": {"stream": "readings"}},
    ("GET", "/v1/dead-letters/counts"): {"query": {"by": "stream"}},
    ("GET", "/v1/dead-letters/{letter}"): {"path_parameters": {"letter": "0:0"}},
    ("POST", "/v1/dead-letters/retry"): {"body": LETTER},
    ("POST", "/v1/dead-letters/drop"): {"body": {"letters": ["0:1"]}},
    ("POST", "/v1/devices"): {"body": {"id": "meter-17", "credential": "token"}},
    ("GET", "/v1/devices"): {"query": {"prefix": "meter"}},
    ("GET", "/v1/devices/{name}"): {"path_parameters": METER},
    ("PATCH", "/v1/devices/{name}"): {"path_parameters": METER, "body": {"labels": {"site": "north"}}},
    ("POST", "/v1/devices/{name}/rotate"): {"path_parameters": METER, "body": {"grace": "24 h"}},
    ("POST", "/v1/devices/{name}/disable"): {"path_parameters": METER},
    ("POST", "/v1/devices/{name}/enable"): {"path_parameters": METER},
    ("DELETE", "/v1/devices/{name}"): {"path_parameters": METER},
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def server(start: Start, tmp_path: Path, registry: Registry) -> Any:
    declared = Aggregate(stream="readings", value="temperature", dimensions=("site", "sensor"))
    found = start(
        log="memory",
        devices=tmp_path / "devices.db",
        contracts=Contracts(registry, {}),
        serve=Serve(aggregates={"readings": declared}),
    )
    found.feed("readings", [reading(n) for n in range(5)])
    for _ in range(2):
        found.post("/v1/streams/readings/rows", json={"temperature": "warm"})
    found.aggregates.follower.catch_up()
    return found


@pytest.fixture
def key(server: Any) -> dict[str, str]:
    """Of somebody who may do everything."""
    text = server.key("admin", "admin")
    server.wait_until_demanded()
    return {"x-api-key": text}


@pytest.mark.parametrize("scopes", [None, "admin"])
def test_nothing_that_the_document_allows_or_forbids_is_a_fault_of_the_server(server: Any, scopes: str | None) -> None:
    headers = {}
    if scopes is not None:
        headers = {"x-api-key": server.key("somebody", scopes)}
        server.wait_until_demanded()
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        tried.add((operation.method.upper(), operation.path))
        look = listen if operation.path.endswith(ENDLESS) else ask
        for mode in GenerationMode:
            probe(operation, mode, lambda case, look=look: look(case, server.url, headers))
    assert tried == documented(server)


def documented(server: Any) -> set[tuple[str, str]]:
    paths = server.get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def ask(case: Any, url: str, headers: dict[str, str]) -> Any:
    return case.call_and_validate(base_url=url, headers=headers, checks=CHECKS, timeout=20)


def listen(case: Any, url: str, headers: dict[str, str]) -> None:
    """As `ask`, and goes when the first event has come."""
    with requests.request(**case.as_transport_kwargs(base_url=url, headers=headers), stream=True, timeout=20) as answer:
        assert str(answer.status_code) in case.operation.definition.raw["responses"]
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert next(answer.iter_lines()).startswith(b"retry: ")
            return
        assert answer.status_code < 500
        assert (answer.headers["content-type"], answer.json()["status"]) == (
            "application/problem+json",
            answer.status_code,
        )


def test_what_the_document_allows_succeeds(server: Any, key: dict[str, str]) -> None:
    """One request to each endpoint that does what it is for; the answer is as documented."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = {(one.method.upper(), one.path): one for one in (found.ok() for found in schema.get_all_operations())}
    for name, request in GOOD.items():
        given = {"media_type": "application/json", **request} if "body" in request else request
        answer = ask(operations[name].Case(**given), server.url, key)
        assert answer.status_code in (200, 201), (name, answer.text)
    missing = {name for name in documented(server) - set(GOOD) if not name[1].startswith("/registry")}
    assert missing == {("GET", "/v1/streams/{name}/rows/live")}  # tests/serve/test_live.py
    fates = server.get("/v1/dead-letters", params={"all": "true"}, headers=key).json()["letters"]
    assert [one["id"] for one in fates] == ["0:1", "0:0"]
    assert server.get("/v1/dead-letters", headers=key).json()["letters"] == []


def probe(operation: Any, mode: GenerationMode, look: Callable[[Any], Any]) -> None:
    """Some requests that the document allows, or that it does not."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        look(case)

    try:
        run()
    except Unsatisfiable:  # nothing can be wrong with a request that takes nothing
        assert mode is GenerationMode.NEGATIVE


def test_every_operation_has_a_summary_an_answer_and_its_errors(server: Any) -> None:
    document = server.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert {"200", "201"} & set(operation["responses"]), (method, path)
            if path.startswith("/v1/"):
                assert {"401", "429", "500"} <= set(operation["responses"]), (method, path)
                body = operation.get("requestBody")
                assert body is None or "example" in next(iter(body["content"].values())), (method, path)
    assert document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"


def test_references_lead_somewhere(server: Any) -> None:
    text = server.get("/openapi.json").text
    schemas = server.get("/openapi.json").json()["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in schemas


def test_the_page_shows_all_of_it_and_needs_nothing_from_the_net(server: Any) -> None:
    answer = server.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    assert "<script" not in answer.text
    for path in server.get("/openapi.json").json()["paths"]:
        assert path in answer.text
