"""A TCP proxy that misbehaves when told to: cuts connections in the middle of a packet, or holds their bytes back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

_PIECE = 16_384


@dataclass(eq=False)
class Pipe:
    """Two sockets. `left`: bytes that may still pass in a direction (up, down) before both are cut; None: all."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    left: list[int | None] = field(default_factory=lambda: [None, None])

    def cut(self) -> None:
        """End both sides with a reset; what was not sent yet is gone."""
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards from a port of its own to `target` on this machine, which may come and go."""

    def __init__(self, target: int, chance: random.Random) -> None:
        self.target, self._chance = target, chance
        self.port = 0
        self.cuts = 0
        self._pipes: set[Pipe] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self, share: float) -> None:
        """Cut about this share of the connections, each after a few more bytes in one direction."""
        for pipe in list(self._pipes):
            if self._chance.random() < share:
                pipe.left[self._chance.randrange(2)] = self._chance.randrange(400)
                self.cuts += 1

    async def hold(self, seconds: float) -> None:
        """Let nothing through for a while."""
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._flowing.set()

    def mute(self) -> None:
        """Let no answers through."""
        self._answering.clear()

    def unmute(self) -> None:
        """Let answers through again; those that were held back are lost, and their connections with them."""
        for pipe in list(self._pipes):
            pipe.cut()
        self._answering.set()

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pipe in list(self._pipes):
            pipe.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pipe = Pipe((downstream, writer))
        self._pipes.add(pipe)
        tasks = [
            asyncio.create_task(self._forward(reader, downstream, pipe, 0)),
            asyncio.create_task(self._forward(upstream, writer, pipe, 1)),
        ]
        self._tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        pipe.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.difference_update(tasks)
        self._pipes.discard(pipe)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: Pipe, direction: int
    ) -> None:
        while data := await self._read(reader):
            await self._flowing.wait()
            if direction:
                await self._answering.wait()
            left = pipe.left[direction]
            if left is not None:
                data = data[:left]
                pipe.left[direction] = left - len(data)
            writer.write(data)
            try:
                await writer.drain()
            except OSError:
                return
            if pipe.left[direction] == 0:
                # So that the last bytes leave before the reset: they are the beginning of a packet.
                await asyncio.sleep(0.001)
                return

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(_PIECE)
        except OSError:
            return b""
