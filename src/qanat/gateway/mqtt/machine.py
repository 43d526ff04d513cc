"""The server's side of one MQTT connection as a pure state machine.

Bytes and the time (ms) go in, events and outbound bytes come out. No sockets, no clock, no credentials: the shell
(`server.py`) answers `ConnectRequest` with `accept` or `refuse`, and `Published` with `ack` or `nack` once the messages
are durable.

    new --CONNECT--> asked --accept--> open --DISCONNECT, fault, silence--> closed

First cut: QoS 0 and 1; SUBSCRIBE is answered with a refusal; no session outlives its connection.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode, encode_pubacks
from qanat.gateway.mqtt.framing import Published, publish_runs
from qanat.gateway.mqtt.packets import (
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

_NO_SUBSCRIPTION_EXISTED = 0x11
_SUBSCRIBE_REFUSED = "subscriptions are not served yet; read with `qanat tail` or `qanat query`"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may do. `receive_maximum`: QoS 1 messages without PUBACK."""

    max_packet_bytes: int = 1 << 20
    receive_maximum: int = 1000
    topic_alias_maximum: int = 16
    connect_timeout_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client wants in; answer with `accept` or `refuse`."""

    packet: Connect


@dataclass(frozen=True, slots=True)
class Closed:
    """Why the connection is over. `clean`: by DISCONNECT, so that the will is not published."""

    reason: int
    text: str
    clean: bool = False


Event = ConnectRequest | Published


class _State(enum.Enum):
    NEW = "new"
    ASKED = "asked"
    OPEN = "open"
    CLOSED = "closed"


class Connection:
    """One connection. `closed` is set when it is over; the shell then sends what is left and closes the socket.

    `in_flight`: QoS 1 messages that wait for `ack` or `nack`. `deadline`: when `check` should be called (ms), or None.
    """

    def __init__(self, limits: Limits, now: int) -> None:
        self.version = V3
        self.closed: Closed | None = None
        self.in_flight = 0
        self.deadline: int | None = now + limits.connect_timeout_ms
        self.will: Will | None = None
        self._limits = limits
        self._state = _State.NEW
        self._connect: Connect | None = None
        self._silence_ms = 0
        self._parts: list[bytes] = []
        self._have = self._need = 0
        self._out: list[bytes] = []
        self._topics: dict[bytes, str] = {}
        self._aliases: dict[int, str] = {}

    # --- what comes in -----------------------------------------------------------------------------------------------

    def feed_bytes(self, data: bytes, now: int) -> list[Event]:
        """Everything that the bytes complete, in order. A fault of the peer sets `closed`; it is not raised."""
        if self._state is _State.CLOSED:
            return []
        if self._silence_ms:
            self.deadline = now + self._silence_ms
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need or self._state is _State.ASKED:
            return []
        return self._process()

    def accept(self, client_id: str, now: int) -> list[Event]:
        """Let the client in as `client_id` (told to it where it gave none); returns what it has already sent since."""
        if self._state is not _State.ASKED or self._connect is None:
            return []
        self._state = _State.OPEN
        self._silence_ms = self._connect.keep_alive * 1500
        self.deadline = now + self._silence_ms if self._silence_ms else None
        self.will = self._connect.will
        self._send(Connack(0, False, self._terms(self._connect, client_id)))
        return self._process()

    def refuse(self, reason: int, text: str) -> None:
        """Answer CONNECT with a refusal and close."""
        if self._state is _State.CLOSED:
            return
        code = reason if self.version == V5 else V3_RETURN.get(reason, V3_UNAVAILABLE)
        self._send(Connack(code, False, self._explain(text)))
        self._close(Closed(reason, text))

    def touch(self, now: int) -> None:
        """The peer could not be heard until now, because nobody listened; its silence begins anew."""
        if self._silence_ms and self._state is _State.OPEN:
            self.deadline = now + self._silence_ms

    def check(self, now: int) -> None:
        """Close where the peer has been silent past the deadline."""
        if self.deadline is not None and now >= self.deadline and self._state is not _State.CLOSED:
            waited = "CONNECT" if self._state is _State.NEW else "a packet"
            self.disconnect(Reason.KEEP_ALIVE_TIMEOUT, f"waited too long for {waited}")

    # --- what goes out -----------------------------------------------------------------------------------------------

    def ack(self, packet_ids: Sequence[int], text: str | None = None) -> None:
        """PUBACK: these messages are durable. `text` is told where the version and the client allow it."""
        self.in_flight -= len(packet_ids)
        if self._state is not _State.OPEN:
            return
        if text is None or not self._explain(text):
            self._out.append(encode_pubacks(packet_ids))
            return
        for packet_id in packet_ids:
            self._send(Ack(Kind.PUBACK, packet_id, 0, self._explain(text)))

    def nack(self, packet_ids: Sequence[int], reason: int, text: str) -> None:
        """These messages are not stored. 3.1.1 cannot say so: the connection is closed and the client sends again."""
        self.in_flight -= len(packet_ids)
        if self._state is not _State.OPEN:
            return
        if self.version != V5:
            self.disconnect(reason, text)
            return
        for packet_id in packet_ids:
            self._send(Ack(Kind.PUBACK, packet_id, reason, self._explain(text)))

    def disconnect(self, reason: int, text: str) -> None:
        """Close from this side; MQTT 5 clients hear why."""
        if self._state is _State.CLOSED:
            return
        if self._state is _State.OPEN and self.version == V5:
            self._send(Leave(Kind.DISCONNECT, reason, self._explain(text)))
        self._close(Closed(reason, text))

    def get_outbound_data(self) -> bytes:
        """What is to be sent now; empties the buffer."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # --- inside ------------------------------------------------------------------------------------------------------

    def _process(self) -> list[Event]:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        events: list[Event] = []
        at = 0
        try:
            while at < len(data) and self._state in (_State.NEW, _State.OPEN):
                taken = self._step(data, at, events)
                if taken == at:
                    break
                at = taken
        except ProtocolError as error:
            self._fault(error)
        self._keep(data, at)
        return events

    def _step(self, data: bytes, at: int, events: list[Event]) -> int:
        if self._state is _State.OPEN:
            runs: list[Published] = []
            try:
                taken = publish_runs(data, at, self.version, self._topics, runs)
            finally:  # what came before a bad topic is still good
                events.extend(run for run in runs if run.payloads)
                self._count(runs)
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

    def _keep(self, data: bytes, at: int) -> None:
        """Hold the unfinished rest. Once its size is known, nothing is joined or looked at until all of it is there."""
        rest = data[at:]
        self._parts = [rest] if rest else []
        self._have = len(rest)
        frame = find_frame(rest, 0) if rest and self._state in (_State.NEW, _State.OPEN) else None
        self._need = 0 if frame is None else frame.end

    def _check_size(self, size: int) -> None:
        # before CONNECT nobody is known: three texts of 64 KiB and some properties are all that it can need
        limit = self._limits.max_packet_bytes if self._state is _State.OPEN else 1 << 18
        if size > limit:
            raise ProtocolError(f"a packet of {size} bytes; the limit is {limit}", reason_code=Reason.TOO_LARGE)

    def _handle(self, packet: Packet, events: list[Event]) -> None:
        if self._state is _State.NEW:
            self._handle_connect(packet, events)
            return
        match packet:
            case Publish():
                events.append(self._publish(packet))
            case Plain(Kind.PINGREQ):
                self._send(Plain(Kind.PINGRESP))
            case Leave(Kind.DISCONNECT, reason):
                self._close(Closed(reason, "the client said goodbye", clean=reason != 0x04))
            case Subscribe(packet_id, filters):
                code = Reason.IMPLEMENTATION if self.version == V5 else Reason.UNSPECIFIED
                text = self._explain(_SUBSCRIBE_REFUSED)
                self._send(Suback(Kind.SUBACK, packet_id, (code,) * len(filters), text))
            case Unsubscribe(packet_id, names):
                codes = (_NO_SUBSCRIPTION_EXISTED,) * len(names) if self.version == V5 else ()
                self._send(Suback(Kind.UNSUBACK, packet_id, codes))
            case _:
                raise ProtocolError(f"{type(packet).__name__} is out of place", reason_code=Reason.PROTOCOL_ERROR)

    def _handle_connect(self, packet: Packet, events: list[Event]) -> None:
        if not isinstance(packet, Connect):
            raise ProtocolError("the first packet is not CONNECT", reason_code=Reason.PROTOCOL_ERROR)
        self.version, self._connect, self._state = packet.version, packet, _State.ASKED
        self.deadline = None
        problem = _connect_problem(packet)
        if problem is not None:
            self.refuse(*problem)
        else:
            events.append(ConnectRequest(packet))

    def _publish(self, packet: Publish) -> Published:
        if packet.qos == 2:
            raise ProtocolError("QoS 2 is not served", reason_code=Reason.QOS_UNSUPPORTED, hint="publish with QoS 1")
        if packet.retain and self.version == V5:
            raise ProtocolError("retained messages are not kept", reason_code=Reason.RETAIN_UNSUPPORTED)
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
        self.in_flight += sum(len(run.packet_ids) for run in runs)
        if self.version == V5 and self.in_flight > self._limits.receive_maximum:
            raise ProtocolError(
                f"more than {self._limits.receive_maximum} QoS 1 messages without PUBACK",
                reason_code=Reason.RECEIVE_MAXIMUM_EXCEEDED,
            )

    def _terms(self, packet: Connect, client_id: str) -> Properties:
        if self.version != V5:
            return {}
        terms: dict[Property, PropertyValue] = {
            Property.RECEIVE_MAXIMUM: self._limits.receive_maximum,
            Property.MAXIMUM_QOS: 1,
            Property.RETAIN_AVAILABLE: 0,
            Property.MAXIMUM_PACKET_SIZE: self._limits.max_packet_bytes,
            Property.TOPIC_ALIAS_MAXIMUM: self._limits.topic_alias_maximum,
            Property.WILDCARD_AVAILABLE: 0,
            Property.SUBSCRIPTION_ID_AVAILABLE: 0,
            Property.SHARED_AVAILABLE: 0,
        }
        if packet.properties.get(Property.SESSION_EXPIRY):
            terms[Property.SESSION_EXPIRY] = 0
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
        if self._state is _State.NEW and reason == Reason.UNSUPPORTED_VERSION:
            self.refuse(reason, error.message)  # in the form of 3.1.1, which older clients understand
        else:
            self.disconnect(reason, error.message)

    def _close(self, closed: Closed) -> None:
        self._state, self.closed, self.deadline = _State.CLOSED, closed, None
        if closed.clean:
            self.will = None


def _connect_problem(packet: Connect) -> tuple[int, str] | None:
    """What a CONNECT asks for that is not served here: (reason, text)."""
    if not packet.client_id and packet.version == V3 and not packet.clean:
        return Reason.CLIENT_ID_INVALID, "an empty client id needs a clean session"
    if Property.AUTH_METHOD in packet.properties:
        return Reason.BAD_AUTH_METHOD, "only user name and password are served"
    if packet.will is not None and packet.version == V5:
        if packet.will.qos == 2:
            return Reason.QOS_UNSUPPORTED, "QoS 2 is not served"
        if packet.will.retain:
            return Reason.RETAIN_UNSUPPORTED, "retained messages are not kept"
    return None
