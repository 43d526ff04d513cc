"""The pages under `/` and `/ui/`: static files, and what they have to know of the station. Reads no rows.

See docs/design/pages.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.errors import AuthError
from qanat.gateway.http.problems import RefusedError
from qanat.model.project import Project
from qanat.serve.access import caller_of
from qanat.serve.aggregate.measure import Measure
from qanat.serve.answers import NO_STORE
from qanat.serve.context import ServeContext

#: Paths that get the shell; which view it shows is `main.js`' business.
PAGES = ("/", "/ui", "/ui/", "/ui/register", "/ui/readings", "/ui/charts", "/ui/dead-letters")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_SHELL = "shell.html"


@dataclass(frozen=True, slots=True)
class Facts:
    """What no part of the API says. `inputs`: streams that take rows; `mqtt_port`: None where MQTT is off."""

    inputs: tuple[str, ...] = ()
    topics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aggregates: Mapping[str, Measure] = field(default_factory=dict)
    mqtt_port: Callable[[], int | None] = lambda: None

    @classmethod
    def of(
        cls,
        project: Project,
        inputs: frozenset[str],
        aggregates: Mapping[str, Measure],
        mqtt_port: Callable[[], int | None],
    ) -> Facts:
        """Of a project that is about to run."""
        topics: dict[str, tuple[str, ...]] = {}
        for source in project.sources.values():
            if source.topic is not None:
                stream = source.stream
                topics[stream] = (*topics.get(stream, ()), source.topic)
        return cls(tuple(sorted(inputs)), topics, aggregates, mqtt_port)

    def mount(self, app: FastAPI, context: ServeContext) -> None:
        """Add the pages; see `ServeContext.also`."""
        mount_ui(app, context, self)


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    tag: str


def mount_ui(app: FastAPI, context: ServeContext, facts: Facts) -> None:
    """Add the routes. They are no part of the API and do not stand in its document."""
    assets = _read_assets()

    async def shell(request: Request) -> Response:
        return _file(request, assets[_SHELL])

    async def asset(name: str, request: Request) -> Response:
        if name not in assets:
            raise RefusedError(404, f"no file {name!r}", hint="GET / is the first page")
        return _file(request, assets[name])

    async def station(request: Request) -> Response:
        headers = {"cache-control": NO_STORE, "x-content-type-options": "nosniff"}
        content = orjson.dumps(await _station(context, facts, request))
        return Response(content, headers=headers, media_type="application/json")

    for path in PAGES:
        app.add_api_route(path, shell, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/ui/assets/{name}", asset, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/ui/station.json", station, methods=["GET"], include_in_schema=False)


def _read_assets() -> dict[str, _Asset]:
    found = {}
    for one in resources.files("qanat.serve.ui").joinpath("assets").iterdir():
        kind = _TYPES.get(one.name.rpartition(".")[2])
        if kind is not None:
            content = one.read_bytes()
            found[one.name] = _Asset(content, kind, f'"{hashlib.blake2b(content, digest_size=9).hexdigest()}"')
    return found


def _file(request: Request, asset: _Asset) -> Response:
    headers = {**_HEADERS, "etag": asset.tag}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


async def _station(context: ServeContext, facts: Facts, request: Request) -> dict[str, Any]:
    """200 also for those who have not said who they are: pages ask this to find out whether they must."""
    try:
        caller = await caller_of(context, request)
    except AuthError as error:
        return {"demanded": True, "user": None, "detail": error.message, "hint": error.hint}
    return {
        "demanded": bool(context.auth.demanded),
        "user": None if caller.user is None else caller.user.name,
        "version": metadata.version("qanat"),
        "may_see_devices": caller.may_see_devices,
        "site": context.settings.site,
        "sensor": context.settings.sensor,
        "mqtt_port": facts.mqtt_port(),
        "inputs": [{"stream": name, "topics": facts.topics.get(name, ())} for name in facts.inputs],
        "aggregates": [_described(one) for one in facts.aggregates.values() if caller.may_read(one.stream.name)],
    }


def _described(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "stream": measure.stream.name,
        "value": measure.value.name,
        "dimensions": [column.name for column in measure.dimensions],
    }
