"""`qanat up` killed again and again under a subscriber that is to be remembered: it misses nothing.

What goes in under kills is tested in tests/crash; here it is what comes out.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import RawClient

from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.encoding import encode, encode_acks
from qanat.gateway.mqtt.packets import V5, Ack, Connack, Connect, Kind, Publish, Subscribe
from qanat.gateway.mqtt.properties import Property

_KILLS = 12
SQL = "CREATE TABLE readings (n BIGINT NOT NULL);"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Server:
    """`qanat up` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "readings.sql").write_text(SQL)

    def start(self) -> None:
        command = [sys.executable, "-m", "qanat", "up", str(self._folder), "--json"]
        command += ["--mqtt-port", str(self.port), "--http-port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self._process.poll() is None
                time.sleep(0.02)
        raise AssertionError("qanat does not listen")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    one.start()
    yield one
    one.kill()


def come(port: int, name: str) -> Any:
    client: Any = RawClient(port, V5, connect=False)
    properties = {Property.SESSION_EXPIRY: 3600, Property.RECEIVE_MAXIMUM: 20}
    try:
        client.send(encode(Connect(name, V5, False, properties=properties), V5))
        client.connack = client.read()
        if not isinstance(client.connack, Connack):
            raise ConnectionResetError
    except OSError:
        client.close()
        raise
    return client


def come_at_last(port: int, name: str) -> Any:
    """The same, once the server is there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError):
            return come(port, name)
        time.sleep(0.01)
    raise AssertionError("qanat does not come back")


class Reader(threading.Thread):
    """A subscriber that behaves as a good client does: it keeps the packet ids of QoS 2 until they are released."""

    def __init__(self, port: int, qos: int, total: int) -> None:
        super().__init__(daemon=True)
        self._port, self._qos, self._total = port, qos, total
        self.got: list[int] = []
        self.lost_session = False
        self._known: set[int] = set()
        self._subscribed = threading.Event()

    def wait(self) -> None:
        assert self._subscribed.wait(20)

    def run(self) -> None:
        while len(set(self.got)) < self._total:
            with suppress(OSError), closing(come_at_last(self._port, "reader")) as client:
                self._talk(client)

    def _talk(self, client: Any) -> None:
        if not self._subscribed.is_set():
            client.send(encode(Subscribe(1, (("readings", self._qos),)), V5))
            assert client.read() is not None
            self._subscribed.set()
        elif not client.connack.session_present:
            self.lost_session = True
        while len(set(self.got)) < self._total:
            self._take(client, client.read())

    def _take(self, client: Any, packet: object) -> None:
        match packet:
            case Publish(qos=1):
                self.got.append(json.loads(packet.payload)["n"])
                client.send(encode_acks(Kind.PUBACK, [packet.packet_id]))
            case Publish():
                if packet.packet_id not in self._known:
                    self._known.add(packet.packet_id)
                    self.got.append(json.loads(packet.payload)["n"])
                client.send(encode_acks(Kind.PUBREC, [packet.packet_id]))
            case Ack(Kind.PUBREL, packet_id):
                self._known.discard(packet_id)
                client.send(encode_acks(Kind.PUBCOMP, [packet_id]))
            case _:
                raise ConnectionResetError


def publish(port: int, numbers: range) -> None:
    """QoS 2, each until it is complete, over as many connections as it takes."""
    todo = {n % 60_000 + 1: n for n in numbers}
    received: set[int] = set()
    while todo:
        with suppress(OSError), closing(come_at_last(port, "writer")) as client:
            if received:
                client.send(encode_acks(Kind.PUBREL, sorted(received)))
            for packet_id in [one for one in todo if one not in received]:
                client.send(encode_publish("readings", b'{"n": %d}' % todo[packet_id], 2, packet_id, V5))
            while todo:
                packet = client.read()
                if not isinstance(packet, Ack):
                    raise ConnectionResetError
                if packet.kind is Kind.PUBREC:
                    received.add(packet.packet_id)
                    client.send(encode_acks(Kind.PUBREL, [packet.packet_id]))
                else:
                    received.discard(packet.packet_id)
                    todo.pop(packet.packet_id, None)


@pytest.mark.crash
@pytest.mark.parametrize("qos", [1, 2])
def test_a_subscriber_misses_nothing_and_with_qos_2_gets_nothing_twice_whenever_qanat_is_killed(
    server: Server, qos: int
) -> None:
    total, step = 1500, 50
    reader = Reader(server.port, qos, total)
    reader.start()
    reader.wait()
    stop = threading.Event()

    def killer() -> None:
        chance = random.Random(qos)
        for _ in range(_KILLS):  # a slow machine gets no further in the life between two kills than it must
            if stop.wait(chance.uniform(0.1, 0.6)):
                return
            server.kill()
            server.start()

    thread = threading.Thread(target=killer)
    thread.start()
    for first in range(0, total, step):
        publish(server.port, range(first, first + step))
    stop.set()
    thread.join(60)
    reader.join(60)
    assert not reader.lost_session
    assert set(reader.got) == set(range(total))
    if qos == 2:
        assert sorted(reader.got) == list(range(total))
