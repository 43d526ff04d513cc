"""Errors that nobody foresaw on routes that FastAPI does not see: a problem for the client, one entry in the log.

The connection stays usable unless an answer was already under way: what is left of it cannot be told apart from an
answer then, so the error goes on to the server, which writes it to its log and closes the connection.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qanat.gateway.http.problems import problem_of_fault

_logger = logging.getLogger(__name__)


class Guarded:
    """An app whose errors are answered. Foresees none: what a `QanatError` is answered with is the app's own affair."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        sent: Message | None = None

        async def note(message: Message) -> None:
            nonlocal sent
            sent = message
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception as error:
            is_whole = sent is not None and sent["type"] == "http.response.body" and not sent.get("more_body", False)
            if sent is not None and not is_whole:
                raise
            _logger.exception("%s %r", scope["method"], scope["path"])
            if sent is None:
                await problem_of_fault(error)(scope, receive, send)
