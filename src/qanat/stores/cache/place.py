"""Where answers are kept, as `aside` sees it: a cache with what guards it. `near` is in this process, `far` is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from qanat.stores.cache.entry import Entry


@dataclass(frozen=True, slots=True)
class Found:
    """What a look into a cache gave. `entry`: an answer that may be given, fresh or stale.

    `stamps`: with which an answer that is made now may be kept there, one for each tag; None: it may not.
    """

    entry: Entry | None = None
    stamps: tuple[bytes, ...] | None = None


class Place(Protocol):
    """One cache of the project, as `Switch` opened it. Nothing here raises because a server is down or slow."""

    @property
    def label(self) -> str:
        """What metrics call it."""
        ...

    def usable(self) -> bool:
        """Whether it is to be asked now."""
        ...

    async def read(self, key: str, tags: Sequence[str]) -> Found:
        """Look for an answer. Waits for as long as an answer may wait for a cache."""
        ...

    async def store(self, key: str, entry: Entry, tags: Sequence[str]) -> None:
        """Keep an answer, with the stamps that `read` gave before it was made."""
        ...

    def invalidate(self, tags: Collection[str]) -> None:
        """Give no answer with one of these tags from now on; `settle` makes that true for other processes."""
        ...

    async def settle(self) -> None:
        """Wait until the server knows what was invalidated, or does not answer."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
