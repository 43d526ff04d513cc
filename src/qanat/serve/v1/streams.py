"""GET /v1/streams and /v1/streams/NAME: what there is, and how it is now. Reads no rows."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.clock import instant_text
from qanat.serve.access import Caller, caller_of, stream_of
from qanat.serve.answers import answer_json
from qanat.serve.context import ServeContext
from qanat.serve.documented import found, problems
from qanat.serve.paging import Places
from qanat.serve.v1.models import StreamModel, StreamsModel

PATH = "/v1/streams"
_EXAMPLE = {
    "name": "readings",
    "columns": [{"name": "sensor", "type": "STRING", "nullable": True}],
    "key": [],
    "event_time": "at",
    "upsert": False,
    "partitions": [{"partition": 0, "start": 0, "end": 2}],
    "rows": 2,
    "bytes": 1184,
    "newest": "2026-11-21T10:00:00.000Z",
    "lag_ms": 4000,
    "archived": False,
}


def mount_streams(app: FastAPI, context: ServeContext) -> None:
    """Add the routes."""

    @app.get(
        PATH,
        summary="All streams that you may read",
        responses=found(StreamsModel, {"streams": [_EXAMPLE]}) | problems(),
        tags=["streams"],
    )
    async def streams(request: Request) -> Response:
        caller = await caller_of(context, request)
        return answer_json(request, {"streams": await asyncio.to_thread(describe_all, context, caller)})

    @app.get(
        f"{PATH}/{{name}}",
        summary="One stream",
        responses=found(StreamModel, _EXAMPLE) | problems(403, 404),
        tags=["streams"],
    )
    async def stream(name: str, request: Request) -> Response:
        caller = await caller_of(context, request)
        places = await asyncio.to_thread(places_of, context, caller, name)
        return answer_json(request, describe(context, places))


def places_of(context: ServeContext, caller: Caller, name: str, keys: frozenset[str] | None = None) -> Places:
    """A stream to read from, where this caller may. Raises `RefusedError`, `UnknownStreamError`, `ArchiveError`."""
    return Places(context.log, context.archive, stream_of(context, caller, name, keys))


def describe_all(context: ServeContext, caller: Caller) -> list[dict[str, Any]]:
    """All streams that he may read, by name."""
    statuses = context.log.status()
    return [
        describe(context, Places(context.log, context.archive, statuses[name]))
        for name in sorted(statuses)
        if caller.may_read(name)
    ]


def describe(context: ServeContext, places: Places) -> dict[str, Any]:
    """A stream, for programs."""
    status, starts = places.status, places.starts
    stream = status.stream
    newest = status.max_time
    return {
        "name": stream.name,
        "columns": [
            {"name": column.name, "type": str(column.type.with_nullable(True)), "nullable": column.type.nullable}
            for column in stream.columns
        ],
        "key": list(stream.key),
        "event_time": None if stream.event_time is None else stream.event_time.name,
        "upsert": stream.upsert,
        "partitions": [
            {"partition": number, "start": starts[number], "end": end} for number, end in sorted(status.ends.items())
        ],
        "rows": status.rows,
        "bytes": status.bytes,
        "newest": None if newest is None else instant_text(newest),
        "lag_ms": None if newest is None else context.clock() - newest,
        "archived": places.is_archived,
    }
