"""The device's side of an MQTT connection: what a meter or a simulator says and understands.

Pure: no sockets, clocks or retries; the caller moves the bytes and decides when to ping and when to send again. It
publishes; it does not subscribe.

    device = Device("meter-1", version=V5, username="h1", password="secret")
    send(device.connect())
    send(device.publish("power", b'{"consumption": 230}', qos=1))
    for event in device.feed(received):
        ...  # Connack, Acked, Leave or Plain (PINGRESP)

Loops that send much call `encode_publish` themselves and only `feed` what comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.packets import V3, V5, Ack, Connack, Connect, Kind, Leave, Plain, Reason, Will, find_frame
from qanat.gateway.mqtt.properties import Properties, encode_text, encode_varint

#: PINGREQ, the same in both versions.
PING = b"\xc0\x00"
#: DISCONNECT without a reason, the same in both versions.
GOODBYE = b"\xe0\x00"


@dataclass(frozen=True, slots=True)
class Acked:
    """PUBACKs in the order received. `reason` is 0 (stored) or an MQTT 5 reason code >= 0x80 (refused, not stored)."""

    packet_ids: tuple[int, ...]
    reason: int = 0
    properties: Properties | None = None


DeviceEvent = Connack | Acked | Leave | Plain


def encode_connect(
    client_id: str,
    *,
    version: int = V3,
    username: str | None = None,
    password: str | None = None,
    keep_alive: int = 60,
    will: Will | None = None,
) -> bytes:
    """CONNECT with a clean session. `keep_alive` in seconds, 0 = none."""
    secret = None if password is None else password.encode()
    packet = Connect(client_id, version, True, keep_alive, username, secret, will)
    return encode(packet, version)


def encode_publish(
    topic: str, payload: bytes, qos: int = 0, packet_id: int = 0, version: int = V3, dup: bool = False
) -> bytes:
    """PUBLISH without properties. `packet_id` is 1-65535 with QoS 1, ignored with QoS 0."""
    head = _topic_head(topic)
    if qos:
        head += packet_id.to_bytes(2)
    if version == V5:
        head += b"\0"
    first = 0x30 | qos << 1 | (8 if dup else 0)
    size = len(head) + len(payload)
    if size < 128:
        return b"%c%c%b%b" % (first, size, head, payload)
    return b"%c%b%b%b" % (first, encode_varint(size), head, payload)


@lru_cache(maxsize=65_536)
def _topic_head(topic: str) -> bytes:
    return encode_text(topic)


class Device:
    """One connection of one client. A new connection is a new `Device`.

    `unacked`: packet id -> (topic, payload) of QoS 1 messages without PUBACK, in the order sent; after a reconnect the
    caller publishes them again.
    """

    def __init__(
        self,
        client_id: str,
        *,
        version: int = V3,
        username: str | None = None,
        password: str | None = None,
        keep_alive: int = 60,
        will: Will | None = None,
    ) -> None:
        self.client_id = client_id
        self.version = version
        self.unacked: dict[int, tuple[str, bytes]] = {}
        self._hello = encode_connect(
            client_id, version=version, username=username, password=password, keep_alive=keep_alive, will=will
        )
        self._rest = b""
        self._last_id = 0

    def connect(self) -> bytes:
        """The CONNECT to send first. PUBLISH may follow at once."""
        return self._hello

    def publish(self, topic: str, payload: bytes, qos: int = 0) -> bytes:
        """PUBLISH; with QoS 1 it takes the next free packet id and is kept in `unacked`.

        Raises `ProtocolError` where all 65,535 packet ids are in flight.
        """
        if not qos:
            return encode_publish(topic, payload, version=self.version)
        packet_id = self._next_id()
        self.unacked[packet_id] = (topic, payload)
        return encode_publish(topic, payload, qos, packet_id, self.version)

    def feed(self, data: bytes) -> list[DeviceEvent]:
        """What the server said. Keeps an unfinished packet for the next call; raises `ProtocolError`."""
        data = self._rest + data
        at, events = 0, list[DeviceEvent]()
        while at < len(data):
            at = self._take_pubacks(data, at, events)
            frame = find_frame(data, at)
            if frame is None or frame.end > len(data):
                break
            packet, at = decode(data, frame, self.version), frame.end
            match packet:
                case Ack(Kind.PUBACK, packet_id, reason, properties):
                    self.unacked.pop(packet_id, None)
                    events.append(Acked((packet_id,), reason, properties))
                case Connack() | Leave() | Plain():
                    events.append(packet)
                case _:
                    raise ProtocolError(
                        f"the server sent {type(packet).__name__}, unasked for", reason_code=Reason.PROTOCOL_ERROR
                    )
        self._rest = data[at:]
        return events

    def _take_pubacks(self, data: bytes, at: int, events: list[DeviceEvent]) -> int:
        """A run of plain PUBACKs in one go."""
        ids: list[int] = []
        while data.startswith(b"\x40\x02", at) and at + 4 <= len(data):
            packet_id = data[at + 2] << 8 | data[at + 3]
            self.unacked.pop(packet_id, None)
            ids.append(packet_id)
            at += 4
        if ids:
            events.append(Acked(tuple(ids)))
        return at

    def _next_id(self) -> int:
        for _ in range(65_535):
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self.unacked:
                return self._last_id
        raise ProtocolError("all packet ids are in flight", hint="wait for PUBACKs before publishing more")
