"""Bytes of one whole frame -> MQTT packet, for server and client.

Pure. Every fault is a `ProtocolError` with its MQTT 5 reason code; 3.1.1 callers close the connection instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.packets import (
    V3,
    V5,
    Ack,
    Connack,
    Connect,
    Frame,
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
)
from qanat.gateway.mqtt.properties import Properties, decode_properties, malformed, read_binary, read_text, read_u16


def decode(data: bytes, frame: Frame, version: int) -> Packet:
    """The packet in a whole frame of `data`. CONNECT ignores `version` and brings its own.

    Raises `ProtocolError` with the MQTT 5 reason code.
    """
    kind = Kind(frame.first >> 4) if frame.first >> 4 else None
    if kind is None:
        raise malformed("packet type 0 does not exist")
    flags, body = frame.first & 0x0F, data[frame.body : frame.end]
    if kind is Kind.PUBLISH:
        return _decode_publish(flags, body, version)
    wanted = 2 if kind in (Kind.PUBREL, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE) else 0
    if flags != wanted:
        raise malformed(f"{kind.name} has the flags {flags:04b}, expected {wanted:04b}")
    match kind:
        case Kind.CONNECT:
            return _decode_connect(body)
        case Kind.CONNACK:
            return _decode_connack(body, version)
        case Kind.PUBACK | Kind.PUBREC | Kind.PUBREL | Kind.PUBCOMP:
            return _decode_ack(kind, body, version)
        case Kind.SUBSCRIBE:
            return _decode_subscribe(body, version)
        case Kind.UNSUBSCRIBE:
            return _decode_unsubscribe(body, version)
        case Kind.SUBACK | Kind.UNSUBACK:
            return _decode_suback(kind, body, version)
        case Kind.PINGREQ | Kind.PINGRESP:
            if body:
                raise malformed(f"{kind.name} has a body of {len(body)} bytes")
            return Plain(kind)
        case Kind.DISCONNECT | Kind.AUTH:
            return _decode_leave(kind, body, version)
        case _:
            raise malformed(f"unexpected packet type {kind}")


def _decode_connect(body: bytes) -> Connect:
    name, at = read_text(body, 0)
    if at + 4 > len(body):
        raise malformed("CONNECT ends early")
    version, flags, keep_alive = body[at], body[at + 1], body[at + 2] << 8 | body[at + 3]
    if (name, version) not in (("MQTT", V3), ("MQTT", V5)):
        raise ProtocolError(
            f"protocol {name!r} level {version} is not spoken here",
            reason_code=Reason.UNSUPPORTED_VERSION,
            hint="connect with MQTT 3.1.1 or MQTT 5",
        )
    _check_connect_flags(flags, version)
    at += 4
    properties: Properties = {}
    if version == V5:
        properties, at = decode_properties(body, at, Kind.CONNECT)
    client_id, at = read_text(body, at)
    will, at = _decode_will(body, at, flags, version)
    username: str | None = None
    password: bytes | None = None
    if flags & 0x80:
        username, at = read_text(body, at)
    if flags & 0x40:
        password, at = read_binary(body, at)
    _check_end(body, at, Kind.CONNECT)
    return Connect(client_id, version, bool(flags & 2), keep_alive, username, password, will, properties)


def _check_connect_flags(flags: int, version: int) -> None:
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 4 and flags & 0x38):
        raise malformed(f"CONNECT has the flags {flags:08b}")
    if version == V3 and flags & 0x40 and not flags & 0x80:
        raise malformed("CONNECT has a password and no user name")


def _decode_will(body: bytes, at: int, flags: int, version: int) -> tuple[Will | None, int]:
    if not flags & 4:
        return None, at
    properties: Properties = {}
    if version == V5:
        properties, at = decode_properties(body, at, None)
    topic, at = read_text(body, at)
    payload, at = read_binary(body, at)
    return Will(check_topic(topic), payload, flags >> 3 & 3, bool(flags & 0x20), properties), at


def _decode_connack(body: bytes, version: int) -> Connack:
    if len(body) < 2 or body[0] > 1:
        raise malformed("CONNACK is shorter than two bytes or has unknown flags")
    properties, at = decode_properties(body, 2, Kind.CONNACK) if version == V5 else ({}, 2)
    _check_end(body, at, Kind.CONNACK)
    return Connack(body[1], bool(body[0]), properties)


def _decode_publish(flags: int, body: bytes, version: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise malformed("PUBLISH has QoS 3")
    if flags & 8 and not qos:
        raise malformed("PUBLISH with QoS 0 is marked as a duplicate")
    topic, at = read_text(body, 0)
    packet_id = 0
    if qos:
        packet_id, at = _packet_id(body, at)
    properties: Properties = {}
    if version == V5:
        properties, at = decode_properties(body, at, Kind.PUBLISH)
    return Publish(topic, body[at:], qos, packet_id, bool(flags & 1), bool(flags & 8), properties)


def _packet_id(body: bytes, at: int) -> tuple[int, int]:
    packet_id, at = read_u16(body, at)
    if not packet_id:
        raise malformed("packet id 0 is not allowed")
    return packet_id, at


def _decode_ack(kind: Kind, body: bytes, version: int) -> Ack:
    packet_id, at = _packet_id(body, 0)
    reason, properties = _decode_reason(kind, body, at, version)
    return Ack(kind, packet_id, reason, properties)


def _decode_reason(kind: Kind, body: bytes, at: int, version: int) -> tuple[int, Properties]:
    """The optional reason code and properties at the end of acknowledgements, DISCONNECT and AUTH."""
    if at == len(body):
        return 0, {}
    if version != V5:
        raise malformed(f"{kind.name} is too long")
    reason, at = body[at], at + 1
    if at == len(body):
        return reason, {}
    properties, at = decode_properties(body, at, kind)
    _check_end(body, at, kind)
    return reason, properties


def _decode_head(kind: Kind, body: bytes, version: int) -> tuple[int, Properties, int]:
    packet_id, at = _packet_id(body, 0)
    properties: Properties = {}
    if version == V5:
        properties, at = decode_properties(body, at, kind)
    return packet_id, properties, at


def _decode_subscribe(body: bytes, version: int) -> Subscribe:
    packet_id, properties, at = _decode_head(Kind.SUBSCRIBE, body, version)
    filters: list[tuple[str, int]] = []
    while at < len(body):
        name, at = read_text(body, at)
        if at == len(body):
            raise malformed("SUBSCRIBE ends before the options of its last filter")
        options, at = body[at], at + 1
        if options & 3 == 3 or options > (0x2F if version == V5 else 2):
            raise malformed(f"SUBSCRIBE has the options {options:08b}")
        filters.append((name, options))
    _check_some(filters, Kind.SUBSCRIBE)
    return Subscribe(packet_id, tuple(filters), properties)


def _decode_unsubscribe(body: bytes, version: int) -> Unsubscribe:
    packet_id, properties, at = _decode_head(Kind.UNSUBSCRIBE, body, version)
    filters: list[str] = []
    while at < len(body):
        name, at = read_text(body, at)
        filters.append(name)
    _check_some(filters, Kind.UNSUBSCRIBE)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _check_some(filters: Sequence[object], kind: Kind) -> None:
    if not filters:
        raise ProtocolError(f"{kind.name} has no topic filter", reason_code=Reason.PROTOCOL_ERROR)


def _decode_suback(kind: Kind, body: bytes, version: int) -> Suback:
    packet_id, properties, at = _decode_head(kind, body, version)
    return Suback(kind, packet_id, tuple(body[at:]), properties)


def _decode_leave(kind: Kind, body: bytes, version: int) -> Leave:
    if kind is Kind.AUTH and version != V5:
        raise malformed("AUTH does not exist in MQTT 3.1.1")
    reason, properties = _decode_reason(kind, body, 0, version)
    return Leave(kind, reason, properties)


def _check_end(body: bytes, at: int, kind: Kind) -> None:
    if at != len(body):
        raise malformed(f"{kind.name} has {len(body) - at} bytes too many")
