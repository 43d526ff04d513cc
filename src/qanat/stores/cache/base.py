"""The cache port: bytes under a key, for a while. What is in there may be gone at any time.

Drivers are named by URL in `open_cache` (`qanat.stores.cache`): `memory://`, `redis://host:port/0`, `memcached://host:port`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class CacheDriver(Protocol):
    """Lives in one event loop. Ordering: none between keys; the last `put` of a key wins. Idempotent throughout.
    Durability: none. Keys are ASCII of up to 200 characters, values up to 1 MB.

    Errors: `CacheError` for a server that is down, slow or talks nonsense; never a library's own. A value that the
    driver cannot hold is not kept, which is no error.
    """

    @property
    def name(self) -> str:
        """The product, as metrics call it: memory, redis, memcached."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The value, None where there is none."""
        ...

    async def put(self, key: str, value: bytes, ttl_ms: int) -> None:
        """Keep a value for so long, at most."""
        ...

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget."""
        ...

    async def ping(self) -> None:
        """Raises `CacheError` unless the driver would answer now."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
