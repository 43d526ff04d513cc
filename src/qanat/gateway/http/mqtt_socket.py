"""MQTT over WebSocket at /mqtt: the socket of `gateway.mqtt.websocket`'s pipe. It looks at no packet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from qanat.gateway.http.identity import CERTIFICATE, Scope
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.http.sockets import Receive, Send, refuse
from qanat.gateway.mqtt.server import MqttServer
from qanat.gateway.mqtt.websocket import WebSocketPipe

_SUBPROTOCOL = "mqtt"
#: Bytes that may wait for a client that reads slowly, and how few there must be for it to get more.
_MUCH, _LITTLE = 256 << 10, 64 << 10
#: So long (s) a client may take to read what was said before the end.
_FAREWELL = 5.0


class MqttSocket:
    """What the HTTP front calls for a WebSocket at /mqtt."""

    def __init__(self, server: MqttServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, until it goes or is sent away. Who it is, it says in its CONNECT."""
        await receive()  # websocket.connect
        if _SUBPROTOCOL not in scope["subprotocols"]:
            hint = "new WebSocket(url, 'mqtt')"
            await refuse(RefusedError(400, "MQTT over WebSocket wants the subprotocol mqtt", hint=hint), send)
            return
        await send({"type": "websocket.accept", "subprotocol": _SUBPROTOCOL})
        out = _Outbox(send)
        pipe = WebSocketPipe(self._server, out.put, out.end, scope.get("state", {}).get(CERTIFICATE))
        out.on_room = pipe.set_writable
        reader, writer = asyncio.ensure_future(_read(receive, pipe)), asyncio.ensure_future(out.run())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if pipe.is_closed:
                await asyncio.wait({writer}, timeout=_FAREWELL)
        finally:
            pipe.lost()
            for task in (reader, writer):
                task.cancel()
            done = await asyncio.gather(reader, writer, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # the client went in the middle
                raise error


async def _read(receive: Receive, pipe: WebSocketPipe) -> None:
    while not pipe.is_closed:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        data = message.get("bytes")
        if data is None:
            pipe.fail()
        else:
            pipe.feed(data)
            await pipe.drained()


class _Outbox:
    """What is to be sent, in order. `on_room(False)` asks for no more, `on_room(True)` for more."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._is_full = self._is_ended = False
        self._work = asyncio.Event()
        self.on_room: Callable[[bool], None] = lambda _: None

    def put(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._work.set()
        if self._size > _MUCH and not self._is_full:
            self._is_full = True
            self.on_room(False)

    def end(self) -> None:
        """After all that was put."""
        self._is_ended = True
        self._work.set()

    async def run(self) -> None:
        while self._parts or not self._is_ended:
            await self._work.wait()  # set by whatever makes the condition true
            self._work.clear()
            if self._parts:
                data = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
                await self._send({"type": "websocket.send", "bytes": data})
            if self._is_full and self._size < _LITTLE:
                self._is_full = False
                self.on_room(True)
        await self._send({"type": "websocket.close", "code": 1000, "reason": ""})
