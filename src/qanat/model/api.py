"""The section `api:` of qanat.yaml: who may ask from other origins, limits of queries and live rows, what a site is."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qanat.model.sections import Duration, Section, Size


class QueryLimits(Section, frozen=True):
    """Queries over HTTP, beside what `query:` says of all.

    `rows`, `bytes`: of an answer, which is cut off there and says so. `at_once`: so many run side by side, more are
    refused.
    """

    rows: Annotated[int, msgspec.Meta(ge=1)] = 100_000
    bytes: Size = Size(64 << 20)
    at_once: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class LiveLimits(Section, frozen=True):
    """Live rows. `heartbeat`: so often a quiet connection gets a sign; `stall`: who takes nothing so long is cut."""

    heartbeat: Duration = Duration(15_000)
    stall: Duration = Duration(30_000)
    connections: Annotated[int, msgspec.Meta(ge=1)] = 10_000


class Api(Section, frozen=True):
    """How rows, SQL and live rows are answered over HTTP.

    `cors`: origins whose pages may ask, `*` for all. `site` and `sensor`: the column (`site`: also the device's label)
    that says where a row was measured, and the one that says by what.
    """

    cors: tuple[str, ...] = ()
    site: str = "site"
    sensor: str = "sensor"
    query: QueryLimits = QueryLimits()
    live: LiveLimits = LiveLimits()
