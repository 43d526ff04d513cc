"""Collectors that post what they are given over HTTP, as NDJSON with an idempotency key, and keep the account of it.

The HTTP side of `fleet`: the pace, the bodies, the connections and the sending again. One body after the other goes out
per collector; one without an answer goes out again with the same key, so that nothing is stored twice.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from qanat.errors import AuthError, ConfigError, ProtocolError
from qanat.sim.fleet import Account
from qanat.sim.households import Message
from qanat.sim.pace import paced

_ROWS = 1_000
_LATER = frozenset({408, 409, 429, 503, 507})


@dataclass(frozen=True, slots=True)
class PostingOptions:
    """Where to and how.

    `speed`: virtual seconds per real second; 0 = as fast as answers come. `gather_s`: how long a collector waits for
    more rows before it posts. `lost_connections`: so many are cut a minute, in the middle of a body. `patience_s`: how
    long to wait for a server that nobody has met yet, and `drain_s` for the last answers.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    username: str | None = None
    password: str | None = None
    speed: float = 1.0
    gather_s: float = 0.05
    lost_connections: float = 0.0
    backoff_s: tuple[float, float] = (0.05, 2.0)
    drain_s: float = 30.0
    patience_s: float = 10.0
    seed: int = 1


class Posting:
    """Collectors that come to life with their first message. `account` may be read while `play` runs."""

    def __init__(self, options: PostingOptions) -> None:
        self.options = options
        self.account = Account()
        self.met = False
        self.began = time.monotonic()
        self.random = random.Random(options.seed)  # noqa: S311 - spreads retries, hides nothing
        self._collectors: dict[str, _Collector] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def play(self, messages: Iterable[Message]) -> Account:
        """Post everything at its time and wait for the answers.

        Raises `ConfigError` where there is no server or no such stream, `AuthError` where it keeps collectors out.
        """
        self.began = time.monotonic()
        cutting = asyncio.create_task(self._cut())
        try:
            await self._give_all(messages)
            await self._drain()
        finally:
            for task in (cutting, *self._tasks):
                task.cancel()
            await asyncio.gather(cutting, *self._tasks, return_exceptions=True)
            for collector in self._collectors.values():
                collector.leave()
            await asyncio.sleep(0)
        return self.account

    async def _give_all(self, messages: Iterable[Message]) -> None:
        async for message in paced(messages, self.options.speed):
            collector = self._collector(message)
            collector.give(self.account.add(message))
            while len(collector.waiting) > 10 * _ROWS:
                await asyncio.sleep(0.005)
                self._check()

    def _collector(self, message: Message) -> _Collector:
        collector = self._collectors.get(message.client)
        if collector is None:
            collector = self._collectors[message.client] = _Collector(self, message.client, message.topic)
            self._tasks.append(asyncio.create_task(collector.run()))
        return collector

    async def _drain(self) -> None:
        deadline = time.monotonic() + self.options.drain_s
        while any(not collector.idle for collector in self._collectors.values()) and time.monotonic() < deadline:
            self._check()
            await asyncio.sleep(0.01)
        self._check()

    def _check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _cut(self) -> None:
        """Cut a connection now and then, whoever's it is."""
        while self.options.lost_connections:
            await asyncio.sleep(self.random.expovariate(self.options.lost_connections / 60))
            if self._collectors:
                self.random.choice(list(self._collectors.values())).torn = True


class _Collector:
    """One collector. `torn`: its next body is to break off in the middle."""

    def __init__(self, posting: Posting, name: str, stream: str) -> None:
        self.posting, self.name, self.stream = posting, name, stream
        self.waiting: deque[int] = deque()
        self.torn = self._busy = False
        self._bodies = 0
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._more = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether everything has its answer."""
        return not (self.waiting or self._busy)

    def give(self, index: int) -> None:
        """Post message `index` with the next body."""
        self.waiting.append(index)
        self._more.set()

    async def run(self) -> None:
        """Body after body."""
        while True:
            await self._more.wait()
            if self.posting.options.speed and len(self.waiting) < _ROWS:
                await asyncio.sleep(self.posting.options.gather_s)
            self._busy = True
            rows = [self.waiting.popleft() for _ in range(min(_ROWS, len(self.waiting)))]
            self._bodies += 1
            await self._deliver(rows, f"{self.name}-{self.posting.began:.6f}-{self._bodies}")
            self._busy = False
            if not self.waiting:
                self._more.clear()

    async def _deliver(self, rows: list[int], key: str) -> None:
        """Until it is answered."""
        attempt = 0
        while True:
            began = time.perf_counter()
            try:
                connection = self._connection or await self._connect()
                status, said = await self._post(rows, key, *connection)
            except (OSError, EOFError, TimeoutError):
                self._lose()
                status, said = 0, {}
            if self._settle(rows, status, said):
                self.posting.account.ack_ms.append((time.perf_counter() - began) * 1000)
                return
            attempt += 1
            least, most = self.posting.options.backoff_s
            await asyncio.sleep(min(most, least * 2.0 ** min(attempt, 16)) * self.posting.random.uniform(0.5, 1.0))

    def leave(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None
            self.posting.account.connected -= 1

    def _lose(self) -> None:
        posting, options = self.posting, self.posting.options
        if self._connection is not None:
            self.leave()
            posting.account.reconnects += 1
        elif not posting.met and time.monotonic() - posting.began > options.patience_s:
            hint = f"qanat up examples/web --http-port {options.port}"
            raise ConfigError(f"no HTTP server answers at {options.host}:{options.port}", hint=hint)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._connection = await asyncio.open_connection(self.posting.options.host, self.posting.options.port)
        self.posting.met = True
        self.posting.account.connected += 1
        return self._connection

    async def _post(
        self, rows: list[int], key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, dict[str, object]]:
        account, options = self.posting.account, self.posting.options
        body = b"\n".join(account.messages[index].payload for index in rows)
        head = f"POST /streams/{self.stream} HTTP/1.1\r\nHost: {options.host}\r\nContent-Type: application/x-ndjson\r\n"
        if options.username is not None:
            pair = f"{options.username.replace('{client}', self.name)}:{options.password or ''}"
            head += f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
        request = f"{head}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        if self.torn:
            self.torn = False
            writer.write(request[: -max(1, len(body) // 2)])
            await writer.drain()
            raise EOFError
        for index in rows:
            account.again += bool(account.sends[index])
            account.sent += not account.sends[index]
            account.sends[index] += 1
        writer.write(request)
        async with asyncio.timeout(options.drain_s):
            return await _read_answer(reader)

    def _settle(self, rows: list[int], status: int, said: dict[str, object]) -> bool:
        """Whether that was the answer for good."""
        account = self.posting.account
        if status == 0 or status in _LATER:
            return False
        if status in (200, 422):  # 422: no row fitted, and all of them are kept as dead letters
            for index in rows:
                account.acked[index] = 1
            account.acknowledged += len(rows)
            return True
        text = f"{said.get('detail', said)} (HTTP {status})"
        if status in (401, 403):
            raise AuthError(f"the server keeps {self.name} out: {text}")
        if status == 404:
            raise ConfigError(f"the server has no stream {self.stream}: {text}", hint="qanat up examples/web")
        raise ProtocolError(f"the server answered {text}")


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    size = next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length:")), 0)
    said = orjson.loads(await reader.readexactly(size)) if size else {}
    return int(head.split()[1]), said if isinstance(said, dict) else {}
