"""A cache in this process: bounded in bytes, the least recently used go first. Gone with the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult

from qanat.clock import Clock
from qanat.errors import CacheError, ConfigError
from qanat.stores.cache.base import MAX_VALUE, CacheOptions, check_keys

#: What an item takes beside its key and value, about: the objects around them.
_OVERHEAD = 300


class MemoryCache:
    """See `CacheDriver` and `InProcess`. `limit`: bytes, about, of everything that it holds."""

    name = "memory"

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit, self._seconds = limit, clock.seconds
        self._items: OrderedDict[str, tuple[object, float, int]] = OrderedDict()
        self._closed = False
        self.size = 0

    def look(self, key: str) -> object | None:
        """See `InProcess`."""
        item = self._items.get(key)
        if item is None:
            return None
        if item[1] <= self._seconds():
            self._remove(key)
            return None
        self._items.move_to_end(key)
        return item[0]

    def hold(self, key: str, value: object, size: int, ttl_ms: int) -> None:
        """See `InProcess`."""
        self._remove(key)
        size += len(key) + _OVERHEAD
        if size > self._limit or ttl_ms <= 0:
            return
        self._items[key] = (value, self._seconds() + ttl_ms / 1000, size)
        self.size += size
        while self.size > self._limit:
            self._remove(next(iter(self._items)))

    def forget(self, keys: Sequence[str]) -> None:
        """See `InProcess`."""
        for key in keys:
            self._remove(key)

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `CacheDriver`."""
        check_keys(keys)
        await self.ping()
        found = [self.look(key) for key in keys]
        return [value if isinstance(value, bytes) else None for value in found]

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """See `CacheDriver`."""
        check_keys(list(values))
        await self.ping()
        for key, value in values.items():
            if len(value) > MAX_VALUE:
                self._remove(key)
            else:
                self.hold(key, value, len(value), ttl_ms)

    async def drop(self, keys: Sequence[str]) -> None:
        """See `CacheDriver`."""
        check_keys(keys)
        await self.ping()
        self.forget(keys)

    async def ping(self) -> None:
        """See `CacheDriver`."""
        if self._closed:
            raise CacheError("the cache in memory is closed")

    async def close(self) -> None:
        """See `CacheDriver`."""
        self._closed = True
        self._items.clear()
        self.size = 0

    def _remove(self, key: str) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self.size -= item[2]


def open_memory(url: SplitResult, options: CacheOptions) -> MemoryCache:
    """`memory://`, which takes nothing more."""
    if url.netloc or url.path or url.query or options.password is not None or options.ca is not None:
        raise ConfigError("memory:// takes no host, password or certificate", hint="write memory://")
    return MemoryCache(options.memory, options.clock)
