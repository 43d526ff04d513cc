"""The fleet on real sockets against a little server that can be told to misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from qanat.errors import AuthError, ConfigError
from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.packets import Ack, Connack, Connect, Kind, Plain, Publish, Reason, find_frame
from qanat.sim.fleet import Fleet, FleetOptions, loop_factory
from qanat.sim.households import Message

#: What to answer to the n-th PUBLISH (from 1): a reason code, or None to hang up without storing it.
Manner = Callable[[int], int | None]


class Server:
    """Stores what it acknowledges. `connack`: the reason it greets everybody with."""

    def __init__(self, manner: Manner = lambda _: 0, connack: int = 0, held: int = 0) -> None:
        self.manner, self.connack, self.held = manner, connack, held
        self.stored: list[Publish] = []
        self.connects: list[Connect] = []
        self.arrived = 0
        self.most_open = 0
        self._kept: list[tuple[asyncio.StreamWriter, Ack, int]] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data, version = b"", 5
        while chunk := await reader.read(65_536):
            data += chunk
            while (frame := find_frame(data, 0)) is not None and frame.end <= len(data):
                packet = decode(data, frame, version)
                data = data[frame.end :]
                match packet:
                    case Connect():
                        version = packet.version
                        self.connects.append(packet)
                        writer.write(encode(Connack(self.connack), version))
                    case Publish() if not self.take(packet, writer, version):
                        writer.close()
                        return
                    case Plain(Kind.PINGREQ):
                        writer.write(encode(Plain(Kind.PINGRESP), version))
        writer.close()

    def take(self, packet: Publish, writer: asyncio.StreamWriter, version: int) -> bool:
        self.arrived += 1
        reason = self.manner(self.arrived)
        if reason is None:
            return False
        if reason == 0:
            self.stored.append(packet)
        if packet.qos:
            self._kept.append((writer, Ack(Kind.PUBACK, packet.packet_id, reason), version))
            self.most_open = max(self.most_open, len(self._kept))
            asyncio.get_running_loop().call_later(self.held / 1000, self.answer)
        return True

    def answer(self) -> None:
        writer, ack, version = self._kept.pop(0)
        if not writer.is_closing():
            writer.write(encode(ack, version))


@asynccontextmanager
async def listening(server: Server):
    sockets = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    try:
        yield sockets.sockets[0].getsockname()[1]
    finally:
        sockets.close()


def play(server: Server, messages: list[Message], **options) -> Fleet:
    async def main() -> Fleet:
        async with listening(server) as port:
            fleet = Fleet(
                FleetOptions(port=port, **{"speed": 0, "backoff_s": (0.005, 0.02), "drain_s": 10.0} | options)
            )
            await fleet.play(messages)
            return fleet

    return run(main())


def run(work: Coroutine[None, None, Any]) -> Any:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(asyncio.wait_for(work, 30))


def some(count: int, clients: int = 4, step_ms: int = 100) -> list[Message]:
    return [Message(i * step_ms, f"c{i % clients}", f"power/c{i % clients}", b'{"n":%d}' % i) for i in range(count)]


@pytest.mark.parametrize("version", ["5", "3.1.1", "mixed"])
def test_every_message_arrives_once_and_in_the_clients_order(version):
    server, messages = Server(), some(200)
    fleet = play(server, messages, version=version)
    assert Counter(p.payload for p in server.stored) == Counter(m.payload for m in messages)
    for client in range(4):
        mine = [p.payload for p in server.stored if p.topic == f"power/c{client}"]
        assert mine == [m.payload for m in messages if m.client == f"c{client}"]
    account = fleet.account
    assert (account.sent, account.acknowledged, account.again, account.reconnects) == (200, 200, 0, 0)
    assert all(account.acked)
    assert len(account.ack_ms) == 200
    assert {c.version for c in server.connects} == {"5": {5}, "3.1.1": {4}, "mixed": {4, 5}}[version]


def test_what_was_not_acknowledged_is_sent_again_on_the_next_connection():
    server, messages = Server(lambda n: None if n % 37 == 0 else 0, held=1), some(300)
    fleet = play(server, messages, window=8)
    assert {p.payload for p in server.stored} == {m.payload for m in messages}
    assert all(fleet.account.acked)
    assert fleet.account.reconnects > 0
    assert fleet.account.again > 0
    assert sum(fleet.account.sends) == fleet.account.sent + fleet.account.again
    assert any(p.dup for p in server.stored)


def test_a_server_without_room_gets_the_message_later():
    server, messages = Server(lambda n: Reason.QUOTA_EXCEEDED if n % 10 == 0 else 0), some(100)
    fleet = play(server, messages)
    assert Counter(p.payload for p in server.stored) == Counter(m.payload for m in messages)
    assert fleet.account.acknowledged == 100


def test_a_refusal_for_good_is_counted_and_not_repeated():
    server, messages = Server(lambda n: Reason.NOT_AUTHORIZED if n == 3 else 0), some(10, clients=1)
    fleet = play(server, messages)
    assert list(fleet.account.refused) == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert fleet.account.acknowledged == 9
    assert server.arrived == 10


def test_no_client_runs_ahead_of_an_unanswered_message():
    server = Server(held=3)
    play(server, some(60, clients=6, step_ms=1000), lead_ms=4000, window=1000)
    assert server.most_open == 5  # 4 s of lead at one message a second, and the one that opens them
    free = Server(held=20)
    play(free, some(60, clients=6, step_ms=1000), window=1000)
    assert free.most_open > 5


def test_the_window_bounds_what_one_connection_has_open():
    server = Server(held=2)
    play(server, some(60, clients=1), window=7)
    assert server.most_open == 7


def test_qos_0_is_written_and_not_waited_for():
    server, messages = Server(), some(50)
    fleet = play(server, messages, qos=0, speed=1000.0)
    assert (fleet.account.sent, fleet.account.acknowledged) == (50, 0)
    assert {p.qos for p in server.stored} <= {0}


def test_messages_keep_their_pace():
    async def main() -> float:
        async with listening(Server()) as port:
            began = asyncio.get_running_loop().time()
            await Fleet(FleetOptions(port=port, speed=10.0)).play(some(31, step_ms=100))
            return asyncio.get_running_loop().time() - began

    assert 0.28 < run(main()) < 2.0  # 3 s of fleet time at ten times the speed


def test_user_and_password_are_sent():
    server = Server()
    play(server, some(4, clients=2), username="meter-{client}", password="secret")
    assert {(c.username, c.password) for c in server.connects} == {("meter-c0", b"secret"), ("meter-c1", b"secret")}


def test_a_server_that_keeps_clients_out_ends_the_play():
    with pytest.raises(AuthError, match="keeps c0 out"):
        play(Server(connack=Reason.BAD_CREDENTIALS), some(4))


def test_clients_wait_for_a_server_that_is_not_there_yet():
    server, messages = Server(), some(8)

    async def main() -> Fleet:
        async with listening(Server()) as port:
            pass
        options = FleetOptions(port=port, speed=0, backoff_s=(0.005, 0.02))
        fleet = Fleet(options)
        playing = asyncio.create_task(fleet.play(messages))
        await asyncio.sleep(0.05)
        sockets = await asyncio.start_server(server.talk, "127.0.0.1", port)
        await playing
        sockets.close()
        return fleet

    assert run(main()).account.acknowledged == 8


def test_where_nobody_listens_the_error_says_what_to_start():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = held.getsockname()[1]
        fleet = Fleet(FleetOptions(port=port, speed=0, backoff_s=(0.005, 0.02), patience_s=0.1))
        with pytest.raises(ConfigError, match=f"no MQTT server answers at 127.0.0.1:{port}") as error:
            run(fleet.play(some(4)))
    assert f"qanat up examples/nilm --mqtt-port {port}" in str(error.value)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="set the pace"):
        FleetOptions(qos=0, speed=0)
    with pytest.raises(ConfigError, match="no MQTT version"):
        replace(FleetOptions(), version="4")
