"""/v1/query: SQL in, rows out. What may be asked is `serve.asking`'s business, what SQL is `qanat.query`'s."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Coroutine
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from qanat.gateway.http.problems import RefusedError
from qanat.serve.access import Caller, caller_of
from qanat.serve.answers import NO_STORE, answer, tag_of, unchanged
from qanat.serve.asking import Answer, Asker
from qanat.serve.context import ServeContext
from qanat.serve.documented import Responses, problems, rows_found
from qanat.serve.formats import Form, choose_form, write_rows
from qanat.serve.v1.models import QueryModel

_PATH = "/v1/query"
_LARGEST_BODY = 1 << 20
_HINT = 'for example {"sql": "SELECT * FROM readings WHERE sensor = ?", "parameters": ["s1"]}'
_EXAMPLE = {
    "rows": [{"sensor": "s1", "readings": 2}],
    "columns": [{"name": "sensor", "type": "string"}, {"name": "readings", "type": "int64"}],
    "row_count": 1,
    "truncated": False,
}
_SQL = "SELECT sensor, count(*) AS readings FROM readings GROUP BY sensor"
_T = TypeVar("_T")

Scalar = str | int | float | bool | None


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a query. `timeout` in seconds."""

    sql: str
    parameters: list[Any] | dict[str, Any] = []
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None


def mount_query(app: FastAPI, context: ServeContext, asker: Asker) -> None:
    """Add the routes."""

    @app.post(
        _PATH,
        summary="Run a SELECT over live and archived rows",
        responses=_responses(),
        openapi_extra={"requestBody": _body()},
        tags=["query"],
    )
    async def post(request: Request) -> Response:
        caller = await caller_of(context, request)
        form = choose_form(request.headers.get("accept", ""))
        response = await _ask(request, asker, caller, _decoded(await _read(request), request), form)
        response.headers["cache-control"] = NO_STORE
        return response

    @app.get(_PATH, summary="As POST, for what can be a link", responses=_responses(), tags=["query"])
    async def get(
        request: Request,
        sql: Annotated[str, Query(description="A SELECT", examples=[_SQL], max_length=20_000)],
        parameters: Annotated[str, Query(description="JSON: a list for ?, an object for $name")] = "[]",
        limit: Annotated[int | None, Query(ge=1, le=1 << 31)] = None,
        timeout: Annotated[float | None, Query(gt=0, le=86_400, description="Seconds")] = None,
        format: Annotated[  # noqa: A002  its name in the URL
            Literal["json", "ndjson", "csv", "arrow"] | None, Query(description="Goes before Accept")
        ] = None,
    ) -> Response:
        caller = await caller_of(context, request)
        form = choose_form(request.headers.get("accept", ""), format)
        try:
            given = msgspec.json.decode(parameters, type=list[Any] | dict[str, Any])
        except msgspec.DecodeError as error:
            raise RefusedError(400, f"parameters: {error}", hint='parameters=["s1"], or {"name": "s1"}') from error
        return await _ask(request, asker, caller, Question(sql, given, limit, timeout), form)


def _responses() -> Responses:
    responses = rows_found(QueryModel, _EXAMPLE) | problems(400, 403, 406, 413, 415, 504)
    cut = {"description": "where the answer was cut off", "schema": {"type": "string"}}
    responses[200]["headers"] = {"Qanat-Truncated": cut}
    return responses


def _body() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["sql"],
        "additionalProperties": False,
        "properties": {
            "sql": {"type": "string"},
            "parameters": {"anyOf": [{"type": "array", "items": {}}, {"type": "object"}]},
            "limit": {"type": ["integer", "null"], "minimum": 1},
            "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 86_400},
        },
    }
    kinds = {
        "application/json": {"schema": schema, "example": {"sql": _SQL}},
        "application/sql": {"schema": {"type": "string"}, "example": _SQL},
    }
    return {"required": True, "content": kinds}


async def _read(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _LARGEST_BODY:
            raise RefusedError(413, f"the body has more than {_LARGEST_BODY} bytes", hint="pass values as parameters")
    return bytes(found)


def _decoded(body: bytes, request: Request) -> Question:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    try:
        if kind == "application/sql":
            return Question(body.decode())
        if kind == "application/json" or kind.endswith("+json"):
            return msgspec.json.decode(body, type=Question)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"the body is no query: {error}", hint=_HINT) from error
    raise RefusedError(415, f"content type {kind!r}", hint="application/json or application/sql")


async def _ask(request: Request, asker: Asker, caller: Caller, question: Question, form: Form) -> Response:
    asked = asker.ask(caller, question.sql, question.parameters, question.limit, question.timeout)
    found = await while_there(request, asked)
    body = await asyncio.to_thread(write_rows, found.rows, form, _around(found))
    tag = tag_of(hashlib.blake2b(body.content, digest_size=16).hexdigest(), form)
    if request.method == "GET" and (same := unchanged(request, tag)) is not None:
        return same
    return answer(body.content, body.media_type, tag, {"qanat-truncated": "true"} if found.truncated else None)


def _around(found: Answer) -> dict[str, Any]:
    columns = [{"name": field.name, "type": str(field.type)} for field in found.rows.schema]
    return {"columns": columns, "row_count": found.rows.num_rows, "truncated": found.truncated}


async def while_there(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result, unless the client goes away: then the work is cancelled. The body has been read before."""
    running = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            raise RefusedError(400, "the client has gone")
        return running.result()
    finally:
        running.cancel()
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
