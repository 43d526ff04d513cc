"""MQTT packets: round trip, every truncated prefix, garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import Acked, Device, encode_connect, encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_pubacks
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
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
    find_frame,
)
from qanat.gateway.mqtt.properties import Property

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TOPIC = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
DATA = st.binary(max_size=300)
ID = st.integers(1, 0xFFFF)
USER = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple)


def properties(**strategies: st.SearchStrategy[object]) -> st.SearchStrategy[dict[Property, object]]:
    return st.fixed_dictionaries({}, optional={Property[name]: value for name, value in strategies.items()})


MESSAGE = properties(
    PAYLOAD_FORMAT=st.integers(0, 1), MESSAGE_EXPIRY=st.integers(0, 2**32 - 1), CONTENT_TYPE=TEXT, RESPONSE_TOPIC=TEXT,
    CORRELATION_DATA=DATA, USER_PROPERTY=USER,
)  # fmt: skip
ACK = properties(REASON_STRING=TEXT, USER_PROPERTY=USER)
CONNECT = properties(
    SESSION_EXPIRY=st.integers(0, 2**32 - 1), RECEIVE_MAXIMUM=ID, MAXIMUM_PACKET_SIZE=st.integers(1, 2**32 - 1),
    TOPIC_ALIAS_MAXIMUM=ID, REQUEST_PROBLEM=st.integers(0, 1), USER_PROPERTY=USER, AUTH_METHOD=TEXT, AUTH_DATA=DATA,
)  # fmt: skip
CONNACK = properties(
    ASSIGNED_CLIENT_ID=TEXT, RECEIVE_MAXIMUM=ID, MAXIMUM_QOS=st.just(1), RETAIN_AVAILABLE=st.just(0),
    SERVER_KEEP_ALIVE=ID, REASON_STRING=TEXT, SHARED_AVAILABLE=st.just(0),
)  # fmt: skip


@st.composite
def packets(draw: st.DrawFn) -> tuple[int, Packet]:
    version = draw(st.sampled_from([V3, V5]))

    def some(strategy: st.SearchStrategy[dict[Property, object]]) -> dict[Property, object]:
        return draw(strategy) if version == V5 else {}

    kind = draw(st.sampled_from(["connect", "connack", "publish", "ack", "subscribe", "unsubscribe", "suback", "rest"]))
    reason = draw(st.integers(0, 255)) if version == V5 else 0
    match kind:
        case "connect":
            qos, retain = draw(st.integers(0, 2)), draw(st.booleans())
            will = Will(draw(TOPIC), draw(DATA), qos, retain, some(MESSAGE)) if draw(st.booleans()) else None
            user = draw(st.none() | TEXT)
            password = draw(st.none() | DATA) if user is not None or version == V5 else None
            clean, keep_alive = draw(st.booleans()), draw(st.integers(0, 0xFFFF))
            return version, Connect(draw(TEXT), version, clean, keep_alive, user, password, will, some(CONNECT))
        case "connack":
            return version, Connack(draw(st.integers(0, 255)), draw(st.booleans()), some(CONNACK))
        case "publish":
            qos = draw(st.integers(0, 2))
            flags = {"retain": draw(st.booleans()), "dup": bool(qos) and draw(st.booleans())}
            return version, Publish(
                draw(TOPIC), draw(DATA), qos, draw(ID) if qos else 0, properties=some(MESSAGE), **flags
            )
        case "ack":
            acks = [Kind.PUBACK, Kind.PUBREC, Kind.PUBREL, Kind.PUBCOMP]
            return version, Ack(draw(st.sampled_from(acks)), draw(ID), reason, some(ACK))
        case "subscribe":
            filters = draw(st.lists(st.tuples(TEXT, st.integers(0, 2)), min_size=1, max_size=4))
            return version, Subscribe(
                draw(ID), tuple(filters), some(properties(SUBSCRIPTION_ID=ID, USER_PROPERTY=USER))
            )
        case "unsubscribe":
            return version, Unsubscribe(
                draw(ID), tuple(draw(st.lists(TEXT, min_size=1, max_size=4))), some(properties(USER_PROPERTY=USER))
            )
        case "suback":
            reasons = tuple(draw(st.lists(st.integers(0, 255), max_size=4)))
            return version, Suback(draw(st.sampled_from([Kind.SUBACK, Kind.UNSUBACK])), draw(ID), reasons, some(ACK))
        case _:
            leave = Leave(Kind.DISCONNECT, reason, some(ACK))
            return version, draw(st.sampled_from([leave, Plain(Kind.PINGREQ), Plain(Kind.PINGRESP)]))


def whole(data: bytes, version: int) -> Packet:
    frame = find_frame(data, 0)
    assert frame is not None
    return decode(data, frame, version)


def fault_of(data: bytes, frame: Frame, version: int) -> int | str | None:
    try:
        decode(data, frame, version)
    except ProtocolError as error:
        return "no reason code" if error.reason_code is None else error.reason_code
    return None


@given(packets())
def test_what_is_encoded_decodes_to_the_same(case: tuple[int, Packet]) -> None:
    version, packet = case
    assert whole(encode(packet, version), version) == packet


@given(packets())
def test_every_prefix_of_a_packet_is_incomplete_and_every_shortened_body_fails_as_a_protocol_error(
    case: tuple[int, Packet],
) -> None:
    version, packet = case
    data = encode(packet, version)
    full = find_frame(data, 0)
    assert full is not None
    for cut in range(len(data)):
        frame = find_frame(data[:cut], 0)
        assert frame is None or frame.end > cut
    for cut in range(full.body, len(data)):
        # a shorter body may be another valid packet (a payload cut short); it never raises anything else
        assert fault_of(data[:cut], Frame(full.first, full.body, cut), version) != "no reason code"


@given(st.binary(max_size=200), st.sampled_from([V3, V5]))
def test_garbage_decodes_or_is_a_protocol_error(data: bytes, version: int) -> None:
    try:
        frame = find_frame(data, 0)
    except ProtocolError:
        return
    if frame is not None and frame.end <= len(data):
        assert fault_of(data, frame, version) != "no reason code"


@given(st.integers(1, 15), st.integers(0, 15), st.binary(max_size=60), st.sampled_from([V3, V5]))
def test_garbage_in_a_frame_decodes_or_is_a_protocol_error(kind: int, flags: int, body: bytes, version: int) -> None:
    data = bytes([kind << 4 | flags, len(body)]) + body
    assert fault_of(data, Frame(kind << 4 | flags, 2, len(data)), version) != "no reason code"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x00", 0x81),  # type 0
        (b"\x30\xff\xff\xff\xff\x01", 0x81),  # five length bytes
        (b"\x36\x05\x00\x01a\x00\x01", 0x81),  # QoS 3
        (b"\x38\x03\x00\x01a", 0x81),  # duplicate with QoS 0
        (b"\x32\x05\x00\x01a\x00\x00", 0x81),  # packet id 0
        (b"\x30\x04\x00\x02\xff\xfe", 0x81),  # not UTF-8
        (b"\x30\x03\x00\x01\x00", 0x81),  # NUL
        (b"\x82\x02\x00\x01", 0x82),  # SUBSCRIBE without a filter
        (b"\x80\x02\x00\x01", 0x81),  # SUBSCRIBE with wrong flags
        (b"\xc0\x01\x00", 0x81),  # PINGREQ with a body
        (b"\xf0\x00", 0x81),  # AUTH in 3.1.1
        (b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x00", 0x84),  # MQTT 3.1
    ],
)
def test_faults_have_their_reason_code(data: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        whole(data, V3)
    assert caught.value.reason_code == code


@given(TOPIC, DATA, st.integers(0, 1), ID, st.sampled_from([V3, V5]))
def test_the_quick_publish_encoder_agrees_with_the_codec(
    topic: str, payload: bytes, qos: int, packet_id: int, version: int
) -> None:
    packet = Publish(topic, payload, qos, packet_id if qos else 0)
    assert encode_publish(topic, payload, qos, packet_id, version) == encode(packet, version)


def test_connect_of_a_device() -> None:
    packet = whole(encode_connect("d1", version=V5, username="u", password="p", keep_alive=30), V5)
    assert packet == Connect("d1", V5, True, 30, "u", b"p")


@given(st.lists(ID, min_size=1, max_size=20), st.integers(1, 7))
def test_a_device_hears_acknowledgements_however_the_bytes_are_cut(ids: list[int], step: int) -> None:
    device = Device("d", version=V5)
    refused = encode(Ack(Kind.PUBACK, 7, 0x97), V5)
    data = encode(Connack(), V5) + encode_pubacks(ids) + refused + encode(Leave(Kind.DISCONNECT, 0x8B), V5)
    events = [event for at in range(0, len(data), step) for event in device.feed(data[at : at + step])]
    assert events[0] == Connack()
    assert [i for event in events if isinstance(event, Acked) and not event.reason for i in event.packet_ids] == ids
    assert events[-2:] == [Acked((7,), 0x97, {}), Leave(Kind.DISCONNECT, 0x8B)]


def test_a_device_keeps_what_is_not_acknowledged_and_skips_ids_in_flight() -> None:
    device = Device("d")
    for _ in range(65_535):
        device.publish("power", b"x", qos=1)
    with pytest.raises(ProtocolError, match="in flight"):
        device.publish("power", b"x", qos=1)
    device.feed(encode_pubacks([500]))
    assert 500 not in device.unacked
    device.publish("power", b"y", qos=1)
    assert device.unacked[500] == ("power", b"y")
