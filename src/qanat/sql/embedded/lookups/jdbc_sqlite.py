"""Lookups in a SQLite file, read-only, through the standard library. `jdbc:sqlite:PATH`."""

from __future__ import annotations

import datetime
import decimal
import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from qanat.errors import BackpressureError, ConfigError
from qanat.sql.embedded.lookups.base import Asked, parts, quoted

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteLookup:
    """A table of a SQLite file. Instants are texts in UTC there, DECIMAL are numbers or texts."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._path = Path(asked.option("url").removeprefix("jdbc:sqlite:"))
        self._connection: sqlite3.Connection | None = None
        self._closing: Callable[[], object] | None = None  # also when the operator is gone

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """One query per 10,000 values."""
        found: list[tuple[Any, ...]] = []
        try:
            connection = self._connected()
            for part in parts(keys):
                values = [_parameter(value) for row in part for value in row]
                found += connection.execute(self._query(len(part)), values).fetchall()
        except sqlite3.Error as error:
            raise self._said(error) from error
        return self._asked.frame(found)

    def _query(self, count: int) -> str:
        names, marks = self._asked.keys, ", ".join("?" * len(self._asked.keys))
        if len(names) == 1:
            return f"{self._asked.select()} WHERE {quoted(names[0])} IN ({', '.join('?' * count)})"
        left = ", ".join(quoted(name) for name in names)
        return f"{self._asked.select()} WHERE ({left}) IN (VALUES {', '.join([f'({marks})'] * count)})"

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.is_file():
                raise ConfigError(
                    f"table {self._asked.table.name}: no file {self._path}",
                    hint="'url' = 'jdbc:sqlite:PATH' names a SQLite file that exists",
                )
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=1.0)
            self._closing = weakref.finalize(self, self._connection.close)
        return self._connection

    def _said(self, error: sqlite3.Error) -> BackpressureError | ConfigError:
        message = f"table {self._asked.table.name}: {self._path}: {error}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            return BackpressureError(message, retry_after=1.0, hint="another process writes to the file")
        return ConfigError(message, hint="compare 'table-name' and the columns with the file's: sqlite3 FILE .schema")

    def close(self) -> None:
        """Close the file."""
        if self._closing is not None:
            self._closing()
        self._connection = self._closing = None


def _parameter(value: Any) -> Any:
    match value:
        case datetime.datetime():
            instant = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
            return str(instant) + ("Z" if value.tzinfo else "")
        case datetime.date() | datetime.time() | decimal.Decimal():
            return str(value)
        case _:
            return value
