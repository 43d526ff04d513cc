"""/graphql over HTTP and WebSocket (graphql-transport-ws). The schema is `serve.graphql`'s business.

It is made with the first request, when all streams are there, and so that who does not use it does not load it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qanat.errors import AuthError, QanatError
from qanat.gateway.http.identity import identify
from qanat.gateway.http.problems import RefusedError, problem_of
from qanat.gateway.http.sockets import refuse
from qanat.serve.access import Caller
from qanat.serve.context import ServeContext
from qanat.serve.live import Desk

if TYPE_CHECKING:
    from strawberry.asgi import GraphQL

PATH = "/graphql"
_LARGEST_BODY = 1 << 20
_CREDENTIALS = ("authorization", "x-api-key")
#: So long (s) a WebSocket may take to say who it is.
_INIT_S = 10


def mount_graphql(app: FastAPI, context: ServeContext, desk: Desk) -> None:
    """Add the routes."""
    endpoint = _Endpoint(context, desk)
    app.router.routes.append(Route(PATH, endpoint, methods=["POST"], include_in_schema=False))
    app.router.routes.append(WebSocketRoute(PATH, endpoint))


class _Endpoint:
    """The ASGI app: who asks, how much, and then strawberry."""

    def __init__(self, context: ServeContext, desk: Desk) -> None:
        self._context, self._desk = context, desk
        self._made: ASGIApp | None = None
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or one WebSocket."""
        try:
            app = await self._app()
            if scope["type"] == "http":
                caller = await caller_in(self._context, scope, dict(scope["headers"]))
                scope = {**scope, "qanat.caller": caller}
                receive = _again(await _read(receive), receive)
            await app(scope, receive, send)
        except QanatError as error:
            if scope["type"] == "websocket":
                await receive()
                await refuse(error, send)
                return
            await problem_of(error)(scope, receive, send)

    async def _app(self) -> ASGIApp:
        async with self._turn:
            if self._made is None:
                self._made = await asyncio.to_thread(_make, self._context, self._desk)
            return self._made


async def caller_in(context: ServeContext, scope: Scope, headers: dict[bytes, bytes]) -> Caller:
    """Who sends a request with these headers. Raises `AuthError`."""
    user = await identify(context.auth, scope, headers)
    return Caller(user, scope["client"][0] if scope["client"] else "")


async def _read(receive: Receive) -> bytes:
    """The body. Raises `RefusedError`: 400 for what is no JSON, 413."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LARGEST_BODY:
            raise RefusedError(413, f"the body has more than {_LARGEST_BODY} bytes", hint="use variables, or /v1")
        if not message.get("more_body", False):
            break
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"the body is no JSON: {error}", hint='{"query": "{ streams }"}') from error
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return left.pop() if left else await receive()

    return read


def _make(context: ServeContext, desk: Desk) -> GraphQL[Any, Any]:
    """Raises `RefusedError` 404 where the extra is missing."""
    try:
        from strawberry.asgi import GraphQL
        from strawberry.exceptions import ConnectionRejectionError

        from qanat.serve.graphql import make_schema
    except ImportError as error:
        raise RefusedError(404, "GraphQL is not installed here", hint="pip install 'qanat[graphql]'") from error

    class App(GraphQL[Any, Any]):
        """Knows who asks."""

        async def get_context(self, request: Any, response: Any) -> dict[str, Any]:  # noqa: ARG002
            return {"request": request, "scope": request.scope, "caller": request.scope.get("qanat.caller")}

        async def on_ws_connect(self, context: dict[str, Any]) -> Any:
            """Headers say who he is, or what came with `connection_init`, since browsers can send no headers."""
            given = context.get("connection_params") or {}
            credentials = [
                (name.lower().encode(), str(value).encode("latin-1", "replace"))
                for name, value in given.items()
                if name.lower() in _CREDENTIALS
            ]
            scope = context["scope"]
            try:
                context["caller"] = await caller_in(serving, scope, dict(scope["headers"]) | dict(credentials))
            except AuthError as error:
                raise ConnectionRejectionError({"status": 401, "detail": error.message}) from error
            context["credentials"] = credentials
            return await super().on_ws_connect(context)

    serving = context
    return App(
        make_schema(context, desk),
        graphql_ide=None,
        allow_queries_via_get=False,
        subscription_protocols=["graphql-transport-ws"],
        connection_init_wait_timeout=timedelta(seconds=_INIT_S),
        max_subscriptions_per_connection=100,
        allowed_origins=context.settings.cors,
    )
