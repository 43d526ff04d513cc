"""The server's state machine: however the bytes are cut, whatever the peer does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import GOODBYE, PING, encode_connect, encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_acks
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.machine import Asked, Confirmed, Connection, ConnectRequest, Limits, Released
from qanat.gateway.mqtt.outgoing import Message
from qanat.gateway.mqtt.packets import (
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
    Will,
    find_frame,
)
from qanat.gateway.mqtt.properties import Property

BOTH = pytest.mark.parametrize("version", [V3, V5])
TOPICS = st.sampled_from(["power", "power/1", "device_state", "größe", "p" * 200])


def packets_of(data: bytes, version: int) -> list[Packet]:
    at, found = 0, []
    while at < len(data):
        frame = find_frame(data, at)
        assert frame is not None
        found.append(decode(data, frame, version))
        at = frame.end
    return found


def opened(version: int = V3, limits: Limits | None = None, **connect: object) -> Connection:
    machine = Connection(limits or Limits(), 0)
    packet = Connect("d1", version, **connect)  # type: ignore[arg-type]
    (event,) = machine.feed_bytes(encode(packet, version), 0)
    assert event == ConnectRequest(packet)
    machine.accept("d1", 0)
    machine.get_outbound_data()
    return machine


def told(machine: Connection) -> list[Packet]:
    return packets_of(machine.get_outbound_data(), machine.version)


Flat = list[tuple[str, int, bytes, int]]


def flat(events: list[object]) -> Flat:
    out: Flat = []
    for run in events:
        assert isinstance(run, Published)
        assert len(run.packet_ids) == (len(run.payloads) if run.qos else 0)
        ids = run.packet_ids or [0] * len(run.payloads)
        out += [(run.topic, run.qos, payload, i) for payload, i in zip(run.payloads, ids, strict=True)]
    return out


messages = st.lists(
    st.builds(
        lambda topic, payload, qos, packet_id, plain: Publish(
            topic, payload, qos, packet_id if qos else 0, properties={} if plain else {Property.CONTENT_TYPE: "json"}
        ),
        TOPICS,
        st.binary(max_size=20) | st.binary(min_size=110, max_size=140) | st.integers(16_370, 16_400).map(bytes),
        st.integers(0, 2),
        st.integers(1, 65_535),
        st.booleans(),
    ),
    max_size=12,
)


@given(messages, st.sampled_from([V3, V5]), st.lists(st.integers(1, 20_000), max_size=30))
def test_messages_do_not_depend_on_how_the_bytes_are_cut(sent: list[Publish], version: int, cuts: list[int]) -> None:
    data = b"".join(encode(packet, version) for packet in sent)
    machine, at, events = opened(version), 0, []
    for size in [*cuts, len(data)]:
        events += machine.feed_bytes(data[at : at + size], 0)
        at += size
    assert flat(events) == [(p.topic, p.qos, p.payload, p.packet_id) for p in sent]
    assert machine.closed is None
    assert machine.in_flight == sum(p.qos == 1 for p in sent) + len({p.packet_id for p in sent if p.qos == 2})


@given(
    messages.filter(bool),
    st.sampled_from([V3, V5]),
    st.just([]) | st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    st.sampled_from([0, 0, 0, 1, 2, 3, -1]),
    st.sampled_from([1, 1, 1, 2]),
)
def test_a_message_that_stands_alone_is_what_it_is_among_others(
    sent: list[Publish], version: int, damage: list[tuple[int, int]], cut: int, count: int
) -> None:
    short, long = opened(version, keep_alive=10), opened(version, keep_alive=10)
    known = b"".join(encode_publish(packet.topic, b"x", version=version) for packet in sent)
    for machine in (short, long):
        machine.feed_bytes(known, 1)
    data = bytearray(b"".join(encode(packet, version) for packet in sent[:count]))
    data = data[: len(data) - cut] if cut > 0 else data + bytes(-cut)
    for place, byte in damage:
        data[place % len(data)] = byte
    deadline = short.deadline
    message = short.feed_lone(bytes(data), 2)
    if message is None:
        assert (short.in_flight, short.deadline) == (0, deadline)
        assert short.feed_bytes(bytes(data), 2) == long.feed_bytes(bytes(data), 2)
    else:
        topic, packet_id, payload = message
        assert flat(long.feed_bytes(bytes(data), 2)) == [(topic, 1 if packet_id else 0, payload, packet_id)]
    assert (short.in_flight, short.deadline, short.closed) == (long.in_flight, long.deadline, long.closed)


@BOTH
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 60, 200])
def test_plain_messages_alone_on_a_known_topic_take_the_short_way(version: int, qos: int, size: int) -> None:
    machine = opened(version)
    data = encode_publish("power", b"x" * size, qos, 7, version)
    assert machine.feed_lone(data, 0) is None
    machine.feed_bytes(data, 0)
    assert machine.feed_lone(data, 0) == ("power", 7 * qos, b"x" * size)
    assert machine.feed_lone(data[:-1], 0) is None
    assert machine.feed_lone(data + data, 0) is None
    assert machine.feed_lone(b"\x30\x07\x00\x06power", 0) is None  # the topic goes on beyond the end
    assert machine.feed_lone(b"\x32\x0a\x00\x05power\x00\x00\x00", 0) is None  # packet id 0
    if qos:
        machine.ack_lone(7)
        assert told(machine) == [Ack(Kind.PUBACK, 7)]
        assert machine.in_flight == 1


@BOTH
def test_one_buffer_of_one_topic_is_one_run(version: int) -> None:
    data = b"".join(encode_publish("power", b"%d" % i, version=version) for i in range(500))
    (run,) = opened(version).feed_bytes(data, 0)
    assert isinstance(run, Published)
    assert run.payloads == [b"%d" % i for i in range(500)]


@BOTH
def test_byte_by_byte_from_connect_to_goodbye(version: int) -> None:
    data = encode_connect("d1", version=version) + encode_publish("power", b"{}", 1, 7, version) + PING + GOODBYE
    machine, events = Connection(Limits(), 0), []
    for byte in data:
        for event in machine.feed_bytes(bytes([byte]), 0):
            events += machine.accept("d1", 0) if isinstance(event, ConnectRequest) else [event]
    assert flat(events) == [("power", 1, b"{}", 7)]
    assert machine.closed is not None
    assert machine.closed.clean
    assert [type(p) for p in told(machine)] == [Connack, Plain]


@given(st.binary(max_size=300), st.sampled_from([V3, V5]), st.booleans())
def test_garbage_never_raises(data: bytes, version: int, connected: bool) -> None:
    machine = opened(version) if connected else Connection(Limits(), 0)
    machine.feed_bytes(data, 0)
    machine.feed_bytes(data, 0)


@given(st.integers(1, 15), st.integers(0, 15), st.binary(max_size=60), st.sampled_from([V3, V5]))
def test_garbage_in_a_frame_never_raises(kind: int, flags: int, body: bytes, version: int) -> None:
    machine = opened(version)
    machine.feed_bytes(bytes([kind << 4 | flags, len(body)]) + body, 0)
    if machine.closed is not None and version == V5:
        sent = told(machine)
        assert not sent or isinstance(sent[-1], Leave) or machine.closed.clean


@BOTH
def test_what_came_before_a_fault_is_still_taken(version: int) -> None:
    machine = opened(version)
    good = encode_publish("power", b"1", version=version)
    events = machine.feed_bytes(good + encode_publish("po+er", b"2", version=version), 0)
    assert flat(events) == [("power", 0, b"1", 0)]
    assert machine.closed is not None
    assert machine.closed.reason == Reason.TOPIC_INVALID


@BOTH
@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Leave(Kind.AUTH, 0x18), Reason.BAD_AUTH_METHOD),
        (Publish("power", b"x", properties={Property.SUBSCRIPTION_ID: (1,)}), Reason.PROTOCOL_ERROR),
        (Connect("again"), Reason.PROTOCOL_ERROR),
        (Suback(Kind.SUBACK, 1, (0,)), Reason.PROTOCOL_ERROR),
        (Plain(Kind.PINGRESP), Reason.PROTOCOL_ERROR),
        (Publish("power", bytes(20_000), 0), Reason.TOO_LARGE),
    ],
)
def test_faults_close_the_connection_and_version_5_hears_why(version: int, packet: Packet, reason: Reason) -> None:
    machine = opened(version, Limits(max_packet_bytes=16_384))
    if version == V3 and reason == Reason.BAD_AUTH_METHOD:
        reason = Reason.MALFORMED  # no such packet in 3.1.1
    if version == V3 and getattr(packet, "properties", None):
        return  # nor such a property
    machine.feed_bytes(encode(packet, version), 0)
    assert machine.closed is not None
    assert machine.closed.reason == reason
    sent = told(machine)
    if version == V5:
        (leave,) = sent
        assert isinstance(leave, Leave)
        assert leave.reason == reason
        assert leave.properties[Property.REASON_STRING]
    else:
        assert sent == []


def test_an_oversized_packet_is_refused_by_its_header_alone() -> None:
    machine = opened(V5)
    machine.feed_bytes(b"\x30\xff\xff\xff\x7f", 0)
    assert machine.closed is not None
    assert machine.closed.reason == Reason.TOO_LARGE


@BOTH
def test_retained_messages_are_messages_like_any_other(version: int) -> None:
    sent = encode(Publish("power", b"x", retain=True), version)
    assert flat(opened(version).feed_bytes(sent, 0)) == [("power", 0, b"x", 0)]


def test_connack_states_the_terms_of_version_5() -> None:
    machine = Connection(Limits(receive_maximum=7), 0)
    machine.feed_bytes(encode(Connect("", V5, properties={Property.SESSION_EXPIRY: 60}), V5), 0)
    machine.accept("auto-1", 0, expiry=30)
    (connack,) = told(machine)
    assert isinstance(connack, Connack)
    assert connack.properties[Property.RECEIVE_MAXIMUM] == 7
    assert connack.properties[Property.ASSIGNED_CLIENT_ID] == "auto-1"
    assert connack.properties[Property.SESSION_EXPIRY] == 30
    assert connack.properties[Property.SHARED_AVAILABLE] == 0
    absent = (Property.RETAIN_AVAILABLE, Property.WILDCARD_AVAILABLE, Property.MAXIMUM_QOS, Property.SERVER_KEEP_ALIVE)
    assert not set(absent) & set(connack.properties)  # which means: available, and QoS 2


def test_a_longer_keep_alive_than_ours_is_replaced_where_the_client_can_be_told() -> None:
    for version, asked, holds in ((V5, 0, 60), (V5, 100, 60), (V5, 30, 30), (V3, 100, 100), (V3, 0, 0)):
        machine = Connection(Limits(keep_alive_maximum_s=60), 0)
        machine.feed_bytes(encode(Connect("d", version, keep_alive=asked), version), 0)
        machine.accept("d", 0)
        (connack,) = told(machine)
        assert isinstance(connack, Connack)
        assert connack.properties.get(Property.SERVER_KEEP_ALIVE) == (holds if holds != asked else None)
        assert machine.deadline == (holds * 1500 or None)


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"\x10\x0d\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", b"\x20\x02\x00\x01"),  # MQTT 3.1
        (b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00", b"\x20\x02\x00\x01"),  # level 6
        (encode(Connect("", V3, clean=False), V3), b"\x20\x02\x00\x02"),  # no id to find the session by
        (encode_publish("power", b"x"), b""),  # not CONNECT
        (b"\x10\x80\x80\x80\x01", b""),  # 2 MiB before anybody is known
    ],
)
def test_connects_that_are_refused(data: bytes, reply: bytes) -> None:
    machine = Connection(Limits(), 0)
    assert machine.feed_bytes(data, 0) == []
    assert machine.closed is not None
    assert machine.get_outbound_data() == reply


@pytest.mark.parametrize(
    ("connect", "reason"),
    [
        (Connect("d", V5, properties={Property.AUTH_METHOD: "SCRAM"}), Reason.BAD_AUTH_METHOD),
    ],
)
def test_connects_of_version_5_that_ask_for_too_much(connect: Connect, reason: Reason) -> None:
    machine = Connection(Limits(), 0)
    assert machine.feed_bytes(encode(connect, V5), 0) == []
    (connack,) = packets_of(machine.get_outbound_data(), V5)
    assert isinstance(connack, Connack)
    assert connack.reason == reason


def test_a_refusal_has_the_code_of_its_version() -> None:
    for version, code in ((V3, 4), (V5, 0x86)):
        machine = Connection(Limits(), 0)
        machine.feed_bytes(encode_connect("d", version=version), 0)
        machine.refuse(Reason.BAD_CREDENTIALS, "wrong password")
        (connack,) = packets_of(machine.get_outbound_data(), version)
        assert isinstance(connack, Connack)
        assert connack.reason == code


def test_what_follows_connect_waits_for_the_verdict_on_it() -> None:
    machine = Connection(Limits(), 0)
    first = machine.feed_bytes(encode_connect("d") + encode_publish("power", b"1"), 0)
    assert len(first) == 1
    assert machine.feed_bytes(encode_publish("power", b"2"), 0) == []
    assert flat(machine.accept("d", 0)) == [("power", 0, b"1", 0), ("power", 0, b"2", 0)]


@BOTH
def test_subscriptions_are_asked_for_and_answered(version: int) -> None:
    machine = opened(version)
    wanted, unwanted = Subscribe(3, (("a", 0), ("b", 1))), Unsubscribe(4, ("a",))
    events = machine.feed_bytes(encode(wanted, version) + encode(unwanted, version), 0)
    assert events == [Asked(wanted), Asked(unwanted)]
    machine.answer(wanted, [1, 0x8F], "no stream 'b'")
    machine.answer(unwanted, [0x11])
    suback, unsuback = told(machine)
    assert isinstance(suback, Suback)
    assert isinstance(unsuback, Suback)
    assert (suback.packet_id, suback.reasons) == (3, (1, 0x80) if version == V3 else (1, 0x8F))
    assert suback.properties == ({} if version == V3 else {Property.REASON_STRING: "no stream 'b'"})
    assert (unsuback.packet_id, unsuback.reasons) == (4, () if version == V3 else (0x11,))


@BOTH
def test_the_four_steps_of_qos_2(version: int) -> None:
    machine = opened(version)
    data = b"".join(encode_publish("power", b"%d" % i, 2, i, version) for i in (1, 2, 3))
    (run,) = machine.feed_bytes(data, 0)
    assert run == Published("power", 2, [b"1", b"2", b"3"], [1, 2, 3])
    machine.feed_bytes(data, 0)  # again: nothing more is in flight
    assert machine.in_flight == 3
    machine.received([1, 2, 9])  # 9 was never brought by this connection
    machine.received([3], "stored in dead_letters")
    text = {Property.REASON_STRING: "stored in dead_letters"} if version == V5 else {}
    assert told(machine) == [Ack(Kind.PUBREC, 1), Ack(Kind.PUBREC, 2), Ack(Kind.PUBREC, 3, 0, text)]
    events = machine.feed_bytes(encode_acks(Kind.PUBREL, [1, 2, 3]), 0)
    assert events == [Released([1, 2, 3])]
    assert machine.in_flight == 3
    machine.complete([1, 2, 3])
    assert machine.in_flight == 0
    assert told(machine) == [Ack(Kind.PUBCOMP, one) for one in (1, 2, 3)]
    machine.complete([7], Reason.PACKET_ID_UNKNOWN)
    assert told(machine) == [Ack(Kind.PUBCOMP, 7, Reason.PACKET_ID_UNKNOWN if version == V5 else 0)]


def test_qos_2_that_is_refused() -> None:
    machine = opened(V5)
    machine.feed_bytes(encode_publish("power", b"x", 2, 1, V5), 0)
    machine.nack([1], Reason.QUOTA_EXCEEDED, "full", qos=2)
    assert told(machine) == [Ack(Kind.PUBREC, 1, 0x97, {Property.REASON_STRING: "full"})]
    assert machine.in_flight == 0


@BOTH
def test_what_is_delivered_and_what_the_client_says_to_it(version: int) -> None:
    machine = opened(version)
    assert machine.deliver(Message("power/h1", b"{}", 1, 5, retain=True))
    assert machine.deliver(Message("power/h1", b"{}", 2, 6, dup=True, subscription=200))
    one, two = told(machine)
    number = {Property.SUBSCRIPTION_ID: (200,)} if version == V5 else {}
    assert one == Publish("power/h1", b"{}", 1, 5, retain=True)
    assert two == Publish("power/h1", b"{}", 2, 6, dup=True, properties=number)
    said = encode_acks(Kind.PUBACK, [5]) + encode_acks(Kind.PUBREC, [6, 7]) + encode_acks(Kind.PUBCOMP, [6])
    events = machine.feed_bytes(said, 0)
    assert events == [Confirmed(Kind.PUBACK, [5]), Confirmed(Kind.PUBREC, [6, 7]), Confirmed(Kind.PUBCOMP, [6])]
    machine.release([6, 7])
    assert told(machine) == [Ack(Kind.PUBREL, 6), Ack(Kind.PUBREL, 7)]


def test_a_client_gets_no_packet_larger_than_it_takes_and_topics_by_alias() -> None:
    machine = opened(V5, properties={Property.MAXIMUM_PACKET_SIZE: 40, Property.TOPIC_ALIAS_MAXIMUM: 1})
    assert not machine.deliver(Message("power", bytes(100)))
    for topic in ("power", "power", "late", "power"):
        assert machine.deliver(Message(topic, b"x"))
    sent = [(one.topic, one.properties.get(Property.TOPIC_ALIAS)) for one in told(machine)]  # type: ignore[union-attr]
    assert sent == [("power", 1), ("", 1), ("late", None), ("", 1)]


def test_the_window_is_what_both_sides_allow() -> None:
    assert opened(V3, Limits(send_maximum=50)).window == 50
    assert opened(V5, Limits(send_maximum=50), properties={Property.RECEIVE_MAXIMUM: 7}).window == 7


def test_a_client_may_change_on_leaving_how_long_it_is_remembered() -> None:
    def after(asked: int, granted: int, said: int) -> tuple[int, int]:
        machine = opened(V5, properties={Property.SESSION_EXPIRY: asked})
        machine.session_expiry = granted
        machine.feed_bytes(encode(Leave(Kind.DISCONNECT, 0, {Property.SESSION_EXPIRY: said}), V5), 0)
        assert machine.closed is not None
        return machine.session_expiry, machine.closed.reason

    assert after(60, 60, 0) == (0, 0)
    assert after(60, 60, 2**31) == (Limits().session_expiry_maximum_s, 0)
    assert after(0, 0, 60) == (0, Reason.PROTOCOL_ERROR)


@BOTH
def test_acknowledgements_and_refusals(version: int) -> None:
    machine = opened(version)
    machine.feed_bytes(b"".join(encode_publish("power", b"x", 1, i, version) for i in (1, 2, 3)), 0)
    assert machine.in_flight == 3
    machine.ack([1])
    machine.ack([2], "stored in dead_letters")
    one, two = told(machine)
    assert one == Ack(Kind.PUBACK, 1)
    assert two == Ack(Kind.PUBACK, 2, 0, {Property.REASON_STRING: "stored in dead_letters"} if version == V5 else {})
    machine.nack([3], Reason.QUOTA_EXCEEDED, "the disk is full")
    assert machine.in_flight == 0
    if version == V5:
        assert told(machine) == [Ack(Kind.PUBACK, 3, 0x97, {Property.REASON_STRING: "the disk is full"})]
    else:
        assert machine.closed is not None
        assert told(machine) == []


def test_no_reason_string_for_who_does_not_want_it() -> None:
    machine = opened(V5, properties={Property.REQUEST_PROBLEM: 0})
    machine.feed_bytes(encode_publish("power", b"x", 1, 1, V5), 0)
    machine.ack([1], "stored in dead_letters")
    assert told(machine) == [Ack(Kind.PUBACK, 1)]


def test_more_than_the_receive_maximum_closes_version_5() -> None:
    machine = opened(V5, Limits(receive_maximum=2))
    machine.feed_bytes(b"".join(encode_publish("power", b"x", 1, i, V5) for i in (1, 2)), 0)
    assert machine.closed is None
    third = encode_publish("power", b"x", 1, 3, V5)
    assert machine.feed_lone(third, 0) is None
    machine.feed_bytes(third, 0)
    assert machine.closed is not None
    assert machine.closed.reason == Reason.RECEIVE_MAXIMUM_EXCEEDED


def test_topic_aliases() -> None:
    machine = opened(V5, Limits(topic_alias_maximum=2))

    def publish(topic: str, alias: int) -> Flat:
        packet = Publish(topic, b"x", properties={Property.TOPIC_ALIAS: alias})
        return flat(machine.feed_bytes(encode(packet, V5), 0))

    assert publish("power", 2) == publish("", 2) == [("power", 0, b"x", 0)]
    assert publish("state", 2) == publish("", 2) == [("state", 0, b"x", 0)]
    publish("", 1)
    assert machine.closed is not None
    assert machine.closed.reason == Reason.PROTOCOL_ERROR
    machine = opened(V5, Limits(topic_alias_maximum=2))
    publish("power", 3)
    assert machine.closed is not None
    assert machine.closed.reason == Reason.TOPIC_ALIAS_INVALID


@BOTH
def test_silence_of_one_and_a_half_keep_alives_closes(version: int) -> None:
    machine = opened(version, keep_alive=10)
    assert machine.deadline == 15_000
    machine.feed_bytes(PING, 9_000)
    machine.check(23_999)
    assert machine.closed is None
    machine.check(24_000)
    assert machine.closed is not None
    assert machine.closed.reason == Reason.KEEP_ALIVE_TIMEOUT


def test_time_in_which_nobody_listened_is_not_silence() -> None:
    machine = opened(keep_alive=10)
    machine.touch(60_000)
    machine.check(60_001)
    assert machine.closed is None
    assert machine.deadline == 75_000
    still = opened(keep_alive=0)
    still.touch(60_000)
    assert still.deadline is None


def test_no_keep_alive_no_deadline_but_connect_must_come_in_time() -> None:
    assert opened(keep_alive=0).deadline is None
    machine = Connection(Limits(connect_timeout_ms=500), 1_000)
    machine.feed_bytes(b"\x10", 1_400)
    machine.check(1_500)
    assert machine.closed is not None


def test_the_will_is_kept_until_a_clean_goodbye() -> None:
    will = Will("power", b"gone", 1)
    machine = opened(V5, will=will)
    assert machine.will == will
    machine.feed_bytes(encode(Leave(Kind.DISCONNECT, 0x04), V5), 0)  # "disconnect with will"
    assert machine.will == will
    machine = opened(V5, will=will)
    machine.feed_bytes(GOODBYE, 0)
    assert machine.will is None


def test_a_large_packet_in_small_pieces_is_not_joined_again_and_again() -> None:
    payload = bytes(900_000)
    data = encode_publish("power", payload)
    machine, events = opened(), []
    for at in range(0, len(data), 100):  # quadratic joining would copy 4 GB here
        events += machine.feed_bytes(data[at : at + 100], 0)
    assert flat(events) == [("power", 0, payload, 0)]
