"""Memcached: a few connections, each with as many requests on their way as there are. No TLS, no passwords."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import SplitResult

from qanat.errors import CacheError, ConfigError, ProtocolError
from qanat.stores.cache.base import MAX_VALUE, CacheOptions, check_keys
from qanat.stores.cache.memcached_text import (
    Answer,
    Answers,
    Refused,
    Wanted,
    encode_delete,
    encode_get,
    encode_set,
    encode_version,
)


class Link(asyncio.Protocol):
    """One connection. Answers come in the order of the requests; whoever gives up waiting for his ends it for all,
    since a server that owes one answer gives none of the later ones either."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._transport: asyncio.Transport | None = None
        self._answers = Answers()
        self._asked: deque[asyncio.Future[Answer]] = deque()

    @property
    def load(self) -> int:
        """How many answers it owes."""
        return len(self._asked)

    @property
    def open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, wanted: Sequence[Wanted]) -> list[Answer]:
        """Send, and wait for all of the answers. Raises `CacheError` where the connection ends before."""
        if self._transport is None or self._transport.is_closing():
            raise CacheError(f"{self._where} closed the connection")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in wanted]
        for one, future in zip(wanted, futures, strict=True):
            self._answers.expect(one)
            self._asked.append(future)
        self._transport.write(request)
        try:
            return [await future for future in futures]
        except asyncio.CancelledError:
            self.end(CacheError(f"{self._where} did not answer in time"))
            raise
        finally:
            for future in futures:
                if future.done() and not future.cancelled():
                    future.exception()  # looked at: the first one was raised, and the others say the same

    def end(self, why: CacheError) -> None:
        """Close at once; whoever still waits is told why."""
        if self._transport is not None:
            self._transport.abort()
        asked, self._asked = self._asked, deque()
        for future in asked:
            if not future.done():
                future.set_exception(why)

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for answer in self._answers.feed(data):
                future = self._asked.popleft()
                if not future.done():
                    future.set_result(answer)
        except ProtocolError as error:
            self.end(CacheError(f"{self._where} talks nonsense: {error.message}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.end(CacheError(f"{self._where} closed the connection{f': {exc}' if exc else ''}"))


class Memcached:
    """See `CacheDriver`. Whole seconds: what is to be kept for less than one is not kept."""

    name = "memcached"

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host, self._port, self._most = host, port, connections
        self._where = f"memcached at {host}:{port}"
        self._links: list[Link] = []
        self._opening: asyncio.Task[Link] | None = None
        self._closed = False

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `CacheDriver`."""
        check_keys(keys)
        if not keys:
            return []
        values = (await self._ask(encode_get(keys), [Wanted.VALUES]))[0]
        assert isinstance(values, dict)
        return [values.get(key) for key in keys]

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """See `CacheDriver`."""
        check_keys(list(values))
        kept = {key: value for key, value in values.items() if len(value) <= MAX_VALUE and ttl_ms >= 1000}
        requests = [encode_set(key, value, ttl_ms // 1000) for key, value in kept.items()]
        requests += [encode_delete(key) for key in values if key not in kept]
        wanted = [Wanted.STORED] * len(kept) + [Wanted.DELETED] * (len(values) - len(kept))
        if requests:
            await self._ask(b"".join(requests), wanted)

    async def drop(self, keys: Sequence[str]) -> None:
        """See `CacheDriver`."""
        check_keys(keys)
        if keys:
            await self._ask(b"".join(map(encode_delete, keys)), [Wanted.DELETED] * len(keys))

    async def ping(self) -> None:
        """See `CacheDriver`."""
        await self._ask(encode_version(), [Wanted.VERSION])

    async def close(self) -> None:
        """See `CacheDriver`."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for link in self._links:
            link.end(CacheError(f"the connection to {self._where} was closed"))

    async def _ask(self, request: bytes, wanted: Sequence[Wanted]) -> list[Answer]:
        link = await self._link()
        answers = await link.ask(request, wanted)
        for answer in answers:
            if isinstance(answer, Refused):
                raise CacheError(f"{self._where} refused: {answer.text}")
        return answers

    async def _link(self) -> Link:
        """The connection with the least to do; a further one is opened while all are busy, and nobody waits for it."""
        if self._closed:
            raise CacheError(f"the connection to {self._where} was closed")
        self._links = [link for link in self._links if link.open]
        best = min(self._links, key=lambda link: link.load, default=None)
        if (best is None or best.load) and len(self._links) < self._most and self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        if best is not None:
            return best
        assert self._opening is not None
        return await asyncio.shield(self._opening)

    async def _open(self) -> Link:
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_connection(lambda: Link(self._where), self._host, self._port)
        except OSError as error:
            raise CacheError(f"cannot reach {self._where}: {error.strerror or error}") from error
        return link

    def _opened(self, opening: asyncio.Task[Link]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._links.append(opening.result())


def open_memcached(url: SplitResult, options: CacheOptions) -> Memcached:
    """`memcached://host[:port]`; 11211 where none is given."""
    if not url.hostname or url.path.strip("/") or url.query or url.username is not None:
        raise ConfigError("a Memcached is named by host and port only", hint="write memcached://127.0.0.1:11211")
    if options.password is not None or options.ca is not None:
        raise ConfigError(
            "Memcached is spoken to without password and TLS",
            hint="keep it in a network of its own, or use redis[s]://, which knows both",
        )
    return Memcached(url.hostname, url.port or 11211, options.connections)
