"""What the room stands on, as `cli.station` puts it together. Values only; does nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from qanat.gateway.auth import Authenticator
from qanat.gateway.http.quick import Quick
from qanat.gateway.limits import Limiter
from qanat.gateway.outlets import Outlets
from qanat.gateway.repair import Repair
from qanat.log.archive import Archive
from qanat.log.base import Log
from qanat.model.api import Api

if TYPE_CHECKING:
    from qanat.query.limits import Handle  # it loads DuckDB, which who runs no query does without

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


class Queries(Protocol):
    """`qanat.query.Query`, as far as this room goes. Used by several threads. Raises what that raises."""

    def table(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = (), *, handle: Handle | None = None
    ) -> pa.Table:
        """The whole answer; `handle` cancels it from elsewhere."""
        ...

    def batches(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = (), *, handle: Handle | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The answer piece by piece."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


#: Queries over these streams; tables outside only where the last is true.
OpenQueries = Callable[[Log, Archive | None, bool], Queries]


def open_queries(log: Log, archive: Archive | None, whole: bool) -> Queries:  # noqa: ARG001  there are no others
    """Queries over the streams alone."""
    from qanat.query import Query

    return Query.over(log, archive=archive)


@dataclass(frozen=True, slots=True)
class ServeContext:
    """`clock` gives ms since 1970. `checks`: what `/healthz` reports, None where a part is well.

    `open_queries`: what runs SQL. `hot`: beginning of a path -> what answers all requests below it, past FastAPI;
    `at_hand`: what may have the answer to a plain GET at once.
    `also`: what other parts of the room mount after the rest.
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
    open_queries: OpenQueries = open_queries
    settings: Api = field(default_factory=Api)
    hot: MutableMapping[str, ASGIApp] = field(default_factory=dict)
    at_hand: MutableMapping[bytes, Quick] = field(default_factory=dict)
    also: Sequence[Mount] = ()


#: What adds routes to an app.
Mount = Callable[[FastAPI, ServeContext], None]
