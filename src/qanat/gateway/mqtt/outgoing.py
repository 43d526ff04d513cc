"""Messages on their way to a client: as values, as bytes, and the topic aliases that make them shorter. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qanat.gateway.mqtt.packets import V5
from qanat.gateway.mqtt.properties import Property, encode_text, encode_varint

_MAX_ALIASES = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A PUBLISH to a client. `packet_id` is 0 with QoS 0, `subscription` 0 where the client gave no identifier."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False
    subscription: int = 0


class TopicAliases:
    """The topics that a client knows by number, in the order in which they came up; up to what it allows."""

    def __init__(self, maximum: int) -> None:
        self._maximum = min(maximum, _MAX_ALIASES)
        self._numbers: dict[str, int] = {}
        self._new: str | None = None

    def find(self, topic: str) -> tuple[int, bool]:
        """(number, whether the client knows it already); 0 is none. A new one counts from `keep` on."""
        self._new = None
        number = self._numbers.get(topic)
        if number is not None:
            return number, True
        if len(self._numbers) >= self._maximum:
            return 0, False
        self._new = topic
        return len(self._numbers) + 1, False

    def keep(self) -> None:
        """The packet with the topic that was asked for last is sent."""
        if self._new is not None:
            self._numbers[self._new] = len(self._numbers) + 1
            self._new = None


def encode_message(message: Message, version: int, aliases: TopicAliases) -> bytes:
    """The PUBLISH packet."""
    topic = message.topic
    properties = b""
    if version == V5:
        alias, is_known = aliases.find(topic)
        if alias:
            properties = bytes([Property.TOPIC_ALIAS]) + alias.to_bytes(2)
            topic = "" if is_known else topic
        if message.subscription:
            properties += bytes([Property.SUBSCRIPTION_ID]) + encode_varint(message.subscription)
        properties = encode_varint(len(properties)) + properties
    head = _topic_head(topic)
    if message.qos:
        head += message.packet_id.to_bytes(2)
    head += properties
    first = 0x30 | message.dup << 3 | message.qos << 1 | message.retain
    size = len(head) + len(message.payload)
    return b"%c%b%b%b" % (first, encode_varint(size), head, message.payload)


@lru_cache(maxsize=65_536)
def _topic_head(topic: str) -> bytes:
    return encode_text(topic)
