"""Sessions that outlive their connection, and qanat: QoS 2 stored once, subscriptions that go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qanat.errors import LogFullError
from qanat.gateway.mqtt.device import GOODBYE, PING, encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_acks
from qanat.gateway.mqtt.machine import Limits
from qanat.gateway.mqtt.packets import (
    V3,
    V5,
    Ack,
    Connack,
    Connect,
    Kind,
    Leave,
    Plain,
    Publish,
    Reason,
    Suback,
    Subscribe,
)
from qanat.gateway.mqtt.properties import Property
from qanat.log import open_log
from qanat.log.base import Log

BOTH = pytest.mark.parametrize("version", [V3, V5])
DAY = 24 * 3600


class Kept:
    """A log in a file that can be closed and opened again, as after a crash: what was committed is there."""

    def __init__(self, path: Path, streams: Any) -> None:
        self._path, self._streams = path, streams
        self.log = self._open()

    def _open(self) -> Log:
        log = open_log(f"sqlite:///{self._path}/log.db")
        for stream in self._streams.values():
            log.create(stream)
        return log

    def again(self) -> Log:
        self.log.close()
        self.log = self._open()
        return self.log

    def ids(self, stream: str = "plain") -> list[str]:
        chunks = self.log.read((stream, 0), 0, 1_000_000)
        return [value for chunk in chunks for value in chunk.rows.column("id").to_pylist()]


@pytest.fixture
def kept(tmp_path: Path, streams: Any) -> Iterator[Kept]:
    one = Kept(tmp_path, streams)
    yield one
    one.log.close()


def come(raw: Callable[..., Any], port: int, version: int, *, clean: bool = False, **more: Any) -> Any:
    """A client that wants to be remembered."""
    client = raw(port, version, connect=False)
    properties = {Property.SESSION_EXPIRY: DAY} if version == V5 else {}
    properties |= more.pop("properties", {})
    packet = Connect(more.pop("client_id", "d1"), version, clean, properties=properties, **more)
    client.send(encode(packet, version))
    client.connack = client.read()
    assert isinstance(client.connack, Connack)
    assert client.connack.reason == 0
    return client


def body(name: Any) -> bytes:
    return json.dumps({"id": str(name)}).encode()


def subscribe(client: Any, *filters: tuple[str, int]) -> None:
    client.send(encode(Subscribe(1, filters), client.version))
    answer = client.read()
    assert isinstance(answer, Suback)
    assert max(answer.reasons) <= 2


def store(client: Any, *names: Any) -> None:
    client.send(b"".join(encode_publish("plain", body(one), 1, n + 1, client.version) for n, one in enumerate(names)))
    for number in range(len(names)):
        assert client.read() == Ack(Kind.PUBACK, number + 1)


def name_of(message: Any) -> str:
    assert isinstance(message, Publish)
    return str(json.loads(message.payload)["id"])


def until_gone(running: Any) -> None:
    """Returns when the server has noticed that nobody is connected."""

    async def gone() -> bool:
        return not running.gateway._mqtt.links

    while not running.run(gone()):
        pass


# --- QoS 2 from the client -------------------------------------------------------------------------------------------


@BOTH
def test_a_repeated_message_is_stored_once(start: Any, raw: Any, kept: Kept, version: int) -> None:
    client = come(raw, start(kept.log).mqtt, version)
    message = encode_publish("plain", body("a"), 2, 7, version)
    client.send(message)
    assert client.read() == Ack(Kind.PUBREC, 7)
    for _ in range(3):
        client.send(encode_publish("plain", body("a"), 2, 7, version, dup=True))
        assert client.read() == Ack(Kind.PUBREC, 7)
    client.send(message + message)  # also in one run, and whether marked or not
    assert [client.read(), client.read()] == [Ack(Kind.PUBREC, 7)] * 2
    client.send(encode_acks(Kind.PUBREL, [7]))
    assert client.read() == Ack(Kind.PUBCOMP, 7)
    assert kept.ids() == ["a"]
    client.send(encode_publish("plain", body("b"), 2, 7, version))  # the id is free again: another message
    assert client.read() == Ack(Kind.PUBREC, 7)
    assert kept.ids() == ["a", "b"]


@BOTH
def test_pubrec_comes_after_the_commit_and_pubcomp_after_the_id_is_forgotten(
    start: Any, raw: Any, fake_log: Any, version: int
) -> None:
    fake_log.held = True
    running = start(fake_log)
    client = come(raw, running.mqtt, version)
    client.send(encode_publish("plain", body("a"), 2, 1, version) + encode_publish("plain", body("a"), 2, 1, version))
    assert fake_log.submitted.acquire(timeout=20)
    client.send(PING)
    assert client.read() == Plain(Kind.PINGRESP)
    fake_log.release()
    assert client.read() == Ack(Kind.PUBREC, 1)
    assert len(fake_log.rows("plain")) == 1
    taken = [value for key, value in fake_log.kept.items() if key.startswith("mqtt/taken/")]
    assert taken == [b"\x01\x00"]
    client.send(encode_acks(Kind.PUBREL, [1]) + PING)
    assert client.read() == Plain(Kind.PINGRESP)
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    assert client.read() == Ack(Kind.PUBCOMP, 1)
    assert [value for key, value in fake_log.kept.items() if key.startswith("mqtt/taken/")] == [None]


@BOTH
@pytest.mark.parametrize("how", ["reconnect", "restart"])
def test_a_message_that_comes_again_to_the_same_session_is_stored_once(
    start: Any, raw: Any, kept: Kept, version: int, how: str
) -> None:
    running = start(kept.log)
    client = come(raw, running.mqtt, version)
    client.send(b"".join(encode_publish("plain", body(n), 2, n, version) for n in range(1, 51)))
    assert [client.read() for _ in range(50)] == [Ack(Kind.PUBREC, n) for n in range(1, 51)]
    client.send(encode_acks(Kind.PUBREL, range(1, 11)))
    assert [client.read() for _ in range(10)] == [Ack(Kind.PUBCOMP, n) for n in range(1, 11)]
    client.close()
    if how == "restart":
        running.stop()
        running = start(kept.again())
    client = come(raw, running.mqtt, version)
    assert client.connack.session_present
    again = b"".join(encode_publish("plain", body(n), 2, n, version, dup=True) for n in range(11, 51))
    client.send(again + encode_publish("plain", body("new"), 2, 1, version))
    assert sorted(client.read().packet_id for _ in range(41)) == [1, *range(11, 51)]
    client.send(encode_acks(Kind.PUBREL, [*range(11, 51), 1, 900]))
    done = [client.read() for _ in range(42)]
    unknown = Reason.PACKET_ID_UNKNOWN if version == V5 else 0
    assert done[0] == Ack(Kind.PUBCOMP, 900, unknown)
    assert sorted(one.packet_id for one in done) == [1, *range(11, 51), 900]
    assert kept.ids() == [*map(str, range(1, 51)), "new"]


@BOTH
def test_a_clean_start_forgets_what_was_taken(start: Any, raw: Any, kept: Kept, version: int) -> None:
    running = start(kept.log)
    client = come(raw, running.mqtt, version)
    client.send(encode_publish("plain", body("a"), 2, 7, version))
    assert client.read() == Ack(Kind.PUBREC, 7)
    client.close()
    client = come(raw, running.mqtt, version, clean=True)
    assert not client.connack.session_present
    client.send(encode_publish("plain", body("b"), 2, 7, version))
    assert client.read() == Ack(Kind.PUBREC, 7)
    assert kept.ids() == ["a", "b"]
    client.close()
    running.stop()
    running = start(kept.again())
    assert come(raw, running.mqtt, version).connack.session_present == (version == V5)  # in 3.1.1 clean is for good


def test_what_the_log_refuses_is_told_and_may_come_again(start: Any, raw: Any, fake_log: Any) -> None:
    running = start(fake_log)
    client = come(raw, running.mqtt, V5)
    fake_log.fail_with = LogFullError("the disk is full")
    client.send(encode_publish("plain", body("a"), 2, 1, V5))
    answer = client.read()
    assert (answer.kind, answer.packet_id, answer.reason) == (Kind.PUBREC, 1, Reason.QUOTA_EXCEEDED)
    fake_log.fail_with = None
    client.send(encode_publish("plain", body("b"), 2, 1, V5))
    assert client.read() == Ack(Kind.PUBREC, 1)
    fake_log.fail_with = LogFullError("the disk is full")
    client.send(encode_acks(Kind.PUBREL, [1]))
    client.send(PING)
    assert client.read() == Plain(Kind.PINGRESP)
    fake_log.fail_with = None
    assert client.read() == Ack(Kind.PUBCOMP, 1)  # tried again twice a second
    assert [row["id"] for row in fake_log.rows("plain")] == ["b"]


def test_bad_messages_with_qos_2_are_dead_letters_once(start: Any, raw: Any, fake_log: Any) -> None:
    client = come(raw, start(fake_log).mqtt, V5)
    for _ in range(2):
        client.send(encode_publish("plain", b"not json", 2, 1, V5))
        assert client.read().kind is Kind.PUBREC
    assert len(fake_log.rows("dead_letters")) == 1


def test_qos_2_of_a_session_that_ends_with_its_connection_leaves_nothing_behind(
    start: Any, raw: Any, fake_log: Any
) -> None:
    client = raw(start(fake_log).mqtt, V5)
    client.send(encode_publish("plain", body("a"), 2, 1, V5))
    assert client.read() == Ack(Kind.PUBREC, 1)
    client.send(encode_publish("plain", body("a"), 2, 1, V5) + encode_acks(Kind.PUBREL, [1]))
    assert [client.read(), client.read()] == [Ack(Kind.PUBREC, 1), Ack(Kind.PUBCOMP, 1)]
    assert len(fake_log.rows("plain")) == 1
    assert fake_log.kept == {}


# --- subscriptions ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["reconnect", "restart"])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_subscription_goes_on_where_it_stopped(
    start: Any, raw: Any, kept: Kept, version: int, how: str, qos: int
) -> None:
    running = start(kept.log)
    reader, writer = come(raw, running.mqtt, version), come(raw, running.mqtt, version, client_id="w")
    subscribe(reader, ("plain", qos))
    store(writer, *range(5))
    got = [reader.read() for _ in range(5)]
    assert [name_of(one) for one in got] == list("01234")
    if qos == 1:
        reader.send(encode_acks(Kind.PUBACK, [got[0].packet_id, got[1].packet_id]))
    else:
        reader.send(encode_acks(Kind.PUBREC, [got[0].packet_id, got[1].packet_id]))
        assert [reader.read(), reader.read()] == [Ack(Kind.PUBREL, one.packet_id) for one in got[:2]]
        reader.send(encode_acks(Kind.PUBCOMP, [got[0].packet_id]))
    reader.send(PING)
    assert reader.read() == Plain(Kind.PINGRESP)
    reader.close()
    store(writer, *range(5, 8))
    if how == "restart":
        running.stop()
        running = start(kept.again())
    reader = come(raw, running.mqtt, version)
    assert reader.connack.session_present
    if qos == 2:
        assert reader.read() == Ack(Kind.PUBREL, got[1].packet_id)
    again = [reader.read() for _ in range(6)]
    assert [name_of(one) for one in again] == list("234567")
    assert [one.dup for one in again] == [True] * 3 + [False] * 3
    assert [one.packet_id for one in again[:3]] == [one.packet_id for one in got[2:]]
    assert len({one.packet_id for one in again}) == 6


@BOTH
def test_qos_0_of_a_session_goes_on_from_now(start: Any, raw: Any, kept: Kept, version: int) -> None:
    running = start(kept.log)
    reader, writer = come(raw, running.mqtt, version), come(raw, running.mqtt, version, client_id="w")
    subscribe(reader, ("plain", 0))
    reader.close()
    until = running.gateway._mqtt

    async def links() -> int:
        return len(until.links)

    while running.run(links()) > 1:
        pass
    store(writer, 1)
    reader = come(raw, running.mqtt, version)
    assert reader.connack.session_present
    store(writer, 2)
    assert name_of(reader.read()) == "2"


def test_a_session_ends_when_its_time_is_over_and_its_keys_are_gone(start: Any, raw: Any, fake_log: Any) -> None:
    running = start(fake_log)
    client = come(raw, running.mqtt, V5, properties={Property.SESSION_EXPIRY: 100})
    client.send(encode_publish("plain", body("a"), 2, 7, V5))
    assert client.read() == Ack(Kind.PUBREC, 7)
    client.close()
    until_gone(running)
    running.now += 99_000
    client = come(raw, running.mqtt, V5, properties={Property.SESSION_EXPIRY: 100})
    assert client.connack.session_present
    client.close()
    until_gone(running)
    running.now += 101_000
    client = come(raw, running.mqtt, V5, client_id="other", properties={Property.SESSION_EXPIRY: 0})
    while any(value is not None for value in fake_log.kept.values()):
        client.send(PING)
        assert client.read() == Plain(Kind.PINGRESP)
    assert len(fake_log.kept) == 3  # the index, the session, the ids: all deleted
    assert not come(raw, running.mqtt, V5).connack.session_present


def test_a_session_is_kept_no_longer_than_the_server_allows_and_says_so(start: Any, raw: Any, fake_log: Any) -> None:
    running = start(fake_log, mqtt=Limits(session_expiry_maximum_s=10))
    client = come(raw, running.mqtt, V5)
    assert client.connack.properties[Property.SESSION_EXPIRY] == 10


def test_disconnect_can_end_a_session(start: Any, raw: Any, fake_log: Any) -> None:
    running = start(fake_log)
    client = come(raw, running.mqtt, V5)
    client.send(encode_publish("plain", body("a"), 2, 7, V5))
    assert client.read() == Ack(Kind.PUBREC, 7)
    client.send(encode(Leave(Kind.DISCONNECT, 0, {Property.SESSION_EXPIRY: 0}), V5))
    assert client.read() is None
    until_gone(running)
    assert not come(raw, running.mqtt, V5).connack.session_present


def test_only_so_many_sessions_are_kept(start: Any, raw: Any, kept: Kept) -> None:
    running = start(kept.log, mqtt=Limits(max_sessions=1))
    subscribe(come(raw, running.mqtt, V5), ("plain", 1))
    for version, reason in ((V5, Reason.QUOTA_EXCEEDED), (V3, 3)):
        client = raw(running.mqtt, version, connect=False)
        properties = {Property.SESSION_EXPIRY: 5} if version == V5 else {}
        client.send(encode(Connect("one-more", version, False, properties=properties), version))
        assert client.read().reason == reason
    assert raw(running.mqtt, V5, client_id="not-kept").connack.reason == 0


@BOTH
def test_taking_over_a_connection_takes_over_its_session(start: Any, raw: Any, kept: Kept, version: int) -> None:
    running = start(kept.log)
    older = come(raw, running.mqtt, version)
    subscribe(older, ("plain", 1))
    older.send(encode_publish("plain", body("a"), 2, 7, version))
    packets = [older.read(), older.read()]
    assert Ack(Kind.PUBREC, 7) in packets
    newer = come(raw, running.mqtt, version)
    assert newer.connack.session_present
    again = newer.read()
    assert (name_of(again), again.dup) == ("a", True)
    newer.send(encode_publish("plain", body("a"), 2, 7, version, dup=True))
    assert newer.read() == Ack(Kind.PUBREC, 7)
    assert kept.ids() == ["a"]
    if version == V5:
        assert older.read().reason == Reason.TAKEN_OVER
    assert older.read() is None


def test_messages_that_wait_for_the_log_when_the_connection_breaks_are_answered_on_the_next(
    start: Any, raw: Any, fake_log: Any
) -> None:
    fake_log.held = True
    running = start(fake_log)
    client = come(raw, running.mqtt, V5)
    client.send(b"".join(encode_publish("plain", body(n), 2, n, V5) for n in (1, 2)))
    assert fake_log.submitted.acquire(timeout=20)
    client.send(encode_publish("plain", body(3), 2, 3, V5) + PING)  # is held back until the first are stored
    assert client.read() == Plain(Kind.PINGRESP)
    client.close()
    until_gone(running)
    client = come(raw, running.mqtt, V5)
    client.send(b"".join(encode_publish("plain", body(n), 2, n, V5, dup=True) for n in (1, 2, 3)) + PING)
    assert client.read() == Plain(Kind.PINGRESP)
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    assert [client.read() for _ in range(3)] == [Ack(Kind.PUBREC, n) for n in (1, 2, 3)]
    assert [row["id"] for row in fake_log.rows("plain")] == ["1", "2", "3"]


def test_retained_rows_that_were_not_sent_are_sent_to_the_session_later(start: Any, raw: Any, kept: Kept) -> None:
    running = start(kept.log)
    writer = raw(running.mqtt, V5, client_id="w")
    for number in range(5):
        row = json.dumps({"client_id": f"h{number}", "timestamp": 1_699_999_000, "consumption": 1}).encode()
        writer.send(encode_publish("spread", row, 1, 1, V5))
        assert writer.read() == Ack(Kind.PUBACK, 1)
    small = {Property.RECEIVE_MAXIMUM: 2}
    reader = come(raw, running.mqtt, V5, properties=small)
    subscribe(reader, ("spread/+", 1))
    first = [reader.read(), reader.read()]
    reader.close()
    running.stop()
    running = start(kept.again())
    reader = come(raw, running.mqtt, V5)
    assert reader.connack.session_present
    got = [reader.read() for _ in range(7)]
    assert [(one.topic, one.dup) for one in got[:2]] == [(one.topic, True) for one in first]
    assert {one.topic for one in got} == {f"spread/h{n}" for n in range(5)}
    assert all(one.retain for one in got)


def test_many_sessions_survive_a_restart(start: Any, raw: Any, kept: Kept) -> None:
    running = start(kept.log)
    clients = [come(raw, running.mqtt, V3 if n % 2 else V5, client_id=f"größe/{n}") for n in range(60)]
    for client in clients:
        subscribe(client, ("plain", 1))
    store(raw(running.mqtt, V3, client_id="w"), "x")
    for client in clients:
        assert name_of(client.read()) == "x"
    running.stop()
    running = start(kept.again())
    for number in range(60):
        client = come(raw, running.mqtt, V3 if number % 2 else V5, client_id=f"größe/{number}")
        assert client.connack.session_present
        again = client.read()
        assert (name_of(again), again.dup) == ("x", True)
        client.send(encode_acks(Kind.PUBACK, [again.packet_id]) + GOODBYE)
        assert client.read() is None


def test_a_failed_log_refuses_a_subscription_that_is_to_be_kept(
    start: Any, raw: Any, kept: Kept, monkeypatch: Any
) -> None:
    running = start(kept.log)
    client = come(raw, running.mqtt, V5)
    failed: list[int] = []
    submit = kept.log.submit

    def full(transaction: Any) -> Any:
        if not failed:
            failed.append(1)
            raise LogFullError("the disk is full")
        return submit(transaction)

    monkeypatch.setattr(kept.log, "submit", full)
    client.send(encode(Subscribe(1, (("plain", 1), ("nowhere", 1))), V5))
    assert client.read().reasons == (Reason.QUOTA_EXCEEDED,) * 2
    assert failed
    client.send(encode(Subscribe(2, (("plain", 1),)), V5))
    assert client.read().reasons == (1,)
