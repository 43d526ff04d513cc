"""Append-only streams with partitions, consumers' positions and state, all changed by one transaction.

    log = open_log("sqlite:///data/qanat.log")
    log.create(stream)
    receipt = log.submit(Transaction([Append("readings", 0, rows, at=now_ms())])).result()

The port is `qanat.log.base.Log`.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from qanat.errors import ConfigError
from qanat.log.base import Log

#: Scheme -> module and function, which takes what follows `scheme://`. Imported when one is opened.
_DRIVERS = {
    "sqlite": ("qanat.log.sqlite", "open_sqlite"),
    "memory": ("qanat.log.memory", "open_memory"),
}


def open_log(url: str, *, read_only: bool = False) -> Log:
    """Open the log that the URL names: `sqlite:///path/to/file` or `memory://`.

    `read_only`: beside the process that writes, in this process or another. Raises `ConfigError` for a URL that no
    driver knows, `LogLockedError` where another process writes, and other kinds of `LogError`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _DRIVERS:
        raise ConfigError(f"no log is named by {url!r}", hint="write sqlite:///path/to/file or memory://")
    module, function = _DRIVERS[scheme]
    return cast(Log, getattr(import_module(module), function)(rest, read_only=read_only))
