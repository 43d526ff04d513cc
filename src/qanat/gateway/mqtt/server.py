"""The asyncio shell around `machine.Connection`: sockets, time, who is who, and the way into `Ingest`.

It knows no packet layouts. Reading pauses while credentials are checked, while the ingest is full, while the peer
does not read, and while too many of its messages are in flight; nothing is dropped for lack of room.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from qanat.errors import BackpressureError, LogFullError, QanatError
from qanat.gateway.auth import Authenticator
from qanat.gateway.ingest import Ingest
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.machine import Connection, ConnectRequest, Event, Limits
from qanat.gateway.mqtt.packets import Connect, Reason
from qanat.gateway.offers import Verdict
from qanat.gateway.routes import Routes, Sender
from qanat.observe.metrics import Metrics
from qanat.secure.users import User, may_publish

_PROTOCOL = "mqtt"
_SWEEP_S = 0.5
_BACKLOG = 4096
#: 3.1.1 knows no receive maximum; past so many times ours a connection is not read until some are durable.
_V3_IN_FLIGHT = 10


@dataclass(frozen=True, slots=True)
class MqttContext:
    """What all connections share."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    metrics: Metrics
    limits: Limits
    clock: Callable[[], int]
    max_connections: int


class MqttServer:
    """The MQTT listener and its open connections. One connection per user and client id; the newest wins."""

    def __init__(self, context: MqttContext) -> None:
        self.context = context
        self.links: set[Link] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._by_client: dict[tuple[str, str], Link] = {}
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        context.ingest.watch(self._on_full)

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self), sock=sock, backlog=_BACKLOG)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    def quiesce(self) -> None:
        """Accept nobody and read nothing any more; acknowledgements still go out."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.pause("stopping")

    async def stop(self) -> None:
        """Say goodbye to everybody. Wills are not published: it is qanat that goes, not the device."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self.tasks):
            task.cancel()
        gone = [link.leave() for link in list(self.links)]
        if gone:
            await asyncio.wait(gone, timeout=1)
        for link in list(self.links):
            link.abort()

    def enter(self, link: Link, user: User | None, client_id: str) -> None:
        """Make `link` the connection of this client; an older one is told that it was taken over."""
        key = (user.name if user else "", client_id)
        older = self._by_client.get(key)
        if older is not None:
            older.take_over()
        self._by_client[key] = link
        link.key = key

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        self.links.discard(link)
        if link.key is not None and self._by_client.get(link.key) is link:
            del self._by_client[link.key]

    def _on_full(self, full: bool) -> None:
        for link in list(self.links):
            if full:
                link.pause("ingest")
            else:
                link.resume("ingest")

    def _sweep(self) -> None:
        """One timer for all deadlines: 10,000 connections cost a millisecond twice a second."""
        now = self.context.clock()
        for link in list(self.links):
            link.check(now)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


class Link(asyncio.Protocol):
    """One connection's socket."""

    def __init__(self, server: MqttServer) -> None:
        self._server = server
        self._context = server.context
        self._machine = Connection(self._context.limits, self._context.clock())
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses: set[str] = set()
        self._user: User | None = None
        self._client = ""
        self._allowed: set[str] = set()
        self.key: tuple[str, str] | None = None

    # --- asyncio calls these -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's
        self._context.metrics.gateway_connections(_PROTOCOL, 1)
        if len(self._server.links) >= self._context.max_connections:
            self._context.metrics.gateway_refused(_PROTOCOL, "connections")
            self._machine.disconnect(Reason.SERVER_BUSY, "too many connections")
            self.abort()
            return
        self._server.links.add(self)
        if self._context.ingest.is_full:
            self.pause("ingest")

    def data_received(self, data: bytes) -> None:
        self._handle(self._machine.feed_bytes(data, self._context.clock()))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._server.forget(self)
        self._context.metrics.gateway_connections(_PROTOCOL, -1)
        will = self._machine.will
        self._machine.will = None
        self._machine.disconnect(Reason.UNSPECIFIED, "the connection is gone")
        if will is not None:
            self._publish(Published(will.topic, 0, [will.payload], []))
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self.pause("writing")

    def resume_writing(self) -> None:
        self.resume("writing")

    # --- the server calls these --------------------------------------------------------------------------------------

    def pause(self, why: str) -> None:
        """Stop reading until every reason is gone."""
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """One reason less to stop reading."""
        self._pauses.discard(why)
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._machine.touch(self._context.clock())
            self._transport.resume_reading()

    def check(self, now: int) -> None:
        """Close where the client has been silent for too long. Whom we do not read is not silent."""
        if self._pauses <= {"writing"} and self._machine.deadline is not None and now >= self._machine.deadline:
            self._machine.check(now)
            self._flush()

    def take_over(self) -> None:
        """Another connection came with the same client id."""
        self._machine.disconnect(Reason.TAKEN_OVER, "another connection took this client id")
        self._flush()

    def leave(self) -> asyncio.Future[None]:
        """Say goodbye because qanat stops; the future is done when the connection is gone."""
        self._machine.will = None
        self._machine.disconnect(Reason.SHUTTING_DOWN, "qanat stops")
        self._flush()
        return self._gone

    def abort(self) -> None:
        """Close without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Published():
                    self._publish(event)
                case ConnectRequest(packet):
                    self._connect(packet)
        if self._machine.in_flight > _V3_IN_FLIGHT * self._context.limits.receive_maximum:
            self.pause("in flight")
        self._flush()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        data = self._machine.get_outbound_data()
        if data:
            self._transport.write(data)
        if self._machine.closed is not None:
            self._transport.close()

    def _connect(self, packet: Connect) -> None:
        auth = self._context.auth
        if not auth.demanded:
            self._enter(packet, None)
            return
        secret = _text(packet.password)
        if packet.username is None or secret is None:
            self._deny()
            return
        user = auth.recall(packet.username, secret)
        if user is not None:
            self._enter(packet, user)
            return
        self.pause("credentials")
        task = asyncio.get_running_loop().create_task(self._login(packet, packet.username, secret))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _login(self, packet: Connect, name: str, secret: str) -> None:
        user = await self._context.auth.verify(name, secret)
        if self._machine.closed is not None:
            return
        if user is None:
            self._deny()
        else:
            self._enter(packet, user)
        self._flush()
        self.resume("credentials")

    def _deny(self) -> None:
        self._context.metrics.gateway_refused(_PROTOCOL, "credentials")
        self._machine.refuse(Reason.BAD_CREDENTIALS, "unknown user or wrong password")

    def _enter(self, packet: Connect, user: User | None) -> None:
        self._user, self._client = user, packet.client_id or f"auto-{secrets.token_hex(8)}"
        self._server.enter(self, user, self._client)
        self._handle(self._machine.accept(self._client, self._context.clock()))

    def _publish(self, run: Published) -> None:
        route = self._context.routes.resolve(run.topic)
        if route.name not in self._allowed:
            refusal = route.refusal
            if refusal is None and not may_publish(self._user, route.name):
                refusal = f"this user may not publish to {route.name}"
            if refusal is not None:
                self._refuse(run, refusal)
                return
            if route.stream is not None:
                self._allowed.add(route.name)
        done = self._on_stored if run.qos else self._on_unacknowledged
        sender = Sender(_PROTOCOL, run.topic, self._client)
        self._context.ingest.put(route.offer(run.payloads, sender, self._context.clock(), partial(done, run)))

    def _refuse(self, run: Published, text: str) -> None:
        """Say no where MQTT can: PUBACK in version 5; otherwise by closing."""
        self._context.metrics.gateway_refused(_PROTOCOL, "not_allowed", len(run.payloads))
        if run.qos:
            self._machine.nack(run.packet_ids, Reason.NOT_AUTHORIZED, text)
        else:
            self._machine.disconnect(Reason.NOT_AUTHORIZED, text)

    def _on_stored(self, run: Published, verdict: Verdict) -> None:
        if verdict.error is not None:
            self._machine.nack(run.packet_ids, _reason_of(verdict.error), verdict.error.message)
        elif not verdict.dead:
            self._machine.ack(run.packet_ids)
        else:
            self._ack_with_dead(run, verdict)
        if "in flight" in self._pauses and self._machine.in_flight <= self._context.limits.receive_maximum:
            self.resume("in flight")
        self._flush()

    def _ack_with_dead(self, run: Published, verdict: Verdict) -> None:
        """One by one, in order; those that went to the dead letters say so."""
        reasons = {dead.index: f"stored in dead_letters: {dead.reason}" for dead in verdict.dead}
        for index, packet_id in enumerate(run.packet_ids):
            self._machine.ack([packet_id], reasons.get(index))

    def _on_unacknowledged(self, run: Published, verdict: Verdict) -> None:
        if verdict.error is not None:
            route = self._context.routes.resolve(run.topic)
            name = route.name if route.stream is not None else ""
            self._context.metrics.gateway_shed(_PROTOCOL, name, len(run.payloads))


def _text(secret: bytes | None) -> str | None:
    try:
        return None if secret is None else secret.decode()
    except UnicodeDecodeError:
        return None


def _reason_of(error: QanatError) -> Reason:
    return Reason.QUOTA_EXCEEDED if isinstance(error, (LogFullError, BackpressureError)) else Reason.UNSPECIFIED
