"""GET /readyz: exactly what is not well. For probes, so that it asks nobody who he is, as /healthz does not."""

from __future__ import annotations

import orjson
from fastapi import FastAPI
from starlette.responses import Response

from qanat.serve.answers import NO_STORE
from qanat.serve.context import ServeContext
from qanat.serve.v1.models import ReadyModel

_WELL = {"ready": True, "faults": []}
_ILL = {"ready": False, "faults": [{"part": "pipeline climate", "fault": "state limit reached"}]}


def mount_ready(app: FastAPI, context: ServeContext) -> None:
    """Add the route."""

    @app.get(
        "/readyz",
        summary="200 while every part is well, else 503 with what is not",
        responses={
            200: {"model": ReadyModel, "content": {"application/json": {"example": _WELL}}},
            503: {"model": ReadyModel, "content": {"application/json": {"example": _ILL}}},
        },
        tags=["health"],
    )
    async def readyz() -> Response:
        faults = [{"part": part, "fault": fault} for part, fault in context.checks().items() if fault]
        content = orjson.dumps({"ready": not faults, "faults": faults})
        headers = {"cache-control": NO_STORE}
        return Response(content, 503 if faults else 200, headers, media_type="application/json")
