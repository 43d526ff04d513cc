"""What the room stands on, as `cli.station` puts it together. Values only; does nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from qanat.gateway.auth import Authenticator
from qanat.gateway.limits import Limiter
from qanat.gateway.outlets import Outlets
from qanat.gateway.repair import Repair
from qanat.log.archive import Archive
from qanat.log.base import Log
from qanat.model.api import Api

#: POST /streams/NAME: what answers a request with that path.
Append = Callable[[Scope, Receive], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class PipelineState:
    """One pipeline as it is now. `watermark`: ms, None before the first row; `lag`: rows that it has not read yet."""

    name: str
    state: str
    rows_in: int
    rows_out: int
    late: int
    partly_late: int
    dead_letters: int
    watermark: int | None
    lag: int
    state_bytes: int
    error: str | None


@dataclass(frozen=True, slots=True)
class ServeContext:
    """`clock` gives ms since 1970. `checks`: what `/healthz` reports, None where a part is well.

    `hot`: beginning of a path -> what answers all requests below it, past FastAPI. `also`: what other parts of the room
    mount after the rest.
    """

    log: Log
    auth: Authenticator
    outlets: Outlets
    limiter: Limiter
    repair: Repair
    append: Append
    checks: Callable[[], Mapping[str, str | None]]
    clock: Callable[[], int]
    pipelines: Callable[[], Sequence[PipelineState]] = tuple
    archive: Archive | None = None
    settings: Api = field(default_factory=Api)
    hot: MutableMapping[str, ASGIApp] = field(default_factory=dict)
    also: Sequence[Mount] = ()


#: What adds routes to an app.
Mount = Callable[[FastAPI, ServeContext], None]
