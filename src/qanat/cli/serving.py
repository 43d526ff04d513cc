"""The API of a running project, put together: what it may use of gateway, engine and log. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from qanat.cli.streams import lags
from qanat.clock import MIN_TIME, now_ms
from qanat.serve import ServeContext, mount
from qanat.serve.context import OpenQueries, PipelineState, open_queries

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.gateway import Gateway
    from qanat.log.archive import Archive
    from qanat.log.base import Log
    from qanat.model.api import Api
    from qanat.model.streams import Stream
    from qanat.observe.metrics import Metrics
    from qanat.serve.aggregates import Aggregates
    from qanat.serve.context import Mount
    from qanat.sql.embedded import Engine
    from qanat.sql.plan import Program

#: The end of time (ms) of inputs that have ended.
_END = 253_402_300_799_999


def mount_api(
    gateway: Gateway,
    engine: Engine,
    program: Program,
    log: Log,
    settings: Api,
    archive: Archive | None = None,
    also: Sequence[Mount] = (),
    queries: OpenQueries = open_queries,
) -> Callable[[], None]:
    """Add the API to the app of a gateway that is not started yet. `also`: what mounts beside it.

    Returns what is to be called when the gateway has stopped.
    """
    parts = gateway.parts
    context = ServeContext(
        log=log,
        auth=parts.auth,
        outlets=parts.outlets,
        limiter=parts.limiter,
        repair=parts.repair,
        append=parts.append,
        checks=parts.checks,
        clock=now_ms,
        pipelines=lambda: pipeline_states(engine, program, log),
        archive=archive,
        open_queries=queries,
        settings=settings,
        hot=parts.hot,
        at_hand=parts.at_hand,
        also=also,
    )
    return mount(gateway.app, context)


def open_aggregates(folder: Folder, streams: Mapping[str, Stream], metrics: Metrics) -> Aggregates:
    """What is declared under `serve`, with the project's cache. Raises `ConfigError`."""
    from qanat.serve.aggregates import Aggregates
    from qanat.stores.cache.aside import Aside
    from qanat.stores.cache.switch import Switch

    project = folder.project
    aside = Aside(Switch(project.cache, metrics, base=folder.path))
    return Aggregates(project.serve, project.cache, streams, aside, metrics)


def pipeline_states(engine: Engine, program: Program, log: Log) -> list[PipelineState]:
    """How the pipelines are now."""
    behind = lags(log, program)
    return [
        PipelineState(
            one.name,
            one.state,
            one.rows_in,
            one.rows_out,
            one.late,
            one.partly_late,
            one.dead_letters,
            one.watermark if MIN_TIME < one.watermark < _END else None,
            behind.get(one.name, 0),
            one.state_bytes,
            one.error,
        )
        for one in engine.status()
    ]
