"""Limits on real sockets: what is over is slowed and stored; who goes on is refused with reason and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from qanat.gateway.limits import Limit, RateLimits
from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import V3, V5
from qanat.gateway.mqtt.properties import Property

ROW = b'{"client_id": "h1", "timestamp": 1699999990, "consumption": 1.5}'

Start, Raw = Callable[..., Any], Callable[..., Any]


def limited(start: Start, **device: float) -> Any:
    return start(limits=RateLimits(device=Limit(**device)))  # type: ignore[arg-type]


def rows(count: int, version: int, first: int = 1, qos: int = 1, payload: bytes = ROW) -> bytes:
    return b"".join(
        encode_publish("power", payload, qos, packet_id=number, version=version)
        for number in range(first, first + count)
    )


def acks(client: Any, count: int) -> list[int]:
    """The reasons of so many PUBACKs."""
    return [client.read().reason for _ in range(count)]


@pytest.mark.parametrize("version", [V3, V5])
def test_what_is_over_is_stored_and_the_connection_read_later(start: Start, raw: Raw, version: int) -> None:
    running = limited(start, messages_per_second=100)
    client = raw(running.mqtt, version)
    begin = time.monotonic()
    client.send(rows(130, version))
    assert acks(client, 130) == [0] * 130
    client.send(rows(1, version, first=500))
    assert acks(client, 1) == [0]
    assert time.monotonic() - begin > 0.25
    assert len(running.log.rows("power")) == 131


def test_others_are_read_meanwhile(start: Start, raw: Raw) -> None:
    running = limited(start, bytes_per_second=1000)
    greedy, modest = raw(running.mqtt, V5, client_id="greedy"), raw(running.mqtt, V5, client_id="modest")
    greedy.send(rows(80, V5))
    assert acks(greedy, 80) == [0] * 80
    begin = time.monotonic()
    modest.send(rows(1, V5))
    assert acks(modest, 1) == [0]
    assert time.monotonic() - begin < 2


def test_who_goes_on_is_refused_with_reason_and_time(start: Start, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat.gateway.limits.PATIENCE_MS", 20)
    running = limited(start, messages_per_second=50)
    client = raw(running.mqtt, V5)
    client.send(rows(150, V5))
    assert acks(client, 150) == [0] * 150
    client.send(rows(1, V5, first=500))
    refused = client.read()
    assert refused.reason == 0x97
    assert "come again in 2.0 s" in refused.properties[Property.REASON_STRING]
    client.send(rows(2, V5, qos=0) + rows(1, V5, first=501))
    assert acks(client, 1) == [0x97]
    assert running.counted("qanat_gateway_shed_messages_total", protocol="mqtt", stream="power") == 2
    assert running.counted("qanat_gateway_refused_total", protocol="mqtt", reason="rate") == 4
    running.now += 2000
    client.send(rows(1, V5, first=502))
    assert acks(client, 1) == [0]
    assert len(running.log.rows("power")) == 151


def test_a_client_of_3_1_1_that_goes_on_is_cut_off_and_told_nothing_wrong(
    start: Start, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qanat.gateway.limits.PATIENCE_MS", 20)
    running = limited(start, messages_per_second=50)
    client = raw(running.mqtt, V3)
    client.send(rows(150, V3))
    assert acks(client, 150) == [0] * 150
    client.send(rows(1, V3, first=500))
    assert client.read() is None
    assert len(running.log.rows("power")) == 150


def test_a_message_that_is_too_large_is_refused_and_those_around_it_are_taken(start: Start, raw: Raw) -> None:
    running = limited(start, message_size=100)
    client = raw(running.mqtt, V5)
    large = b'{"client_id": "%s"}' % (b"x" * 100)
    client.send(rows(1, V5) + rows(1, V5, first=2, payload=large) + rows(1, V5, first=3))
    found = {packet.packet_id: packet for packet in (client.read() for _ in range(3))}
    assert {number: packet.reason for number, packet in found.items()} == {1: 0, 2: 0x97, 3: 0}
    assert "the limit is 100" in found[2].properties[Property.REASON_STRING]
    assert len(running.log.rows("power")) == 2


def test_a_row_that_is_too_large_refuses_its_body_over_http(start: Start) -> None:
    running = limited(start, message_size=100)
    url, large = f"{running.url}/streams/power", ROW.replace(b"h1", b"x" * 100)
    answer = httpx.post(url, content=b"\n".join([ROW, ROW, large]))
    assert (answer.status_code, answer.json()["detail"]) == (413, f"row 2 has {len(large)} bytes; the limit is 100")
    assert "limits.device.message_size" in answer.json()["hint"]
    assert httpx.post(url, content=b"\n".join([ROW] * 400)).status_code == 200
    assert len(running.log.rows("power")) == 400


def test_one_connection_too_many_is_refused_but_the_same_client_takes_over(start: Start, raw: Raw) -> None:
    from qanat.secure.passwords import Cost, hash_password
    from qanat.secure.users import User

    users = (User("h1", hash_password("x", Cost.DEVICE)),)
    running = start(users=users, limits=RateLimits(device=Limit(connections=1)))
    who = {"username": "h1", "password": "x"}
    first = raw(running.mqtt, V5, client_id="a", **who)
    second = raw(running.mqtt, V5, client_id="b", **who)
    assert (first.connack.reason, second.connack.reason) == (0, 0x97)
    again = raw(running.mqtt, V5, client_id="a", **who)
    assert again.connack.reason == 0
    assert first.read().reason == 0x8E
    assert running.counted("qanat_devices_connected") == 1


def test_the_total_holds_for_all_together(start: Start, raw: Raw) -> None:
    running = start(limits=RateLimits(total=Limit(messages_per_second=100)))
    first, second = raw(running.mqtt, V5, client_id="a"), raw(running.mqtt, V5, client_id="b")
    first.send(rows(130, V5))
    assert acks(first, 130) == [0] * 130
    begin = time.monotonic()
    second.send(rows(1, V5))
    assert acks(second, 1) == [0]
    second.send(rows(1, V5, first=2))
    assert acks(second, 1) == [0]
    assert time.monotonic() - begin > 0.25


def test_http_hears_429_and_when_to_come_again(start: Start) -> None:
    running = limited(start, messages_per_second=10)
    url = f"{running.url}/streams/power"
    assert httpx.post(url, content=b"\n".join([ROW] * 40)).status_code == 200
    answer = httpx.post(url, content=ROW)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.headers["content-type"] == "application/problem+json"
    running.now += 3000
    assert httpx.post(url, content=ROW).status_code == 200
    assert len(running.log.rows("power")) == 41


def test_many_http_requests_at_once_do_not_slip_through_together(start: Start) -> None:
    running = limited(start, messages_per_second=10)
    body = b"\n".join([ROW] * 40)

    async def post_all() -> list[int]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=20)) as client:
            answers = (client.post(f"{running.url}/streams/power", content=body) for _ in range(20))
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    assert sorted(asyncio.run(post_all())) == [200] + [429] * 19
    assert len(running.log.rows("power")) == 40
