"""The client's side of one MQTT connection to an outside broker as a pure state machine: it subscribes and takes.

Bytes and the time (ms) go in, events and outbound bytes come out. No socket, clock, retry or store: the shell
(`client.py`) answers `Messages` with `ack` (QoS 1) or `record` (QoS 2), and `Released` with `complete`, once what
they ask for is durable.

    new --CONNACK--> open --DISCONNECT, fault, silence--> ended

Source: OASIS MQTT 5.0, sections 3.1 to 3.14 and 4.3; 3.1.1 where the version says so.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode, encode_pubacks
from qanat.gateway.mqtt.framing import Published, publish_runs
from qanat.gateway.mqtt.packets import (
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
    check_topic,
    find_frame,
)
from qanat.gateway.mqtt.properties import Properties, Property

#: Subscription option of MQTT 5: retained messages come with a new subscription only, not with each reconnect.
_RETAIN_ONCE = 0x10
_V3_REFUSALS = {
    1: "it does not speak this version of MQTT",
    2: "it does not accept the client id",
    3: "it is not available",
    4: "wrong user name or password",
    5: "not authorised",
}
#: Which acknowledgement means what.
_RECORDED, _COMPLETED = Kind.PUBREC, Kind.PUBCOMP


@dataclass(frozen=True, slots=True)
class Login:
    """How to introduce oneself. `keep_alive` and `session_expiry` in seconds; `in_flight`: QoS 1 and 2 at a time."""

    client_id: str
    version: int = V5
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    keep_alive: int = 30
    session_expiry: int = 7 * 86_400
    in_flight: int = 1000


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker let us in; `resumed`: with the session that it kept."""

    resumed: bool
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Filters with what the broker granted: 0 to 2 is a QoS, from 0x80 on a refusal."""

    granted: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Messages:
    """A run of messages. With QoS 2 none of them has been taken before."""

    run: Published


@dataclass(frozen=True, slots=True)
class Released:
    """The broker will not send these QoS 2 messages again: forget their ids durably, then `complete`."""

    packet_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Why the connection is over, for people; `reason` is MQTT 5's code."""

    reason: int
    text: str


Event = Connected | Subscribed | Messages | Released | Ended


class Subscriber:
    """One connection. `taken`: the ids of QoS 2 messages that are durable and not yet released by the broker."""

    def __init__(self, login: Login, taken: Container[int], now: int) -> None:
        self._login, self._taken = login, taken
        self._keep_ms = login.keep_alive * 1000
        self._out = [_encode_connect(login)]
        self._rest: list[bytes] = []
        self._held, self._wanted = 0, 2
        self._topics: dict[bytes, str] = {}
        self._asked: dict[int, tuple[str, ...]] = {}
        self._last_id = 0
        self._heard = self._sent = self._pinged = now
        self._open = False
        self.ended: Ended | None = None

    def feed_bytes(self, data: bytes, now: int) -> list[Event]:
        """What the broker said. Keeps an unfinished packet for the next call; after `Ended` it hears nothing."""
        if self.ended is not None:
            return []
        self._heard = now
        self._rest.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return []
        whole = b"".join(self._rest) if len(self._rest) > 1 else data
        events: list[Event] = []
        try:
            at = self._parse(whole, events)
        except ProtocolError as error:
            self._fail(error.reason_code or Reason.PROTOCOL_ERROR, f"the broker broke the protocol: {error.message}")
            at = len(whole)
        self._rest = [whole[at:]] if at < len(whole) else []
        self._held = len(whole) - at
        if self.ended is not None:
            events.append(self.ended)
        return events

    def get_outbound_data(self, now: int) -> bytes:
        """Everything to be sent since the last call."""
        if not self._out:
            return b""
        data, self._out, self._sent = b"".join(self._out), [], now
        return data

    def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Ask for topics; `Subscribed` says what was granted."""
        options = qos | (_RETAIN_ONCE if self._login.version == V5 else 0)
        number = self._next_id()
        self._asked[number] = tuple(filters)
        self._send(Subscribe(number, tuple((one, options) for one in filters)))

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask for topics no longer."""
        self._send(Unsubscribe(self._next_id(), tuple(filters)))

    def ack(self, packet_ids: Sequence[int]) -> None:
        """These QoS 1 messages are durable."""
        if self.ended is None:
            self._out.append(encode_pubacks(packet_ids))

    def record(self, packet_ids: Sequence[int]) -> None:
        """These QoS 2 messages are durable, and so are their ids."""
        self._answer(_RECORDED, packet_ids)

    def complete(self, packet_ids: Sequence[int]) -> None:
        """The ids of these QoS 2 messages are durably forgotten."""
        self._answer(_COMPLETED, packet_ids)

    def touch(self, now: int) -> None:
        """Reading begins again; the silence before was ours."""
        self._heard = now

    def check(self, now: int) -> Ended | None:
        """Ping where it is time; the end where the broker has been silent for too long."""
        if self.ended is not None or not self._keep_ms or not self._open:
            return None
        if now - self._heard >= self._keep_ms * 3 // 2:
            self._fail(Reason.KEEP_ALIVE_TIMEOUT, f"the broker has been silent for {(now - self._heard) // 1000} s")
            return self.ended
        if now - min(self._sent, self._heard) >= self._keep_ms and now - self._pinged >= self._keep_ms // 2:
            self._pinged = now
            self._send(Plain(Kind.PINGREQ))
        return None

    def leave(self) -> None:
        """Say goodbye; the broker keeps the session."""
        if self.ended is None:
            self._send(Leave(Kind.DISCONNECT))
            self.ended = Ended(Reason.SUCCESS, "qanat stops")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes, events: list[Event]) -> int:
        """Take whole packets; the place of the first byte not taken."""
        at, version = 0, self._login.version
        while at < len(data) and self.ended is None:
            if self._open:
                runs: list[Published] = []
                at = publish_runs(data, at, version, self._topics, runs)
                for run in runs:
                    self._take_run(run, events)
            frame = find_frame(data, at)
            if frame is None or frame.end > len(data):
                self._wanted = 2 if frame is None else frame.end - at
                break
            packet, at = decode(data, frame, version), frame.end
            self._take(packet, events)
        else:
            self._wanted = 2
        return at

    def _take(self, packet: Packet, events: list[Event]) -> None:
        match packet:
            case Connack() if not self._open:
                self._take_connack(packet, events)
            case _ if not self._open:
                raise ProtocolError(f"{_name(packet)} came before CONNACK", reason_code=Reason.PROTOCOL_ERROR)
            case Publish():
                self._take_run(_run_of(packet), events)
            case Ack(Kind.PUBREL, packet_id):
                self._take_release(packet_id, events)
            case Suback(Kind.SUBACK, packet_id, reasons):
                asked = self._asked.pop(packet_id, ())
                events.append(Subscribed(tuple(zip(asked, reasons, strict=False))))
            case Suback(Kind.UNSUBACK) | Plain(Kind.PINGRESP):
                pass
            case Leave(Kind.DISCONNECT, reason):
                self.ended = Ended(
                    reason, f"the broker closed the connection: {reason_text(reason, packet.properties)}"
                )
            case _:
                raise ProtocolError(f"{_name(packet)} came unasked for", reason_code=Reason.PROTOCOL_ERROR)

    def _take_connack(self, packet: Connack, events: list[Event]) -> None:
        if packet.reason:
            if self._login.version == V5:
                why = reason_text(packet.reason, packet.properties)
            else:
                why = _V3_REFUSALS.get(packet.reason, f"return code {packet.reason}")
            self.ended = Ended(packet.reason, f"the broker refused the connection: {why}")
            return
        self._open = True
        keep = packet.properties.get(Property.SERVER_KEEP_ALIVE)
        if isinstance(keep, int):
            self._keep_ms = keep * 1000
        events.append(Connected(packet.session_present, packet.properties))

    def _take_run(self, run: Published, events: list[Event]) -> None:
        """QoS 2 that is durable already is answered at once; the rest is news."""
        if run.qos == 2:
            known = [packet_id for packet_id in run.packet_ids if packet_id in self._taken]
            if known:
                self.record(known)
                news = [place for place, packet_id in enumerate(run.packet_ids) if packet_id not in self._taken]
                ids = [run.packet_ids[place] for place in news]
                run = replace(run, payloads=[run.payloads[place] for place in news], packet_ids=ids)
        if not run.payloads:
            return
        last = events[-1] if events else None
        if isinstance(last, Messages) and _are_alike(last.run, run):
            last.run.payloads.extend(run.payloads)
            last.run.packet_ids.extend(run.packet_ids)
        else:
            events.append(Messages(run))

    def _take_release(self, packet_id: int, events: list[Event]) -> None:
        if packet_id not in self._taken:
            self.complete([packet_id])
        elif events and isinstance(events[-1], Released):
            events[-1] = Released((*events[-1].packet_ids, packet_id))
        else:
            events.append(Released((packet_id,)))

    def _answer(self, kind: Kind, packet_ids: Sequence[int]) -> None:
        for packet_id in packet_ids:
            self._send(Ack(kind, packet_id))

    def _send(self, packet: Packet) -> None:
        if self.ended is None:
            self._out.append(encode(packet, self._login.version))

    def _fail(self, reason: int, text: str) -> None:
        if self._login.version == V5 and self._open:
            self._send(Leave(Kind.DISCONNECT, reason))
        self.ended = Ended(reason, text)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


def reason_text(reason: int, properties: Properties) -> str:
    """A reason code of MQTT 5 in words, with what the broker says about it."""
    try:
        name = Reason(reason).name.replace("_", " ").lower()
    except ValueError:
        name = "reason"
    said = properties.get(Property.REASON_STRING)
    return f"{name} ({reason:#04x})" + (f": {said}" if isinstance(said, str) else "")


def _encode_connect(login: Login) -> bytes:
    properties: dict[Property, int] = {}
    if login.version == V5:
        properties = {Property.SESSION_EXPIRY: login.session_expiry, Property.RECEIVE_MAXIMUM: login.in_flight}
    secret = None if login.password is None else login.password.encode()
    packet = Connect(
        login.client_id, login.version, False, login.keep_alive, login.username, secret, properties=properties
    )
    return encode(packet, login.version)


def _run_of(packet: Publish) -> Published:
    if Property.TOPIC_ALIAS in packet.properties:
        raise ProtocolError("a topic alias, which was not offered", reason_code=Reason.TOPIC_ALIAS_INVALID)
    ids = [packet.packet_id] if packet.qos else []
    return Published(check_topic(packet.topic), packet.qos, [packet.payload], ids, packet.properties)


def _are_alike(one: Published, other: Published) -> bool:
    return one.topic == other.topic and one.qos == other.qos and not one.properties and not other.properties


def _name(packet: Packet) -> str:
    kind = getattr(packet, "kind", None)
    return kind.name if isinstance(kind, Kind) else type(packet).__name__.upper()
