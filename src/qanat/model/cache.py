"""Where answers are kept to be given again: the `cache` of qanat.yaml.

Declarations only. What a URL means is `qanat.stores.cache.open_cache`'s affair.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from qanat.model.sections import Duration, Section, Size

#: What stands before every key in a server, so that two projects may share one.
Prefix = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,32}$")]


class CacheServer(Section, frozen=True):
    """One cache: memory://, redis[s]://host:port/0 or memcached://host:port.

    `password_env`: the environment variable that holds the password. `ca`: a PEM file of who signs the server's
    certificate, relative to the project; None: whom the system trusts.
    """

    url: str = "memory://"
    password_env: str | None = None
    ca: str | None = None


class Cache(CacheServer, frozen=True):
    """The cache in use, those that take over in order while it is slow or down, and for how long answers are good.

    `ttl`: so long an answer is given again; 0 keeps none. `stale`: so long after that it is given while a new one is
    made. `invalidate`: a new row for what an answer was made of drops it. `timeout`: an answer waits no longer for a
    cache; `slow`: what takes longer counts as failed. `memory`: the bound of memory://.
    """

    fallback: tuple[CacheServer, ...] = ()
    prefix: Prefix = "qanat"
    ttl: Duration = Duration(120_000)
    stale: Duration = Duration(0)
    invalidate: bool = False
    timeout: Duration = Duration(100)
    slow: Duration = Duration(50)
    memory: Size = Size(64 << 20)

    @property
    def servers(self) -> tuple[CacheServer, ...]:
        """All of them, the preferred one first."""
        return (CacheServer(url=self.url, password_env=self.password_env, ca=self.ca), *self.fallback)
