"""The OpenAPI document of the whole app: that of FastAPI, completed for the gateway's own routes. Values only.

Routes of this room say themselves what they answer; for those of `gateway` it is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from qanat.gateway.repair import AT_ONCE
from qanat.serve.documented import problems
from qanat.serve.v1.models import ProblemModel

_ABOUT = """Rows of streams, SQL over them, live rows, devices, dead letters and pipelines.

Errors are application/problem+json (RFC 9457) with a hint. Who asks says who he is by `Authorization: Bearer qk_...` or
`X-API-Key: qk_...` (a key), or by Basic credentials (a user), once there is any user, device or key.
"""
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key (qk_...) or the token of a device"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic"},
}
_OPEN = ("/healthz", "/readyz")
_JSON = {"application/json": {"schema": {"type": "object"}}}
_TEXT = {"type": "string"}


def _query(name: str, about: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": schema or _TEXT}


def _body(path: str, example: Any) -> dict[str, Any]:
    schema = _BODIES.get(path, {"type": "object"})
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


_LETTERS = [
    _query("stream", "Only those that were meant for this stream"),
    _query("reason", "Only those whose reason holds this text"),
    _query("source", "mqtt, http, ..."),
    _query("client", "Who sent them"),
    _query("since", "Arrived then or later"),
    _query("until", "Arrived before"),
    _query("all", "true: those that were repaired, too"),
]
_PAGING = [
    _query("limit", "At most so many", {"type": "integer", "minimum": 1, "maximum": 10_000}),
]
_STRINGS = {"type": "object", "additionalProperties": _TEXT}
_CHANGE = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": _TEXT, "data": {"type": ["string", "null"]}, "data_base64": {"type": ["string", "null"]}},
}
#: What bodies look like, where more is known than that they are objects.
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/dead-letters/retry": {
        "type": "object",
        "required": ["letters"],
        "additionalProperties": False,
        "properties": {
            "letters": {"type": "array", "items": _CHANGE, "minItems": 1, "maxItems": AT_ONCE},
            "to": {"type": ["string", "null"]},
            "set": _STRINGS,
            "format": {"type": ["string", "null"]},
            "dry_run": {"type": "boolean"},
        },
    },
}
_FLAG = {"type": "string", "enum": ["true", "false", "1", "0"]}
_DRY = [_query("dry_run", "true: say what would be done, and do nothing", _FLAG)]
_DEVICE = {"id": "meter-17", "labels": {"site": "north"}, "credential": "token"}
_SETTABLE = {"owner": "farm", "labels": {"site": "north"}}

#: (method, path) -> parameters, example of a body, statuses of errors, status of success.
_GATEWAY: dict[tuple[str, str], tuple[list[dict[str, Any]], Any, tuple[int, ...], int]] = {
    ("post", "/streams/{name}"): (
        [_query("verdicts", "all: tell of each dead letter", {"type": "string", "enum": ["some", "all"]})],
        [{"sensor": "s1", "temperature": 21.5}],
        (400, 403, 404, 408, 413, 415, 422, 507),
        200,
    ),
    ("get", "/healthz"): ([], None, (503,), 200),
    ("get", "/metrics"): ([], None, (), 200),
    ("get", "/v1/dead-letters"): (
        [*_LETTERS, *_PAGING, _query("before", "`next` of the page before")],
        None,
        (400, 403),
        200,
    ),
    ("get", "/v1/dead-letters/counts"): (
        [
            *_LETTERS,
            _query(
                "by", "What they are counted by", {"type": "string", "enum": ["reason", "stream", "client", "source"]}
            ),
        ],
        None,
        (400, 403),
        200,
    ),
    ("get", "/v1/dead-letters/{letter}"): ([_query("format", "How it is read")], None, (400, 403, 404), 200),
    ("post", "/v1/dead-letters/retry"): (
        [],
        {"letters": [{"id": "0:17"}], "set": {"temperature": "20.5"}, "dry_run": True},
        (400, 403, 413, 507),
        200,
    ),
    ("get", "/v1/devices"): (
        [_query(name, "Only those") for name in ("owner", "kind", "prefix", "label")]
        + [_query("disabled", "true or false: only those", {"type": "string", "enum": ["true", "false"]})]
        + [*_PAGING, _query("after", "Only behind this id")],
        None,
        (400, 403),
        200,
    ),
    ("post", "/v1/devices"): (_DRY, _DEVICE, (400, 403, 409, 413), 201),
    ("get", "/v1/devices/{name}"): ([], None, (400, 403, 404), 200),
    ("patch", "/v1/devices/{name}"): (_DRY, _SETTABLE, (400, 403, 404, 413), 200),
    ("delete", "/v1/devices/{name}"): (_DRY, None, (400, 403, 404, 413), 200),
    ("post", "/v1/devices/{name}/rotate"): (_DRY, {"grace": "24 h"}, (400, 403, 404, 409, 413), 200),
    ("post", "/v1/devices/{name}/disable"): (_DRY, None, (400, 403, 404, 413), 200),
    ("post", "/v1/devices/{name}/enable"): (_DRY, None, (400, 403, 404, 413), 200),
}
_REGISTRY = "/registry"


def document(app: FastAPI, version: str) -> Callable[[], dict[str, Any]]:
    """What makes the document, once: give it to `app.openapi`."""

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(
                get_openapi(title="qanat", version=version, description=_ABOUT, routes=app.routes)
            )
        return app.openapi_schema

    return make


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """The document with what FastAPI does not know."""
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas[ProblemModel.__name__] = ProblemModel.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = _SECURITY
    for path, method, operation in _operations(found):
        _complete(path, method, operation)
    found["paths"]["/graphql"] = {"post": _GRAPHQL}
    return found


def _operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    if path not in _OPEN:
        operation["security"] = [{}, *({name: []} for name in _SECURITY)]
    if path.startswith(_REGISTRY):
        _complete_registry(operation)
    known = _GATEWAY.get((method, path))
    if known is not None:
        parameters, example, statuses, success = known
        operation.setdefault("parameters", []).extend(parameters)
        if example is not None:
            operation["requestBody"] = _body(path, example) if isinstance(example, dict) else _rows_body(example)
        done = responses.pop("200")
        responses[str(success)] = {**done, "description": "OK", "content": _content(path)}
        if method != "get" and path.startswith("/v1/devices"):
            responses.setdefault("200", responses[str(success)])
        responses.update({str(status): one for status, one in problems(*statuses).items()})


def _content(path: str) -> dict[str, Any]:
    return {"text/plain": {"schema": _TEXT}} if path == "/metrics" else _JSON


def _rows_body(example: Any) -> dict[str, Any]:
    kinds = {
        "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": example},
        "application/x-ndjson": {"schema": _TEXT},
        "text/csv": {"schema": _TEXT},
    }
    return {"required": True, "content": kinds}


def _complete_registry(operation: dict[str, Any]) -> None:
    """Its answers are those of the Confluent Schema Registry, which has a document of its own."""
    operation["tags"] = ["schema registry"]
    kind = "application/vnd.schemaregistry.v1+json"
    error = {"type": "object", "properties": {"error_code": {"type": "integer"}, "message": _TEXT}}
    operation["responses"] = {
        "200": {"description": "OK", "content": {kind: {"schema": {}}, "application/json": {"schema": {}}}},
        "default": {"description": "an error of the registry", "content": {kind: {"schema": error}}},
    }


_GRAPHQL: dict[str, Any] = {
    "summary": "GraphQL: streams, rows, aggregates, devices, pipelines; subscriptions over WebSocket",
    "operationId": "graphql",
    "tags": ["graphql"],
    "security": [{}, *({name: []} for name in _SECURITY)],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["query"],
                    "properties": {
                        "query": _TEXT,
                        "variables": {"type": ["object", "null"]},
                        "operationName": {"type": ["string", "null"]},
                    },
                },
                "example": {"query": "{ streams { name rows } }"},
            }
        },
    },
    "responses": {
        "200": {"description": "data, or errors", "content": _JSON},
        **{str(status): one for status, one in problems(404, 413, 415).items()},
        "400": {
            "description": "no GraphQL request",
            "content": {"text/plain": {"schema": _TEXT}, **problems()[500]["content"], **_JSON},
        },
    },
}
