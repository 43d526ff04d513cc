"""Queries for callers: who sees which streams, how many run, how much an answer holds, and their end when nobody waits.

SQL is `qanat.query`'s business. A caller who may read everything shares connections with others like him; another gets
a query of his own over a log that has only his streams, so that no SQL whatever can name the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from qanat.errors import BackpressureError, ConfigError, QueryLimitError, SqlError
from qanat.gateway.http.problems import RefusedError
from qanat.log.archive import Archive, Cut
from qanat.log.base import Log, StreamStatus
from qanat.serve.access import Caller
from qanat.serve.context import Queries, ServeContext

if TYPE_CHECKING:
    from qanat.query.limits import Handle

Parameters = Sequence[object] | Mapping[str, object]


class Visible:
    """A log with only some of its streams; everything else is as it is."""

    def __init__(self, log: Log, caller: Caller) -> None:
        self._log, self._caller = log, caller

    def status(self) -> dict[str, StreamStatus]:
        """The streams that this caller may read."""
        return {name: one for name, one in self._log.status().items() if self._caller.may_read(name)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class VisibleArchive:
    """An archive with only some of its streams."""

    def __init__(self, archive: Archive, caller: Caller) -> None:
        self._archive, self._caller = archive, caller

    def streams(self) -> Sequence[str]:
        """Those that this caller may read."""
        return [name for name in self._archive.streams() if self._caller.may_read(name)]

    def cut(self, stream: str) -> Cut | None:
        """See `Archive`."""
        return self._archive.cut(stream) if self._caller.may_read(stream) else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._archive, name)


@dataclass(frozen=True, slots=True)
class Answer:
    """`truncated`: there would have been more."""

    rows: pa.Table
    truncated: bool


class Asker:
    """Runs queries in threads of its own. Made and used in one event loop."""

    def __init__(self, context: ServeContext) -> None:
        self._context = context
        self._limits = context.settings.query
        self._threads = ThreadPoolExecutor(self._limits.at_once, thread_name_prefix="qanat-ask")
        self._running = 0
        self._shared: Queries | None = None

    async def ask(
        self, caller: Caller, sql: str, parameters: Parameters, limit: int | None = None, seconds: float | None = None
    ) -> Answer:
        """The answer, at most `limit` rows of it, after at most `seconds`. Who cancels this task cancels the query.

        Raises `RefusedError`: 400 for wrong SQL, 403, 504; `BackpressureError` where too many run.
        """
        from qanat.query.limits import Handle  # it loads DuckDB, which who runs no query does without

        caller.demand_query()
        if self._running >= self._limits.at_once:
            hint = "api.query.at_once in qanat.yaml allows more"
            raise BackpressureError(f"{self._running} queries are running already", retry_after=1, hint=hint)
        most = min(limit or self._limits.rows, self._limits.rows)
        handle = Handle()
        self._running += 1
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, caller, sql, parameters, most, handle
        )
        running.add_done_callback(self._on_end)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(running)
        except TimeoutError as error:
            raise RefusedError(504, f"the query took longer than {seconds:g} s", hint="ask for less") from error
        finally:
            handle.cancel()

    def close(self) -> None:
        """End the threads once their queries have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._shared is not None:
            self._shared.close()

    def _on_end(self, done: asyncio.Future[Answer]) -> None:
        self._running -= 1
        if not done.cancelled():
            done.exception()  # whoever asked may be gone; then nobody else looks at it

    def _run(self, caller: Caller, sql: str, parameters: Parameters, most: int, handle: Handle) -> Answer:
        context = self._context
        whole = all(map(caller.may_read, context.log.status()))
        if whole and self._shared is None:
            self._shared = context.open_queries(context.log, context.archive, True)
        queries = self._shared if whole else self._restricted(caller)
        assert queries is not None
        try:
            return self._gather(queries, sql, parameters, most, handle)
        except (SqlError, ConfigError) as error:
            raise _refused(error) from error
        except QueryLimitError as error:
            raise RefusedError(504, error.message, hint=error.hint) from error
        finally:
            if queries is not self._shared:
                with suppress(QueryLimitError):
                    queries.close()

    def _restricted(self, caller: Caller) -> Queries:
        context = self._context
        log: Any = Visible(context.log, caller)
        archive: Any = None if context.archive is None else VisibleArchive(context.archive, caller)
        return context.open_queries(log, archive, False)

    def _gather(self, queries: Queries, sql: str, parameters: Parameters, most: int, handle: Handle) -> Answer:
        taken: list[pa.RecordBatch] = []
        rows = size = 0
        pieces = queries.batches(sql, parameters, handle=handle)
        try:
            for batch in pieces:
                room = most - rows
                taken.append(batch.slice(0, room))
                rows += taken[-1].num_rows
                size += batch.nbytes
                if batch.num_rows > room or size > self._limits.bytes:
                    return Answer(pa.Table.from_batches(taken), truncated=True)
        finally:
            getattr(pieces, "close", lambda: None)()
        if taken:
            return Answer(pa.Table.from_batches(taken), truncated=False)
        return Answer(queries.table(sql, parameters, handle=handle).slice(0, 0), truncated=False)


def _refused(error: SqlError | ConfigError) -> RefusedError:
    """What is wrong with the SQL, with the place where that is known."""
    text = str(error).split("\n  hint:")[0]
    return RefusedError(400, text, hint=error.hint)
