"""Hot stores: the rows of streams where applications look them up by key and time.

    store = open_store("duckdb:///hot.duckdb")
    store.prepare(open_table(stream, key=("sensor",)))
    store.latest("readings", ["s-17"])

The port is `qanat.stores.hot.base.HotStore`; `feeder` brings the rows from the log.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from qanat.errors import ConfigError
from qanat.stores.hot.base import HotStore

#: Scheme -> module and function, which takes what follows `scheme://` and the password, and gives back what opens it;
#: and the extra that installs what it stands on. Imported when one is opened.
_DRIVERS = {
    "duckdb": ("qanat.stores.hot.duckdb", "duckdb_at", None),
    "clickhouse": ("qanat.stores.hot.clickhouse_http", "clickhouse_at", "clickhouse"),
    "chdb": ("qanat.stores.hot.clickhouse_chdb", "chdb_at", "chdb"),
    "cassandra": ("qanat.stores.hot.cassandra", "cassandra_at", "cassandra"),
}

_FORMS = "duckdb:///file, clickhouse://user@host:8123/database, chdb:///folder or cassandra://user@host:9042/keyspace"


def open_store(url: str, password: str | None = None) -> HotStore:
    """Open the store that the URL names. `password` goes before one in the URL.

    Raises `ConfigError` for a URL that no driver knows or whose driver is not installed, `StoreError` where the store
    cannot be reached.
    """
    return opener_of(url, password)()


def opener_of(url: str, password: str | None = None) -> Callable[[], HotStore]:
    """What opens the store that the URL names. Reaches for nothing yet. Raises `ConfigError`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _DRIVERS:
        raise ConfigError(f"no store is named by {_without_password(url)!r}", hint=f"write {_FORMS}")
    module, function, extra = _DRIVERS[scheme]
    try:
        driver = import_module(module)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("qanat"):
            raise
        raise ConfigError(
            f"{scheme}:// needs {error.name}, which is not installed", hint=f"pip install 'qanat[{extra}]'"
        ) from error
    return cast("Callable[[], HotStore]", getattr(driver, function)(rest, password))


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    return url if not at else f"{before.partition('://')[0]}://...@{after}"
