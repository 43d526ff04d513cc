"""The OpenAPI document: complete, right about what is answered, and shown on a page that needs nothing from the net."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

from .conftest import reading

Start = Callable[..., Any]
#: Examples of each operation.
EXAMPLES = 6
#: Live rows do not end by themselves; tests/serve/test_live.py has them.
ENDLESS = "/rows/live"


@pytest.fixture
def server(start: Start, tmp_path: Path) -> Any:
    found = start(log="memory", devices=tmp_path / "devices.db")
    found.feed("readings", [reading(n) for n in range(5)])
    found.post("/v1/streams/readings/rows", json={"temperature": "warm"})
    return found


def test_nothing_that_the_document_allows_or_forbids_is_a_fault_of_the_server(server: Any) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    checks = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith(ENDLESS):
            continue
        tried += 1
        for mode in GenerationMode:
            probe(operation, mode, lambda case: case.call_and_validate(base_url=server.url, checks=checks, timeout=20))
    assert tried > 25


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
