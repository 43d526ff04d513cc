"""The HTTP front: rows in, rows out over WebSocket, health and metrics. Binds nothing: `server.py` runs it.

Requests for /streams/NAME and all WebSockets go past FastAPI, which costs a third of a small request; everything else
is its business. Other rooms may add their own routes to the same app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qanat.codec.arrow_body import Limits
from qanat.errors import QanatError
from qanat.gateway.answers import Answers
from qanat.gateway.auth import Authenticator
from qanat.gateway.http.identity import authenticate
from qanat.gateway.http.problems import problem, problem_of, problem_of_fault
from qanat.gateway.http.quick import Headers, Quick, QuickAnswer
from qanat.gateway.http.rows import PREFIX, PROTOCOL, RowsContext, RowsEndpoint
from qanat.gateway.http.sockets import ServeMqtt, SocketsContext, SocketsEndpoint
from qanat.gateway.ingest import Ingest
from qanat.gateway.limits import Limiter
from qanat.gateway.outlets import Outlets
from qanat.gateway.routes import Routes
from qanat.observe.metrics import CONTENT_TYPE, Metrics

#: Name of a part -> what is wrong with it, None where it is well.
Checks = Callable[[], Mapping[str, str | None]]

#: Seconds between two looks for answers that are too old.
_UPKEEP_S = 3600
#: Where the API begins, which other rooms mount; its WebSockets for rows are those of here.
VERSION, GRAPHQL = "/v1", "/graphql"
_HINT = "POST /streams/NAME, GET /healthz, GET /metrics; docs/gateway.md has them all"


@dataclass(frozen=True, slots=True)
class HttpContext:
    """What all requests share. `read_state` is `Log.state`; `mqtt` serves MQTT over a WebSocket."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    metrics: Metrics
    checks: Checks
    clock: Callable[[], int]
    limiter: Limiter
    outlets: Outlets
    read_state: Callable[[str], bytes | None]
    max_body_bytes: int
    limits: Limits
    mqtt: ServeMqtt | None = None


class HttpFront:
    """What the server calls for each request: the short way to the hot routes, and to `app` for all others.

    Made in the event loop. `app` may be given more routes before the first request, `hot` what answers all requests
    whose path begins so, past FastAPI, and `at_hand` what may have an answer at once.
    """

    def __init__(self, context: HttpContext) -> None:
        self.hot: dict[str, ASGIApp] = {}
        self.at_hand: dict[bytes, Quick] = {}
        answers = Answers(PROTOCOL, context.read_state)
        self._rows = RowsEndpoint(
            RowsContext(
                context.ingest,
                context.routes,
                context.auth,
                context.metrics,
                answers,
                context.limiter,
                context.clock,
                context.max_body_bytes,
                context.limits,
            )
        )
        self._sockets = SocketsEndpoint(
            SocketsContext(
                context.ingest,
                context.routes,
                context.auth,
                context.outlets,
                context.limiter,
                context.metrics,
                context.clock,
                context.mqtt,
            )
        )
        self.app = create_app(self._rows, context.auth, context.metrics, context.checks)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to forget old answers, now and then, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._upkeep())

    def stop(self) -> None:
        """End what `start` began."""
        if self._task is not None:
            self._task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or one WebSocket."""
        path = scope["path"]
        if scope["type"] == "websocket":
            if path == GRAPHQL:
                await self.app(scope, receive, send)
                return
            versioned = path.startswith(VERSION + PREFIX)
            await self._sockets.serve({**scope, "path": path[len(VERSION) :]} if versioned else scope, receive, send)
        elif scope["type"] == "http" and scope["method"] in ("POST", "OPTIONS") and path.startswith(PREFIX):
            try:
                response = await self.append(scope, receive)
            except Exception as error:  # answered here, and raised so that the server writes it to its log
                await problem_of_fault(error)(scope, receive, send)
                raise
            await response(scope, receive, send)
        else:
            for beginning, hot in self.hot.items():
                if path.startswith(beginning):
                    await hot(scope, receive, send)
                    return
            await self.app(scope, receive, send)

    def quick(self, target: bytes, headers: Headers, state: Mapping[str, Any]) -> QuickAnswer | None:
        """See `Quick`."""
        for beginning, find in self.at_hand.items():
            if target.startswith(beginning):
                return find(target, headers, state)
        return None

    async def append(self, scope: Scope, receive: Receive) -> Response:
        """The answer to POST /streams/NAME, which is the path of `scope`."""
        return await self._rows.respond(scope, receive)

    async def _upkeep(self) -> None:
        while True:
            await self._rows.tidy()
            await asyncio.sleep(_UPKEEP_S)


def create_app(rows: RowsEndpoint, auth: Authenticator, metrics: Metrics, checks: Checks) -> FastAPI:
    """The application without WebSockets."""
    app = FastAPI(title="qanat", docs_url=None, redoc_url=None)

    @app.exception_handler(QanatError)
    async def on_error(_: Request, error: QanatError) -> Response:
        metrics.gateway_refused(PROTOCOL, type(error).__name__)
        return problem_of(error)

    @app.exception_handler(Exception)
    async def on_fault(_: Request, error: Exception) -> Response:
        return problem_of_fault(error)

    @app.exception_handler(HTTPException)
    async def on_http_error(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), _HINT, error.headers)

    @app.post(PREFIX + "{name:path}", summary="Append rows to what NAME, or a topic, feeds; answered when durable")
    async def post_rows(name: str, request: Request) -> Response:  # noqa: ARG001  the name is in the path, too
        return await rows.respond(request.scope, request.receive)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="200 while every part is well, else 503")
    async def healthz() -> Response:
        return _healthz(checks())

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", summary="Prometheus metrics")
    async def prometheus(request: Request) -> Response:
        await authenticate(auth, request)
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return app


def _healthz(checks: Mapping[str, str | None]) -> Response:
    well = not any(checks.values())
    parts: dict[str, Any] = {name: fault or "ok" for name, fault in checks.items()}
    content = {"status": "ok" if well else "failing", "checks": parts}
    return Response(orjson.dumps(content), 200 if well else 503, media_type="application/json")
