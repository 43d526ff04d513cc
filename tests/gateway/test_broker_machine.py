"""The client's side of a connection to a broker, without any: packets in, packets and events out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import ConfigError
from qanat.gateway.broker.config import Address, BrokerSource, BrokerTls, check_source, parse_url
from qanat.gateway.broker.machine import Connected, Ended, Login, Messages, Released, Subscribed, Subscriber
from qanat.gateway.broker.taken import SLOTS, Taken
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode
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
    Suback,
    Subscribe,
    find_frame,
)
from qanat.gateway.mqtt.properties import Property
from qanat.model.backoff import Backoff

VERSIONS = pytest.mark.parametrize("version", [V3, V5])


def packets(data: bytes, version: int) -> list[Packet]:
    found, at = [], 0
    while at < len(data):
        frame = find_frame(data, at)
        assert frame is not None
        found.append(decode(data, frame, version))
        at = frame.end
    return found


def said(machine: Subscriber, version: int, now: int = 0) -> list[Packet]:
    return packets(machine.get_outbound_data(now), version)


def opened(version: int = V5, taken: Taken | None = None, **login: int) -> Subscriber:
    machine = Subscriber(Login("q", version, **login), taken or Taken("t", "s"), 0)
    said(machine, version)
    assert machine.feed_bytes(encode(Connack(0, True), version), 0) == [Connected(True)]
    return machine


@VERSIONS
def test_it_asks_for_a_session_that_outlives_the_connection(version: int) -> None:
    machine = Subscriber(Login("q", version, "me", "secret", 20, 3600, 50), Taken("t", "s"), 0)
    (connect,) = said(machine, version)
    assert isinstance(connect, Connect)
    assert (connect.clean, connect.client_id, connect.keep_alive) == (False, "q", 20)
    assert (connect.username, connect.password) == ("me", b"secret")
    wanted = {Property.SESSION_EXPIRY: 3600, Property.RECEIVE_MAXIMUM: 50} if version == V5 else {}
    assert connect.properties == wanted


@VERSIONS
def test_it_says_why_the_broker_refuses(version: int) -> None:
    machine = Subscriber(Login("q", version), Taken("t", "s"), 0)
    (ended,) = machine.feed_bytes(encode(Connack(0x86 if version == V5 else 4), version), 0)
    assert isinstance(ended, Ended)
    assert ended.text in (
        "the broker refused the connection: bad credentials (0x86)",
        "the broker refused the connection: wrong user name or password",
    )
    assert machine.feed_bytes(b"\xd0\x00", 1) == []


@VERSIONS
def test_subscriptions_are_answered_one_by_one(version: int) -> None:
    machine = opened(version)
    machine.subscribe(("a/#", "b"), 1)
    (asked,) = said(machine, version)
    assert isinstance(asked, Subscribe)
    assert [name for name, _ in asked.filters] == ["a/#", "b"]
    answer = encode(Suback(Kind.SUBACK, asked.packet_id, (1, 0x80)), version)
    assert machine.feed_bytes(answer, 0) == [Subscribed((("a/#", 1), ("b", 0x80)))]


@VERSIONS
def test_runs_of_one_topic_come_together_and_are_acknowledged_when_told(version: int) -> None:
    machine = opened(version)
    data = b"".join(encode(Publish("a/x", b"%d" % n, 1, n), version) for n in (1, 2, 3))
    (event,) = machine.feed_bytes(data + encode(Publish("a/y", b"4"), version)[:5], 0)
    assert isinstance(event, Messages)
    assert (event.run.topic, event.run.payloads, event.run.packet_ids) == ("a/x", [b"1", b"2", b"3"], [1, 2, 3])
    assert said(machine, version) == []
    machine.ack([1, 2])
    assert said(machine, version) == [Ack(Kind.PUBACK, 1), Ack(Kind.PUBACK, 2)]


@VERSIONS
def test_qos_2_that_is_durable_is_answered_without_being_stored_again(version: int) -> None:
    taken = Taken("t", "s")
    taken.set(3, frozenset({7}))
    machine = opened(version, taken)
    data = b"".join(encode(Publish("a", b"%d" % n, 2, n, dup=True), version) for n in (6, 7, 8))
    events = machine.feed_bytes(data, 0)
    assert [event.run.packet_ids for event in events if isinstance(event, Messages)] == [[6, 8]]
    assert said(machine, version) == [Ack(Kind.PUBREC, 7)]
    machine.record([6, 8])
    assert said(machine, version) == [Ack(Kind.PUBREC, 6), Ack(Kind.PUBREC, 8)]


@VERSIONS
def test_a_release_is_completed_when_told_and_at_once_where_nothing_is_known(version: int) -> None:
    taken = Taken("t", "s")
    taken.set(0, frozenset({1, 2}))
    machine = opened(version, taken)
    data = b"".join(encode(Ack(Kind.PUBREL, number), version) for number in (1, 2, 9))
    assert machine.feed_bytes(data, 0) == [Released((1, 2))]
    assert said(machine, version) == [Ack(Kind.PUBCOMP, 9)]
    machine.complete([1, 2])
    assert said(machine, version) == [Ack(Kind.PUBCOMP, 1), Ack(Kind.PUBCOMP, 2)]


def test_a_silent_broker_is_pinged_and_then_given_up() -> None:
    machine = opened(keep_alive=10)
    assert machine.check(9_999) is None
    assert said(machine, V5) == []
    assert machine.check(10_000) is None
    assert said(machine, V5, 10_000) == [Plain(Kind.PINGREQ)]
    machine.feed_bytes(encode(Plain(Kind.PINGRESP), V5), 10_001)
    assert machine.check(20_002) is None
    assert said(machine, V5, 20_002) == [Plain(Kind.PINGREQ)]
    ended = machine.check(25_001)
    assert ended is not None
    assert "silent for 15 s" in ended.text


def test_the_broker_may_shorten_the_keep_alive() -> None:
    machine = Subscriber(Login("q", keep_alive=60), Taken("t", "s"), 0)
    machine.feed_bytes(encode(Connack(0, False, {Property.SERVER_KEEP_ALIVE: 5}), V5), 0)
    said(machine, V5)
    machine.check(5_000)
    assert said(machine, V5, 5_000) == [Plain(Kind.PINGREQ)]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (Leave(Kind.DISCONNECT, 0x8E), "taken over (0x8e)"),
        (Connack(), "CONNACK came unasked for"),
        (Publish("", b"", properties={Property.TOPIC_ALIAS: 1}), "topic alias"),
        (Publish("a/+", b""), "wildcards"),
    ],
)
def test_what_the_broker_may_not_say_ends_the_connection(packet: Packet, text: str) -> None:
    machine = opened()
    ended = machine.feed_bytes(encode(packet, V5), 0)[-1]
    assert isinstance(ended, Ended)
    assert text in ended.text


@VERSIONS
def test_goodbye_keeps_the_session(version: int) -> None:
    machine = opened(version)
    machine.leave()
    assert said(machine, version) == [Leave(Kind.DISCONNECT)]


@given(st.data())
def test_events_do_not_depend_on_how_the_bytes_are_cut(data: st.DataObject) -> None:
    whole = b"".join(
        encode(one, V5)
        for one in (
            Publish("a", b"x" * 300, 1, 1),
            Publish("a", b"y", 1, 2),
            Publish("b", b"z", 2, 3, properties={Property.CONTENT_TYPE: "text/csv"}),
            Plain(Kind.PINGRESP),
            Publish("c", b""),
            Ack(Kind.PUBREL, 77),
        )
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    machine, got = opened(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        got += machine.feed_bytes(whole[start:end], 0)
    flat = [(e.run.topic, e.run.qos, p) for e in got if isinstance(e, Messages) for p in e.run.payloads]
    assert flat == [("a", 1, b"x" * 300), ("a", 1, b"y"), ("b", 2, b"z"), ("c", 0, b"")]
    assert said(machine, V5) == [Ack(Kind.PUBCOMP, 77)]


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    machine = opened()
    machine.feed_bytes(data, 0)
    machine.feed_bytes(data, 0)


@given(st.lists(st.tuples(st.integers(0, SLOTS - 1), st.frozensets(st.integers(1, 65_535), max_size=20))))
def test_taken_ids_come_back_from_the_log_for_the_same_session_only(changes: list[tuple[int, frozenset[int]]]) -> None:
    taken, stored = Taken("broker/x", "me@here"), dict[str, bytes | None]()
    for slot, ids in changes:
        news = frozenset(one for one in ids if taken.slot_of(one) in (None, slot))
        stored.update(taken.stored(slot, news))
        taken.set(slot, news)
    again, other = Taken("broker/x", "me@here"), Taken("broker/x", "me@there")
    for one in (again, other):
        one.load(stored.get(key) for key in one.state_keys)
    assert [again.ids(slot) for slot in range(SLOTS)] == [taken.ids(slot) for slot in range(SLOTS)]
    assert len(again) == len(taken)
    assert len(other) == 0


def test_waits_double_and_are_drawn() -> None:
    backoff = Backoff(0.5, 60)
    assert [backoff.wait(failures, 0.0) for failures in (1, 2, 3, 20, 5000)] == [0.25, 0.5, 1, 30, 30]
    assert backoff.wait(2, 0.999) == pytest.approx(0.9995)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", Address("broker", 1883, False)),
        ("mqtts://h1:p%40ss@broker:9000/", Address("broker", 9000, True, "h1", "p@ss")),
        ("mqtt://[::1]:1884", Address("::1", 1884, False)),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_url(url, "x") == address
    assert "p@ss" not in repr(parse_url(url, "x"))


@pytest.mark.parametrize("url", ["broker:1883", "http://broker", "mqtt://", "mqtt://b:port", "mqtt://b/topic"])
def test_what_is_no_url_of_a_broker(url: str) -> None:
    with pytest.raises(ConfigError, match=r"source x: mqtt\.url"):
        parse_url(url, "x")


HERE = Address("h", 1883, False)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (BrokerSource("x", HERE, ()), "topics is empty"),
        (BrokerSource("x", HERE, ("a/#/b",)), "'a/#/b' is no MQTT topic filter"),
        (BrokerSource("x", HERE, ("a+",)), "no MQTT topic filter"),
        (BrokerSource("x", HERE, ("a",), shared="g/h"), "mqtt.shared"),
        (BrokerSource("x", HERE, ("a",), tls=BrokerTls(cert=None, key=None, ca=Path("c"))), "mqtt://"),
        (BrokerSource("x", Address("h", 1, False, None, "p"), ("a",)), "a password and no user name"),
        (BrokerSource("x", HERE, ("a",), keep_alive=70_000), "keep_alive"),
    ],
)
def test_settings_that_cannot_work(source: BrokerSource, text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace("+", r"\+")):
        check_source(source)


def test_shared_subscriptions_are_asked_for_as_such() -> None:
    assert BrokerSource("x", HERE, ("a/#", "b"), shared="g").wanted == ("$share/g/a/#", "$share/g/b")
