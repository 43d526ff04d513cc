"""The MQTT server: its listeners, connections, sessions and wills, and one timer for everything that takes time."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qanat.gateway.auth import Authenticator
from qanat.gateway.ingest import Ingest
from qanat.gateway.limits import Limiter
from qanat.gateway.mqtt.attributes import attributes_of
from qanat.gateway.mqtt.deadlines import Deadlines
from qanat.gateway.mqtt.inbox import Inbox
from qanat.gateway.mqtt.link import Link
from qanat.gateway.mqtt.machine import Limits
from qanat.gateway.mqtt.packets import Reason
from qanat.gateway.mqtt.session import Client, Session
from qanat.gateway.mqtt.sessions import Sessions
from qanat.gateway.mqtt.wills import PendingWill, Wills
from qanat.gateway.offers import Offer, Verdict
from qanat.gateway.outlets import Outlets
from qanat.gateway.routes import Routes, Sender
from qanat.log.base import Log
from qanat.model.streams import Stream
from qanat.observe.metrics import Metrics
from qanat.secure.users import may_publish

_PROTOCOL = "mqtt"
_SWEEP_S = 0.5
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class MqttContext:
    """What all connections share. `streams`: those that may be subscribed to, by name."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    metrics: Metrics
    limits: Limits
    clock: Callable[[], int]
    max_connections: int
    log: Log
    outlets: Outlets
    streams: Mapping[str, Stream]
    limiter: Limiter = field(default_factory=Limiter)


class _Kept:
    """Where sessions are kept: written through the ingest, read from the log."""

    def __init__(self, ingest: Ingest, log: Log) -> None:
        self._ingest, self._log = ingest, log

    def put(self, offer: Offer) -> None:
        """Take an offer."""
        self._ingest.put(offer)

    def state(self, key: str) -> bytes | None:
        """What was stored under a key."""
        return self._log.state(key)


class MqttServer:
    """All MQTT connections, by whatever listener they came. One per user and client id; the newest wins."""

    def __init__(self, context: MqttContext) -> None:
        self.context = context
        self.links: set[Link] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.sessions = Sessions(_Kept(context.ingest, context.log), context.limits.max_sessions, context.clock)
        self._by_client: dict[Client, Link] = {}
        self._by_user: dict[str, set[Link]] = {}
        self._inboxes: dict[Client, Inbox] = {}
        self._wills = Wills(self._publish_will)
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_loaded = self._is_stopping = False
        #: Links that have something to write once all verdicts of a flush are told.
        self.due: list[Link] = []
        #: Links with something that the log did not take.
        self.stuck: set[Link] = set()
        #: Users that were removed, until their sessions are ended.
        self._gone: set[str] = set()
        self._deadlines = Deadlines[Link]()
        context.ingest.watch(self._on_full)
        context.ingest.after(self._write_due)
        context.auth.watch(self._on_rights)

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> Callable[[], None]:
        """Accept connections on a bound socket, behind TLS where a context is given; what it gives ends that."""
        loop = asyncio.get_running_loop()
        self.prepare()
        server = await loop.create_server(lambda: Link(self), sock=sock, backlog=_BACKLOG, ssl=tls)
        self._servers.append(server)
        return server.close

    def prepare(self) -> None:
        """Read which sessions there are, and begin to look at deadlines. Also without a listener, for WebSockets."""
        if not self._is_loaded:
            self._is_loaded = True
            self.sessions.load()
            gone = set(filter(self.context.auth.is_gone, self.sessions.users()))
            self.sessions.end_all(gone)  # removed while qanat was not running
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def quiesce(self) -> None:
        """Accept nobody, read and deliver nothing any more; acknowledgements still go out, sessions are written."""
        self._is_stopping = True
        for server in self._servers:
            server.close()
        for link in list(self.links):
            link.pause("stopping")
            link.halt()
        self.sessions.write_dirty()

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

    # --- the links call these ----------------------------------------------------------------------------------------

    def displace(self, client: Client) -> None:
        """The client comes anew: an older connection of it is told that it was taken over."""
        older = self._by_client.pop(client, None)
        if older is not None:
            older.take_over()

    def enter(self, link: Link, client: Client, *, clean: bool, expiry_s: int) -> tuple[Session, bool]:
        """Make `link` the connection of this client, with its session; whether that was known.

        Raises `BackpressureError` for one session too many.
        """
        session, is_known = self.sessions.open(client, clean=clean, expiry_s=expiry_s)
        self._wills.cancel(client, clean=clean)
        self._by_client[client] = link
        self._by_user.setdefault(client[0], set()).add(link)
        return session, is_known

    def busy_inbox(self, session: Session) -> Inbox | None:
        """The inbox that the session has already, where it still waits for the log."""
        found = self._inboxes.get(session.client)
        return found if found is not None and found.session is session else None

    def open_inbox(self, session: Session) -> Inbox:
        """An inbox for the session."""
        inbox = Inbox(session, self.sessions, self.context.ingest.put, self.context.clock)
        self._inboxes[session.client] = inbox
        return inbox

    def watch(self, link: Link, deadline: int | None) -> None:
        """Look at `link` when `deadline` (ms) is over; never, where there is none."""
        if deadline is None:
            self._deadlines.drop(link)
        else:
            self._deadlines.put(link, deadline)

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        self.links.discard(link)
        self.stuck.discard(link)
        self._deadlines.drop(link)
        if link.client is None:
            return
        if self._by_client.get(link.client) is link:
            del self._by_client[link.client]
        others = self._by_user.get(link.client[0], set())
        others.discard(link)
        if not others:
            self._by_user.pop(link.client[0], None)

    def will(self, pending: PendingWill, session_expiry_s: int) -> None:
        """A connection broke whose client has left a will."""
        if not self._is_stopping:
            self._wills.add(pending, session_expiry_s, self.context.clock())

    def count_shed(self, topic: str, messages: int) -> None:
        """Messages without an acknowledgement were lost, because the log failed."""
        route = self.context.routes.resolve(topic)
        name = route.name if route.stream is not None else ""
        self.context.metrics.gateway_shed(_PROTOCOL, name, messages)

    @staticmethod
    def new_client_id() -> str:
        """For a client that brings none."""
        return f"auto-{secrets.token_hex(8)}"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _publish_will(self, pending: PendingWill) -> None:
        will, context = pending.will, self.context
        route = context.routes.resolve(will.topic)
        gone = pending.user is not None and not context.auth.still(pending.user)
        if gone or route.refusal is not None or not may_publish(pending.user, route.name, will.topic):
            context.metrics.gateway_refused(_PROTOCOL, "not_allowed")
            return
        who = attributes_of({} if pending.user is None else {"user": pending.user.name}, will.properties)
        sender = Sender(_PROTOCOL, will.topic, pending.client[1], who)

        def done(verdict: Verdict) -> None:
            if verdict.error is not None:
                self.count_shed(will.topic, 1)

        context.ingest.put(route.offer([will.payload], sender, context.clock(), done))

    def _write_due(self) -> None:
        due, self.due = self.due, []
        for link in due:
            link.write_due()

    def _on_full(self, full: bool) -> None:
        for link in list(self.links):
            if full:
                link.pause("ingest")
            else:
                link.resume("ingest")

    def _on_rights(self, name: str) -> None:
        """The rights of a user have ended or changed: he comes again, or not."""
        for link in list(self._by_user.get(name, ())):
            if link.user is not None and not self.context.auth.still(link.user):
                link.close(Reason.ADMINISTRATIVE, "the rights of this user have changed")
        if self.context.auth.is_gone(name):
            if not self._gone:  # of many that are removed at once, the sessions are looked for together
                asyncio.get_running_loop().call_soon(self._end_gone)
            self._gone.add(name)

    def _end_gone(self) -> None:
        """What was kept for those who are no more would be given to whoever is called so next."""
        gone, self._gone = self._gone, set()
        self.sessions.end_all(gone)

    def _sweep(self) -> None:
        """One timer for everything that takes time."""
        now = self.context.clock()
        for link in self._deadlines.due(now):
            self.watch(link, link.check(now))
        stuck, self.stuck = self.stuck, set()
        for link in stuck:
            link.retry()
        self._wills.sweep(now)
        for client, inbox in list(self._inboxes.items()):
            inbox.retry()
            if inbox.answers is None and not inbox.session.is_busy:
                del self._inboxes[client]
        self.sessions.sweep(now)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
