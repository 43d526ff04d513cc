"""MQTT packets -> bytes, for server and client. Pure; sends nothing and checks no order."""

from __future__ import annotations

from collections.abc import Sequence

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.packets import (
    MAX_REMAINING,
    V3,
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
)
from qanat.gateway.mqtt.properties import Properties, encode_properties, encode_text, encode_varint

_PUBACK = Kind.PUBACK << 28 | 0x020000


def encode(packet: Packet, version: int = V3) -> bytes:
    """The packet as bytes of this protocol level."""
    match packet:
        case Connect():
            return _encode_connect(packet)
        case Connack():
            flags = bytes([int(packet.session_present), packet.reason])
            return _frame(Kind.CONNACK << 4, flags + _properties(packet.properties, version))
        case Publish():
            return _encode_publish(packet, version)
        case Ack():
            return _encode_ack(packet, version)
        case Subscribe():
            body = b"".join(encode_text(name) + bytes([options]) for name, options in packet.filters)
            head = packet.packet_id.to_bytes(2) + _properties(packet.properties, version)
            return _frame(Kind.SUBSCRIBE << 4 | 2, head + body)
        case Unsubscribe():
            body = b"".join(map(encode_text, packet.filters))
            head = packet.packet_id.to_bytes(2) + _properties(packet.properties, version)
            return _frame(Kind.UNSUBSCRIBE << 4 | 2, head + body)
        case Suback():
            head = packet.packet_id.to_bytes(2) + _properties(packet.properties, version)
            return _frame(packet.kind << 4, head + bytes(packet.reasons))
        case Plain():
            return bytes([packet.kind << 4, 0])
        case Leave():
            return _frame(packet.kind << 4, _reason_and_properties(packet.reason, packet.properties, version))


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """Successful PUBACKs for many packet ids at once; the same bytes in 3.1.1 and 5."""
    return encode_acks(Kind.PUBACK, packet_ids)


def encode_puback(packet_id: int) -> bytes:
    """A successful PUBACK; the same bytes in 3.1.1 and 5."""
    return (_PUBACK | packet_id).to_bytes(4)


def encode_acks(kind: Kind, packet_ids: Sequence[int]) -> bytes:
    """Successful PUBACKs, PUBRECs, PUBRELs or PUBCOMPs at once; the same bytes in 3.1.1 and 5."""
    head = (kind << 4 | (2 if kind is Kind.PUBREL else 0)) << 24 | 0x020000
    if len(packet_ids) == 1:
        return (head | packet_ids[0]).to_bytes(4)
    return b"".join([(head | packet_id).to_bytes(4) for packet_id in packet_ids])


def _frame(first: int, body: bytes) -> bytes:
    if len(body) > MAX_REMAINING:
        raise ProtocolError("the packet is longer than MQTT allows", reason_code=Reason.TOO_LARGE)
    return bytes([first]) + encode_varint(len(body)) + body


def _properties(properties: Properties, version: int) -> bytes:
    return encode_properties(properties) if version == V5 else b""


def _reason_and_properties(reason: int, properties: Properties, version: int) -> bytes:
    if version != V5 or not (reason or properties):
        return b""
    return bytes([reason]) + (encode_properties(properties) if properties else b"")


def _encode_connect(packet: Connect) -> bytes:
    flags = int(packet.clean) << 1
    tail = encode_text(packet.client_id)
    if packet.will is not None:
        will = packet.will
        flags |= 0x04 | will.qos << 3 | int(will.retain) << 5
        tail += _properties(will.properties, packet.version) + encode_text(will.topic) + _binary(will.payload)
    if packet.username is not None:
        flags |= 0x80
        tail += encode_text(packet.username)
    if packet.password is not None:
        flags |= 0x40
        tail += _binary(packet.password)
    head = b"\x00\x04MQTT" + bytes([packet.version, flags]) + packet.keep_alive.to_bytes(2)
    return _frame(Kind.CONNECT << 4, head + _properties(packet.properties, packet.version) + tail)


def _binary(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def _encode_publish(packet: Publish, version: int) -> bytes:
    first = Kind.PUBLISH << 4 | int(packet.dup) << 3 | packet.qos << 1 | int(packet.retain)
    head = encode_text(packet.topic) + (packet.packet_id.to_bytes(2) if packet.qos else b"")
    return _frame(first, head + _properties(packet.properties, version) + packet.payload)


def _encode_ack(packet: Ack, version: int) -> bytes:
    first = packet.kind << 4 | (2 if packet.kind is Kind.PUBREL else 0)
    tail = _reason_and_properties(packet.reason, packet.properties, version)
    return _frame(first, packet.packet_id.to_bytes(2) + tail)
