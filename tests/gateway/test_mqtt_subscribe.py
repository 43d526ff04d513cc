"""SUBSCRIBE on real sockets: rows of the log as messages, to whom they belong, in order, as often as QoS says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qanat.gateway.mqtt.device import PING, encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_acks
from qanat.gateway.mqtt.machine import Limits
from qanat.gateway.mqtt.packets import (
    V3,
    V5,
    Ack,
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
from qanat.gateway.mqtt.properties import Property
from qanat.log import open_log
from qanat.log.base import Log
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

BOTH = pytest.mark.parametrize("version", [V3, V5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])
USERS = (
    User("owner", hash_password("secret", Cost.DEVICE), ("*",), ("spread*", "plain")),
    User("h1", hash_password("secret", Cost.DEVICE), ("spread",), ("spread/h1",)),
    User("h2", hash_password("secret", Cost.DEVICE), ("spread",)),
)


@pytest.fixture
def log(streams: Any) -> Iterator[Log]:
    opened = open_log("memory://")
    for stream in streams.values():
        opened.create(stream)
    yield opened
    opened.close()


def row(key: str, number: int) -> bytes:
    return json.dumps({"client_id": key, "timestamp": 1_699_999_000 + number, "consumption": number}).encode()


class Talk:
    """A connected client that subscribes, and takes what is delivered as its QoS wants it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.version = client.version
        self._last = 0

    def subscribe(self, *filters: str | tuple[str, int], **properties: Any) -> tuple[int, ...]:
        self._last += 1
        wanted = tuple((one, 0) if isinstance(one, str) else one for one in filters)
        given = {Property[name.upper()]: value for name, value in properties.items()}
        self.client.send(encode(Subscribe(self._last, wanted, given), self.version))
        answer = self.client.read()
        assert isinstance(answer, Suback)
        assert answer.packet_id == self._last
        return answer.reasons

    def unsubscribe(self, *filters: str) -> tuple[int, ...]:
        self._last += 1
        self.client.send(encode(Unsubscribe(self._last, filters), self.version))
        answer = self.client.read()
        assert isinstance(answer, Suback)
        return answer.reasons

    def publish(self, topic: str, *payloads: bytes) -> None:
        """With QoS 1; returns when all are stored. What is delivered meanwhile stays to be read."""
        ids = range(1000, 1000 + len(payloads))
        self.client.send(
            b"".join(encode_publish(topic, p, 1, i, self.version) for i, p in zip(ids, payloads, strict=True))
        )
        for packet_id in ids:
            assert self.client.read() == Ack(Kind.PUBACK, packet_id)

    def take(self, count: int) -> list[Publish]:
        """The next messages, acknowledged."""
        found: list[Publish] = []
        done = 0
        while len(found) < count or done < count:
            packet = self.client.read()
            match packet:
                case Publish(qos=0):
                    found.append(packet)
                    done += 1
                case Publish(qos=1):
                    found.append(packet)
                    done += 1
                    self.client.send(encode_acks(Kind.PUBACK, [packet.packet_id]))
                case Publish():
                    found.append(packet)
                    self.client.send(encode_acks(Kind.PUBREC, [packet.packet_id]))
                case Ack(Kind.PUBREL, packet_id):
                    self.client.send(encode_acks(Kind.PUBCOMP, [packet_id]))
                    done += 1
                case _:
                    raise AssertionError(packet)
        return found

    def is_quiet(self) -> bool:
        """Whether nothing was on its way: PINGRESP comes next."""
        self.client.send(PING)
        return bool(self.client.read() == Plain(Kind.PINGRESP))


@pytest.fixture
def talk(raw: Callable[..., Any]) -> Callable[..., Talk]:
    return lambda *args, **settings: Talk(raw(*args, **settings))


def said(messages: list[Publish]) -> list[tuple[str, int]]:
    return [(one.topic, int(json.loads(one.payload)["consumption"])) for one in messages]


@BOTH
@QOS
def test_all_rows_of_a_stream_in_order(start: Any, talk: Any, log: Log, version: int, qos: int) -> None:
    running = start(log)
    reader, writer = talk(running.mqtt, version, client_id="r"), talk(running.mqtt, version, client_id="w")
    assert reader.subscribe(("power", qos)) == (qos,)
    writer.publish("power", *(row("h1", n) for n in range(500)))
    got = reader.take(500)
    assert said(got) == [("power", n) for n in range(500)]
    assert {one.qos for one in got} == {qos}
    assert not any(one.retain or one.dup for one in got)
    assert reader.is_quiet()


@BOTH
def test_rows_of_one_key_of_some_keys_and_of_all(start: Any, talk: Any, log: Log, version: int) -> None:
    running = start(log)
    wanted = {"one": "spread/h1", "plus": "spread/+", "site": "spread/a/#", "level": "spread/+/x", "all": "#"}
    readers = {name: talk(running.mqtt, version, client_id=name) for name in wanted}
    for name, text in wanted.items():
        assert readers[name].subscribe((text, 1)) == (1,)
    keys = ["h1", "h2", "a", "a/x", "b/x", "a/x/y"]
    talk(running.mqtt, version, client_id="w").publish("spread", *(row(key, n) for n, key in enumerate(keys)))
    expected = {
        "one": ["h1"], "plus": ["h1", "h2", "a"], "site": ["a", "a/x", "a/x/y"], "level": ["a/x", "b/x"], "all": keys,
    }  # fmt: skip
    for name, theirs in expected.items():
        got = readers[name].take(len(theirs))
        assert sorted(said(got)) == sorted((f"spread/{key}", keys.index(key)) for key in theirs), name
        assert readers[name].is_quiet()


def test_a_bare_stream_name_names_all_its_rows_and_they_come_under_it(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    reader = talk(running.mqtt, client_id="r")
    reader.subscribe("spread")
    talk(running.mqtt, client_id="w").publish("spread", row("h1", 1), row("h2", 2))
    assert sorted(said(reader.take(2))) == [("spread", 1), ("spread", 2)]


def test_wildcards_and_percent_signs_of_a_key_are_escaped_in_its_topic(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    reader = talk(running.mqtt, client_id="r")
    assert reader.subscribe("spread/50%25+%23", "spread/50%25%2B%23") == (0x80, 0)
    talk(running.mqtt, client_id="w").publish("spread", row("50%+#", 1), row("50%", 2))
    assert said(reader.take(1)) == [("spread/50%25%2B%23", 1)]
    assert reader.is_quiet()


@QOS
def test_retained_is_the_newest_row_of_every_key(start: Any, talk: Any, log: Log, qos: int) -> None:
    running = start(log)
    writer = talk(running.mqtt, client_id="w")
    writer.publish("spread", *(row(f"h{n % 3}", n) for n in range(30)))
    reader = talk(running.mqtt, V5, client_id="r")
    reader.subscribe(("spread/+", qos))
    got = reader.take(3)
    assert sorted(said(got)) == [("spread/h0", 27), ("spread/h1", 28), ("spread/h2", 29)]
    assert all(one.retain for one in got)
    writer.publish("spread", row("h1", 40))
    (live,) = reader.take(1)
    assert not live.retain
    assert reader.is_quiet()


def test_a_row_that_comes_while_the_newest_are_looked_up_comes_once(
    start: Any, talk: Any, log: Log, monkeypatch: Any
) -> None:
    running = start(log)
    writer = talk(running.mqtt, client_id="w")
    writer.publish("spread", row("h0", 0), row("h1", 1))
    outlets = running.gateway._outlets
    look, may_look = outlets.last, threading.Event()

    async def last(*wanted: Any) -> Any:
        while not may_look.is_set():
            await asyncio.sleep(0.001)
        return await look(*wanted)

    monkeypatch.setattr(outlets, "last", last)
    reader = talk(running.mqtt, V5, client_id="r")
    reader.subscribe(("spread/+", 1))
    writer.publish("spread", row("h1", 2))
    assert reader.is_quiet()
    may_look.set()
    got = reader.take(2)  # what was retained when it subscribed, without what comes anyway
    assert [(one.topic, one.retain) for one in got] == [("spread/h0", True), ("spread/h1", False)]
    assert said(got)[1] == ("spread/h1", 2)
    assert reader.is_quiet()


def test_retain_handling_and_retain_as_published(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    writer = talk(running.mqtt, client_id="w")
    writer.publish("spread", row("h1", 1))
    reader = talk(running.mqtt, V5, client_id="r")
    reader.subscribe(("spread/h1", 0x20))  # never
    assert reader.is_quiet()
    reader.subscribe(("spread/h1", 0x10))  # only where new: it is not
    assert reader.is_quiet()
    reader.subscribe(("spread/h1", 0x00))
    assert said(reader.take(1)) == [("spread/h1", 1)]
    reader.unsubscribe("spread/h1")
    reader.subscribe(("spread/h1", 0x10 | 0x08))
    assert said(reader.take(1)) == [("spread/h1", 1)]
    writer.publish("spread", row("h1", 2))
    (live,) = reader.take(1)
    assert live.retain  # as published: every row is the newest of its key


def test_a_retained_publish_is_a_row_and_what_is_retained(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    writer = talk(running.mqtt, V5, client_id="w")
    writer.client.send(encode(Publish("spread", row("h1", 7), 1, 1, retain=True), V5))
    assert writer.client.read() == Ack(Kind.PUBACK, 1)
    reader = talk(running.mqtt, V5, client_id="r")
    reader.subscribe("spread/h1")
    (got,) = reader.take(1)
    assert got.retain


def test_subscription_identifiers_come_back(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    reader = talk(running.mqtt, V5, client_id="r")
    reader.subscribe(("spread/h1", 1), subscription_id=5)
    reader.subscribe(("spread/+", 1), subscription_id=200)
    talk(running.mqtt, client_id="w").publish("spread", row("h1", 1))
    got = reader.take(2)
    assert sorted(one.properties[Property.SUBSCRIPTION_ID] for one in got) == [(5,), (200,)]


@BOTH
def test_unsubscribe_ends_it(start: Any, talk: Any, log: Log, version: int) -> None:
    running = start(log)
    reader, writer = talk(running.mqtt, version, client_id="r"), talk(running.mqtt, version, client_id="w")
    reader.subscribe("power", "spread/h1")
    assert reader.unsubscribe("power", "nothing") == ((0, 0x11) if version == V5 else ())
    writer.publish("power", row("h1", 1))
    writer.publish("spread", row("h1", 2))
    assert said(reader.take(1)) == [("spread/h1", 2)]
    assert reader.is_quiet()


def test_rights(start: Any, talk: Any, log: Log) -> None:
    running = start(log, users=USERS)
    device = talk(running.mqtt, V5, username="h1", password="secret")
    assert device.subscribe("spread/h1", "spread/h2", "spread/+", "spread", "#", "+/h1") == (0, *[0x87] * 5)
    owner = talk(running.mqtt, V5, username="owner", password="secret")
    assert owner.subscribe("spread/#", "spread/h1", "plain", "power", "#") == (0, 0, 0, 0x87, 0x87)
    writer = talk(running.mqtt, V5, client_id="w", username="h2", password="secret")
    writer.publish("spread", row("h1", 1))
    assert said(device.take(1)) == [("spread/h1", 1)]
    assert len(owner.take(2)) == 2
    assert running.counted("qanat_gateway_refused_total", protocol="mqtt", reason="subscribe") == 7


def test_reasons_of_suback(start: Any, talk: Any, log: Log) -> None:
    running = start(log, mqtt=Limits(max_subscriptions=2))
    client = talk(running.mqtt, V5)
    refused = {
        "nowhere": Reason.FILTER_INVALID,
        "power/h1": Reason.FILTER_INVALID,  # no PRIMARY KEY, so no row would ever come
        "a#": Reason.FILTER_INVALID,
        "#/a": Reason.FILTER_INVALID,
        "": Reason.FILTER_INVALID,
        "$share/g/power": Reason.SHARED_UNSUPPORTED,
    }
    assert client.subscribe(*refused) == tuple(refused.values())
    assert client.subscribe(("power", 0x04)) == (Reason.IMPLEMENTATION,)  # no local
    assert client.subscribe("power", "plain", "spread") == (0, 0, Reason.QUOTA_EXCEEDED)
    assert client.subscribe(("power", 1)) == (1,)  # the same filter again is no other


@QOS
def test_no_more_than_the_clients_receive_maximum_is_on_its_way(
    start: Any, raw: Any, talk: Any, log: Log, qos: int
) -> None:
    running = start(log)
    reader = Talk(RawWith(raw, running.mqtt, {Property.RECEIVE_MAXIMUM: 3}))
    reader.subscribe(("power", qos))
    talk(running.mqtt, client_id="w").publish("power", *(row("h1", n) for n in range(10)))
    if not qos:
        assert len(reader.take(10)) == 10
        return
    first = [reader.client.read() for _ in range(3)]
    assert [one.packet_id for one in first] == [1, 2, 3]
    assert reader.is_quiet()
    if qos == 1:
        reader.client.send(encode_acks(Kind.PUBACK, [1]))
        assert reader.client.read().packet_id == 4
        assert reader.is_quiet()
    else:
        reader.client.send(encode_acks(Kind.PUBREC, [1]))
        assert reader.client.read() == Ack(Kind.PUBREL, 1)
        assert reader.is_quiet()  # only PUBCOMP makes room
        reader.client.send(encode_acks(Kind.PUBCOMP, [1]))
        assert reader.client.read().packet_id == 4


def test_a_client_that_refuses_a_message_does_not_get_it_again_and_gets_the_next(
    start: Any, raw: Any, talk: Any, log: Log
) -> None:
    running = start(log)
    reader = Talk(RawWith(raw, running.mqtt, {Property.RECEIVE_MAXIMUM: 1}))
    reader.subscribe(("power", 2))
    talk(running.mqtt, client_id="w").publish("power", row("h1", 1), row("h1", 2))
    first = reader.client.read()
    reader.client.send(encode(Ack(Kind.PUBREC, first.packet_id, Reason.QUOTA_EXCEEDED), V5))
    assert said(reader.take(1)) == [("power", 2)]


def test_a_client_gets_no_packet_that_is_larger_than_it_takes(start: Any, raw: Any, talk: Any, log: Log) -> None:
    running = start(log)
    reader = Talk(RawWith(raw, running.mqtt, {Property.MAXIMUM_PACKET_SIZE: 100, Property.RECEIVE_MAXIMUM: 1}))
    reader.subscribe(("plain", 1))
    writer = talk(running.mqtt, client_id="w")
    writer.publish("plain", *(json.dumps({"id": one}).encode() for one in ("a", "b" * 200, "c")))
    assert [json.loads(one.payload)["id"] for one in reader.take(2)] == ["a", "c"]
    assert running.counted("qanat_gateway_refused_total", protocol="mqtt", reason="packet_size") == 1


def test_topics_go_out_by_alias_where_the_client_allows_it(start: Any, raw: Any, talk: Any, log: Log) -> None:
    running = start(log)
    reader = Talk(RawWith(raw, running.mqtt, {Property.TOPIC_ALIAS_MAXIMUM: 1}))
    reader.subscribe("spread/+")
    writer = talk(running.mqtt, client_id="w")
    seen = []
    for number, key in enumerate(["h1", "h1", "h2", "h1"]):
        writer.publish("spread", row(key, number))
        seen += [(one.topic, one.properties.get(Property.TOPIC_ALIAS)) for one in reader.take(1)]
    assert seen == [("spread/h1", 1), ("", 1), ("spread/h2", None), ("", 1)]


@BOTH
@QOS
def test_who_does_not_read_costs_no_memory_and_misses_nothing(
    start: Any, talk: Any, log: Log, version: int, qos: int
) -> None:
    running = start(log)
    reader, writer = talk(running.mqtt, version, client_id="r"), talk(running.mqtt, version, client_id="w")
    reader.subscribe(("plain", qos))
    total, text = 400, "x" * 20_000
    for first in range(0, total, 100):
        writer.publish("plain", *(json.dumps({"id": f"{n}{text}"}).encode() for n in range(first, first + 100)))

    async def held() -> int:
        (link,) = [one for one in running.gateway._mqtt.links if one.client == ("", "r")]
        waiting = sum(len(feed.waiting) for feed in link._courier._feeds.values())
        return waiting * len(text) + link._transport.get_write_buffer_size()

    assert running.run(held()) < 4_000_000  # of 8 MB
    got = reader.take(total)
    assert [int(json.loads(one.payload)["id"].rstrip("x")) for one in got] == list(range(total))


def test_many_subscribers_and_many_writers(start: Any, talk: Any, log: Log) -> None:
    running = start(log)
    readers = [talk(running.mqtt, V5 if n % 2 else V3, client_id=f"r{n}") for n in range(20)]
    for number, reader in enumerate(readers):
        reader.subscribe((f"spread/h{number % 5}", number % 3))
    writers = [talk(running.mqtt, client_id=f"w{n}") for n in range(5)]
    for number, writer in enumerate(writers):
        writer.publish("spread", *(row(f"h{number}", n) for n in range(50)))
    for number, reader in enumerate(readers):
        assert said(reader.take(50)) == [(f"spread/h{number % 5}", n) for n in range(50)]
        assert reader.is_quiet()


class RawWith:
    """A raw client of version 5 with properties in its CONNECT."""

    def __init__(self, raw: Any, port: int, properties: dict[Property, Any], **connect: Any) -> None:
        from qanat.gateway.mqtt.packets import Connect

        self._client = raw(port, V5, connect=False)
        self.version = V5
        self.send = self._client.send
        self.send(encode(Connect(connect.pop("client_id", "with"), V5, properties=properties, **connect), V5))
        self.connack = self.read()

    def read(self) -> Packet | None:
        packet: Packet | None = self._client.read()
        return packet

    def close(self) -> None:
        self._client.close()


def test_revoked_rights_close_the_connection_at_once(start: Any, talk: Any, log: Log, monkeypatch: Any) -> None:
    running = start(log, users=USERS)
    one = talk(running.mqtt, V5, username="h1", password="secret")
    other = talk(running.mqtt, V5, username="owner", password="secret")
    auth = running.gateway._auth
    monkeypatch.setattr(auth, "still", lambda user: False)

    async def revoke() -> None:
        for callback in auth._watchers:
            callback("h1")

    running.run(revoke())
    answer = one.client.read()
    assert isinstance(answer, Leave)
    assert answer.reason == Reason.ADMINISTRATIVE
    assert one.client.read() is None
    assert other.is_quiet()
