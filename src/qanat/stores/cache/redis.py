"""The Redis protocol: Redis, Valkey, Dragonfly. By redis-py without its retries: the breaker decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, unquote

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from qanat.errors import CacheError, ConfigError
from qanat.stores.cache.base import MAX_VALUE, CacheOptions, check_keys

T = TypeVar("T")


class RedisCache:
    """See `CacheDriver`."""

    name = "redis"

    def __init__(
        self, where: str, connection: type[AbstractConnection], settings: Mapping[str, Any], most: int
    ) -> None:
        self._where = f"redis at {where}"
        self._pool = BlockingConnectionPool(
            max_connections=most,
            timeout=None,
            connection_class=connection,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=None,
            **settings,
        )
        self._redis = Redis(connection_pool=self._pool)
        self._closed = False

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `CacheDriver`."""
        check_keys(keys)
        if not keys:
            return []
        found: object = await self._do(cast("Awaitable[object]", self._redis.mget(list(keys))))
        if not isinstance(found, list) or len(found) != len(keys):
            raise await self._nonsense(found)
        for value in found:
            if value is not None and not isinstance(value, bytes):
                raise await self._nonsense(found)
        return found

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """See `CacheDriver`."""
        check_keys(list(values))
        kept = {key: value for key, value in values.items() if len(value) <= MAX_VALUE and ttl_ms > 0}
        gone = [key for key in values if key not in kept]
        if gone:
            await self.drop(gone)
        if len(kept) == 1:
            [(key, value)] = kept.items()
            await self._do(self._redis.set(key, value, px=ttl_ms))
        elif kept:
            pipeline = self._redis.pipeline(transaction=False)
            for key, value in kept.items():
                pipeline.set(key, value, px=ttl_ms)
            await self._do(pipeline.execute())

    async def drop(self, keys: Sequence[str]) -> None:
        """See `CacheDriver`."""
        check_keys(keys)
        if keys:
            await self._do(cast("Awaitable[object]", self._redis.delete(*keys)))

    async def ping(self) -> None:
        """See `CacheDriver`."""
        await self._do(cast("Awaitable[object]", self._redis.ping()))

    async def close(self) -> None:
        """See `CacheDriver`."""
        self._closed = True
        await self._pool.disconnect()

    async def _do(self, call: Awaitable[T]) -> T:
        if self._closed:
            if asyncio.iscoroutine(call):
                call.close()
            raise CacheError(f"the connection to {self._where} was closed")
        try:
            return await call
        except (RedisError, OSError) as error:
            raise CacheError(f"{self._where}: {error or type(error).__name__}") from error

    async def _nonsense(self, found: object) -> CacheError:
        """Whose answer this is, nobody knows: no connection can be trusted to be where we think it is."""
        await self._pool.disconnect()
        return CacheError(f"{self._where} talks nonsense: {found!r:.60}")


def open_redis(url: SplitResult, options: CacheOptions) -> RedisCache:
    """`redis[s]://[user@]host[:port][/number]`."""
    number = url.path.strip("/") or "0"
    if not url.hostname or not number.isdigit() or url.query:
        raise ConfigError(f"{url.scheme}:// needs a host, and may have a port and the number of a database", hint=_HINT)
    if options.ca is not None and url.scheme == "redis":
        raise ConfigError("redis:// speaks no TLS, so it has no use for ca", hint="write rediss://")
    password = options.password if url.password is None else unquote(url.password)
    settings: dict[str, Any] = {
        "host": url.hostname,
        "port": url.port or 6379,
        "db": int(number),
        "username": None if not url.username else unquote(url.username),
        "password": password,
    }
    connection: type[AbstractConnection] = Connection
    if url.scheme == "rediss":
        connection = SSLConnection
        settings["ssl_ca_certs"] = None if options.ca is None else str(options.ca)
    return RedisCache(f"{url.hostname}:{settings['port']}", connection, settings, options.connections)


_HINT = "write redis://127.0.0.1:6379/0, or rediss://... for TLS"
