"""Bent MQTT against the server's state machine: `python -m tests.fuzz.mqtt --minutes 5 [--seed 1]`.

Valid streams of packets of both versions are cut, doubled, swapped, stretched and flipped bit by bit. Whatever comes,
no exception leaves the machine, its answers are packets that the client side can read, and how the bytes were cut does
not matter. A finding is printed with its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence

from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_acks
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.machine import Asked, Confirmed, Connection, ConnectRequest, Event, Limits, Released
from qanat.gateway.mqtt.outgoing import Message
from qanat.gateway.mqtt.packets import (
    V3,
    V5,
    Ack,
    Connect,
    Kind,
    Leave,
    Packet,
    Plain,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
    find_frame,
)
from qanat.gateway.mqtt.properties import Property, PropertyValue

LIMITS = Limits(max_packet_bytes=16_384, receive_maximum=20, topic_alias_maximum=4)
TOPICS = ["power", "power/h1", "größe", "a" * 130, "a+b", ""]
TEXTS = ["", "x", "#", "power/+", "$share/g/power", "ü" * 40]


def _properties(chance: random.Random, *names: Property) -> dict[Property, PropertyValue]:
    made: dict[Property, PropertyValue] = {}
    for name in names:
        if chance.random() < 0.3:
            made[name] = _VALUES[name](chance)
    return made


_VALUES: dict[Property, Callable[[random.Random], PropertyValue]] = {
    Property.SESSION_EXPIRY: lambda c: c.choice([0, 1, 2**32 - 1]),
    Property.RECEIVE_MAXIMUM: lambda c: c.choice([1, 3, 65_535]),
    Property.MAXIMUM_PACKET_SIZE: lambda c: c.choice([20, 100, 2**31]),
    Property.TOPIC_ALIAS_MAXIMUM: lambda c: c.choice([0, 1, 9]),
    Property.REQUEST_PROBLEM: lambda c: c.choice([0, 1]),
    Property.TOPIC_ALIAS: lambda c: c.choice([1, 4, 5]),
    Property.CONTENT_TYPE: lambda c: c.choice(TEXTS),
    Property.USER_PROPERTY: lambda c: ((c.choice(TEXTS), "y"),),
    Property.SUBSCRIPTION_ID: lambda c: c.choice([1, 127, 128, 268_435_455]),
    Property.REASON_STRING: lambda c: c.choice(TEXTS),
}


def _packet(chance: random.Random, version: int) -> bytes:
    """Some packet that a client may send, as a rule a correct one."""

    def some(*names: Property) -> dict[Property, PropertyValue]:
        return _properties(chance, *names) if version == V5 else {}

    packet_id = chance.choice([1, 2, 3, 500, 65_535])
    made: Packet
    match chance.randrange(9):
        case 0 | 1:
            return b"".join(
                encode_publish(
                    chance.choice(TOPICS[:4]), chance.randbytes(chance.choice([0, 3, 200])), qos, n + 1, version
                )
                for n, qos in enumerate([chance.randrange(3)] * chance.randrange(1, 9))
            )
        case 2:
            qos = chance.randrange(3)
            given = some(Property.TOPIC_ALIAS, Property.CONTENT_TYPE, Property.USER_PROPERTY)
            made = Publish(
                chance.choice(TOPICS), b"{}", qos, packet_id if qos else 0, chance.random() < 0.3, False, given
            )
        case 3:
            kinds = [Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP]
            return encode_acks(chance.choice(kinds), [packet_id] * chance.randrange(1, 5))
        case 4:
            kind = chance.choice([Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP])
            reason = chance.choice([0, 0x10, 0x92, 0x97]) if version == V5 else 0
            made = Ack(kind, packet_id, reason, some(Property.REASON_STRING))
        case 5:
            filters = tuple((one, chance.randrange(3)) for one in chance.sample(TEXTS, chance.randrange(1, 4)))
            made = Subscribe(packet_id, filters, some(Property.SUBSCRIPTION_ID, Property.USER_PROPERTY))
        case 6:
            made = Unsubscribe(packet_id, tuple(chance.sample(TEXTS, 2)), some(Property.USER_PROPERTY))
        case 7:
            made = Plain(Kind.PINGREQ)
        case _:
            given = some(Property.SESSION_EXPIRY, Property.REASON_STRING)
            made = Leave(Kind.DISCONNECT, chance.choice([0, 4]) if version == V5 else 0, given)
    return encode(made, version)


def conversation(chance: random.Random, version: int) -> list[bytes]:
    """CONNECT and what may follow it, packet by packet."""
    given = _properties(
        chance, Property.SESSION_EXPIRY, Property.RECEIVE_MAXIMUM, Property.MAXIMUM_PACKET_SIZE,
        Property.TOPIC_ALIAS_MAXIMUM, Property.REQUEST_PROBLEM, Property.USER_PROPERTY,
    )  # fmt: skip
    will = Will(chance.choice(TOPICS[:4]), b"gone", chance.randrange(3)) if chance.random() < 0.3 else None
    user = chance.choice([None, "h1"])
    hello = Connect(
        "d1", version, chance.random() < 0.5, chance.choice([0, 10]), user, b"s" if user else None, will,
        given if version == V5 else {},
    )  # fmt: skip
    return [encode(hello, version), *(_packet(chance, version) for _ in range(chance.randrange(12)))]


def bend(chance: random.Random, packets: list[bytes]) -> bytes:
    """The packets as bytes, with faults; one time in five without."""
    packets = list(packets)
    if chance.random() < 0.3 and len(packets) > 2:
        one, other = chance.randrange(len(packets)), chance.randrange(len(packets))
        packets[one], packets[other] = packets[other], packets[one]
    if chance.random() < 0.3:
        packets.insert(chance.randrange(len(packets) + 1), chance.choice(packets))
    data = bytearray(b"".join(packets))
    for _ in range(chance.choice([0, 1, 1, 2, 6])):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice([0, 0x7F, 0x80, 0xFF])
            case 2:
                del data[at : at + chance.randrange(1, 6)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 6))
            case _:
                del data[at:]
        if not data:
            break
    return bytes(data)


def feed(data: bytes, cuts: Sequence[int], answer: bool) -> tuple[list[object], Connection, bytes]:
    """What the machine makes of the bytes in these pieces; with `answer`, everything is answered as a server would."""
    machine, seen, said, at = Connection(LIMITS, 0), list[object](), [b""], 0
    for size in [*cuts, len(data)]:
        piece, at = data[at : at + size], at + size
        if piece:
            _take(machine, machine.feed_bytes(piece, 0), seen, answer)
            said.append(machine.get_outbound_data())
    return seen, machine, b"".join(said)


def _take(machine: Connection, events: Sequence[Event], seen: list[object], answer: bool) -> None:
    for event in events:
        match event:
            case ConnectRequest():
                seen.append(event)
                _take(machine, machine.accept("d1", 0, is_known=True, expiry=5), seen, answer)
            case Published(topic, qos, payloads, ids):
                numbers = ids or [0] * len(payloads)
                given = tuple(event.properties.items())
                seen += [(topic, qos, one, number, given) for one, number in zip(payloads, numbers, strict=True)]
                if answer and qos == 1:
                    machine.ack(ids, None if len(ids) % 2 else "stored in dead_letters")
                elif answer and qos == 2:
                    machine.received(ids)
            case Released(ids):
                seen += [(Kind.PUBREL, one) for one in ids]
                if answer:
                    machine.complete(ids)
            case Confirmed(kind, ids, reason):
                seen += [(kind, one, reason) for one in ids]
                if answer:
                    machine.release(ids)
            case Asked(packet):
                seen.append(event)
                if answer:
                    machine.answer(packet, [0] * len(packet.filters), "as you like")
                    machine.deliver(Message("power", b"{}", 1, 9, subscription=3))


def check(seed: int) -> None:
    """One case. Raises `AssertionError`, or whatever the machine should not have raised."""
    chance = random.Random(seed)
    version = chance.choice([V3, V5])
    data = bend(chance, conversation(chance, version))
    whole, machine, said = feed(data, [], answer=False)
    cuts = [chance.randrange(1, 40) for _ in range(chance.randrange(1, 60))]
    pieces, other, also_said = feed(data, cuts, answer=False)
    assert pieces == whole, "the events depend on how the bytes were cut"
    assert also_said == said, "the answers depend on how the bytes were cut"
    assert (other.closed, other.will, other.in_flight) == (machine.closed, machine.will, machine.in_flight)
    _, answered, said = feed(data, cuts, answer=True)
    assert answered.in_flight >= 0
    at = 0
    while at < len(said):
        frame = find_frame(said, at)
        assert frame is not None, "what the server says is cut off"
        assert frame.end <= len(said), "what the server says is cut off"
        decode(said, frame, answered.version)
        at = frame.end
    assert answered.closed is None or not answered.feed_bytes(b"\xc0\x00", 0), "events after the end"


def run(seconds: float, seed: int) -> int:
    """Cases until the time is over; returns how many. The first finding is raised."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            check(seed + count)
        except Exception:
            print(f"found with seed {seed + count}", file=sys.stderr)
            raise
        count += 1
    return count


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 40))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    print(f"{run(given.minutes * 60, given.seed):,} streams, nothing found")


if __name__ == "__main__":
    main()
