"""Caches to test with: real servers on free ports of this machine, and a peer that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest


def needed(program: str) -> str:
    """Where the program is. Skips the test where it is absent; in CI that is a failure."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        text = f"no {program}: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Server:
    """A cache server of our own; it can be killed, frozen, and started again on the same port."""

    def __init__(self, command: Callable[[int], list[str]], folder: Path) -> None:
        self.port, self._command, self._folder = free_port(), command, folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command(self.port), cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, f"{self._command(self.port)[0]} ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its connections and takes new ones, and answers nothing."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


def redis_server(folder: Path, *more: str) -> Server:
    program = needed("redis-server")
    usual = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
    return Server(lambda port: [program, "--port", str(port), *usual, *more], folder)


def memcached_server(folder: Path, *more: str) -> Server:
    program = needed("memcached")
    return Server(lambda port: [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root", *more], folder)


#: What a misbehaving peer does with the writer, its proxy's target, when somebody says something.
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Peer:
    """A listener that treats every connection as it is told. `async with Peer(behaviour) as peer: peer.port`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour, self.port, self.connections = behaviour, 0, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._closed = False

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._closed:
            writer.transport.abort()
            return
        self._writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.behaviour(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads everything and answers nothing."""
    while await reader.read(65_536):
        pass


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads something, then resets the connection."""
    await reader.read(65_536)
    writer.transport.abort()


def saying(data: bytes, then_close: bool = False) -> Behaviour:
    """Says the same to whatever it is told."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(data)
            await writer.drain()
            if then_close:
                return

    return behave


class Way:
    """A behaviour: passes bytes to a real server. Answers are held back by `delay` seconds, or cut off after so many
    bytes of one connection, or `spoilt` by a function of the bytes."""

    def __init__(self, port: int) -> None:
        self.port, self.delay = port, 0.0
        self.cut: int | None = None
        self.spoil: Callable[[bytes], bytes] | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self.port)
        ends = [asyncio.create_task(self._up(reader, requests)), asyncio.create_task(self._down(answers, writer))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.transport.abort()
            for one in ends:
                one.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.spoil is not None:
                data = self.spoil(data)
            if self.cut is not None:
                writer.write(data[: self.cut])
                await writer.drain()
                return
            writer.write(data)
