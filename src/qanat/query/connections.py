"""DuckDB connections that are kept: a bounded number, each with memory of its own, and locked settings.

A connection is used by one thread at a time. Whoever was interrupted or ran out of memory is not used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from qanat.errors import BackpressureError, LogError
from qanat.model.query import QuerySettings
from qanat.query.limits import Run


@dataclass(frozen=True, slots=True)
class Allowed:
    """Files that DuckDB may open: these, and those in these folders. Nothing else, and nothing by the user's own SQL:
    `statements` refuses table functions that read files."""

    folders: Sequence[str] = ()
    files: Sequence[str] = ()


class Connections:
    """The pool."""

    def __init__(self, settings: QuerySettings, allowed: Allowed) -> None:
        self._settings, self._allowed = settings, allowed
        self._free = threading.Semaphore(settings.connections)
        self._lock = threading.Lock()
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._closed = False

    @contextmanager
    def lend(self, run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one query, which must leave nothing behind on it.

        Raises `BackpressureError` where none gets free before the deadline.
        """
        if not self._free.acquire(timeout=run.left):
            raise BackpressureError(
                f"all {self._settings.connections} connections for queries are busy",
                retry_after=1.0,
                hint="ask again later, or raise query.connections in qanat.yaml",
            )
        try:
            connection = self._take()
            clean = False
            try:
                with run.on(connection):
                    yield connection
                clean = not run.stopped
            finally:
                self._give(connection, clean=clean)
        finally:
            self._free.release()

    def _take(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._closed:
                raise LogError("this query object is closed")
            if self._idle:
                return self._idle.pop()
        return connect(self._settings, self._allowed)

    def _give(self, connection: duckdb.DuckDBPyConnection, *, clean: bool) -> None:
        with self._lock:
            if clean and not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close idle connections now, the others when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def connect(settings: QuerySettings, allowed: Allowed) -> duckdb.DuckDBPyConnection:
    """A connection in memory that reads only what it may, and whose settings stay as they are."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{settings.memory}B",
        "python_enable_replacements": False,  # Python's variables are no tables
        "temp_directory": "",  # what does not fit into memory is an error, not a file
    }
    if settings.threads is not None:
        config["threads"] = settings.threads
    connection = duckdb.connect(":memory:", config=config)
    steps = [
        "SET TimeZone = 'UTC'",
        "SET parquet_metadata_cache = true",  # files of the archive never change
        f"SET allowed_directories = {listed(allowed.folders)}",
        f"SET allowed_paths = {listed(allowed.files)}",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ]
    for step in steps:
        connection.execute(step).fetchall()
    return connection


def listed(texts: Sequence[str]) -> str:
    """Texts as a list of SQL."""
    return "[" + ", ".join(text_literal(one) for one in texts) + "]"


def text_literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL's delimited identifier."""
    return '"' + name.replace('"', '""') + '"'
