"""Aggregates of a project, put together: rows in memory, cache, SQL and the route. Computes nothing.

aggregates = Aggregates(project.serve, project.cache, streams, aside, metrics)
mount(app, ServeContext(..., also=(aggregates.mount,)))
aggregates.start()
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from fastapi import FastAPI

from qanat.errors import ConfigError
from qanat.gateway.http.identity import identify, identify_at_once
from qanat.model.cache import Cache
from qanat.model.serve import Serve
from qanat.model.streams import Stream
from qanat.observe.metrics import Metrics
from qanat.serve.aggregate.endings import Endings, Unending
from qanat.serve.aggregate.follower import Follower
from qanat.serve.aggregate.measure import measures_of
from qanat.serve.aggregate.service import Answers
from qanat.serve.context import Queries, ServeContext
from qanat.serve.v1.aggregate import AggregateEndpoint, mount_aggregates
from qanat.stores.cache.aside import Aside


class Aggregates:
    """Made in the event loop that it is used in; `aside` is its own, and `cache` what that was made of.

    Raises `ConfigError` for what cannot be declared.
    """

    def __init__(
        self, declared: Serve, cache: Cache, streams: Mapping[str, Stream], aside: Aside, metrics: Metrics
    ) -> None:
        self._settings, self._aside, self._meter = declared.recent, aside, metrics.aggregates
        self._cache = cache
        self.measures = measures_of(declared.aggregates, streams)
        self._endings = Endings(aside.invalidate) if cache.invalidate else None
        self._queries: Queries | None = None
        self.follower: Follower | None = None

    def mount(self, app: FastAPI, context: ServeContext) -> None:
        """Add the route; see `ServeContext.also`."""
        endings = self._endings
        self.follower = Follower(
            context.log,
            self.measures,
            self._settings,
            context.clock,
            None if endings is None else endings.on_rows,
            self._meter.recent_bytes,
            None if endings is None else endings.on_anew,
        )
        self._queries = context.open_queries(context.log, context.archive, True)
        answers = Answers(self.measures, self.follower, self._queries, context.log, self._meter, context.clock)
        who = partial(identify, context.auth)
        at_once = partial(identify_at_once, context.auth)
        endpoint = AggregateEndpoint(answers, self._aside, endings or Unending(), who, at_once, self._meter)
        mount_aggregates(app, context.hot, context.at_hand, endpoint)

    def start(self) -> None:
        """Begin to follow the log."""
        if self.follower is not None:
            self.follower.start()

    async def stop(self) -> None:
        """Let go of the log and of the cache; no request is under way any more."""
        if self.follower is not None:
            await asyncio.to_thread(self.follower.stop)
        await self._aside.close()
        if self._queries is not None:
            self._queries.close()

    async def use(self, cache: Cache) -> None:
        """Another cache, or other settings of it, from now on. Raises `ConfigError`; then nothing has changed."""
        if cache.invalidate != self._cache.invalidate:
            raise ConfigError("cache.invalidate is in force with the next start", hint="qanat up")
        if cache != self._cache:
            await self._aside.use(cache)
            self._cache = cache

    def checks(self) -> Mapping[str, str | None]:
        """For /healthz: what keeps rows from being read, where there are aggregates."""
        return {} if self.follower is None or not self.measures else {"aggregates": self.follower.fault}
