"""MQTT 5 properties and the wire types under every packet: texts, binaries, numbers.

Pure. Which property may stand in which packet, how often, and with which values is checked here; what it means is not.

Source: OASIS MQTT 5.0, sections 1.5 and 2.2.2.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from qanat.errors import ProtocolError

#: A property's value: a number, text, bytes, or for those that may be repeated a tuple of them.
PropertyValue = int | str | bytes | tuple[tuple[str, str], ...] | tuple[int, ...]


class Property(enum.IntEnum):
    """Property identifiers."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTH_METHOD = 0x15
    AUTH_DATA = 0x16
    REQUEST_PROBLEM = 0x17
    WILL_DELAY = 0x18
    REQUEST_RESPONSE = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_AVAILABLE = 0x28
    SUBSCRIPTION_ID_AVAILABLE = 0x29
    SHARED_AVAILABLE = 0x2A


Properties = Mapping[Property, PropertyValue]

_P = Property
_BYTE = {
    _P.PAYLOAD_FORMAT, _P.REQUEST_PROBLEM, _P.REQUEST_RESPONSE, _P.MAXIMUM_QOS, _P.RETAIN_AVAILABLE,
    _P.WILDCARD_AVAILABLE, _P.SUBSCRIPTION_ID_AVAILABLE, _P.SHARED_AVAILABLE,
}  # fmt: skip
_U16 = {_P.SERVER_KEEP_ALIVE, _P.RECEIVE_MAXIMUM, _P.TOPIC_ALIAS_MAXIMUM, _P.TOPIC_ALIAS}
_U32 = {_P.MESSAGE_EXPIRY, _P.SESSION_EXPIRY, _P.WILL_DELAY, _P.MAXIMUM_PACKET_SIZE}
_BINARY = {_P.CORRELATION_DATA, _P.AUTH_DATA}
_NOT_ZERO = {_P.RECEIVE_MAXIMUM, _P.MAXIMUM_PACKET_SIZE, _P.SUBSCRIPTION_ID}

_ANY_ACK = {_P.REASON_STRING, _P.USER_PROPERTY}
_MESSAGE = {
    _P.PAYLOAD_FORMAT, _P.MESSAGE_EXPIRY, _P.CONTENT_TYPE, _P.RESPONSE_TOPIC, _P.CORRELATION_DATA, _P.USER_PROPERTY,
}  # fmt: skip
#: Packet type number -> what it may hold; None is the will inside CONNECT.
_ALLOWED: Mapping[int | None, set[Property]] = {
    None: _MESSAGE | {_P.WILL_DELAY},
    1: {
        _P.SESSION_EXPIRY, _P.AUTH_METHOD, _P.AUTH_DATA, _P.REQUEST_PROBLEM, _P.REQUEST_RESPONSE, _P.RECEIVE_MAXIMUM,
        _P.TOPIC_ALIAS_MAXIMUM, _P.USER_PROPERTY, _P.MAXIMUM_PACKET_SIZE,
    },
    2: _ANY_ACK | {
        _P.SESSION_EXPIRY, _P.ASSIGNED_CLIENT_ID, _P.SERVER_KEEP_ALIVE, _P.AUTH_METHOD, _P.AUTH_DATA,
        _P.RESPONSE_INFORMATION, _P.SERVER_REFERENCE, _P.RECEIVE_MAXIMUM, _P.TOPIC_ALIAS_MAXIMUM, _P.MAXIMUM_QOS,
        _P.RETAIN_AVAILABLE, _P.MAXIMUM_PACKET_SIZE, _P.WILDCARD_AVAILABLE, _P.SUBSCRIPTION_ID_AVAILABLE,
        _P.SHARED_AVAILABLE,
    },
    3: _MESSAGE | {_P.SUBSCRIPTION_ID, _P.TOPIC_ALIAS},
    4: _ANY_ACK, 5: _ANY_ACK, 6: _ANY_ACK, 7: _ANY_ACK,
    8: {_P.SUBSCRIPTION_ID, _P.USER_PROPERTY},
    9: _ANY_ACK,
    10: {_P.USER_PROPERTY},
    11: _ANY_ACK,
    14: _ANY_ACK | {_P.SESSION_EXPIRY, _P.SERVER_REFERENCE},
    15: _ANY_ACK | {_P.AUTH_METHOD, _P.AUTH_DATA},
}  # fmt: skip


def malformed(message: str) -> ProtocolError:
    """The error for bytes that are not a packet (reason code 0x81)."""
    return ProtocolError(message, reason_code=0x81)


def encode_varint(value: int) -> bytes:
    """A variable byte integer, one to four bytes."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, place after it). Raises `ProtocolError` where it is cut off, or longer than four bytes."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= len(data):
            raise malformed("a length is cut off")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise malformed("a length has more than four bytes")


def encode_text(value: str) -> bytes:
    """A UTF-8 text with its length in two bytes."""
    raw = value.encode()
    if len(raw) > 0xFFFF:
        raise malformed("a text is longer than 65,535 bytes")
    return len(raw).to_bytes(2) + raw


def read_u16(data: bytes, at: int) -> tuple[int, int]:
    """(number, place after it)."""
    if at + 2 > len(data):
        raise malformed("a number is cut off")
    return data[at] << 8 | data[at + 1], at + 2


def read_binary(data: bytes, at: int) -> tuple[bytes, int]:
    """(bytes, place after them)."""
    size, at = read_u16(data, at)
    if at + size > len(data):
        raise malformed("a text or binary is cut off")
    return data[at : at + size], at + size


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """(text, place after it). Raises `ProtocolError` for what is not UTF-8 and for NUL."""
    raw, at = read_binary(data, at)
    return to_text(raw), at


def to_text(raw: bytes) -> str:
    """UTF-8 without NUL as text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"a text is not UTF-8: {error.reason}") from error
    if "\0" in text:
        raise malformed("a text has a NUL character")
    return text


def encode_properties(properties: Properties) -> bytes:
    """All properties with their length in front."""
    body = b"".join(_encode_property(name, value) for name, value in properties.items())
    return encode_varint(len(body)) + body


def decode_properties(data: bytes, at: int, packet: int | None) -> tuple[dict[Property, PropertyValue], int]:
    """(properties, place after them); `packet` is the packet type number, None for a will.

    Raises `ProtocolError`: 0x81 for unknown ones and those in the wrong packet, 0x82 for repeated ones and bad values.
    """
    size, at = decode_varint(data, at)
    if not size:
        return {}, at
    end = at + size
    if end > len(data):
        raise malformed("the properties are cut off")
    data = data[:end]
    found: dict[Property, Any] = {}
    while at < end:
        name, value, at = _decode_property(data, at, packet)
        if name is _P.USER_PROPERTY or (name is _P.SUBSCRIPTION_ID and packet == 3):
            value = found.get(name, ()) + value
        elif name in found:
            raise ProtocolError(f"property {name.name} stands twice", reason_code=0x82)
        found[name] = value
    return found, end


def _encode_property(name: Property, value: PropertyValue) -> bytes:
    head = bytes([name])
    match value:
        case int() if name in _BYTE:
            return head + bytes([value])
        case int() if name in _U16:
            return head + value.to_bytes(2)
        case int() if name in _U32:
            return head + value.to_bytes(4)
        case int():
            return head + encode_varint(value)
        case str():
            return head + encode_text(value)
        case bytes():
            return head + len(value).to_bytes(2) + value
        case _:
            return b"".join(
                head + (encode_varint(item) if isinstance(item, int) else encode_text(item[0]) + encode_text(item[1]))
                for item in value
            )


def _decode_property(data: bytes, at: int, packet: int | None) -> tuple[Property, PropertyValue, int]:
    number, at = decode_varint(data, at)
    try:
        name = Property(number)
    except ValueError:
        raise malformed(f"property {number:#04x} does not exist") from None
    if name not in _ALLOWED.get(packet, ()):
        raise malformed(f"property {name.name} does not belong in this packet")
    value: PropertyValue
    if name in _BYTE or name in _U16 or name in _U32:
        value, at = _read_number(name, data, at)
    elif name in _BINARY:
        value, at = read_binary(data, at)
    elif name is _P.SUBSCRIPTION_ID:
        number, at = decode_varint(data, at)
        value = (number,) if packet == 3 else number
    elif name is _P.USER_PROPERTY:
        left, at = read_text(data, at)
        right, at = read_text(data, at)
        value = ((left, right),)
    else:
        value, at = read_text(data, at)
    if name in _NOT_ZERO and value in (0, (0,)):
        raise ProtocolError(f"property {name.name} is 0", reason_code=0x82)
    return name, value, at


def _read_number(name: Property, data: bytes, at: int) -> tuple[int, int]:
    width = 1 if name in _BYTE else 2 if name in _U16 else 4
    if at + width > len(data):
        raise malformed("a property is cut off")
    value = int.from_bytes(data[at : at + width])
    if width == 1 and value > 1:
        raise ProtocolError(f"property {name.name} is {value}, expected 0 or 1", reason_code=0x82)
    return value, at + width
