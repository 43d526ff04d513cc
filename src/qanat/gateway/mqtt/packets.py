"""MQTT 3.1.1 and 5 control packets as values, and where they lie in a buffer.

Pure. `encoding.py` and `decoding.py` turn them into bytes and back; what may follow what is known to `machine.py` and
`device.py`. Runs of PUBLISH, the hot path, never become these values: see `framing.py`.

Sources: OASIS MQTT 3.1.1 (2014) and MQTT 5.0 (2019), chapters 2 and 3.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.properties import Properties, malformed

#: Protocol levels of CONNECT.
V3 = 4
V5 = 5
#: The largest remaining length that four bytes can say.
MAX_REMAINING = 268_435_455


class Kind(enum.IntEnum):
    """The packet type: the upper four bits of the first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Reason(enum.IntEnum):
    """MQTT 5 reason codes that qanat sends or understands by name."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION = 0x83
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_INVALID = 0x85
    BAD_CREDENTIALS = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SHUTTING_DOWN = 0x8B
    BAD_AUTH_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    FILTER_INVALID = 0x8F
    TOPIC_INVALID = 0x90
    PACKET_ID_UNKNOWN = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE = 0x98
    RETAIN_UNSUPPORTED = 0x9A
    QOS_UNSUPPORTED = 0x9B
    SHARED_UNSUPPORTED = 0x9E


#: CONNACK return codes of 3.1.1 for the reasons that it can name; everything else is "server unavailable".
V3_RETURN: Mapping[int, int] = {
    Reason.SUCCESS: 0,
    Reason.UNSUPPORTED_VERSION: 1,
    Reason.CLIENT_ID_INVALID: 2,
    Reason.BAD_CREDENTIALS: 4,
    Reason.NOT_AUTHORIZED: 5,
    Reason.BAD_AUTH_METHOD: 5,
}
V3_UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class Will:
    """What the server publishes for a client that goes without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connect:
    """`keep_alive` in seconds, 0 = none. `clean`: clean session (3.1.1), clean start (5)."""

    client_id: str
    version: int = V3
    clean: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connack:
    """`reason` is a return code (3.1.1: 0-5) or a reason code (5)."""

    reason: int = 0
    session_present: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publish:
    """`packet_id` is 0 with QoS 0. `topic` may be empty in MQTT 5 where the properties hold an alias."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: Kind
    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """`filters`: (topic filter, options byte; in 3.1.1 the QoS)."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The topic filters to drop."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suback:
    """SUBACK, or UNSUBACK where `kind` says so: one reason per filter (3.1.1 UNSUBACK: none)."""

    kind: Kind
    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plain:
    """PINGREQ, PINGRESP: no content."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Leave:
    """DISCONNECT or AUTH (only in MQTT 5 with content)."""

    kind: Kind
    reason: int = 0
    properties: Properties = field(default_factory=dict)


Packet = Connect | Connack | Publish | Ack | Subscribe | Unsubscribe | Suback | Plain | Leave


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a packet lies in a buffer: its first byte, and the place of what follows the fixed header."""

    first: int
    body: int
    end: int


def find_frame(data: bytes, start: int) -> Frame | None:
    """The frame at `start`, or None where its header is incomplete. `end` may lie beyond the buffer.

    Raises `ProtocolError` for a remaining length of more than four bytes.
    """
    size, shift = 0, 0
    for place in range(start + 1, min(start + 5, len(data))):
        byte = data[place]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return Frame(data[start], place + 1, place + 1 + size)
        shift += 7
    if len(data) - start >= 5:
        raise malformed("the remaining length has more than four bytes")
    return None


def check_topic(topic: str) -> str:
    """The topic name itself; raises `ProtocolError` for an empty one and one with wildcards."""
    if not topic or "+" in topic or "#" in topic:
        raise ProtocolError(
            f"the topic name {topic!r} is empty or has wildcards",
            reason_code=Reason.TOPIC_INVALID,
            hint="publish to NAME or NAME/..., where NAME is a stream",
        )
    return topic
