"""Listening sockets: bound for a protocol, and kept: one that no longer accepts is bound and opened again.

    every _LOOK: a socket that does not listen -> fault "listener mqtt" -> bound again at its port, later each time

The operating system can take a listener away: an error in accept (no memory, no descriptors) ends it for good in libuv.
Connections that are open notice nothing of that, and nobody else comes in.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from qanat.errors import ConfigError
from qanat.gateway.config import Listener
from qanat.model.backoff import Backoff

#: Seconds between two looks.
_LOOK = 1.0
_BACKOFF = Backoff(1.0, 60.0)
_NO_LONGER = "does not accept connections any more"

#: Accept connections on a bound socket; what it gives ends that. Whoever accepts owns the socket, and closes it: closed
#: from here, too, its number could be somebody else's by then.
Open = Callable[[socket.socket], Awaitable[Callable[[], None]]]
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    """One listener. `again_at`: when it is tried again, in the loop's seconds."""

    listener: Listener
    port: int
    sock: socket.socket
    open: Open
    close: Callable[[], None]
    fault: str | None = None
    failures: int = 0
    again_at: float = 0.0


class Keeper:
    """The listeners of one gateway. Lives in its event loop."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self, listener: Listener, sock: socket.socket, opening: Open) -> None:
        """Open a listener, and keep it open from `start` on."""
        port = sock.getsockname()[1]
        self._kept.append(_Kept(listener, port, sock, opening, await opening(sock)))

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more; the listeners stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def checks(self) -> Mapping[str, str | None]:
        """What is wrong with each, None where it listens."""
        return {f"listener {kept.listener.protocol}": kept.fault for kept in self._kept}

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            for kept in self._kept:
                if not _listens(kept.sock):
                    await self._open_again(kept, asyncio.get_running_loop().time())

    async def _open_again(self, kept: _Kept, now: float) -> None:
        kept.fault = kept.fault or _NO_LONGER
        if now < kept.again_at:
            return
        name = kept.listener.protocol
        try:
            kept.close()
            sock = bind(kept.listener.host, kept.port, name)
            kept.sock, kept.close = sock, await kept.open(sock)
        except (ConfigError, OSError, RuntimeError) as error:  # told, and tried again
            kept.failures += 1
            kept.again_at = now + _BACKOFF.wait(kept.failures)
            kept.fault = f"{_NO_LONGER}: {error}"
            _logger.warning("listener %s %s", name, kept.fault)
        else:
            kept.fault, kept.failures = None, 0
            _logger.warning("listener %s accepts connections again on port %d", name, kept.port)


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # closed by whoever served on it
        return False


def bind_all(listeners: Sequence[Listener]) -> dict[str, socket.socket]:
    """A listening socket for each that has a port, by protocol. Raises `ConfigError` where one cannot be had; none
    stays bound then."""
    bound: dict[str, socket.socket] = {}
    try:
        for one in listeners:
            if one.port is not None:
                bound[one.protocol] = bind(one.host, one.port, one.protocol)
    except ConfigError:
        for sock in bound.values():
            sock.close()
        raise
    return bound


def bind(host: str, port: int, protocol: str) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `ConfigError`."""
    sock: socket.socket | None = None
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, number)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(4096)
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is taken by another program",
                hint=f"use another with --{protocol}-port, or 0 for any free one",
            ) from error
        raise ConfigError(
            f"cannot listen for {protocol} on {host}:{port}: {error.strerror or error}",
            hint="listen on 127.0.0.1, or on an address of this machine and a port above 1023",
        ) from error
    sock.setblocking(False)
    return sock
