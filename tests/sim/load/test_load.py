"""The load generator against a real gateway on a log in memory, and its bytes by themselves."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
import uvloop

from qanat.codec.json import decode_payloads
from qanat.errors import AuthError, ConfigError, ProtocolError
from qanat.gateway import Gateway, GatewayConfig
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.packets import V3, Publish, find_frame
from qanat.log import open_log
from qanat.log.base import Log
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, INT, STRING
from qanat.observe.metrics import Metrics
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User
from qanat.sim.load import Load, run, template_for
from qanat.sim.load.lanes import HttpLane, MqttLane, Share, take_shares
from qanat.sim.load.payloads import Mold
from qanat.sim.load.rings import ring_for
from qanat.sim.load.run import percentiles
from qanat.sim.load.stored import Stored, read_stored

READINGS = Stream(
    "readings",
    (Column("client_id", STRING), Column("ts", BIGINT), Column("consumption", DOUBLE)),
    event_time=ArrivalColumn("ts", 1000),
)
PAYLOAD = '{"client_id":"$client","ts":$time,"consumption":$value}'
LOAD = Load(stream="readings", payload=PAYLOAD, port=0, connections=3, clients=10, seconds=0.2, in_flight=50, rows=20)


@dataclass
class Target:
    """A gateway and its log."""

    log: Log
    ports: dict[str, int]

    def load(self, **changed: object) -> Load:
        given = {"port": self.ports[str(changed.get("protocol", "mqtt"))], **changed}
        return msgspec.structs.replace(LOAD, **given)

    def stored(self) -> Stored:
        return read_stored(self.log, "readings", "consumption", {0: 0}, ("client_id", "load-"))


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    log = open_log("memory://")
    log.create(READINGS)
    users = getattr(request, "param", ())

    async def begin() -> Gateway:
        config = GatewayConfig(mqtt_port=0, http_port=0, users=users)
        gateway = Gateway(config, {"readings": READINGS}, log, Metrics())
        await gateway.start()
        return gateway

    gateway = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    yield Target(log, gateway.ports)
    asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()
    log.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"qos": 1},
        {"qos": 0},
        {"qos": 1, "mqtt_version": "5", "in_flight": 500},
        {"qos": 1, "rate": 3000.0},
        {"qos": 0, "rate": 3000.0},
        {"protocol": "http"},
        {"protocol": "http", "rate": 2000.0},
    ],
    ids=str,
)
def test_what_is_acknowledged_is_in_the_log_to_the_last_digit(target: Target, changed: dict[str, object]) -> None:
    result = run(target.load(**changed))
    assert result.acknowledged == result.sent > 0
    assert target.stored() == Stored(result.acknowledged, result.checksum)
    assert target.stored().matches(result)


def test_with_a_rate_as_much_is_sent_as_was_asked_for(target: Target) -> None:
    result = run(target.load(rate=2000.0, seconds=0.5, stamps=True))
    assert result.sent == 1000
    assert len(result.stamps) == 100
    assert result.ack_ms is not None
    assert 0 < result.ack_ms.p50 <= result.ack_ms.p99 <= result.ack_ms.largest


def test_a_client_is_sent_over_one_connection_only(target: Target) -> None:
    run(target.load(rate=2000.0, connections=4, clients=10))
    clients = {name for chunk in target.log.read(("readings", 0), 0, 10**6) for name in chunk.rows[0].to_pylist()}
    assert clients == {f"load-{number:07}" for number in range(10)}
    for number in range(4):
        rows = ring_for(msgspec.structs.replace(LOAD, connections=4), Mold.of(PAYLOAD), number).rows
        assert {int(row.tobytes().partition(b"load-")[2][:7]) % 4 for row in rows} == {number}


@pytest.mark.parametrize("target", [(User("d", hash_password("right", Cost.DEVICE), ("*",)),)], indirect=True)
def test_credentials_are_sent_and_a_wrong_password_is_said_so(target: Target) -> None:
    assert run(target.load(username="d", password="right")).acknowledged > 0
    assert run(target.load(username="d", password="right", protocol="http")).acknowledged > 0
    with pytest.raises(AuthError, match="does not let it in"):
        run(target.load(username="d", password="wrong"))


def test_where_nobody_listens_the_error_says_so() -> None:
    with pytest.raises(ConfigError, match="nobody takes mqtt"):
        run(msgspec.structs.replace(LOAD, port=1))


def test_payloads_that_the_stream_does_not_take_are_not_taken_for_stored(target: Target) -> None:
    load = target.load(payload='{"client_id":"$client","ts":$time,"consumption":"$value"}')
    result = run(load)
    assert not target.stored().matches(result)
    with pytest.raises(ProtocolError, match="422"):
        run(msgspec.structs.replace(load, protocol="http", port=target.ports["http"]))


def test_packets_are_what_the_decoder_reads_and_ids_never_repeat_within_the_ring() -> None:
    for version in ("3.1.1", "5"):
        load = msgspec.structs.replace(LOAD, mqtt_version=version)
        ring = ring_for(load, Mold.of(PAYLOAD), 2)
        data, weight = ring.take(len(ring.rows) + 3, 1_700_000_000_123)
        at, packets = 0, list[Publish]()
        while at < len(data):
            frame = find_frame(data, at)
            assert frame is not None
            packet = decode(data, frame, V3 if version == "3.1.1" else 5)
            assert isinstance(packet, Publish)
            packets.append(packet)
            at = frame.end
        assert [packet.packet_id for packet in packets[: len(ring.rows)]] == list(range(1, len(ring.rows) + 1))
        decoded = decode_payloads([packet.payload for packet in packets], READINGS.columns)
        assert not decoded.bad
        assert set(decoded.rows["ts"].to_pylist()) == {1_700_000_000_123}
        assert sum(decoded.rows["consumption"].to_pylist()) == weight


def test_a_template_is_made_of_the_columns_of_a_stream() -> None:
    template, checked = template_for(replace(READINGS, columns=(*READINGS.columns, Column("on", BOOLEAN))))
    assert template == '{"client_id":"$client","ts":$time,"consumption":$value,"on":true}'
    assert checked == "consumption"
    seconds = replace(READINGS, event_time=ArrivalColumn("ts", 1), columns=(Column("ts", BIGINT), Column("n", INT)))
    assert template_for(seconds) == ('{"ts":$seconds,"n":$whole}', "n")
    with pytest.raises(ConfigError, match="no value is made for the column b"):
        template_for(Stream("s", (Column("b", replace(BYTES, nullable=False)),)))


def test_a_payload_that_says_the_same_every_time_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("says the same in every message")):
        Mold.of('{"consumption": 1}')


def test_pubacks_are_counted_by_their_bytes_however_they_are_cut() -> None:
    lane = MqttLane(LOAD, ring_for(LOAD, Mold.of(PAYLOAD), 0), 0)
    lane.write(2, 1.0, 0)
    lane.write(1, 2.0, 0)
    answers = b"\x20\x02\x00\x00" + b"".join(b"\x40\x02\x00" + bytes([number]) for number in (1, 2, 3))
    found = [share for byte in answers for share in lane.feed(bytes([byte])).shares]
    assert [(share.due, share.count) for share in found] == [(1.0, 1), (1.0, 1), (2.0, 1)]
    assert lane.in_flight == 0
    with pytest.raises(ProtocolError, match="not all PUBACKs"):
        lane.feed(b"\xe0\x02\x97\x00")


def test_an_http_answer_is_waited_for_to_its_end_and_a_refusal_settles_without_storing() -> None:
    load = msgspec.structs.replace(LOAD, protocol="http")
    lane = HttpLane(load, ring_for(load, Mold.of(PAYLOAD), 0), 0)
    lane.write(20, 1.0, 0)
    assert lane.room() == 0
    assert not lane.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 32\r\n\r\n" + b'{"accepted":20,"').shares
    assert lane.feed(b'dead_letters":0}').stored
    lane.write(20, 2.0, 0)
    answered = lane.feed(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
    assert not answered.stored
    assert answered.shares[0].count == 20
    lane.write(20, 3.0, 0)
    with pytest.raises(ProtocolError, match="19"):
        lane.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n" + b'{"accepted":19}')


def test_percentiles_count_messages_not_writes() -> None:
    found = percentiles([0.010, 0.001, 0.100], [98, 1, 1])
    assert found is not None
    assert (found.p50, found.p99, found.largest) == (10.0, 10.0, 100.0)
    assert percentiles([], []) is None


def test_shares_leave_in_order_and_weigh_only_once() -> None:
    from collections import deque

    waiting = deque([Share(1.0, 3, 30.0), Share(2.0, 2, 20.0)])
    taken = take_shares(waiting, 2) + take_shares(waiting, 3)
    assert [(share.count, share.weight) for share in taken] == [(2, 0.0), (1, 30.0), (2, 20.0)]
    assert np.isclose(sum(share.weight for share in taken), 50)
