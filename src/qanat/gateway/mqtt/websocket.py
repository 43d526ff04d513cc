"""MQTT inside a WebSocket: what an HTTP server calls for a client with the subprotocol `mqtt`.

The bytes of binary messages are a stream; where one ends means nothing (MQTT 5, section 6). The caller owns the socket:

    pipe = WebSocketPipe(server, send, close, certificate)
    async for message in socket:           # binary; a text message is a fault: pipe.fail()
        pipe.feed(message)
        await pipe.drained()               # backpressure: read no further before this returns
    pipe.lost()                            # however it ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from qanat.gateway.mqtt.link import Link
from qanat.gateway.mqtt.packets import Reason
from qanat.gateway.mqtt.server import MqttServer


class _Transport(asyncio.Transport):
    """The transport that a link sees."""

    def __init__(self, send: Callable[[bytes], None], close: Callable[[], None], certificate: bytes | None) -> None:
        super().__init__({"certificate": certificate})
        self._send, self._close = send, close
        self._is_closing = False
        self._may_read = asyncio.Event()
        self._may_read.set()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._is_closing:
            self._send(bytes(data))

    def close(self) -> None:
        if not self._is_closing:
            self.end()
            self._close()

    def abort(self) -> None:
        self.close()

    def end(self) -> None:
        """Nothing is sent and nobody waits any more."""
        self._is_closing = True
        self._may_read.set()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        if not self._is_closing:
            self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def readable(self) -> None:
        """Returns when the link wants to hear more."""
        await self._may_read.wait()


class WebSocketPipe:
    """One client. Made and used in the event loop of the server.

    `send` takes bytes that are to go out as one binary message, in order, and does not wait; `close` is called once,
    after the last of them, when the server wants the WebSocket to end. `certificate`: that of the client (DER).
    """

    def __init__(
        self,
        server: MqttServer,
        send: Callable[[bytes], None],
        close: Callable[[], None],
        certificate: bytes | None = None,
    ) -> None:
        self._link = Link(server)
        self._transport = _Transport(send, close, certificate)
        self._is_lost = False
        self._link.connection_made(self._transport)

    @property
    def is_closed(self) -> bool:
        """Whether the server has ended it."""
        return self._transport.is_closing()

    def feed(self, data: bytes) -> None:
        """Bytes of a binary message."""
        if not self._transport.is_closing():
            self._link.data_received(data)

    async def drained(self) -> None:
        """Returns when the server wants to hear more; at once, as a rule."""
        await self._transport.readable()

    def set_writable(self, is_writable: bool) -> None:
        """The peer reads too slowly, or has caught up: what is delivered waits in the log meanwhile."""
        if is_writable:
            self._link.resume_writing()
        else:
            self._link.pause_writing()

    def fail(self, text: str = "MQTT comes in binary messages") -> None:
        """What came is not MQTT."""
        self._link.close(Reason.MALFORMED, text)

    def lost(self) -> None:
        """The WebSocket is gone; may be called twice."""
        if not self._is_lost:
            self._is_lost = True
            self._transport.end()
            self._link.connection_lost(None)
