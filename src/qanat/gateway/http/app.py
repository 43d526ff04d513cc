"""The HTTP front: POST /streams/NAME, GET /healthz, GET /metrics. No sockets: `server.py` runs it, tests call it.

An answer of 200 is given after the rows are durable, never before. Other rooms may add their own routes to the same
app.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from qanat.errors import AuthError, QanatError
from qanat.gateway.auth import Authenticator
from qanat.gateway.http.bodies import split_body
from qanat.gateway.http.problems import RefusedError, problem, problem_of
from qanat.gateway.ingest import Ingest
from qanat.gateway.offers import Verdict
from qanat.gateway.routes import Route, Routes, Sender
from qanat.observe.metrics import CONTENT_TYPE, Metrics
from qanat.secure.users import User, may_publish

_PROTOCOL = "http"
#: So many reasons of dead letters are told in an answer.
_TOLD = 10

#: Name of a part -> what is wrong with it, None where it is well.
Checks = Callable[[], Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class HttpContext:
    """What all requests share."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    metrics: Metrics
    checks: Checks
    clock: Callable[[], int]
    max_body_bytes: int


def create_app(context: HttpContext) -> FastAPI:
    """The application."""
    app = FastAPI(title="qanat", docs_url=None, redoc_url=None)

    @app.exception_handler(QanatError)
    async def on_error(_: Request, error: QanatError) -> Response:
        context.metrics.gateway_refused(_PROTOCOL, type(error).__name__)
        return problem_of(error)

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), "POST /streams/NAME, GET /healthz, GET /metrics")

    @app.post("/streams/{name}", summary="Append rows to a stream; answered when they are durable")
    async def post_rows(name: str, request: Request) -> Response:
        return await _post_rows(context, name, request)

    @app.get("/healthz", summary="200 while every part is well, else 503")
    async def healthz() -> Response:
        return _healthz(context.checks())

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        await _authenticate(context.auth, request)
        return Response(context.metrics.render(), media_type=CONTENT_TYPE)

    return app


async def _post_rows(context: HttpContext, name: str, request: Request) -> Response:
    user = await _authenticate(context.auth, request)
    route = context.routes.find(name)
    _check_route(route, user, context.routes.inputs)
    context.ingest.check_room()
    body = await _read_body(request, context.max_body_bytes)
    rows = split_body(body, request.headers.get("content-type", ""))
    peer = request.client.host if request.client is not None else ""
    done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def settle(verdict: Verdict) -> None:
        if not done.done():  # the client may have gone
            done.set_result(verdict)

    client = user.name if user is not None else peer
    sender = Sender(_PROTOCOL, request.url.path, client)
    context.ingest.put(route.offer(rows, sender, context.clock(), settle))
    return _answer(await done)


def _answer(verdict: Verdict) -> Response:
    if verdict.error is not None:
        raise verdict.error
    counts: dict[str, Any] = {"accepted": verdict.accepted, "dead_letters": len(verdict.dead)}
    if verdict.dead:
        counts["errors"] = [{"row": dead.index, "reason": dead.reason} for dead in verdict.dead[:_TOLD]]
    if not verdict.accepted:
        hint = "the rows are kept in dead_letters: qanat query 'SELECT reason, data FROM dead_letters'"
        return problem(422, verdict.dead[0].reason, hint, **counts)
    return Response(orjson.dumps(counts), media_type="application/json")


def _check_route(route: Route, user: User | None, inputs: tuple[str, ...]) -> None:
    if route.refusal is not None:
        raise RefusedError(403, route.refusal, hint=f"streams that take input: {', '.join(inputs)}")
    if not may_publish(user, route.name):
        raise RefusedError(403, f"this user may not publish to {route.name}")
    if route.stream is None:
        raise RefusedError(
            404, f"no stream {route.name!r}", hint=f"streams that take input: {', '.join(inputs) or 'none'}"
        )


async def _read_body(request: Request, limit: int) -> bytes:
    """The whole body; what is too large is refused without being read to its end."""
    said = request.headers.get("content-length", "")
    size = int(said) if said.isdigit() else 0
    parts: list[bytes] = []
    if size <= limit:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                break
            parts.append(part)
    if size > limit:
        raise RefusedError(413, f"the body has more than {limit} bytes", hint="send it in several requests")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _authenticate(auth: Authenticator, request: Request) -> User | None:
    if not auth.demanded:
        return None
    name, password = _basic(request.headers.get("authorization", ""))
    user = await auth.verify(name, password)
    if user is None:
        raise AuthError("unknown user or wrong password")
    return user


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    name, colon, password = text.partition(":")
    if not colon:
        raise AuthError("this listener demands credentials", hint="curl -u NAME:PASSWORD ...")
    return name, password


def _healthz(checks: Mapping[str, str | None]) -> Response:
    well = not any(checks.values())
    content = {"status": "ok" if well else "failing", "checks": {name: fault or "ok" for name, fault in checks.items()}}
    return Response(orjson.dumps(content), 200 if well else 503, media_type="application/json")
