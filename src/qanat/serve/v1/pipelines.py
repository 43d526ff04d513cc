"""GET /v1/pipelines: how the pipelines are. Asks the engine; changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.clock import instant_text
from qanat.serve.access import caller_of
from qanat.serve.answers import answer_json
from qanat.serve.context import PipelineState, ServeContext
from qanat.serve.documented import found, problems
from qanat.serve.v1.models import PipelinesModel

_EXAMPLE = {
    "name": "climate",
    "state": "running",
    "rows_in": 1000,
    "rows_out": 60,
    "lag": 0,
    "late": 2,
    "partly_late": 0,
    "dead_letters": 0,
    "watermark": "2026-11-21T09:59:55.000Z",
    "state_bytes": 4096,
    "error": None,
}


def mount_pipelines(app: FastAPI, context: ServeContext) -> None:
    """Add the route."""

    @app.get(
        "/v1/pipelines",
        summary="State, lag, late rows and error of each pipeline",
        responses=found(PipelinesModel, {"pipelines": [_EXAMPLE]}) | problems(403),
        tags=["pipelines"],
    )
    async def pipelines(request: Request) -> Response:
        caller = await caller_of(context, request)
        caller.demand_watch()
        states = await asyncio.to_thread(context.pipelines)
        return answer_json(request, {"pipelines": [described(one) for one in states]})


def described(one: PipelineState) -> dict[str, Any]:
    """A pipeline, for programs."""
    return asdict(one) | {"watermark": None if one.watermark is None else instant_text(one.watermark)}
