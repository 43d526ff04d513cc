"""DuckDB connections that are kept: a bounded number, each with memory of its own, and locked settings.

A connection is used by one thread at a time. Whoever was interrupted or ran out of memory is not used again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class Lent:
    """A connection, and the folders that it may read. `views`: those that the last query has left on it, and what they
    select: the next one takes them over or drops them."""

    connection: duckdb.DuckDBPyConnection
    folders: frozenset[str]
    views: dict[str, str] = field(default_factory=dict)


class Connections:
    """The pool."""

    def __init__(self, settings: QuerySettings, allowed: Allowed) -> None:
        self._settings, self._allowed = settings, allowed
        self._free = threading.Semaphore(settings.connections)
        self._lock = threading.Lock()
        self._idle: list[Lent] = []
        self._closed = False
        self._folders = frozenset(allowed.folders)

    @contextmanager
    def lend(self, run: Run) -> Iterator[Lent]:
        """A connection for one query, which must leave nothing behind on it that `Lent.views` does not name.

        Raises `BackpressureError` where none gets free before the deadline.
        """
        if not self._free.acquire(timeout=run.left):
            raise BackpressureError(
                f"all {self._settings.connections} connections for queries are busy",
                retry_after=1.0,
                hint="ask again later, or raise query.connections in qanat.yaml",
            )
        try:
            lent = self._take()
            clean = False
            try:
                with run.on(lent.connection):
                    yield lent
                clean = not run.stopped
            finally:
                self._give(lent, clean=clean)
        finally:
            self._free.release()

    def _take(self) -> Lent:
        with self._lock:
            if self._closed:
                raise LogError("this query object is closed")
            if self._idle:
                return self._idle.pop()
            folders = self._folders
        return Lent(connect(self._settings, Allowed(sorted(folders), self._allowed.files)), folders)

    def _give(self, lent: Lent, *, clean: bool) -> None:
        with self._lock:
            if clean and not self._closed and lent.folders == self._folders:
                self._idle.append(lent)
                return
        lent.connection.close()

    def allow(self, folders: Iterable[str]) -> None:
        """Let connections read these folders, too: those that there are cannot learn it, and are closed."""
        with self._lock:
            self._folders |= frozenset(folders)
            idle, self._idle = self._idle, []
        for lent in idle:
            lent.connection.close()

    def close(self) -> None:
        """Close idle connections now, the others when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for lent in idle:
            lent.connection.close()


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
