"""Wills, attributes and reason codes, on real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from qanat.gateway.mqtt.attributes import attributes_of
from qanat.gateway.mqtt.device import GOODBYE, PING, encode_publish
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.machine import Limits
from qanat.gateway.mqtt.packets import V3, V5, Ack, Connect, Kind, Leave, Plain, Publish, Reason, Will
from qanat.gateway.mqtt.properties import Property, PropertyValue
from qanat.model.sources import Source
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

BOTH = pytest.mark.parametrize("version", [V3, V5])


def body(name: str) -> bytes:
    return json.dumps({"id": name}).encode()


def come(raw: Callable[..., Any], port: int, version: int, packet: Connect) -> Any:
    client = raw(port, version, connect=False)
    client.send(encode(packet, version))
    client.connack = client.read()
    return client


def stored(running: Any, raw: Callable[..., Any]) -> list[str]:
    """What is in the stream once all that came before is stored."""
    witness = raw(running.mqtt, V5, client_id="witness")
    witness.send(encode_publish("power", b"{}", 1, 1, V5))
    assert isinstance(witness.read(), Ack)
    witness.close()
    return [row["id"] for row in running.log.rows("plain")]


def wait_for(running: Any, raw: Callable[..., Any], names: list[str]) -> None:
    while stored(running, raw) != names:
        pass


@BOTH
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_stored_when_the_connection_breaks_and_not_after_goodbye(
    start: Any, raw: Any, version: int, qos: int
) -> None:
    running = start()
    polite = come(raw, running.mqtt, version, Connect("p", version, will=Will("plain", body("p"), qos, True)))
    polite.send(GOODBYE)
    assert polite.read() is None
    come(raw, running.mqtt, version, Connect("d", version, will=Will("plain", body("d"), qos))).close()
    wait_for(running, raw, ["d"])


def test_disconnect_with_will_leaves_the_will(start: Any, raw: Any) -> None:
    running = start()
    client = come(raw, running.mqtt, V5, Connect("d", V5, will=Will("plain", body("d"))))
    client.send(encode(Leave(Kind.DISCONNECT, 0x04), V5))
    wait_for(running, raw, ["d"])


@BOTH
def test_a_client_that_falls_silent_has_its_will_published(start: Any, raw: Any, version: int) -> None:
    running = start()
    client = come(raw, running.mqtt, version, Connect("d", version, keep_alive=10, will=Will("plain", body("d"))))
    running.now += 16_000
    answer = client.read()
    if version == V5:
        assert answer.reason == Reason.KEEP_ALIVE_TIMEOUT
    wait_for(running, raw, ["d"])


def delayed(seconds: int, expiry: int = 1000) -> Connect:
    will = Will("plain", body("d"), properties={Property.WILL_DELAY: seconds})
    return Connect("d", V5, False, will=will, properties={Property.SESSION_EXPIRY: expiry})


def test_a_will_waits_for_its_delay_and_a_client_that_is_back_lives(start: Any, raw: Any) -> None:
    running = start()
    come(raw, running.mqtt, V5, delayed(60)).close()
    assert stored(running, raw) == []
    running.now += 59_000
    back = come(raw, running.mqtt, V5, delayed(60))
    running.now += 10_000
    assert stored(running, raw) == []
    back.close()
    assert stored(running, raw) == []
    running.now += 61_000
    wait_for(running, raw, ["d"])


def test_a_will_is_due_when_its_session_ends(start: Any, raw: Any) -> None:
    running = start()
    come(raw, running.mqtt, V5, delayed(600, expiry=5)).close()
    assert stored(running, raw) == []
    running.now += 6_000
    wait_for(running, raw, ["d"])
    come(raw, running.mqtt, V5, delayed(600)).close()
    while running.gateway._mqtt._wills._waiting == {}:
        pass
    come(raw, running.mqtt, V5, Connect("d", V5, True))  # a clean start ends the session before
    wait_for(running, raw, ["d", "d"])


def test_a_will_is_published_with_the_rights_of_its_owner(start: Any, raw: Any) -> None:
    running = start(users=(User("h1", hash_password("s", Cost.DEVICE), ("power",)),))
    will = Will("plain", body("d"))
    come(raw, running.mqtt, V5, Connect("d", V5, username="h1", password=b"s", will=will)).close()
    while not running.counted("qanat_gateway_refused_total", protocol="mqtt", reason="not_allowed"):
        pass
    assert running.log.rows("plain") == []


def test_what_a_message_says_beside_its_payload() -> None:
    said: Mapping[Property, PropertyValue] = {
        Property.CONTENT_TYPE: "application/json",
        Property.RESPONSE_TOPIC: "answers/1",
        Property.CORRELATION_DATA: b"\x00\xff",
        Property.MESSAGE_EXPIRY: 60,
        Property.PAYLOAD_FORMAT: 1,
        Property.USER_PROPERTY: (("site", "a"), ("unit", "W"), ("site", "b")),
    }
    assert attributes_of({"user": "h1"}, said) == {
        "user": "h1",
        "content_type": "application/json",
        "response_topic": "answers/1",
        "correlation_data": "AP8=",
        "message_expiry": "60",
        "payload_format": "1",
        "property.site": "b",
        "property.unit": "W",
    }


def test_attributes_fill_columns_of_a_source(start: Any, raw: Any) -> None:
    columns = {"client_id": "$property.site"}
    running = start(sources={"vendor": Source(stream="power", topic="vendor/x", columns=columns)})
    client = come(raw, running.mqtt, V5, Connect("d", V5))
    given = {Property.USER_PROPERTY: (("site", "a"),)}
    client.send(encode(Publish("vendor/x", b'{"consumption": 1.5}', 1, 1, properties=given), V5))
    assert client.read() == Ack(Kind.PUBACK, 1)
    assert [row["client_id"] for row in running.log.rows("power")] == ["a"]


# --- a reason for every refusal --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "reason", "old"),
    [
        (Connect("", V5, False), 0, 2),  # 5 gets an id; 3.1.1 cannot be found again by none
        (Connect("d", V5), Reason.BAD_CREDENTIALS, 4),
        (Connect("d", V5, username="h1", password=b"\xff"), Reason.BAD_CREDENTIALS, 4),
        (Connect("d", V5, username="h1", password=b"s", properties={Property.AUTH_METHOD: "x"}), 0x8C, None),
    ],
)
def test_reasons_of_connack(start: Any, raw: Any, packet: Connect, reason: int, old: int | None) -> None:
    users = () if packet.client_id == "" else (User("h1", hash_password("s", Cost.DEVICE)),)
    running = start(users=users)
    assert come(raw, running.mqtt, V5, packet).connack.reason == reason
    if old is not None:
        three = Connect(packet.client_id, V3, packet.clean, 0, packet.username, packet.password)
        assert come(raw, running.mqtt, V3, three).connack.reason == old


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00", Reason.MALFORMED),
        (encode(Connect("d", V5), V5), Reason.PROTOCOL_ERROR),
        (encode(Leave(Kind.AUTH, 0x18), V5), Reason.BAD_AUTH_METHOD),
        (encode(Plain(Kind.PINGRESP), V5), Reason.PROTOCOL_ERROR),
        (encode(Publish("a+b", b""), V5), Reason.TOPIC_INVALID),
        (encode(Publish("", b"", properties={Property.TOPIC_ALIAS: 17}), V5), Reason.TOPIC_ALIAS_INVALID),
        (encode(Publish("", b"", properties={Property.TOPIC_ALIAS: 3}), V5), Reason.PROTOCOL_ERROR),
        (encode(Publish("plain", bytes(20_000)), V5), Reason.TOO_LARGE),
        (encode(Publish("x", b"", properties={Property.SUBSCRIPTION_ID: (1,)}), V5), Reason.PROTOCOL_ERROR),
        (encode(Leave(Kind.DISCONNECT, 0, {Property.SESSION_EXPIRY: 9}), V5), Reason.PROTOCOL_ERROR),
        (encode(Publish("late", b""), V5), Reason.NOT_AUTHORIZED),  # QoS 0: there is nothing else to say it with
        (b"".join(encode_publish("plain", b"{}", 2, n, V5) for n in (1, 2, 3)), Reason.RECEIVE_MAXIMUM_EXCEEDED),
    ],
)
def test_reasons_of_disconnect(start: Any, raw: Any, fake_log: Any, data: bytes, reason: Reason) -> None:
    fake_log.held = True
    running = start(fake_log, mqtt=Limits(max_packet_bytes=16_384, receive_maximum=2))
    client = raw(running.mqtt, V5)
    client.send(data)
    answer = client.read()
    assert isinstance(answer, Leave)
    assert answer.reason == reason
    assert answer.properties[Property.REASON_STRING]
    assert client.read() is None


@pytest.mark.parametrize("qos", [1, 2])
def test_reasons_of_puback_and_pubrec(start: Any, raw: Any, qos: int) -> None:
    client = raw(start().mqtt, V5)
    client.send(encode_publish("predictions", b"{}", qos, 1, V5) + encode_publish("plain", body("a"), qos, 2, V5))
    answers = sorted([client.read(), client.read()], key=lambda one: one.packet_id)
    kind = Kind.PUBACK if qos == 1 else Kind.PUBREC
    assert [(one.kind, one.reason) for one in answers] == [(kind, Reason.NOT_AUTHORIZED), (kind, 0)]
    client.send(PING)
    assert client.read() == Plain(Kind.PINGRESP)
