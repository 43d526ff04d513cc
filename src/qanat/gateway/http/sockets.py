"""WebSockets: rows in and out of streams at /streams/NAME/ws, and MQTT at /mqtt. One connection at a time, no sockets.

In: each message is a JSON object, an array of them or NDJSON, and is acknowledged by its number when it is durable.
Out: rows as JSON with their place, read through `outlets`; a client that does not read costs its position in the log
and no copy of a row. What is said on the wire: docs/gateway.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson

from qanat.errors import QanatError
from qanat.gateway.auth import Authenticator
from qanat.gateway.filters import Filter, parse_filter
from qanat.gateway.http.bodies import split_body
from qanat.gateway.http.identity import Scope, identify
from qanat.gateway.http.problems import RefusedError, hint_of, problem_of, retry_after, status_of
from qanat.gateway.http.rows import PREFIX, TOLD, check_route
from qanat.gateway.ingest import Ingest
from qanat.gateway.limits import Account, Limiter
from qanat.gateway.offers import Verdict
from qanat.gateway.outlets import Delivery, Outlet, Outlets
from qanat.gateway.routes import Route, Routes, Sender
from qanat.model.streams import Stream
from qanat.observe.metrics import Metrics
from qanat.secure.users import User, may_subscribe

PROTOCOL = "websocket"
SUFFIX = "/ws"
MQTT_PATH = "/mqtt"
#: So much may wait for its acknowledgement; then the client is read no further.
_MESSAGES_AHEAD = 1000
_BYTES_AHEAD = 4 << 20
#: The close code of RFC 6455 for what is not allowed.
_POLICY = 1008
#: So long (s) a client may take to hear that it is sent away.
_FAREWELL = 5.0

#: What chooses rows.
_CHOOSING = ("key", "where", "since", "until")

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: What serves MQTT over one WebSocket.
ServeMqtt = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SocketsContext:
    """What all connections share."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    outlets: Outlets
    limiter: Limiter
    metrics: Metrics
    clock: Callable[[], int]
    mqtt: ServeMqtt | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client asks for in its URL: rows from `start` on (None: no rows), of these keys and
    that meet these conditions only."""

    start: str | None
    keys: frozenset[str] | None
    where: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None

    @classmethod
    def of(cls, query: bytes) -> _Wish:
        """Raises `RefusedError`."""
        asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        unknown = set(asked) - {"from", *_CHOOSING}
        if unknown:
            hint = "?from=latest&key=h1&key=h2&where=temperature>20"
            raise RefusedError(400, f"unknown: {', '.join(sorted(unknown))}", hint=hint)
        start = asked["from"][-1] if "from" in asked else None
        for name in _CHOOSING:
            if name in asked and start is None:
                raise RefusedError(400, f"{name}= without from=", hint="?from=latest&key=h1")
        since, until = (asked[name][-1] if name in asked else None for name in ("since", "until"))
        keys = frozenset(asked["key"]) if "key" in asked else None
        return cls(start, keys, tuple(asked.get("where", ())), since, until)

    def filter(self, stream: Stream) -> Filter:
        """What the conditions mean for a stream. Raises `RefusedError`."""
        return parse_filter(stream, self.where, self.since, self.until)


class SocketsEndpoint:
    """All WebSockets of a gateway. Made in the event loop."""

    def __init__(self, context: SocketsContext) -> None:
        self._context = context
        self._open: dict[str, set[_Socket]] = {}
        context.auth.watch(self._on_rights)
        context.ingest.watch(self._on_room)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, from its handshake to its end."""
        path = scope["path"]
        if path == MQTT_PATH and self._context.mqtt is not None:
            await self._context.mqtt(scope, receive, send)
            return
        await receive()  # websocket.connect
        try:
            socket = await self._admit(scope, receive, send)
        except QanatError as error:
            self._context.metrics.gateway_refused(PROTOCOL, type(error).__name__)
            await refuse(error, send)
            return
        self._open.setdefault(socket.client, set()).add(socket)
        try:
            await send({"type": "websocket.accept"})
            await socket.run()
        finally:
            self._open[socket.client].discard(socket)
            if not self._open[socket.client]:
                del self._open[socket.client]
            self._context.limiter.close(socket.account)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> _Socket:
        """Who comes in to what. Raises `QanatError`."""
        context = self._context
        topic = _topic_of(scope["path"])
        user = await identify(context.auth, scope, dict(scope["headers"]))
        wish = _Wish.of(scope["query_string"])
        route = context.routes.at(topic) if wish.start is None else context.routes.find(topic)
        if wish.start is None:
            check_route(route, user, context.routes.inputs, topic)
        else:
            _check_readable(route, user, wish.keys)
        peer = scope["client"][0] if scope["client"] else ""
        client = user.name if user is not None else peer
        account = context.limiter.open(client, context.clock())
        if account is None:
            raise RefusedError(429, f"{client} has as many connections as it may", hint="see limits in qanat.yaml")
        socket = _Socket(context, route, topic, user, client, account, wish, receive, send)
        try:
            socket.subscribe()
        except QanatError:
            context.limiter.close(account)
            raise
        return socket

    def _on_rights(self, name: str) -> None:
        for socket in tuple(self._open.get(name, ())):
            socket.check_rights()

    def _on_room(self, full: bool) -> None:
        if not full:
            for sockets in self._open.values():
                for socket in sockets:
                    socket.on_room()


@dataclass(slots=True, eq=False)
class _Socket:
    """One connection. Its sender task writes acknowledgements and rows, in turns; its receiver reads messages."""

    context: SocketsContext
    route: Route
    topic: str
    user: User | None
    client: str
    account: Account
    wish: _Wish
    receive: Receive
    send: Send
    _outlet: Outlet | None = None
    _rows: deque[Delivery] = field(default_factory=deque)
    _acks: deque[bytes] = field(default_factory=deque)
    _number: int = 0
    _messages: int = 0
    _bytes: int = 0
    _close: tuple[int, str] | None = None
    _writer: asyncio.Task[None] | None = None
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until the client goes or is sent away."""
        reader, writer = asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())
        self._writer = writer
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if self._close is not None:
                await asyncio.wait({writer})
        finally:
            if self._outlet is not None:
                self._outlet.close()
            for task in (reader, writer):
                task.cancel()
            done = await asyncio.gather(reader, writer, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, OSError):  # the client went in the middle
                raise error

    def subscribe(self) -> None:
        """Open the outlet that was asked for. Raises `RefusedError`."""
        wish, outlets, stream = self.wish, self.context.outlets, self.route.stream
        if wish.start is not None and stream is not None:
            wanted = wish.filter(stream)
            positions = _positions(wish.start, outlets, stream.name)
            self._outlet = outlets.open(stream.name, wish.keys, positions, self._on_rows, wanted)

    def check_rights(self) -> None:
        """His rights have ended or changed: what he may no longer do ends."""
        user = self.user
        if user is not None and not self.context.auth.still(user):
            self._end(_POLICY, "the rights of this connection have ended")

    def on_room(self) -> None:
        """The log follows again."""
        self._room.set()

    def _end(self, code: int, reason: str) -> None:
        if self._close is None:
            self._close = code, reason
            if self._writer is not None:  # it may hang on a client that does not read
                asyncio.get_running_loop().call_later(_FAREWELL, self._writer.cancel)
        self._work.set()

    # --- out ---------------------------------------------------------------------------------------------------------

    def _on_rows(self, rows: Sequence[Delivery]) -> None:
        """Nothing more until these are written: the queue of a slow client is its position in the log."""
        assert self._outlet is not None
        self._rows.extend(rows)
        self._outlet.pause()
        self._work.set()

    async def _write(self) -> None:
        while self._close is None:
            await self._work.wait()
            self._work.clear()
            while (self._acks or self._rows) and self._close is None:
                if self._acks:
                    await self.send({"type": "websocket.send", "text": self._acks.popleft().decode()})
                if self._rows:
                    await self.send({"type": "websocket.send", "text": _row_text(self._rows.popleft())})
            self._room.set()
            if self._outlet is not None and self._close is None:
                self._outlet.resume()
        code, reason = self._close
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    # --- in ----------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self.receive()
            if message["type"] == "websocket.disconnect" or self._close is not None:
                return
            text = message.get("text")
            data: bytes = text.encode() if text is not None else message["bytes"]
            self._number += 1
            self._take(self._number, data)
            while self._is_ahead():
                self._room.clear()
                await self._room.wait()

    def _is_ahead(self) -> bool:
        waiting = self._messages + len(self._acks)
        return waiting >= _MESSAGES_AHEAD or self._bytes >= _BYTES_AHEAD or self.context.ingest.is_full

    def _take(self, number: int, data: bytes) -> None:
        context = self.context
        try:
            check_route(self.route, self.user, context.routes.inputs, self.topic)
            rows = self._cut(data)
            if not len(rows):
                raise RefusedError(400, "the message has no rows", hint="send JSON objects, one a line")
            context.limiter.check_size(rows)
            now = context.clock()
            grant = context.limiter.take(self.account, len(rows), len(data), now)
            if grant.refused:
                raise RefusedError(429, f"{self.client} sends more than it may", hint="see limits in qanat.yaml")
        except QanatError as error:
            context.metrics.gateway_refused(PROTOCOL, type(error).__name__)
            self._acknowledge(_refusal(number, error))
            return
        size = len(data)
        self._messages += 1
        self._bytes += size

        def settle(verdict: Verdict) -> None:
            self._messages -= 1
            self._bytes -= size
            self._room.set()
            told = _refusal(number, verdict.error) if verdict.error is not None else _verdict(number, verdict)
            self._acknowledge(told)

        attributes = {} if self.user is None else {"user": self.user.name}
        sender = Sender(PROTOCOL, f"{PREFIX}{self.topic}{SUFFIX}", self.client, attributes)
        context.ingest.put(self.route.offer(rows, sender, now, settle))

    def _cut(self, data: bytes) -> Sequence[bytes]:
        """Rows; what a source reads is one payload, since it says where its rows are."""
        feed = self.route.feed
        return split_body(data, "") if feed is None or feed.source is None else (data,)

    def _acknowledge(self, told: Mapping[str, Any]) -> None:
        self._acks.append(orjson.dumps(told))
        self._work.set()


def _verdict(number: int, verdict: Verdict) -> dict[str, Any]:
    told: dict[str, Any] = {"ack": number, "accepted": verdict.accepted, "dead_letters": len(verdict.dead)}
    if verdict.dead:
        told["errors"] = [{"row": dead.index, "reason": dead.reason} for dead in verdict.dead[:TOLD]]
    return told


def _refusal(number: int, error: QanatError) -> dict[str, Any]:
    """Nothing of that message was stored."""
    told: dict[str, Any] = {"ack": number, "status": status_of(error), "detail": error.message}
    if (hint := hint_of(error)) is not None:
        told["hint"] = hint
    if (seconds := retry_after(error)) is not None:
        told["retry_after"] = seconds
    return told


def _row_text(row: Delivery) -> str:
    head: dict[str, Any] = {"partition": row.partition, "offset": row.offset}
    if row.key is not None:
        head["key"] = row.key
    return f'{orjson.dumps(head)[:-1].decode()},"row":{row.payload.decode()}}}'


def _topic_of(path: str) -> str:
    if not path.startswith(PREFIX) or not path.endswith(SUFFIX):
        raise RefusedError(404, f"no WebSocket at {path}", hint=f"{PREFIX}TOPIC{SUFFIX}, or {MQTT_PATH}")
    return path[len(PREFIX) : -len(SUFFIX)]


def _check_readable(route: Route, user: User | None, keys: frozenset[str] | None) -> None:
    if route.stream is None:
        raise RefusedError(404, f"no stream {route.name!r}", hint="qanat status lists the streams")
    topics = [route.name] if keys is None else [f"{route.name}/{key}" for key in sorted(keys)]
    for topic in topics:
        if not (may_subscribe(user, topic) or may_subscribe(user, route.name)):
            raise RefusedError(403, f"this user may not subscribe to {topic}", hint="see users in qanat.yaml")


def _positions(start: str, outlets: Outlets, stream: str) -> Mapping[int, int] | None:
    """Where to begin: an offset for all partitions, or `PARTITION:OFFSET,...`. Raises `RefusedError`."""
    if start == "latest":
        return None
    starts = outlets.starts(stream)
    if start == "earliest":
        return starts
    hint = f"?from=earliest, latest, an offset, or PARTITION:OFFSET,... of the partitions 0 to {max(starts, default=0)}"
    positions = dict(starts)
    for part in start.split(","):
        partition, colon, offset = part.rpartition(":")
        if not (offset.isascii() and offset.isdigit()) or (colon and not (partition.isascii() and partition.isdigit())):
            raise RefusedError(400, f"from={start}", hint=hint)
        if colon and int(partition) not in positions:
            raise RefusedError(400, f"from={start}: no partition {partition}", hint=hint)
        for number in [int(partition)] if colon else list(positions):
            positions[number] = int(offset)
    return positions


async def refuse(error: QanatError, send: Send) -> None:
    """A handshake that is answered as any other request would be."""
    response = problem_of(error)
    with contextlib.suppress(OSError):
        await send(
            {"type": "websocket.http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await send({"type": "websocket.http.response.body", "body": response.body})
