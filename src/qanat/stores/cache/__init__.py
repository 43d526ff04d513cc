"""Answers that were made once are given again. What is kept here may be gone at any time; nothing depends on it.

    aside = Aside(Switch(Cache(url="redis://127.0.0.1:6379/0", fallback=(CacheServer(url="memory://"),))))
    answer = await aside.fetch("aggregate/readings/900", make, tags=[tag_of("readings")])

The port of the drivers is `base.CacheDriver`. It knows nothing of what an answer is or how it is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, urlsplit

from qanat.clock import SYSTEM, Clock
from qanat.errors import ConfigError
from qanat.model.cache import CacheServer
from qanat.stores.cache.base import CacheDriver, CacheOptions
from qanat.stores.cache.tags import tag_of as tag_of

#: Scheme -> module, its function of URL and options, the extra that brings what it needs. Imported when one is opened.
_DRIVERS = {
    "memory": ("qanat.stores.cache.memory", "open_memory", None),
    "redis": ("qanat.stores.cache.redis", "open_redis", "redis"),
    "rediss": ("qanat.stores.cache.redis", "open_redis", "redis"),
    "memcached": ("qanat.stores.cache.memcached", "open_memcached", None),
}


def open_cache(url: str, options: CacheOptions | None = None) -> CacheDriver:
    """The cache that the URL names; it connects when it is first asked.

    Raises `ConfigError` for a URL that no driver knows, and where what the driver needs is not installed.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}", hint=_HINT) from error
    if parts.scheme not in _DRIVERS or "://" not in url:
        raise ConfigError(f"no cache is named by {_shown(parts) if parts.scheme else repr(url)}", hint=_HINT)
    module, function, extra = _DRIVERS[parts.scheme]
    try:
        driver = getattr(import_module(module), function)(parts, options or CacheOptions())
    except ImportError as error:
        raise ConfigError(
            f"{parts.scheme}:// needs a package that is not installed: {error.name}",
            hint=f"pip install 'qanat[{extra}]'",
        ) from error
    return cast(CacheDriver, driver)


def open_server(
    server: CacheServer,
    memory: int,
    clock: Clock = SYSTEM,
    env: Mapping[str, str] = os.environ,
    base: Path | None = None,
) -> CacheDriver:
    """The cache that a project in the folder `base` declares.

    Raises `ConfigError`, also where the variable of its password is not set.
    """
    password = None
    if server.password_env is not None:
        password = env.get(server.password_env)
        if password is None:
            raise ConfigError(
                f"the password of the cache at {_shown(urlsplit(server.url))} should be in {server.password_env}, "
                "which is not set",
                hint=f"export {server.password_env}=...",
            )
    ca = None if server.ca is None else (base or Path()) / server.ca
    return open_cache(server.url, CacheOptions(password=password, ca=ca, memory=memory, clock=clock))


_HINT = "write memory://, redis://host:6379/0, rediss://host:6379/0 (TLS) or memcached://host:11211"


def _shown(parts: SplitResult) -> str:
    """A URL without what may be secret in it."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
