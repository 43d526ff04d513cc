"""Tables outside the log that are asked by key: one driver per file, found by connector or URL."""

from __future__ import annotations

from collections.abc import Callable

from qanat.errors import ConfigError
from qanat.sql.embedded.lookups.base import Asked, Lookup
from qanat.sql.embedded.lookups.filesystem import FileLookup
from qanat.sql.embedded.lookups.jdbc_postgresql import PostgresLookup
from qanat.sql.embedded.lookups.jdbc_sqlite import SqliteLookup

__all__ = ["DRIVERS", "Asked", "Lookup", "open_lookup"]

#: How the 'url' of a 'jdbc' table begins -> its driver.
DRIVERS: dict[str, Callable[[Asked], Lookup]] = {
    "jdbc:sqlite:": SqliteLookup,
    "jdbc:postgresql:": PostgresLookup,
}


def open_lookup(asked: Asked) -> Lookup:
    """The table, ready to be asked. Raises `ConfigError` for a connector or URL that has no driver."""
    table = asked.table
    if table.connector == "filesystem":
        return FileLookup(asked)
    if table.connector != "jdbc":
        raise ConfigError(
            f"table {table.name}: the connector '{table.connector}' cannot be asked by key",
            hint="'connector' = 'jdbc' or 'filesystem'",
        )
    url = asked.option("url")
    for scheme, driver in DRIVERS.items():
        if url.startswith(scheme):
            return driver(asked)
    known = ", ".join(f"'{scheme}...'" for scheme in DRIVERS)
    raise ConfigError(f"table {table.name}: no driver for '{url}'", hint=f"'url' begins with one of {known}")
