"""The cache port: bytes under a key, for a while. What is in there may be gone at any time.

Drivers are named by URL in `open_cache` (`qanat.stores.cache`): `memory://`, `redis://host:port/0`, `memcached://host:port`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qanat.clock import SYSTEM, Clock
from qanat.errors import CacheError

MAX_KEY = 200
MAX_VALUE = 1 << 20
_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY}}}").fullmatch


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What a driver may be told beside its URL. `memory`: bytes that memory:// may hold; `connections`: at most so
    many to a server. `ca`: who signs the server's certificate, None: whom the system trusts."""

    password: str | None = None
    ca: Path | None = None
    memory: int = 64 << 20
    connections: int = 10
    clock: Clock = SYSTEM


class CacheDriver(Protocol):
    """Lives in one event loop. Ordering: none between keys; the last `put` of a key wins. Idempotent throughout.
    Durability: none. Keys are 1 to 200 printable ASCII characters without blanks, values up to 1 MB.

    Errors: `CacheError` for a server that is down, full or talks nonsense, and for keys that are none; never a
    library's own. It sets no limit of time: who calls does, by cancelling, after which the driver is as good as before.
    A value that is too large is not kept, which is no error; what the key held before is gone, too.
    """

    @property
    def name(self) -> str:
        """The product, as metrics call it: memory, redis, memcached."""
        ...

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys, None where there is none; in one round trip."""
        ...

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """Keep values for so long, at most."""
        ...

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget. Works in a full server, too."""
        ...

    async def ping(self) -> None:
        """Raises `CacheError` unless the driver would answer now."""
        ...

    async def close(self) -> None:
        """Let go of connections. What is asked afterwards raises `CacheError`."""
        ...


class InProcess(Protocol):
    """What only a driver in this process can do: keep objects as they are, and answer at once.

    Objects and the values of `CacheDriver` have the same keys and the same bound. Not thread-safe.
    """

    def look(self, key: str) -> object | None:
        """What is held under the key."""
        ...

    def hold(self, key: str, value: object, size: int, ttl_ms: int) -> None:
        """Keep an object of about so many bytes."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """Drop at once."""
        ...


def check_keys(keys: Sequence[str]) -> None:
    """Raises `CacheError` for a key that some driver could not hold, or could take for something else."""
    for key in keys:
        if not _KEY(key):
            raise CacheError(
                f"{key[:80]!r} is no key of a cache",
                hint=f"keys are 1 to {MAX_KEY} printable ASCII characters without blanks; Aside.fetch takes any text",
            )
