"""Other people's clients, over TCP, TLS and WebSocket: paho, gmqtt, mosquitto_pub and mosquitto_sub."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gmqtt
import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from qanat.errors import ConfigError
from qanat.gateway.config import Listener, TlsFiles
from qanat.gateway.mqtt.packets import V3, V5
from qanat.gateway.tls import server_context
from qanat.log import open_log
from qanat.log.base import Log
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

BOTH = pytest.mark.parametrize("version", [V3, V5])
QOS = pytest.mark.parametrize("qos", [0, 1, 2])
USERS = (User("h1", hash_password("secret", Cost.DEVICE), ("*",), ("*",)),)


@pytest.fixture
def log(streams: Any) -> Iterator[Log]:
    opened = open_log("memory://")
    for stream in streams.values():
        opened.create(stream)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    mine = authority.issue_cert("127.0.0.1", "localhost")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in mine.cert_chain_pems))
    key.write_bytes(mine.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(ca))
    return TlsFiles(cert, key, ca)


def body(name: Any) -> bytes:
    return json.dumps({"id": str(name)}).encode()


class Paho:
    """A paho client with its loop in a thread; `heard` gets (topic, id, qos, retain)."""

    def __init__(self, version: int, name: str, **settings: Any) -> None:
        protocol = MQTTProtocolVersion.MQTTv5 if version == V5 else MQTTProtocolVersion.MQTTv311
        clean = {} if version == V5 else {"clean_session": settings.pop("clean", True)}
        self.client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=protocol, **clean, **settings)
        self.heard: queue.Queue[tuple[str, str, int, bool]] = queue.Queue()
        self.reasons: queue.Queue[Any] = queue.Queue()
        self.granted: queue.Queue[list[Any]] = queue.Queue()
        self.left: queue.Queue[Any] = queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.reasons.put((reason, flags.session_present))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.granted.put(reasons)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.left.put(reason)
        self.client.on_message = lambda _c, _u, m: self.heard.put(
            (m.topic, json.loads(m.payload)["id"], m.qos, m.retain)
        )

    def connect(self, port: int, **more: Any) -> Any:
        self.client.connect("127.0.0.1", port, **more)
        self.client.loop_start()
        return self.reasons.get(timeout=20)

    def subscribe(self, name: str, qos: int) -> Any:
        self.client.subscribe(name, qos)
        return self.granted.get(timeout=20)

    def publish(self, names: range, qos: int) -> None:
        for one in [self.client.publish("plain", body(n), qos) for n in names]:
            one.wait_for_publish(20)

    def take(self, count: int) -> list[str]:
        return [self.heard.get(timeout=20)[1] for _ in range(count)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def client() -> Iterator[Callable[..., Paho]]:
    """`client(version, name)`, closed at the end."""
    made: list[Paho] = []

    def make(*args: Any, **settings: Any) -> Paho:
        made.append(Paho(*args, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@BOTH
@QOS
def test_paho_publishes_and_subscribes(start: Any, client: Any, log: Log, version: int, qos: int) -> None:
    running = start(log)
    reader, writer = client(version, "r"), client(version, "w")
    assert reader.connect(running.mqtt) == (0, False)
    assert writer.connect(running.mqtt) == (0, False)
    assert [int(one.value) for one in reader.subscribe("plain", qos)] == [qos]
    writer.publish(range(500), qos)
    assert reader.take(500) == [str(n) for n in range(500)]


@pytest.mark.parametrize("qos", [1, 2])
@BOTH
def test_paho_comes_back_to_its_session(start: Any, client: Any, log: Log, version: int, qos: int) -> None:
    running = start(log)
    more: dict[str, Any] = {}
    if version == V5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 1000
        more = {"clean_start": False, "properties": properties}
    settings = {"clean": False} if version == V3 else {}
    reader, writer = client(version, "r", **settings), client(version, "w")
    reader.connect(running.mqtt, **more)
    writer.connect(running.mqtt)
    reader.subscribe("plain", qos)
    writer.publish(range(50), qos)
    assert reader.take(50) == [str(n) for n in range(50)]
    reader.close()
    writer.publish(range(50, 100), qos)
    again = client(version, "r", **settings)
    assert again.connect(running.mqtt, **more) == (0, True)
    assert again.take(50) == [str(n) for n in range(50, 100)]


def test_gmqtt_publishes_and_subscribes(start: Any, log: Log) -> None:
    running = start(log)

    async def work() -> list[tuple[str, int]]:
        got: list[tuple[str, int]] = []
        subscribed, done = asyncio.Event(), asyncio.Event()

        def on_message(_c: Any, topic: str, payload: bytes, qos: int, _p: Any) -> int:
            got.append((json.loads(payload)["id"], qos))
            if len(got) == 90:
                done.set()
            return 0

        reader, writer = gmqtt.Client("r"), gmqtt.Client("w")
        reader.on_message = on_message
        reader.on_subscribe = lambda *_: subscribed.set()
        async with asyncio.timeout(20):
            await reader.connect("127.0.0.1", running.mqtt)
            await writer.connect("127.0.0.1", running.mqtt)
            reader.subscribe("plain", qos=2, subscription_identifier=7)
            await subscribed.wait()
            for number in range(90):
                writer.publish("plain", body(number), qos=number % 3, user_property=("site", "a"))
            await done.wait()
            await reader.disconnect()
            await writer.disconnect()
        return got

    got = asyncio.run(work())
    assert sorted(int(name) for name, _ in got) == list(range(90))
    assert {qos for _, qos in got} == {2}


@BOTH
def test_paho_over_tls(start: Any, client: Any, log: Log, tls: TlsFiles, version: int) -> None:
    running = start(log, mqtts=Listener("mqtts", port=0, tls=tls), users=USERS)
    port = running.gateway.ports["mqtts"]
    one = client(version, "t")
    one.client.tls_set(str(tls.client_ca))
    one.client.username_pw_set("h1", "secret")
    assert one.connect(port)[0] == 0
    assert [int(reason.value) for reason in one.subscribe("plain", 1)] == [1]
    one.publish(range(20), 2)
    assert one.take(20) == [str(n) for n in range(20)]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:  # what speaks no TLS is closed
        sock.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        assert sock.recv(4) != b"\x20\x02\x00\x00"


@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_says_who_somebody_is(
    start: Any, client: Any, log: Log, tls: TlsFiles, authority: Any, minimum: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    demanding = TlsFiles(tls.cert, tls.key, tls.client_ca, demand_client=True)
    running = start(log, mqtts=Listener("mqtts", port=0, tls=demanding), users=USERS)
    device = authority.issue_cert("device-1")
    chain, key = tmp_path / "d.pem", tmp_path / "d.key"
    chain.write_bytes(device.cert_chain_pems[0].bytes())
    key.write_bytes(device.private_key_pem.bytes())
    seen: list[bytes] = []

    def certificate(der: bytes) -> User:
        seen.append(der)
        return USERS[0]

    monkeypatch.setattr(running.gateway._auth, "certificate", certificate)
    context = ssl.create_default_context(cafile=str(tls.client_ca))
    context.minimum_version = context.maximum_version = minimum
    context.load_cert_chain(chain, key)
    one = client(V5, "t")
    one.client.tls_set_context(context)
    assert one.connect(running.gateway.ports["mqtts"])[0] == 0
    assert ssl.DER_cert_to_PEM_cert(seen[0]).strip() == device.cert_chain_pems[0].bytes().decode().strip()
    one.publish(range(3), 1)
    without = ssl.create_default_context(cafile=str(tls.client_ca))
    without.maximum_version = ssl.TLSVersion.TLSv1_2  # where the handshake itself says so
    with (
        socket.create_connection(("127.0.0.1", running.gateway.ports["mqtts"]), timeout=20) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        without.wrap_socket(sock, server_hostname="127.0.0.1")


@BOTH
@pytest.mark.parametrize("secure", [False, True])
def test_paho_over_websocket(start: Any, client: Any, log: Log, tls: TlsFiles, version: int, secure: bool) -> None:
    running = start(log, http_tls=tls if secure else None)
    one = client(version, "ws", transport="websockets")
    one.client.ws_set_options("/mqtt")
    if secure:
        one.client.tls_set(str(tls.client_ca))
    assert one.connect(running.gateway.http_port)[0] == 0
    one.subscribe("plain", 1)
    one.publish(range(200), 2)
    assert one.take(200) == [str(n) for n in range(200)]
    one.publish(range(1), 0)
    assert one.take(1) == ["0"]


def test_tls_files_that_cannot_work_are_named(tls: TlsFiles, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for files, text in (
        (TlsFiles(tmp_path / "nowhere.pem", tls.key), "nowhere.pem"),
        (TlsFiles(empty, tls.key), "empty.pem"),
        (TlsFiles(tls.key, tls.cert), "do not work together"),
        (TlsFiles(tls.cert, tls.key, empty), "holds no certificates"),
        (TlsFiles(tls.cert, tls.key, None, True), "client_ca"),
    ):
        with pytest.raises(ConfigError, match=text):
            server_context(files)


# --- mosquitto_pub and mosquitto_sub ---------------------------------------------------------------------------------


@pytest.fixture
def _mosquitto() -> None:
    if shutil.which("mosquitto_sub") is None:
        text = "no mosquitto_sub: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


def run_mosquitto(program: str, port: int, *options: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    command = [program, "-h", "127.0.0.1", "-p", str(port), "-t", "plain", *options]
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)


@pytest.mark.usefixtures("_mosquitto")
@QOS
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_sub_hears_what_mosquitto_pub_says(start: Any, log: Log, version: str, qos: int) -> None:
    running = start(log)
    common = ["-V", version, "-q", str(qos)]
    heard: list[str] = []
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(running.mqtt), "-t", "plain", "-C", "300", *common]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        thread = threading.Thread(target=lambda: heard.extend(reader.stdout or ()))
        thread.start()

        async def has_reader() -> bool:
            mqtt = running.gateway._mqtt
            return any(link._session and link._session.subscriptions for link in mqtt.links)

        while not running.run(has_reader()):
            pass
        lines = "".join(f'{{"id": "{n}"}}\n' for n in range(300))
        assert run_mosquitto("mosquitto_pub", running.mqtt, *common, "-l", lines=lines).returncode == 0
        thread.join(20)
    assert [json.loads(line)["id"] for line in heard] == [str(n) for n in range(300)]


@pytest.mark.usefixtures("_mosquitto")
def test_mosquitto_over_tls_with_a_retained_message_and_a_session(start: Any, log: Log, tls: TlsFiles) -> None:
    running = start(log, mqtts=Listener("mqtts", port=0, tls=tls), users=USERS)
    port = running.gateway.ports["mqtts"]
    common = ["--cafile", str(tls.client_ca), "-u", "h1", "-P", "secret", "-V", "mqttv5", "-q", "2"]
    publish = run_mosquitto("mosquitto_pub", port, *common, "-r", "-m", '{"id": "a"}')
    assert (publish.returncode, publish.stderr) == (0, "")
    keep = ["-i", "s", "-c", "-x", "1000", "-C", "1", "-W", "20"]
    got = run_mosquitto("mosquitto_sub", port, *common, *keep, "-F", "%r %p")
    assert got.stdout == '1 {"id":"a"}\n'
    for name in ("b", "c"):
        assert run_mosquitto("mosquitto_pub", port, *common, "-m", json.dumps({"id": name})).returncode == 0
    assert run_mosquitto("mosquitto_sub", port, *common, *keep, "-F", "%p").stdout == '{"id":"b"}\n'
    assert run_mosquitto("mosquitto_sub", port, *common, *keep, "-F", "%p").stdout == '{"id":"c"}\n'
