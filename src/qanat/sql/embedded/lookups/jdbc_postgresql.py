"""Lookups in PostgreSQL through psycopg. `jdbc:postgresql://HOST:PORT/DATABASE`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import polars as pl

from qanat.errors import BackpressureError, ConfigError
from qanat.sql.embedded.lookups.base import Asked, parts, quoted

#: SQLSTATE classes that pass by themselves: connection lost, out of resources, the server shuts down, deadlocks.
_PASSING = ("08", "53", "57", "40")


class PostgresLookup:
    """A table of a PostgreSQL database. One connection; it is made anew after it was lost."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._psycopg = _driver()
        self._url = asked.option("url").removeprefix("jdbc:")
        self._connection: Any = None
        self._closing: Callable[[], object] | None = None  # also when the operator is gone

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """One query per 10,000 values."""
        found: list[tuple[Any, ...]] = []
        try:
            connection = self._connected()
            for part in parts(keys):
                values = [value for row in part for value in row]
                found += connection.execute(self._query(len(part)), values).fetchall()
        except self._psycopg.Error as error:
            self.close()
            raise self._said(error) from error
        return self._asked.frame(found)

    def _query(self, count: int) -> str:
        names = self._asked.keys
        one = ", ".join(["%s"] * len(names))
        left = ", ".join(quoted(name) for name in names).replace("%", "%%")
        row = "(" + one + ")" if len(names) > 1 else one
        return f"{self._asked.select().replace('%', '%%')} WHERE ({left}) IN ({', '.join([row] * count)})"

    def _connected(self) -> Any:
        if self._connection is None:
            options = self._asked.table.options
            named = {"user": options.get("username"), "password": options.get("password")}
            given = {name: value for name, value in named.items() if value is not None}
            self._connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=10, **given)
            self._closing = weakref.finalize(self, self._connection.close)
        return self._connection

    def _said(self, error: Any) -> BackpressureError | ConfigError:
        message = f"table {self._asked.table.name}: {str(error).strip().splitlines()[0]}"
        state = error.sqlstate
        unreachable = state is None and isinstance(error, self._psycopg.OperationalError)
        refused = any(word in str(error) for word in ("authentication failed", "does not exist", "no password"))
        if (unreachable and not refused) or (state is not None and state[:2] in _PASSING):
            return BackpressureError(message, retry_after=1.0, hint="is the server up? psql -h HOST -p PORT DATABASE")
        return ConfigError(message, hint="compare 'url', 'table-name', 'username' and the columns with the database's")

    def close(self) -> None:
        """Close the connection."""
        if self._closing is not None:
            self._closing()
        self._connection = self._closing = None


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(
            "lookups in PostgreSQL need psycopg, which is not installed", hint="pip install 'qanat[postgres]'"
        ) from error
    return psycopg
