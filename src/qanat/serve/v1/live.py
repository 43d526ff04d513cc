"""GET /v1/streams/NAME/rows/live: rows as server-sent events. What is sent when is `serve.live`'s business.

Every row is an event whose id is the position after it; who comes again with it as Last-Event-ID goes on there, without
loss and without repetition.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated

import orjson
from fastapi import FastAPI, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qanat.errors import QanatError
from qanat.gateway.filters import parse_filter
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.outlets import Delivery
from qanat.serve.access import caller_of, stream_of
from qanat.serve.answers import NO_STORE
from qanat.serve.context import ServeContext
from qanat.serve.documented import Responses, problems
from qanat.serve.head import HEAD
from qanat.serve.live import Desk, Live, gaps_of, start_of
from qanat.serve.positions import write_token
from qanat.serve.v1.rows import Name, Time, Where
from qanat.serve.v1.streams import PATH

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", NO_STORE.encode()),
    (b"x-accel-buffering", b"no"),
]
#: Events of one write, so that a client that reads slowly is noticed soon.
_AT_ONCE = 200
_KNOWN = frozenset({"from", "key", "where", "since", "until"})
#: So long (ms) a client should wait before it comes again.
_RETRY_MS = 1000


def mount_live(app: FastAPI, context: ServeContext, desk: Desk) -> None:
    """Add the route."""

    @app.get(
        f"{PATH}/{{name}}/rows/live",
        summary="Rows as they come: server-sent events",
        responses=_responses(),
        tags=["rows"],
    )
    async def live(
        name: Name,
        request: Request,
        start: Annotated[
            str, Query(alias="from", description="latest, earliest, or `position` of a page or `id` of an event")
        ] = "latest",
        key: Annotated[list[str] | None, Query(description="Only the rows of these keys")] = None,
        where: Where = None,
        since: Time = None,
        until: Time = None,
        last_event_id: Annotated[str | None, Header(description="The id of the last event; goes before `from`")] = None,
    ) -> Response:
        caller = await caller_of(context, request)
        unknown = sorted(set(request.query_params) - _KNOWN)
        if unknown:
            hint = f"known are {', '.join(sorted(_KNOWN))}; a condition on a column: where={unknown[0]}=..."
            raise RefusedError(400, f"there is no parameter {unknown[0]!r}", hint=hint)
        keys = frozenset(key) if key else None
        status = await asyncio.to_thread(stream_of, context, caller, name, keys)
        wanted = parse_filter(status.stream, where or (), since, until)
        positions = start_of(context, name, last_event_id or start, status.stream.partitions)
        if request.scope.get(HEAD):
            return Response(headers={"cache-control": NO_STORE}, media_type="text/event-stream")
        gaps = gaps_of(context, name, positions)
        one, close = desk.open(caller, name, keys, positions, wanted)
        return _Events(context, one, gaps, close)


def _responses() -> Responses:
    example = 'id: WzEsMTIzLDAsWzFdXQ\nevent: row\ndata: {"partition":0,"offset":0,"row":{"sensor":"s1"}}\n\n'
    events = {"schema": {"type": "string"}, "example": example}
    return {200: {"description": "until one side ends it", "content": {"text/event-stream": events}}} | problems(
        400, 403, 404
    )


class _Events(Response):
    """The stream of events. Ends when the client goes, takes nothing for too long, or loses his rights."""

    def __init__(self, context: ServeContext, live: Live, gaps: dict[int, int], close: Callable[[], None]) -> None:
        super().__init__()
        self._live, self._gaps, self._close = live, gaps, close
        self._heartbeat = context.settings.live.heartbeat / 1000
        self._stall = context.settings.live.stall / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write until the end."""
        writer = asyncio.ensure_future(self._write(send))
        reader = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._close()
            for task in (writer, reader):
                task.cancel()
            done = await asyncio.gather(writer, reader, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # the client went in the middle
                raise error

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send(send, self._opening())
        with contextlib.suppress(TimeoutError):  # he takes nothing: cut, he may come again where he stopped
            while True:
                try:
                    rows = await self._live.take(self._heartbeat)
                except QanatError as error:
                    await self._send(send, _event("end", {"detail": error.message}))
                    break
                if not rows:
                    await self._send(send, self._heartbeat_event())
                for first in range(0, len(rows), _AT_ONCE):
                    await self._send(send, self._events(rows[first : first + _AT_ONCE]))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, text: bytes) -> None:
        """Waits while the client's window is full. Raises `TimeoutError`."""
        async with asyncio.timeout(self._stall):
            await send({"type": "http.response.body", "body": text, "more_body": True})

    def _heartbeat_event(self) -> bytes:
        """A comment, and where rows were passed over that are not for him the position behind them."""
        token = self._live.pass_on()
        return b": heartbeat\n\n" if token is None else f": heartbeat\nid: {token}\n\n".encode()

    def _opening(self) -> bytes:
        """Where he begins, so that he can come again before the first row; and what is no longer there."""
        token = write_token(self._live.stream, self._live.at)
        lost = [{"partition": number, "from": self._live.at[number], "to": to} for number, to in self._gaps.items()]
        opening = f"retry: {_RETRY_MS}\nid: {token}\n".encode() + _event("open", {"position": token})
        return opening + (_event("gap", {"lost": lost}) if lost else b"")

    def _events(self, rows: Sequence[Delivery]) -> bytes:
        parts = []
        for row in rows:
            head: dict[str, object] = {"partition": row.partition, "offset": row.offset}
            if row.key is not None:
                head["key"] = row.key
            data = orjson.dumps(head)[:-1] + b',"row":' + row.payload + b"}"
            parts.append(b"id: " + self._live.pass_over(row).encode() + b"\nevent: row\ndata: " + data + b"\n\n")
        return b"".join(parts)


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
