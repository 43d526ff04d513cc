"""HEAD for all that answers GET: the same headers, no body. An ASGI layer; knows no route."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: In a scope: the request was HEAD, so that what would never end need not begin.
HEAD = "qanat.head"


class Head:
    """In front of an app whose routes know GET only. What has HEAD of its own is better not among `paths`."""

    def __init__(self, app: ASGIApp, paths: tuple[str, ...]) -> None:
        self._app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not scope["path"].startswith(self._paths):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", HEAD: True}, receive, without_body)
