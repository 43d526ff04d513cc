"""GET /v1/sites: where is measured, and by what. What is known of it is `serve.sites`' business."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from qanat.serve.access import caller_of
from qanat.serve.answers import answer_json
from qanat.serve.context import ServeContext
from qanat.serve.documented import found, problems
from qanat.serve.sites import Sites
from qanat.serve.v1.models import SitesModel

_SENSOR = {
    "name": "s1",
    "streams": ["readings"],
    "kind": None,
    "last": "2026-11-21T10:00:00.000Z",
    "reading": {"at": "2026-11-21 10:00:00Z", "site": "north", "sensor": "s1", "temperature": 21.5},
}
_EXAMPLE = {
    "site": "north",
    "kinds": ["meter"],
    "devices": ["meter-17"],
    "sensors": [_SENSOR],
    "last": "2026-11-21T10:00:00.000Z",
}


def mount_sites(app: FastAPI, context: ServeContext) -> None:
    """Add the route."""
    sites, turn = Sites(context), asyncio.Lock()

    @app.get(
        "/v1/sites",
        summary="Sites with their devices and sensors, and the last reading of each",
        responses=found(SitesModel, {"sites": [_EXAMPLE], "complete": True}) | problems(400),
        tags=["sites"],
    )
    async def get(
        request: Request, site: Annotated[str | None, Query(description="Only this one", examples=["north"])] = None
    ) -> Response:
        caller = await caller_of(context, request)
        async with turn:  # the first one reads the log once; the others need no thread meanwhile
            return answer_json(request, await asyncio.to_thread(sites.find, caller, site))
