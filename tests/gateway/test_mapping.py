"""Sources on real listeners: MQTT 5 with properties, MQTT 3.1.1, HTTP paths, users; dead letters where nothing fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import Ack
from qanat.model.sources import Source
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

Start = Callable[..., Any]
SOURCES = {
    "meters": Source(stream="power", topic="meters/{client_id}/power", format="number", value="consumption"),
    "open": Source(stream="power", topic="open/{client_id}"),
    "wrapped": Source(stream="power", topic="wrapped/{client_id}", path="d"),
    "said": Source(
        stream="power",
        topic="said/+",
        columns={"client_id": "$user", "consumption": "$property.watts", "timestamp": "$property.at"},
    ),
}
SITE = {"meters": SOURCES["meters"], "mine": Source(stream="plain", topic="mine/{id}")}


def publish(port: int, topic: str, payload: bytes, version: int = 5, **more: Any) -> None:
    """QoS 1, until it is acknowledged."""
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, "dev-1", protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311
    )
    if "user" in more:
        client.username_pw_set(*more.pop("user"))
    properties = Properties(PacketTypes.PUBLISH) if version == 5 else None
    for name, value in more.items():
        setattr(properties, name, value)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        message = client.publish(topic, payload, qos=1, properties=properties)
        message.wait_for_publish(20)
        assert message.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("version", [4, 5])
def test_a_bare_number_becomes_a_row_with_the_columns_of_its_topic(start: Start, version: int) -> None:
    running = start(sources=SOURCES)
    publish(running.mqtt, "meters/h1/power", b"230.5", version)
    assert running.log.rows("power") == [{"client_id": "h1", "timestamp": running.now // 1000, "consumption": 230.5}]
    publish(running.mqtt, "meters/h1/power", b"much", version)
    (letter,) = running.log.rows("dead_letters")
    assert (letter["data"], letter["origin"], letter["stream"]) == (b"much", "meters/h1/power", "power")
    assert 'expected a number, found "much"' in letter["reason"]


def test_content_type_and_properties_of_mqtt_5_are_used(start: Start) -> None:
    hashed = hash_password("secret", Cost.DEVICE)
    running = start(sources=SOURCES, users=(User("eve", hashed),))
    user = ("eve", "secret")
    payload = cbor2.dumps({"consumption": 1.5})
    publish(running.mqtt, "open/h1", payload, ContentType="application/cbor", user=user)
    publish(running.mqtt, "said/x", b"{}", UserProperty=[("watts", "7"), ("at", "1700000000")], user=user)
    publish(running.mqtt, "said/x", b'{"client_id": "mallory", "consumption": 9}', user=user)
    found = [(row["client_id"], row["consumption"], row["timestamp"]) for row in running.log.rows("power")]
    now = running.now // 1000
    assert found == [("h1", 1.5, now), ("eve", 7.0, 1_700_000_000), ("eve", None, now)]


def test_rights_are_those_to_the_stream_that_a_topic_feeds(start: Start) -> None:
    hashed = hash_password("secret", Cost.DEVICE)
    running = start(sources=SITE, users=(User("eve", hashed, publish=("plain",)),))
    publish(running.mqtt, "mine/1", b"{}", user=("eve", "secret"))
    publish(running.mqtt, "meters/h1/power", b"1", user=("eve", "secret"))
    assert running.log.rows("plain") == [{"id": "1"}]
    assert running.log.rows("power") == []


def test_topics_of_several_levels_are_http_paths_too(start: Start) -> None:
    running = start(sources=SOURCES)
    answer = httpx.post(f"{running.url}/streams/meters/h2/power", content="17.5")
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    answer = httpx.post(f"{running.url}/streams/open/h3", content='{"consumption": 1}\n{"consumption": "x"}')
    assert (answer.status_code, answer.json()["accepted"], answer.json()["dead_letters"]) == (200, 1, 1)
    rows = {"d": [{"consumption": 2}, {"consumption": 1}]}
    whole = httpx.post(f"{running.url}/streams/wrapped/h5", content=json.dumps(rows))
    assert (whole.status_code, whole.json()["accepted"]) == (200, 1)
    cbor = cbor2.dumps({"consumption": 3})
    headers = {"content-type": "application/cbor"}
    assert httpx.post(f"{running.url}/streams/open/h4", content=cbor, headers=headers).status_code == 200
    assert httpx.post(f"{running.url}/streams/power", content=cbor, headers=headers).status_code == 200
    found = [(row["client_id"], row["consumption"]) for row in running.log.rows("power")]
    assert found == [("h2", 17.5), ("h3", 1.0), ("h5", 2.0), ("h5", 1.0), ("h4", 3.0), (None, 3.0)]
    refused = httpx.post(f"{running.url}/streams/meters/h2/power", content="much")
    assert refused.status_code == 422
    assert "expected a number" in refused.json()["detail"]
    assert httpx.post(f"{running.url}/streams/nowhere/x", content="{}").status_code == 404
    assert httpx.post(f"{running.url}/streams/meters/h2/power", content="").status_code == 400


def test_thousands_of_topics_in_one_flush_keep_their_own_columns(start: Start, raw: Callable[..., Any]) -> None:
    running = start(sources=SOURCES)
    client = raw(running.mqtt)
    packets = [
        encode_publish(f"meters/h{number}/power", b"%d" % number, qos=1, packet_id=number % 900 + 1)
        for number in range(3000)
    ]
    for first in range(0, 3000, 900):
        client.send(b"".join(packets[first : first + 900]))
        for _ in packets[first : first + 900]:
            assert isinstance(client.read(), Ack)
    found = {row["client_id"]: row["consumption"] for row in running.log.rows("power")}
    assert found == {f"h{number}": float(number) for number in range(3000)}
