"""One MQTT connection: the shell around `machine.Connection`, over whatever transport it came.

It moves bytes, asks who is who, and knows the ways between the connection, the log and the session. It knows no packet
layouts. Reading pauses while credentials are checked, while the ingest is full, while the peer does not read, and while
too many of its messages are in flight; nothing is dropped for lack of room.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from qanat.errors import BackpressureError, LogFullError, ProtocolError, QanatError
from qanat.gateway.limits import Account
from qanat.gateway.mqtt.attributes import attributes_of
from qanat.gateway.mqtt.courier import Courier
from qanat.gateway.mqtt.filters import Filter, parse_filter
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.inbox import Inbox, State
from qanat.gateway.mqtt.machine import Asked, Confirmed, Connection, ConnectRequest, Event, Released
from qanat.gateway.mqtt.outgoing import Message
from qanat.gateway.mqtt.packets import Connect, Reason, Subscribe, Unsubscribe
from qanat.gateway.mqtt.properties import Property
from qanat.gateway.mqtt.session import Client, Session, Source, Subscription
from qanat.gateway.mqtt.wills import PendingWill
from qanat.gateway.offers import Offer, Verdict
from qanat.gateway.pausing import PausableProtocol
from qanat.gateway.routes import Maker, Route, Sender
from qanat.secure.users import User, may_publish, may_subscribe

if TYPE_CHECKING:
    from qanat.gateway.mqtt.server import MqttServer

_PROTOCOL = "mqtt"
#: 3.1.1 knows no receive maximum; past so many times ours a connection is not read until some are durable.
_V3_IN_FLIGHT = 10
#: How many topics a connection remembers that it may publish to.
_MAX_ALLOWED = 1024


class _Way(NamedTuple):
    """Where messages of a topic go, and in whose name. `make` is for those without properties, which are all alike."""

    route: Route
    sender: Sender
    make: Maker


class Link(PausableProtocol):
    """One connection's socket, TLS stream or WebSocket. `client` is set once the client is in."""

    def __init__(self, server: MqttServer) -> None:
        super().__init__()
        self._server = server
        self._context = server.context
        self._clock = self._context.clock
        self._machine = Connection(self._context.limits, self._clock())
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._user: User | None = None
        self._certified: User | None = None
        self._who: Mapping[str, str] = {}
        self._allowed: dict[str, _Way] = {}
        self._most_in_flight = _V3_IN_FLIGHT * self._context.limits.receive_maximum
        self._is_due = False
        self._session: Session | None = None
        self._inbox: Inbox | None = None
        self._courier: Courier | None = None
        self._account: Account | None = None
        self._is_turned_away = False
        self.client: Client | None = None

    # --- asyncio calls these -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's
        self._context.metrics.gateway_connections(_PROTOCOL, 1)
        places = self._context.max_connections
        self._is_turned_away = len(self._server.links) >= places
        if len(self._server.links) >= places + max(places // 10, 10):  # nor will those be listened to who are told so
            self._context.metrics.gateway_refused(_PROTOCOL, "connections")
            self._machine.disconnect(Reason.SERVER_BUSY, "too many connections")
            self.abort()
            return
        self._server.links.add(self)
        self._server.watch(self, self._machine.deadline)
        der = _certificate(transport)
        self._certified = self._context.auth.certificate(der) if der else None
        if self._context.ingest.is_full:
            self.pause("ingest")

    def data_received(self, data: bytes) -> None:
        now = self._clock()
        message = self._machine.feed_lone(data, now)
        if message is None:
            self._handle(self._machine.feed_bytes(data, now), now)
        else:
            self._publish_lone(*message, now)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._server.forget(self)
        self._close_account()
        self._context.metrics.gateway_connections(_PROTOCOL, -1)
        will, self._machine.will = self._machine.will, None
        self._machine.disconnect(Reason.UNSPECIFIED, "the connection is gone")
        if will is not None and self.client is not None:
            self._server.will(PendingWill(self.client, self._user, will), self._machine.session_expiry)
        self._detach()
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self.pause("writing")
        if self._courier is not None:
            self._courier.set_writable(False)

    def resume_writing(self) -> None:
        self.resume("writing")
        if self._courier is not None:
            self._courier.set_writable(True)

    # --- the server calls these --------------------------------------------------------------------------------------

    @property
    def user(self) -> User | None:
        """Who came in; None is anyone."""
        return self._user

    def check(self, now: int) -> int | None:
        """Close where the client has been silent for too long, and say when to look again.

        Whom we do not read is not silent.
        """
        deadline = self._machine.deadline
        if deadline is None or deadline > now:
            return deadline
        if not self._pauses <= {"writing"}:
            return now + 1
        self._machine.check(now)
        self._flush()
        return None

    def retry(self) -> None:
        """Try again what the log did not take."""
        if self._courier is not None:
            self._courier.retry()

    def take_over(self) -> None:
        """Another connection came with the same client id: it gets the session."""
        self._let_go()
        self._close_account()
        self.close(Reason.TAKEN_OVER, "another connection took this client id")

    def close(self, reason: int, text: str) -> None:
        """Say why, and close."""
        self._machine.disconnect(reason, text)
        self._flush()

    def halt(self) -> None:
        """Deliver nothing more, because qanat stops."""
        if self._courier is not None and self._session is not None:
            self._courier.close()
            self._server.sessions.touch(self._session)

    def leave(self) -> asyncio.Future[None]:
        """Say goodbye because qanat stops; the future is done when the connection is gone. The session stays."""
        self._machine.will = None
        self._let_go()
        self.close(Reason.SHUTTING_DOWN, "qanat stops")
        return self._gone

    def abort(self) -> None:
        """Close without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()

    # --- the courier calls these (`courier.Wire`) --------------------------------------------------------------------

    @property
    def window(self) -> int:
        """How many messages with QoS 1 and 2 may be on their way to the client."""
        return self._machine.window

    def send(self, message: Message) -> int:
        """Deliver; written by `flush`."""
        size = self._machine.deliver(message)
        if not size and self._machine.is_open:
            self._context.metrics.gateway_refused(_PROTOCOL, "packet_size")
        return size

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL."""
        self._machine.release(packet_ids)

    def flush(self) -> bool:
        """Write; whether the connection takes more."""
        self._flush()
        return "writing" not in self._pauses and self._machine.is_open

    def retry_later(self) -> None:
        """The log did not take something that the courier keeps."""
        self._server.stuck.add(self)

    # --- the inbox calls these (`inbox.Answers`) ---------------------------------------------------------------------

    def on_received(self, run: Published, verdict: Verdict) -> None:
        """PUBREC, or why not."""
        if verdict.error is not None:
            self._machine.nack(run.packet_ids, _reason_of(verdict.error), verdict.error.message, qos=2)
        elif not verdict.dead:
            self._machine.received(run.packet_ids)
        else:
            for packet_id, text in _dead_texts(run, verdict):
                self._machine.received([packet_id], text)
        self._after_verdict()

    def on_repeated(self, packet_ids: Sequence[int]) -> None:
        """PUBREC for what was durable before."""
        self._machine.received(packet_ids)

    def on_completed(self, packet_ids: Sequence[int], reason: int) -> None:
        """PUBCOMP."""
        self._machine.complete(packet_ids, reason)
        self._after_verdict()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self._machine.touch(self._clock())

    def _handle(self, events: Sequence[Event], now: int) -> None:
        for event in events:
            if type(event) is Published:
                self._publish(event, now)
            else:
                self._answer(event)
        if self._machine.in_flight > self._most_in_flight:
            self.pause("in flight")
        self._flush()

    def _answer(self, event: Event) -> None:
        match event:
            case Released(packet_ids):
                self._open_inbox().release(packet_ids)
            case Confirmed(kind, packet_ids, reason):
                if self._courier is not None:
                    self._courier.confirm(kind, packet_ids, reason)
            case Asked(Subscribe() as packet):
                self._subscribe(packet)
            case Asked(Unsubscribe() as packet):
                self._unsubscribe(packet)
            case ConnectRequest(packet):
                self._connect(packet)

    def _flush(self) -> None:
        data = self._machine.get_outbound_data()
        if not data and self._machine.closed is None:
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data:
            transport.write(data)
        if self._machine.closed is not None:
            transport.close()

    def _after_verdict(self) -> None:
        if (
            self._pauses
            and "in flight" in self._pauses
            and self._machine.in_flight <= self._context.limits.receive_maximum
        ):
            self.resume("in flight")
        if not self._is_due:
            self._is_due = True
            self._server.due.append(self)

    def write_due(self) -> None:
        """Write what verdicts have made: once per flush of the ingest, however many of them are ours."""
        self._is_due = False
        self._flush()

    # --- who comes in ------------------------------------------------------------------------------------------------

    def _connect(self, packet: Connect) -> None:
        auth = self._context.auth
        if self._is_turned_away:
            self._context.metrics.gateway_refused(_PROTOCOL, "connections")
            self._machine.refuse(Reason.SERVER_BUSY, "too many connections")
            return
        secret, name = _text(packet.password), packet.username or packet.client_id
        if not auth.demanded or self._is_certified(packet):
            self._enter(packet, self._certified)
        elif secret is None or not name:
            self._deny()
        else:
            user = auth.recall(name, secret)
            if user is not None:
                self._enter(packet, user)
                return
            self.pause("credentials")
            task = asyncio.get_running_loop().create_task(self._login(packet, name, secret))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)

    def _is_certified(self, packet: Connect) -> bool:
        """Whether the certificate says who this is, and CONNECT nothing else."""
        user = self._certified
        if user is None or packet.password is not None or packet.username not in (None, user.name):
            return False
        return self._context.auth.still(user)  # its rights may have ended between the handshake and CONNECT

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
        self._user = user
        self._who = {} if user is None else {"user": user.name}
        client = (user.name if user else "", packet.client_id or self._server.new_client_id())
        expiry = min(self._machine.session_expiry, self._context.limits.session_expiry_maximum_s)
        self._server.displace(client)
        self._account = self._context.limiter.open(client[0] or client[1], self._clock())
        if self._account is None:
            self._context.metrics.gateway_refused(_PROTOCOL, "connections")
            self._machine.refuse(Reason.QUOTA_EXCEEDED, f"{client[0] or client[1]} has as many connections as it may")
            return
        try:
            session, is_known = self._server.enter(self, client, clean=packet.clean, expiry_s=expiry)
        except BackpressureError as error:
            self._context.metrics.gateway_refused(_PROTOCOL, "sessions")
            self._machine.refuse(Reason.QUOTA_EXCEEDED, error.message)
            return
        self._session, self.client = session, client
        self._inbox = self._server.busy_inbox(session)
        if self._inbox is not None:
            self._inbox.answers = self
        self._courier = Courier(session, self._server.sessions, self._context.outlets, self)
        for text in [one for one in session.subscriptions if not may_subscribe(user, one)]:
            self._courier.unsubscribe(text)
        now = self._clock()
        early = self._machine.accept(client[1], now, is_known=is_known, expiry=expiry)
        self._server.watch(self, self._machine.deadline)
        self._courier.resume(self._context.streams)
        self._handle(early, now)

    def _detach(self) -> None:
        """The session goes on without this connection, or ends with it."""
        session = self._session
        if session is not None and self._let_go():
            self._server.sessions.close(session, self._machine.session_expiry)

    def _let_go(self) -> bool:
        """Leave the session as it is; whether there was one."""
        session, self._session = self._session, None
        if self._courier is not None:
            self._courier.close()
        if self._inbox is not None and self._inbox.answers is self:
            self._inbox.answers = None
        return session is not None

    # --- what it publishes -------------------------------------------------------------------------------------------

    def _publish(self, run: Published, now: int) -> None:
        way = self._allowed.get(run.topic) or self._allow(run)
        if way is None or not (self._is_repeat(run) or self._is_within_limits(run, now)):
            return
        if run.qos == 2:
            self._open_inbox().take(run, partial(self._offer, way))
            return
        done = partial(self._on_stored if run.qos else self._on_unacknowledged, run)
        self._context.ingest.put(self._maker(way, run)(run.payloads, now, done))

    def _publish_lone(self, topic: str, packet_id: int, payload: bytes, now: int) -> None:
        """As `_publish`, without the detours of what is rare."""
        way, account = self._allowed.get(topic), self._account
        if way is None or account is None or not self._context.limiter.is_free:
            self._handle([_run_of(topic, packet_id, payload)], now)
            return
        account.seen = now
        done = partial(self._on_lone_stored, topic, packet_id)
        self._context.ingest.put(way.make([payload], now, done))
        if self._machine.in_flight > self._most_in_flight:
            self.pause("in flight")

    def _allow(self, run: Published) -> _Way | None:
        """The way of a topic that this user may publish to, which is remembered; else the run is refused."""
        route = self._context.routes.resolve(run.topic)
        refusal = route.refusal
        if refusal is None and not may_publish(self._user, route.name, run.topic):
            refusal = f"this user may not publish to {run.topic}"
        if refusal is not None:
            self._refuse(run, refusal)
            return None
        if len(self._allowed) >= _MAX_ALLOWED:
            self._allowed.clear()
        sender = Sender(_PROTOCOL, run.topic, self.client[1] if self.client else "", self._who)
        way = self._allowed[run.topic] = _Way(route, sender, route.maker(sender))
        return way

    def _is_repeat(self, run: Published) -> bool:
        """Whether all of it is stored already: that is only said again, and never refused."""
        return run.qos == 2 and self._session is not None and self._session.taken.issuperset(run.packet_ids)

    def _is_within_limits(self, run: Published, now: int) -> bool:
        """Whether the run may be taken. What is over makes us read no further for a while; too much is refused."""
        limiter, account = self._context.limiter, self._account
        if account is None or limiter.is_free:
            if account is not None:
                account.seen = now
            return True
        if limiter.message_size is not None and max(map(len, run.payloads)) > limiter.message_size:
            self._publish_small(run, limiter.message_size, now)
            return False
        grant = limiter.take(account, len(run.payloads), sum(map(len, run.payloads)), now)
        if grant.refused:
            self._turn_down(
                run, "rate", f"{account.name} sends more than it may; come again in {grant.wait_ms / 1000:.1f} s"
            )
        elif grant.wait_ms and "limits" not in self._pauses:
            self.pause("limits")
            asyncio.get_running_loop().call_later(grant.wait_ms / 1000, self.resume, "limits")
        return not grant.refused

    def _publish_small(self, run: Published, limit: int, now: int) -> None:
        """Turn down the messages that are larger than the limit, and publish the others."""
        for number, payload in enumerate(run.payloads):
            alone = Published(run.topic, run.qos, [payload], run.packet_ids[number : number + 1], run.properties)
            if len(payload) > limit:
                self._turn_down(alone, "message_size", f"a message of {len(payload)} bytes; the limit is {limit}")
            else:
                self._publish(alone, now)

    def _turn_down(self, run: Published, why: str, text: str) -> None:
        """Over a limit: PUBACK or PUBREC 0x97 in version 5, a closed connection in 3.1.1; QoS 0 is shed and counted."""
        self._context.metrics.gateway_refused(_PROTOCOL, why, len(run.payloads))
        if run.qos:
            self._machine.nack(run.packet_ids, Reason.QUOTA_EXCEEDED, text, run.qos)
        else:
            self._server.count_shed(run.topic, len(run.payloads))

    def _close_account(self) -> None:
        account, self._account = self._account, None
        if account is not None:
            self._context.limiter.close(account)

    def _open_inbox(self) -> Inbox:
        """The inbox of the session, which most do not need; only called when there is a session."""
        if self._inbox is None:
            assert self._session is not None
            self._inbox = self._server.open_inbox(self._session)
            self._inbox.answers = self
        return self._inbox

    def _offer(self, way: _Way, run: Published, done: Callable[[Verdict], None], state: State | None) -> Offer:
        return self._maker(way, run)(run.payloads, self._clock(), done, state)

    def _maker(self, way: _Way, run: Published) -> Maker:
        if not run.properties:
            return way.make
        return way.route.maker(replace(way.sender, attributes=attributes_of(self._who, run.properties)))

    def _refuse(self, run: Published, text: str) -> None:
        """Say no where MQTT can: PUBACK or PUBREC in version 5; otherwise by closing."""
        self._context.metrics.gateway_refused(_PROTOCOL, "not_allowed", len(run.payloads))
        if run.qos:
            self._machine.nack(run.packet_ids, Reason.NOT_AUTHORIZED, text, run.qos)
        else:
            self._machine.disconnect(Reason.NOT_AUTHORIZED, text)

    def _on_stored(self, run: Published, verdict: Verdict) -> None:
        if verdict.error is not None:
            self._machine.nack(run.packet_ids, _reason_of(verdict.error), verdict.error.message)
        elif not verdict.dead:
            self._machine.ack(run.packet_ids)
        else:
            for packet_id, text in _dead_texts(run, verdict):
                self._machine.ack([packet_id], text)
        self._after_verdict()

    def _on_lone_stored(self, topic: str, packet_id: int, verdict: Verdict) -> None:
        if verdict.error is not None or verdict.dead:
            run = _run_of(topic, packet_id, b"")
            (self._on_stored if packet_id else self._on_unacknowledged)(run, verdict)
        elif packet_id:
            self._machine.ack_lone(packet_id)
            self._after_verdict()

    def _on_unacknowledged(self, run: Published, verdict: Verdict) -> None:
        if verdict.error is not None:
            self._server.count_shed(run.topic, len(run.payloads))

    # --- what it wants to hear ---------------------------------------------------------------------------------------

    def _subscribe(self, packet: Subscribe) -> None:
        if self._courier is None or self._session is None:
            return
        identifier = packet.properties.get(Property.SUBSCRIPTION_ID, 0)
        reasons, texts, sources = list[int](), list[str](), list[Source]()
        for name, options in packet.filters:
            try:
                wanted = self._check_filter(name, options)
            except ProtocolError as error:
                reasons.append(error.reason_code or Reason.UNSPECIFIED)
                texts.append(error.message)
                self._context.metrics.gateway_refused(_PROTOCOL, "subscribe")
                continue
            subscription = Subscription(wanted, options, identifier if isinstance(identifier, int) else 0)
            sources += self._courier.subscribe(subscription, self._context.streams)
            reasons.append(subscription.qos)
        text = "; ".join(texts) or None
        self._server.sessions.save(
            self._session, partial(self._on_subscribed, self._courier, packet, reasons, text, sources)
        )

    def _on_subscribed(
        self,
        courier: Courier,
        packet: Subscribe,
        reasons: list[int],
        text: str | None,
        sources: list[Source],
        verdict: Verdict,
    ) -> None:
        """The session is kept, if it is one that is: answer, then send what is retained."""
        if verdict.error is not None:
            for (name, _), reason in zip(packet.filters, reasons, strict=True):
                if reason < Reason.UNSPECIFIED:
                    courier.unsubscribe(name)
            reasons, text, sources = [_reason_of(verdict.error)] * len(reasons), verdict.error.message, []
        self._machine.answer(packet, reasons, text)
        courier.send_retained(sources)
        self._flush()

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        if self._courier is None or self._session is None:
            return
        reasons = [0 if self._courier.unsubscribe(name) else int(Reason.NO_SUBSCRIPTION) for name in packet.filters]

        def then(
            _: Verdict,
        ) -> None:  # where it is not stored, it will be; what comes of it again after a crash is late
            self._machine.answer(packet, reasons)
            self._flush()

        self._server.sessions.save(self._session, then)

    def _check_filter(self, name: str, options: int) -> Filter:
        """Raises `ProtocolError` with the reason why the client cannot have this."""
        wanted = parse_filter(name)
        subscription = Subscription(wanted, options)
        if not may_subscribe(self._user, name):
            raise ProtocolError(f"this user may not subscribe to {name}", reason_code=Reason.NOT_AUTHORIZED)
        if subscription.no_local:
            text = "rows do not say who sent them, so one's own cannot be left out (no local)"
            raise ProtocolError(text, reason_code=Reason.IMPLEMENTATION)
        held = self._session.subscriptions if self._session is not None else {}
        if name not in held and len(held) >= self._context.limits.max_subscriptions:
            raise ProtocolError(f"{len(held)} subscriptions are enough", reason_code=Reason.QUOTA_EXCEEDED)
        if wanted.stream in ("+", "#"):
            return wanted
        stream = self._context.streams.get(wanted.stream)
        if stream is None:
            raise ProtocolError(f"no stream {wanted.stream!r}", reason_code=Reason.FILTER_INVALID)
        if wanted.rest not in (None, "#") and not stream.key:
            text = f"the stream {stream.name} has no PRIMARY KEY; its rows come under {stream.name}"
            raise ProtocolError(text, reason_code=Reason.FILTER_INVALID)
        return wanted


def _certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """The client's certificate (DER), which TLS has verified, or which another front has handed over."""
    tls = transport.get_extra_info("ssl_object")
    if isinstance(tls, (ssl.SSLObject, ssl.SSLSocket)):
        return tls.getpeercert(binary_form=True)
    handed: bytes | None = transport.get_extra_info("certificate")
    return handed


def _run_of(topic: str, packet_id: int, payload: bytes) -> Published:
    return Published(topic, 1 if packet_id else 0, [payload], [packet_id] if packet_id else [])


def _text(secret: bytes | None) -> str | None:
    try:
        return None if secret is None else secret.decode()
    except UnicodeDecodeError:
        return None


def _reason_of(error: QanatError) -> Reason:
    return Reason.QUOTA_EXCEEDED if isinstance(error, (LogFullError, BackpressureError)) else Reason.UNSPECIFIED


def _dead_texts(run: Published, verdict: Verdict) -> list[tuple[int, str | None]]:
    """Packet ids in order; with the reason, where a message went to the dead letters."""
    reasons = {dead.index: f"stored in dead_letters: {dead.reason}" for dead in verdict.dead}
    return [(packet_id, reasons.get(index)) for index, packet_id in enumerate(run.packet_ids)]
