"""MQTT on real sockets: public clients, and a raw one for what those would never do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from qanat.errors import BackpressureError, LogFullError
from qanat.gateway import IngestLimits
from qanat.gateway.mqtt.device import GOODBYE, PING, encode_publish
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.machine import Limits
from qanat.gateway.mqtt.packets import (
    V3,
    V5,
    Ack,
    Connack,
    Kind,
    Leave,
    Plain,
    Publish,
    Reason,
    Suback,
    Subscribe,
    Will,
)
from qanat.gateway.mqtt.properties import Property
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

BOTH = pytest.mark.parametrize("version", [V3, V5])
NOW = 1_700_000_000_000
USERS = (
    User("h1", hash_password("secret", Cost.DEVICE), ("power",)),
    User("h2", hash_password("other", Cost.DEVICE)),
)


def reading(number: int, **more: Any) -> bytes:
    return json.dumps({"client_id": "h1", "timestamp": NOW // 1000 - 100 + number, "consumption": 1.5, **more}).encode()


def connect(port: int, version: int, user: str | None = None, password: str | None = None) -> tuple[Any, Any]:
    """A connected paho client with its loop running, and the reason that the server gave."""
    protocol = MQTTProtocolVersion.MQTTv5 if version == V5 else MQTTProtocolVersion.MQTTv311
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=protocol, reconnect_on_failure=False)
    if user is not None:
        client.username_pw_set(user, password)
    answer: list[Any] = []
    heard = threading.Event()

    def on_connect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        answer.append(reason)
        heard.set()

    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert heard.wait(20)
    return client, answer[0]


def leave(client: Any) -> None:
    client.disconnect()
    client.loop_stop()


@BOTH
@pytest.mark.parametrize("qos", [0, 1])
def test_paho_publishes_and_everything_is_stored_in_order(start: Callable[..., Any], version: int, qos: int) -> None:
    running = start()
    client, reason = connect(running.mqtt, version)
    assert reason == 0
    sent = [client.publish("power" if i % 2 else "power/a/b", reading(i), qos) for i in range(300)]
    for one in sent:
        one.wait_for_publish(20)
    client.publish("power", reading(300), 1).wait_for_publish(20)  # behind QoS 0: what was sent before it is in
    leave(client)
    assert [row["timestamp"] for row in running.log.rows("power")] == [NOW // 1000 - 100 + i for i in range(301)]
    assert running.counted("qanat_gateway_messages_total", protocol="mqtt", stream="power") == 301
    assert running.counted("qanat_gateway_rows_accepted_total", stream="power") == 301


@BOTH
def test_passwords(start: Callable[..., Any], version: int) -> None:
    running = start(users=USERS)
    bad = "Bad user name or password"
    for user, password in ((None, None), ("h1", "wrong"), ("h1", "other"), ("nobody", "secret"), ("h1", "")):
        client, reason = connect(running.mqtt, version, user, password)
        assert str(reason) == bad
        leave(client)
    for _ in range(2):
        client, reason = connect(running.mqtt, version, "h1", "secret")
        assert reason == 0
        client.publish("power", reading(0), 1).wait_for_publish(20)
        leave(client)
    assert len(running.log.rows("power")) == 2


def test_a_user_may_feed_only_its_own_streams(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start(users=USERS)
    five = raw(running.mqtt, V5, username="h1", password="secret")
    five.send(encode_publish("plain", b"{}", 1, 1, V5) + encode_publish("power", reading(0), 1, 2, V5))
    refused, stored = five.read(), five.read()
    assert isinstance(refused, Ack)
    assert (refused.packet_id, refused.reason) == (1, Reason.NOT_AUTHORIZED)
    assert stored == Ack(Kind.PUBACK, 2)
    five.send(encode_publish("plain", b"{}", version=V5))
    gone = five.read()
    assert isinstance(gone, Leave)
    assert gone.reason == Reason.NOT_AUTHORIZED
    three = raw(running.mqtt, V3, username="h1", password="secret")
    three.send(encode_publish("plain", b"{}", 1, 1))
    assert three.read() is None
    assert running.log.rows("plain") == []


@BOTH
@pytest.mark.parametrize("topic", ["dead_letters", "late/x", "predictions"])
def test_streams_that_qanat_writes_itself_take_no_input(
    start: Callable[..., Any], raw: Callable[..., Any], version: int, topic: str
) -> None:
    client = raw(start().mqtt, version)
    client.send(encode_publish(topic, b"{}", 1, 1, version))
    answer = client.read()
    if version == V3:
        assert answer is None
    else:
        assert isinstance(answer, Ack)
        assert answer.reason == Reason.NOT_AUTHORIZED


@BOTH
def test_puback_comes_after_the_commit_and_not_before(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any, version: int
) -> None:
    fake_log.held = True
    client = raw(start(fake_log).mqtt, version)
    client.send(encode_publish("power", reading(0), 1, 9, version))
    assert fake_log.submitted.acquire(timeout=20)
    client.send(PING)
    assert client.read() == Plain(Kind.PINGRESP)  # the server has gone on; a PUBACK would have come first
    fake_log.release()
    assert client.read() == Ack(Kind.PUBACK, 9)


def test_a_full_log_is_told_to_version_5_closes_version_3_and_sheds_qos_0_countably(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    fake_log.fail_with = LogFullError("the disk is full")
    running = start(fake_log)
    five = raw(running.mqtt, V5, client_id="five")
    five.send(encode_publish("power", reading(0), 0, 0, V5) + encode_publish("power", reading(0), 1, 1, V5))
    answer = five.read()
    assert isinstance(answer, Ack)
    assert (answer.packet_id, answer.reason) == (1, Reason.QUOTA_EXCEEDED)
    assert answer.properties[Property.REASON_STRING] == "the disk is full"
    three = raw(running.mqtt, V3, client_id="three")
    three.send(encode_publish("power", reading(0), 1, 1))
    assert three.read() is None
    assert running.counted("qanat_gateway_shed_messages_total", protocol="mqtt", stream="power") == 1
    fake_log.fail_with = None
    five.send(encode_publish("power", reading(0), 1, 1, V5))
    assert five.read() == Ack(Kind.PUBACK, 1)


def test_a_busy_log_is_waited_for(start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any) -> None:
    fake_log.busy = [BackpressureError("busy", retry_after=0.001) for _ in range(3)]
    client = raw(start(fake_log).mqtt)
    client.send(encode_publish("power", reading(0), 1, 1) + encode_publish("power", reading(1), 1, 2))
    assert [client.read(), client.read()] == [Ack(Kind.PUBACK, 1), Ack(Kind.PUBACK, 2)]
    assert len(fake_log.rows("power")) == 2


@BOTH
def test_when_the_log_cannot_follow_reading_stops_and_nothing_is_lost(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any, version: int
) -> None:
    fake_log.held = True
    running = start(fake_log, ingest=IngestLimits(max_pending_messages=1000, flush_messages=400))
    client = raw(running.mqtt, version)
    total = 200_000
    payload = b"".join(encode_publish("plain", b'{"id":"%06d"}' % i, version=version) for i in range(total))
    payload += encode_publish("plain", b"{}", 1, 1, version)
    sender = threading.Thread(target=client.send, args=(payload,))
    sender.start()
    assert fake_log.submitted.acquire(timeout=20)
    sender.join(0.3)
    assert sender.is_alive()  # 4 MB do not fit into the socket's buffers: the gateway has stopped reading
    assert running.gateway._ingest._messages < total / 2
    assert running.gateway._ingest.is_full
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    assert client.read() == Ack(Kind.PUBACK, 1)
    sender.join(20)
    assert [row["id"] for row in fake_log.rows("plain")[:-1]] == [f"{i:06d}" for i in range(total)]


@BOTH
def test_bad_rows_go_to_dead_letters_with_their_address_and_are_acknowledged(
    start: Callable[..., Any], raw: Callable[..., Any], version: int
) -> None:
    running = start()
    client = raw(running.mqtt, version, client_id="meter-7")
    sent = [reading(0), b"\xff not json", b'{"client_id": "x", "consumption": "much"}', reading(1)]
    client.send(b"".join(encode_publish("power/7", data, 1, i + 1, version) for i, data in enumerate(sent)))
    acks = [client.read() for _ in sent]
    assert [ack.packet_id for ack in acks] == [1, 2, 3, 4]
    told = [ack.properties.get(Property.REASON_STRING, "") for ack in acks]
    assert [text.startswith("stored in dead_letters") for text in told] == (
        [False, True, True, False] if version == V5 else [False] * 4
    )
    assert len(running.log.rows("power")) == 2
    dead = running.log.rows("dead_letters")
    assert [row["data"] for row in dead] == sent[1:3]
    for row in dead:
        assert (row["stream"], row["source"], row["origin"], row["client"]) == ("power", "mqtt", "power/7", "meter-7")
        assert row["reason"]
        assert row["arrived"].timestamp() * 1000 == NOW
        assert row["partition"] is row["offset"] is row["schema_version"] is None
    assert running.counted("qanat_gateway_dead_letters_total", stream="power", reason="decode") == 2


def test_an_unknown_stream_is_a_dead_letter(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start()
    client = raw(running.mqtt, V5)
    client.send(encode_publish("powr/1", b"{}", 1, 1, V5))
    ack = client.read()
    assert isinstance(ack, Ack)
    assert ack.reason == 0
    assert "powr" in str(ack.properties[Property.REASON_STRING])
    (row,) = running.log.rows("dead_letters")
    assert (row["stream"], row["origin"], row["data"]) == ("powr", "powr/1", b"{}")
    assert "CREATE TABLE" in row["reason"]
    assert running.counted("qanat_gateway_dead_letters_total", stream="", reason="unknown_stream") == 1


@BOTH
def test_the_newest_connection_of_a_client_id_wins(
    start: Callable[..., Any], raw: Callable[..., Any], version: int
) -> None:
    running = start()
    older = raw(running.mqtt, version)
    newer = raw(running.mqtt, version)
    answer = older.read()
    if version == V5:
        assert isinstance(answer, Leave)
        assert answer.reason == Reason.TAKEN_OVER
        answer = older.read()
    assert answer is None
    newer.send(PING)
    assert newer.read() == Plain(Kind.PINGRESP)


def test_client_ids_of_different_users_do_not_meet(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start(users=USERS)
    one = raw(running.mqtt, V5, username="h1", password="secret")
    raw(running.mqtt, V5, username="h2", password="other")
    one.send(PING)
    assert one.read() == Plain(Kind.PINGRESP)


@BOTH
def test_byte_by_byte_over_the_socket(start: Callable[..., Any], raw: Callable[..., Any], version: int) -> None:
    client = raw(start().mqtt, version)
    for byte in encode_publish("power", reading(0), 1, 1, version) + PING:
        client.send(bytes([byte]))
    assert {type(client.read()), type(client.read())} == {Ack, Plain}


@BOTH
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00", Reason.MALFORMED),
        (b"\x30\xff\xff\xff\xff\x01", Reason.MALFORMED),
        (b"\x30\xff\xff\xff\x7f", Reason.TOO_LARGE),
        (b"\x36\x06\x00\x01a\x00\x01\x00", Reason.MALFORMED),
        (b"\xd0\x00", Reason.PROTOCOL_ERROR),
    ],
)
def test_faults_over_the_socket(
    start: Callable[..., Any], raw: Callable[..., Any], version: int, data: bytes, reason: Reason
) -> None:
    client = raw(start().mqtt, version)
    client.send(data)
    answer = client.read()
    if version == V5:
        assert isinstance(answer, Leave)
        assert answer.reason == reason
        answer = client.read()
    assert answer is None


def test_garbage_before_connect_is_closed_and_others_go_on(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start()
    good = raw(running.mqtt)
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)), b"\x10\x00"):
        bad = raw(running.mqtt, connect=False)
        bad.send(data)
        assert bad.read() is None
    good.send(PING)
    assert good.read() == Plain(Kind.PINGRESP)


def test_version_3_1_is_refused_by_its_own_code(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    client = raw(start().mqtt, connect=False)
    client.send(b"\x10\x0d\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a")
    assert client.read() == Connack(1)
    assert client.read() is None


def test_an_empty_client_id_is_assigned(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    client = raw(start().mqtt, V5, client_id="")
    assert str(client.connack.properties[Property.ASSIGNED_CLIENT_ID]).startswith("auto-")


@BOTH
def test_subscribe_over_the_socket(start: Callable[..., Any], raw: Callable[..., Any], version: int) -> None:
    client = raw(start().mqtt, version)
    client.send(encode(Subscribe(1, (("nowhere", 0), ("a+", 1), ("$share/g/power", 2))), version))
    answer = client.read()
    assert isinstance(answer, Suback)
    assert answer.reasons == ((0x80,) * 3 if version == V3 else (0x8F, 0x8F, 0x9E))


def test_topic_alias_and_user_properties_reach_the_stream(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start()
    client = raw(running.mqtt, V5)
    alias = {Property.TOPIC_ALIAS: 1, Property.USER_PROPERTY: (("a", "b"),), Property.CONTENT_TYPE: "application/json"}
    client.send(encode(Publish("power", reading(0), 1, 1, properties=alias), V5))
    client.send(encode(Publish("", reading(1), 1, 2, properties={Property.TOPIC_ALIAS: 1}), V5))
    assert [client.read(), client.read()] == [Ack(Kind.PUBACK, 1), Ack(Kind.PUBACK, 2)]
    assert len(running.log.rows("power")) == 2


def test_the_will_is_stored_when_the_connection_breaks(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    running = start(fake_log)
    will = Will("power", reading(5), 1)
    raw(running.mqtt, V5, client_id="b", will=will).close()
    assert fake_log.submitted.acquire(timeout=20)
    polite = raw(running.mqtt, V5, client_id="c", will=will)
    polite.send(GOODBYE)
    assert polite.read() is None
    witness = raw(running.mqtt, V5, client_id="d")
    witness.send(encode_publish("power", reading(6), 1, 1, V5))
    assert witness.read() == Ack(Kind.PUBACK, 1)
    assert [row["timestamp"] for row in running.log.rows("power")] == [NOW // 1000 - 95, NOW // 1000 - 94]


def test_silence_closes_the_connection(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start()
    client = raw(running.mqtt, V5, keep_alive=10)
    running.now += 15_001
    answer = client.read()
    assert isinstance(answer, Leave)
    assert answer.reason == Reason.KEEP_ALIVE_TIMEOUT


def test_who_was_not_read_for_long_is_not_silent(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    fake_log.held = True
    running = start(fake_log, ingest=IngestLimits(max_pending_messages=2))
    client = raw(running.mqtt, V5, keep_alive=10)
    client.send(b"".join(encode_publish("power", reading(i), 1, i + 1, V5) for i in range(2)))
    assert fake_log.submitted.acquire(timeout=20)
    (link,) = running.gateway._mqtt.links

    async def wait_past_the_keep_alive() -> None:
        assert running.gateway._ingest.is_full
        running.now += 60_000
        link.check(running.now)
        fake_log.release()
        while running.gateway._ingest.is_full:
            await asyncio.sleep(0)
        link.check(running.now)  # the sweep may come before what waits in the socket is read

    running.run(wait_past_the_keep_alive())
    assert [client.read(), client.read()] == [Ack(Kind.PUBACK, 1), Ack(Kind.PUBACK, 2)]
    client.send(PING)
    assert client.read() == Plain(Kind.PINGRESP)


def test_stop_acknowledges_what_is_in_flight_and_says_goodbye(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    fake_log.held = True
    running = start(fake_log, http_port=None)
    client = raw(running.mqtt, V5)
    client.send(encode_publish("power", reading(0), 1, 1, V5))
    assert fake_log.submitted.acquire(timeout=20)

    async def stop_and_release() -> None:
        stopping = asyncio.ensure_future(running.gateway.stop())
        for _ in range(10):  # stop goes as far as it can before the log commits
            await asyncio.sleep(0)
        assert not stopping.done()
        fake_log.release()
        await stopping

    stopper = threading.Thread(target=lambda: running.run(stop_and_release()))
    stopper.start()
    assert client.read() == Ack(Kind.PUBACK, 1)
    goodbye = client.read()
    assert isinstance(goodbye, Leave)
    assert goodbye.reason == Reason.SHUTTING_DOWN
    assert client.read() is None
    stopper.join(20)
    running.gateway = None


def test_too_many_connections_are_turned_away(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    running = start(max_connections=1)
    first = raw(running.mqtt)
    assert raw(running.mqtt, V5, client_id="d2").connack.reason == Reason.SERVER_BUSY
    waiting = [raw(running.mqtt, connect=False) for _ in range(11)]
    assert waiting[-1].read() is None  # nor are those listened to who would be told so
    first.send(PING)
    assert first.read() == Plain(Kind.PINGRESP)
    assert running.counted("qanat_gateway_refused_total", protocol="mqtt", reason="connections") >= 2


def test_more_in_flight_than_one_connection_should_have_waits(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    fake_log.held = True
    running = start(fake_log, mqtt=Limits(receive_maximum=2))
    client = raw(running.mqtt)
    client.send(b"".join(encode_publish("plain", b"{}", 1, i + 1) for i in range(1000)))
    assert fake_log.submitted.acquire(timeout=20)
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    assert [client.read() for _ in range(1000)] == [Ack(Kind.PUBACK, i + 1) for i in range(1000)]
