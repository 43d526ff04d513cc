"""The server's side of one MQTT connection as a pure state machine.

Bytes and the time (ms) go in, events and outbound bytes come out. No sockets, no clock, no credentials, no log, and
nothing that outlives the connection: the shell (`link.py`) answers `ConnectRequest` with `accept` or `refuse`,
`Published` with `ack`, `received` or `nack` once the messages are durable, `Released` with `complete`, and hands over
what is to be delivered.

    new --CONNECT--> asked --accept--> open --DISCONNECT, fault, silence--> closed
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode, encode_acks, encode_puback
from qanat.gateway.mqtt.framing import Published, ack_runs, lone_publish, publish_runs
from qanat.gateway.mqtt.outgoing import Message, TopicAliases, encode_message
from qanat.gateway.mqtt.packets import (
    MAX_REMAINING,
    V3,
    V3_RETURN,
    V3_UNAVAILABLE,
    V5,
    Ack,
    Connack,
    Connect,
    Kind,
    Leave,
    Packet,
    Plain,
    Publish,
    Reason,
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
    check_topic,
    find_frame,
)
from qanat.gateway.mqtt.properties import Properties, Property, PropertyValue

#: In 3.1.1 a session that is not clean has no end.
FOREVER_S = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may do, and how many sessions are kept for clients that are away.

    `receive_maximum`: messages with QoS 1 and 2 that are not acknowledged; `send_maximum`: the same towards the client.
    `keep_alive_maximum_s`: 0 takes what the client says.
    """

    max_packet_bytes: int = 1 << 20
    receive_maximum: int = 1000
    send_maximum: int = 100
    topic_alias_maximum: int = 16
    connect_timeout_ms: int = 10_000
    keep_alive_maximum_s: int = 0
    session_expiry_maximum_s: int = 7 * 24 * 3600
    max_sessions: int = 100_000
    max_subscriptions: int = 100


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client wants in; answer with `accept` or `refuse`."""

    packet: Connect


@dataclass(frozen=True, slots=True)
class Released:
    """PUBREL: the client will not send these messages again; answer with `complete`."""

    packet_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the client says to messages that were delivered: PUBACK, PUBREC or PUBCOMP. `reason` >= 0x80: it refuses."""

    kind: Kind
    packet_ids: Sequence[int]
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """SUBSCRIBE or UNSUBSCRIBE; answer with `answer`."""

    packet: Subscribe | Unsubscribe


@dataclass(frozen=True, slots=True)
class Closed:
    """Why the connection is over. `clean`: by DISCONNECT, so that the will is not published."""

    reason: int
    text: str
    clean: bool = False


Event = ConnectRequest | Published | Released | Confirmed | Asked


class _State(enum.Enum):
    NEW = "new"
    ASKED = "asked"
    OPEN = "open"
    CLOSED = "closed"


#: Looked up once, not with every packet.
_NEW, _ASKED, _OPEN, _CLOSED = _State
_PUBLISH = int(Kind.PUBLISH)


class Connection:
    """One connection. `closed` is set when it is over; the shell then sends what is left and closes the socket.

    `deadline`: when `check` should be called (ms), or None. `session_expiry`: for how long the client wants to be
    remembered (s). `window`: how many messages with QoS 1 and 2 may be on their way to it.
    """

    def __init__(self, limits: Limits, now: int) -> None:
        self.version = V3
        self.closed: Closed | None = None
        self.deadline: int | None = now + limits.connect_timeout_ms
        self.will: Will | None = None
        self.session_expiry = 0
        self.window = limits.send_maximum
        self._limits = limits
        self._state = _NEW
        self._connect: Connect | None = None
        self._silence_ms = 0
        self._parts: list[bytes] = []
        self._have = self._need = 0
        self._out: list[bytes] = []
        self._topics: dict[bytes, str] = {}
        self._aliases: dict[int, str] = {}
        self._unacked = 0
        self._exchanges: set[int] = set()
        self._peer_aliases = TopicAliases(0)
        self._peer_bytes = MAX_REMAINING + 5

    @property
    def in_flight(self) -> int:
        """Messages with QoS 1 and 2 from the client that are not acknowledged."""
        return self._unacked + len(self._exchanges)

    @property
    def is_open(self) -> bool:
        """Whether the client is in."""
        return self._state is _OPEN

    # --- what comes in -----------------------------------------------------------------------------------------------

    def feed_bytes(self, data: bytes, now: int) -> list[Event]:
        """Everything that the bytes complete, in order. A fault of the peer sets `closed`; it is not raised."""
        state = self._state
        if state is _CLOSED:
            return []
        if self._silence_ms:
            self.deadline = now + self._silence_ms
        if self._parts or state is _ASKED:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need or state is _ASKED:
                return []
            data = b"".join(self._parts)
            self._parts = []
        return self._process(data)

    def feed_lone(self, data: bytes, now: int) -> tuple[str, int, bytes] | None:
        """As `feed_bytes` of one plain message with QoS 0 or 1: its topic, packet id (0 without) and payload.

        None: the bytes are something else. Nothing has happened then, and `feed_bytes` takes them.
        """
        if self._state is not _OPEN or self._parts:
            return None
        message = lone_publish(data, self.version, self._topics)
        if message is None:
            return None
        if message[1]:
            if self._unacked + len(self._exchanges) >= self._limits.receive_maximum and self.version == V5:
                return None
            self._unacked += 1
        if self._silence_ms:
            self.deadline = now + self._silence_ms
        return message

    def accept(self, client_id: str, now: int, *, is_known: bool = False, expiry: int = 0) -> list[Event]:
        """Let the client in as `client_id` (told to it where it gave none); returns what it has already sent since.

        `is_known`: a session of it was kept. `expiry`: for how long one will be, in s.
        """
        if self._state is not _ASKED or self._connect is None:
            return []
        packet = self._connect
        self._state, self.session_expiry = _OPEN, expiry
        keep_alive = self._keep_alive(packet)
        self._silence_ms = keep_alive * 1500
        self.deadline = now + self._silence_ms if self._silence_ms else None
        self.will = packet.will
        self._send(Connack(0, is_known, self._terms(packet, client_id, keep_alive, expiry)))
        early, self._parts = b"".join(self._parts), []
        return self._process(early)

    def refuse(self, reason: int, text: str) -> None:
        """Answer CONNECT with a refusal and close."""
        if self._state is _CLOSED:
            return
        code = reason if self.version == V5 else V3_RETURN.get(reason, V3_UNAVAILABLE)
        self._send(Connack(code, False, self._explain(text)))
        self._close(Closed(reason, text))

    def touch(self, now: int) -> None:
        """The peer could not be heard until now, because nobody listened; its silence begins anew."""
        if self._silence_ms and self._state is _OPEN:
            self.deadline = now + self._silence_ms

    def check(self, now: int) -> None:
        """Close where the peer has been silent past the deadline."""
        if self.deadline is not None and now >= self.deadline and self._state is not _CLOSED:
            waited = "CONNECT" if self._state is _NEW else "a packet"
            self.disconnect(Reason.KEEP_ALIVE_TIMEOUT, f"waited too long for {waited}")

    # --- what goes out -----------------------------------------------------------------------------------------------

    def ack(self, packet_ids: Sequence[int], text: str | None = None) -> None:
        """PUBACK: these messages are durable. `text` is told where the version and the client allow it."""
        self._unacked -= len(packet_ids)
        self._acknowledge(Kind.PUBACK, packet_ids, text)

    def ack_lone(self, packet_id: int) -> None:
        """PUBACK of one message, and nothing more to say."""
        self._unacked -= 1
        if self._state is _OPEN:
            self._out.append(encode_puback(packet_id))

    def received(self, packet_ids: Sequence[int], text: str | None = None) -> None:
        """PUBREC: these messages with QoS 2 are durable. What this connection has not brought is passed over."""
        self._acknowledge(Kind.PUBREC, [one for one in packet_ids if one in self._exchanges], text)

    def complete(self, packet_ids: Sequence[int], reason: int = 0) -> None:
        """PUBCOMP: these packet ids are forgotten, or (`reason`) were not known."""
        self._exchanges.difference_update(packet_ids)
        if reason == 0 or self.version != V5:
            self._acknowledge(Kind.PUBCOMP, packet_ids, None)
        elif self._state is _OPEN:
            for packet_id in packet_ids:
                self._send(Ack(Kind.PUBCOMP, packet_id, reason))

    def nack(self, packet_ids: Sequence[int], reason: int, text: str, qos: int = 1) -> None:
        """These messages are not stored. 3.1.1 cannot say so: the connection is closed and the client sends again."""
        if qos == 1:
            self._unacked -= len(packet_ids)
        else:
            self._exchanges.difference_update(packet_ids)
        if self._state is not _OPEN:
            return
        if self.version != V5:
            self.disconnect(reason, text)
            return
        kind = Kind.PUBACK if qos == 1 else Kind.PUBREC
        for packet_id in packet_ids:
            self._send(Ack(kind, packet_id, reason, self._explain(text)))

    def answer(self, packet: Subscribe | Unsubscribe, reasons: Sequence[int], text: str | None = None) -> None:
        """SUBACK or UNSUBACK: one reason per filter, as MQTT 5 has them."""
        if self._state is not _OPEN:
            return
        is_subscribe = isinstance(packet, Subscribe)
        if self.version != V5:
            reasons = [min(one, Reason.UNSPECIFIED) for one in reasons] if is_subscribe else []
        kind = Kind.SUBACK if is_subscribe else Kind.UNSUBACK
        self._send(Suback(kind, packet.packet_id, tuple(reasons), {} if text is None else self._explain(text)))

    def deliver(self, message: Message) -> int:
        """PUBLISH to the client; returns its size in bytes, 0 where the client takes none as large as that."""
        if self._state is not _OPEN:
            return 0
        data = encode_message(message, self.version, self._peer_aliases)
        if len(data) > self._peer_bytes:
            return 0
        self._peer_aliases.keep()
        self._out.append(data)
        return len(data)

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL: nothing of these messages that were delivered is kept any more but their ids."""
        self._acknowledge(Kind.PUBREL, packet_ids, None)

    def disconnect(self, reason: int, text: str) -> None:
        """Close from this side; MQTT 5 clients hear why."""
        if self._state is _CLOSED:
            return
        if self._state is _OPEN and self.version == V5:
            self._send(Leave(Kind.DISCONNECT, reason, self._explain(text)))
        self._close(Closed(reason, text))

    def get_outbound_data(self) -> bytes:
        """What is to be sent now; empties the buffer."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    # --- inside ------------------------------------------------------------------------------------------------------

    def _process(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        at, end = 0, len(data)
        try:
            while at < end and (self._state is _OPEN or self._state is _NEW):
                taken = self._step(data, at, events)
                if taken == at:
                    break
                at = taken
        except ProtocolError as error:
            self._fault(error)
        if at < end:
            self._keep(data[at:])
        return events

    def _step(self, data: bytes, at: int, events: list[Event]) -> int:
        if self._state is _OPEN:
            taken = self._take_runs(data, at, events)
            if taken > at:
                return taken
        elif data[at] >> 4 != Kind.CONNECT:  # at once: what is not MQTT may announce more than ever comes
            raise ProtocolError("the first packet is not CONNECT", reason_code=Reason.PROTOCOL_ERROR)
        frame = find_frame(data, at)
        if frame is None:
            return at
        self._check_size(frame.end - at)
        if frame.end > len(data):
            return at
        packet = decode(data, frame, self.version)
        self._handle(packet, events)
        return frame.end

    def _take_runs(self, data: bytes, at: int, events: list[Event]) -> int:
        """Plain messages and plain acknowledgements, many at once."""
        if data[at] >> 4 != _PUBLISH:
            first, ids, at = ack_runs(data, at)
            if ids:
                self._confirm(Kind(first >> 4), ids, 0, events)
            return at
        runs: list[Published] = []
        try:
            return publish_runs(data, at, self.version, self._topics, runs)
        finally:  # what came before a bad topic is still good
            events += runs
            self._count(runs)

    def _keep(self, rest: bytes) -> None:
        """Hold the unfinished rest. Once its size is known, nothing is joined or looked at until all of it is there."""
        self._parts = [rest]
        self._have = len(rest)
        frame = find_frame(rest, 0) if self._state is _OPEN or self._state is _NEW else None
        self._need = 0 if frame is None else frame.end

    def _check_size(self, size: int) -> None:
        # before CONNECT nobody is known: three texts of 64 KiB and some properties are all that it can need
        limit = self._limits.max_packet_bytes if self._state is _OPEN else 1 << 18
        if size > limit:
            raise ProtocolError(f"a packet of {size} bytes; the limit is {limit}", reason_code=Reason.TOO_LARGE)

    def _handle(self, packet: Packet, events: list[Event]) -> None:
        if self._state is _NEW:
            self._handle_connect(packet, events)
            return
        match packet:
            case Publish():
                events.append(self._publish(packet))
            case Ack(kind, packet_id, reason):
                self._confirm(kind, [packet_id], reason, events)
            case Plain(Kind.PINGREQ):
                self._send(Plain(Kind.PINGRESP))
            case Subscribe() | Unsubscribe():
                events.append(Asked(packet))
            case Leave(Kind.DISCONNECT):
                self._take_leave(packet)
            case Leave(Kind.AUTH):
                raise ProtocolError("AUTH is not served here", reason_code=Reason.BAD_AUTH_METHOD)
            case _:
                raise ProtocolError(f"{type(packet).__name__} is out of place", reason_code=Reason.PROTOCOL_ERROR)

    def _handle_connect(self, packet: Packet, events: list[Event]) -> None:
        if not isinstance(packet, Connect):
            raise ProtocolError("the first packet is not CONNECT", reason_code=Reason.PROTOCOL_ERROR)
        self.version, self._connect, self._state = packet.version, packet, _ASKED
        self.deadline = None
        self.session_expiry = _number(packet.properties, Property.SESSION_EXPIRY, 0)
        if packet.version == V3 and not packet.clean:
            self.session_expiry = FOREVER_S
        self.window = min(_number(packet.properties, Property.RECEIVE_MAXIMUM, 0xFFFF), self._limits.send_maximum)
        self._peer_bytes = _number(packet.properties, Property.MAXIMUM_PACKET_SIZE, self._peer_bytes)
        self._peer_aliases = TopicAliases(_number(packet.properties, Property.TOPIC_ALIAS_MAXIMUM, 0))
        problem = _connect_problem(packet)
        if problem is not None:
            self.refuse(*problem)
        else:
            events.append(ConnectRequest(packet))

    def _confirm(self, kind: Kind, ids: Sequence[int], reason: int, events: list[Event]) -> None:
        if kind is not Kind.PUBREL:
            events.append(Confirmed(kind, ids, reason))
            return
        # a session that goes on may bring ids that this connection has not seen; they count until they are complete
        self._exchanges.update(ids)
        events.append(Released(ids))

    def _take_leave(self, packet: Leave) -> None:
        expiry = packet.properties.get(Property.SESSION_EXPIRY)
        if isinstance(expiry, int):
            if expiry and not self.session_expiry:
                text = "a session that was to end with its connection cannot be kept now"
                raise ProtocolError(text, reason_code=Reason.PROTOCOL_ERROR)
            self.session_expiry = min(expiry, self._limits.session_expiry_maximum_s)
        self._close(Closed(packet.reason, "the client said goodbye", clean=packet.reason != 0x04))

    def _publish(self, packet: Publish) -> Published:
        if Property.SUBSCRIPTION_ID in packet.properties:
            raise ProtocolError("a client gave a subscription identifier", reason_code=Reason.PROTOCOL_ERROR)
        ids = [packet.packet_id] if packet.qos else []
        properties: dict[Property, PropertyValue] = dict(packet.properties)
        properties.pop(Property.TOPIC_ALIAS, None)
        run = Published(self._topic(packet), packet.qos, [packet.payload], ids, properties)
        self._count([run])
        return run

    def _topic(self, packet: Publish) -> str:
        alias = packet.properties.get(Property.TOPIC_ALIAS)
        if alias is None:
            return check_topic(packet.topic)
        if not isinstance(alias, int) or not 1 <= alias <= self._limits.topic_alias_maximum:
            raise ProtocolError(f"topic alias {alias!r} is out of range", reason_code=Reason.TOPIC_ALIAS_INVALID)
        if packet.topic:
            self._aliases[alias] = check_topic(packet.topic)
        elif alias not in self._aliases:
            raise ProtocolError(f"topic alias {alias} was never set", reason_code=Reason.PROTOCOL_ERROR)
        return self._aliases[alias]

    def _count(self, runs: Sequence[Published]) -> None:
        for run in runs:
            if run.qos == 2:
                self._exchanges.update(run.packet_ids)
            elif run.qos:
                self._unacked += len(run.packet_ids)
        if self.version == V5 and self.in_flight > self._limits.receive_maximum:
            raise ProtocolError(
                f"more than {self._limits.receive_maximum} messages with QoS 1 and 2 that are not acknowledged",
                reason_code=Reason.RECEIVE_MAXIMUM_EXCEEDED,
            )

    def _acknowledge(self, kind: Kind, packet_ids: Sequence[int], text: str | None) -> None:
        if self._state is not _OPEN or not packet_ids:
            return
        properties = self._explain(text) if text is not None else {}
        if not properties:
            self._out.append(encode_acks(kind, packet_ids))
            return
        for packet_id in packet_ids:
            self._send(Ack(kind, packet_id, 0, properties))

    def _keep_alive(self, packet: Connect) -> int:
        """The interval that holds; 3.1.1 cannot be told another."""
        most = self._limits.keep_alive_maximum_s
        if not most or self.version != V5 or 0 < packet.keep_alive <= most:
            return packet.keep_alive
        return most

    def _terms(self, packet: Connect, client_id: str, keep_alive: int, expiry: int) -> Properties:
        if self.version != V5:
            return {}
        terms: dict[Property, PropertyValue] = {
            Property.RECEIVE_MAXIMUM: self._limits.receive_maximum,
            Property.MAXIMUM_PACKET_SIZE: self._limits.max_packet_bytes,
            Property.TOPIC_ALIAS_MAXIMUM: self._limits.topic_alias_maximum,
            Property.SHARED_AVAILABLE: 0,
        }
        if expiry != packet.properties.get(Property.SESSION_EXPIRY, 0):
            terms[Property.SESSION_EXPIRY] = expiry
        if keep_alive != packet.keep_alive:
            terms[Property.SERVER_KEEP_ALIVE] = keep_alive
        if not packet.client_id:
            terms[Property.ASSIGNED_CLIENT_ID] = client_id
        return terms

    def _explain(self, text: str) -> Properties:
        """A reason string, where the peer speaks MQTT 5, wants it and can take a packet of that size."""
        if self.version != V5 or self._connect is None:
            return {}
        wanted = self._connect.properties
        room = wanted.get(Property.MAXIMUM_PACKET_SIZE, 1024)
        if wanted.get(Property.REQUEST_PROBLEM, 1) == 0 or not isinstance(room, int) or room < 64:
            return {}
        return {Property.REASON_STRING: text.encode()[: min(room, 1024) - 32].decode(errors="ignore")}

    def _send(self, packet: Packet) -> None:
        self._out.append(encode(packet, self.version))

    def _fault(self, error: ProtocolError) -> None:
        reason = error.reason_code or Reason.PROTOCOL_ERROR
        if self._state is _NEW and reason == Reason.UNSUPPORTED_VERSION:
            self.refuse(reason, error.message)  # in the form of 3.1.1, which older clients understand
        else:
            self.disconnect(reason, error.message)

    def _close(self, closed: Closed) -> None:
        self._state, self.closed, self.deadline = _CLOSED, closed, None
        if closed.clean:
            self.will = None


def _number(properties: Properties, name: Property, default: int) -> int:
    value = properties.get(name, default)
    return value if isinstance(value, int) else default


def _connect_problem(packet: Connect) -> tuple[int, str] | None:
    """What a CONNECT asks for that is not served here: (reason, text)."""
    if not packet.client_id and packet.version == V3 and not packet.clean:
        return Reason.CLIENT_ID_INVALID, "an empty client id needs a clean session"
    if Property.AUTH_METHOD in packet.properties:
        return Reason.BAD_AUTH_METHOD, "only user name and password are served"
    return None
