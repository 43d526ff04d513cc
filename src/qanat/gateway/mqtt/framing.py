"""The hot path of MQTT: runs of PUBLISH packets in one receive buffer -> lists of payloads.

Pure. It takes only what is plain: not retained, shorter than 16 KiB, without MQTT 5 properties. At anything else it
stops, and the caller decodes that one packet with `decoding.decode`, which also finds every fault. Devices repeat their
topic, so one comparison of bytes (`startswith`) replaces decoding it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qanat.gateway.mqtt.packets import V5, check_topic
from qanat.gateway.mqtt.properties import Properties, to_text

_QOS0, _QOS1 = 0x30, 0x32
#: First byte -> QoS, for what is not retained; with QoS 1 and 2 it may be a repeat.
_PLAIN = {_QOS0: 0, _QOS1: 1, 0x3A: 1, 0x34: 2, 0x3C: 2}
#: How many topics one connection's cache holds before it starts anew.
_MAX_TOPICS = 1024
_ACKS = (b"\x40\x02", b"\x50\x02", b"\x62\x02", b"\x70\x02")


@dataclass(slots=True)
class Published:
    """Consecutive messages of one connection with the same topic and QoS, in the order sent.

    `packet_ids` has one id per payload with QoS 1 and 2 and is empty with QoS 0. A message with MQTT 5 properties
    stands alone.
    """

    topic: str
    qos: int
    payloads: list[bytes]
    packet_ids: list[int]
    properties: Properties = field(default_factory=dict)


def publish_runs(data: bytes, at: int, version: int, topics: dict[bytes, str], runs: list[Published]) -> int:
    """Adds the runs of plain PUBLISH packets from `at` on to `runs`; returns the place of the first byte not taken.

    `topics` caches checked topic names for the connection. Raises `ProtocolError` for a topic that is not allowed.
    The loop is long and flat because it runs once per message: about 0.25 us each.
    """
    end = len(data)
    v5 = version == V5
    run_first, prefix, width, extra = -1, b"", 0, 0
    payloads: list[bytes] = []
    ids: list[int] = []
    while at + 1 < end:
        first = data[at]
        size = data[at + 1]
        body = at + 2
        if size > 127:
            if body >= end or data[body] > 127:
                break
            size += (data[body] << 7) - 128
            body += 1
        stop = body + size
        if stop > end:
            break
        if first != run_first or not data.startswith(prefix, body):
            if first not in _PLAIN or size < 3:
                break
            width = 2 + (data[body] << 8 | data[body + 1])
            if width == 2 or width > size:
                break
            run_first, prefix = first, data[body : body + width]
            extra = (2 if first != _QOS0 else 0) + v5
            payloads, ids = [], []
            runs.append(Published(_topic(prefix[2:], topics), _PLAIN[first], payloads, ids))
        start = body + width + extra
        if start > stop or (v5 and data[start - 1]):
            break
        if first != _QOS0:
            packet_id = data[start - extra] << 8 | data[start - extra + 1]
            if not packet_id:
                break
            ids.append(packet_id)
        payloads.append(data[start:stop])
        at = stop
    if runs and not runs[-1].payloads:
        runs.pop()
    return at


def lone_publish(data: bytes, version: int, topics: dict[bytes, str]) -> tuple[str, int, bytes] | None:
    """(topic, packet id, payload), where `data` is nothing but one plain PUBLISH with QoS 0 or 1 on a known topic.

    The packet id is 0 with QoS 0. This is what 10,000 devices that each send now and then look like, at a third of the
    cost of `publish_runs`; everything else is None, faults too.
    """
    end = len(data)
    if end < 5:
        return None
    first, size, body = data[0], data[1], 2
    if size > 127:
        if data[2] > 127:
            return None
        size += (data[2] << 7) - 128
        body = 3
    if body + size != end:
        return None
    name = body + 2
    after = name + (data[body] << 8 | data[body + 1])
    topic = topics.get(data[name:after])
    packet_id = 0
    start = after
    if first == _QOS1:
        start += 2
        if start <= end:
            packet_id = data[after] << 8 | data[after + 1]
        if not packet_id:
            return None
    elif first != _QOS0:
        return None
    if version == V5:
        start += 1
        if start > end or data[start - 1]:
            return None
    if topic is None or start > end:
        return None
    return topic, packet_id, data[start:]


def ack_runs(data: bytes, at: int) -> tuple[int, list[int], int]:
    """(first byte, packet ids, place after them) of a run of plain acknowledgements of one kind; no ids: none is there.

    The kinds are PUBACK, PUBREC, PUBREL and PUBCOMP, two bytes long: success, in both versions.
    """
    head = data[at : at + 2]
    ids: list[int] = []
    if head in _ACKS:
        end = len(data) - 3
        while at < end and data.startswith(head, at):
            packet_id = data[at + 2] << 8 | data[at + 3]
            if not packet_id:
                break
            ids.append(packet_id)
            at += 4
    return head[0] if head else 0, ids, at


def _topic(raw: bytes, topics: dict[bytes, str]) -> str:
    topic = topics.get(raw)
    if topic is None:
        topic = check_topic(to_text(raw))
        if len(topics) >= _MAX_TOPICS:
            topics.clear()
        topics[raw] = topic
    return topic
