"""Sources on outside brokers, with a real Mosquitto: what is published while one of the two is away arrives, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest
import trustme
from tests.gateway.conftest import InLoop

from qanat.errors import LogFullError
from qanat.gateway import GatewayConfig
from qanat.log import open_log
from qanat.log.base import Log, Transaction
from qanat.model.sources import Broker, BrokerTls, Source
from qanat.model.streams import Column, Stream, dead_letter_stream
from qanat.model.types import STRING
from qanat.observe.metrics import Metrics

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
PLAIN = Stream("plain", (Column("id", STRING), Column("place", STRING)))


@pytest.fixture(autouse=True)
def _mosquitto_is_there() -> None:
    if MOSQUITTO is None:
        text = "no mosquitto: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


def wait_for(done: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Mosquitto:
    """A broker of our own that keeps sessions in a file."""

    def __init__(self, folder: Path, *more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence true",
            f"persistence_location {folder}/", "max_queued_messages 0", "max_inflight_messages 0",
            "autosave_on_changes true", "autosave_interval 1", "user root", *more,
        ]  # fmt: skip
        self._config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_for(self._answers, "mosquitto listens")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def publish(self, topic: str, names: list[str], qos: int = 1, **more: Any) -> None:
        """All of them, and until the broker has them."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        sent = [client.publish(topic, json.dumps({"id": name}), qos, **more) for name in names]
        for one in sent:
            one.wait_for_publish(60)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker."""
    (tmp_path / "broker").mkdir()
    one = Mosquitto(tmp_path / "broker")
    yield one
    one.stop(signal.SIGKILL)


class Here(InLoop):
    """A gateway in this process with sources; the log outlives it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: Log = open_log("memory://")
        for stream in (PLAIN, dead_letter_stream()):
            self.log.create(stream)

    def start(self, log: Any = None, **sources: Source) -> None:
        streams = {"plain": PLAIN, "dead_letters": dead_letter_stream()}
        config = GatewayConfig(mqtt_port=None, http_port=0, sources=sources)
        self.open(config, streams, log or self.log, Metrics())

    def health(self) -> dict[str, str]:
        assert self.gateway is not None
        checks: dict[str, str] = httpx.get(f"http://127.0.0.1:{self.gateway.http_port}/healthz").json()["checks"]
        return checks

    def is_well(self) -> bool:
        return set(self.health().values()) == {"ok"}

    def rows(self, stream: str = "plain") -> list[dict[str, Any]]:
        return [row for chunk in self.log.read((stream, 0), 0, 10**9) for row in chunk.rows.to_pylist()]

    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows()]


@pytest.fixture
def here() -> Iterator[Here]:
    """A place for a gateway."""
    one = Here()
    yield one
    one.close()


def source(broker: Mosquitto, **more: Any) -> Source:
    return Source(
        stream="plain", mqtt=Broker(**{"url": f"mqtt://127.0.0.1:{broker.port}", "topics": ("plant/#",), **more})
    )


def names(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_every_qos_are_rows_in_their_order(broker: Mosquitto, here: Here, qos: Any, version: Any) -> None:
    here.start(plant=source(broker, qos=qos, version=version))
    wait_for(here.is_well, "connected")
    broker.publish("plant/a", names(0, 500), qos)
    wait_for(lambda: len(here.ids()) >= 500, "all rows")
    assert here.ids() == names(0, 500)


def test_captures_fill_columns_and_what_does_not_fit_is_a_dead_letter(broker: Mosquitto, here: Here) -> None:
    here.start(plant=source(broker, topics=("plant/{place}/power",)))
    wait_for(here.is_well, "connected")
    broker.publish("plant/north/power", ["1"])
    broker.publish("plant/north/other", ["2"])
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish("plant/south/power", b"{", 1).wait_for_publish(60)
    client.loop_stop()
    wait_for(lambda: here.rows("dead_letters"), "the dead letter")
    assert here.rows() == [{"id": "1", "place": "north"}]
    (letter,) = here.rows("dead_letters")
    assert (letter["source"], letter["origin"], letter["client"]) == ("broker", "plant/south/power", "plant")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_published_while_we_were_away_arrives_once(
    broker: Mosquitto, here: Here, qos: Any, version: Any
) -> None:
    for first in (0, 100, 200):
        here.start(plant=source(broker, qos=qos, version=version))
        wait_for(here.is_well, "connected")
        wait_for(lambda first=first: len(here.ids()) >= first, "what was queued")
        here.stop()
        broker.publish("plant/a", names(first, first + 100), qos)
    here.start(plant=source(broker, qos=qos, version=version))
    wait_for(lambda: len(here.ids()) >= 300, "all rows")
    assert here.ids() == names(0, 300)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_was_away_is_found_again(broker: Mosquitto, here: Here, number: int) -> None:
    here.start(plant=source(broker))
    wait_for(here.is_well, "connected")
    broker.publish("plant/a", names(0, 50))
    wait_for(lambda: len(here.ids()) >= 50, "the first rows")
    broker.stop(number)
    wait_for(lambda: not here.is_well(), "the fault shows")
    assert "broker" in here.health()["source plant"]
    broker.start()
    broker.publish("plant/a", names(50, 100))
    wait_for(lambda: set(here.ids()) == set(names(0, 100)), "the rest")  # twice, what it had not heard the PUBACK of
    wait_for(here.is_well, "well again")


def test_nothing_is_acknowledged_that_the_log_refused(broker: Mosquitto, here: Here) -> None:
    refusing = Refusing(here.log)
    here.start(refusing, plant=source(broker, qos=2))
    wait_for(here.is_well, "connected")
    refusing.refuses = True
    broker.publish("plant/a", names(0, 20), 2)
    wait_for(lambda: "the log did not take" in here.health()["source plant"], "the refusal shows")
    assert here.ids() == []
    refusing.refuses = False
    wait_for(lambda: len(here.ids()) >= 20, "the rows came again")
    assert Counter(here.ids()) == Counter(names(0, 20))


class Refusing:
    """A log that can be full."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.refuses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, transaction: Transaction) -> Any:
        if self.refuses and transaction.appends:
            raise LogFullError("the disk is full")
        return self._log.submit(transaction)


def test_two_of_a_group_share_the_messages(broker: Mosquitto, here: Here) -> None:
    here.start(one=source(broker, shared="g"), other=source(broker, shared="g"))
    wait_for(here.is_well, "connected")
    broker.publish("plant/a", names(0, 200))
    wait_for(lambda: len(here.ids()) >= 200, "all rows")
    assert Counter(here.ids()) == Counter(names(0, 200))


def test_a_topic_that_is_no_longer_wanted_is_unsubscribed(broker: Mosquitto, here: Here) -> None:
    here.start(plant=source(broker, topics=("plant/#", "old/#")))
    wait_for(here.is_well, "connected")
    here.stop()
    here.start(plant=source(broker))
    wait_for(here.is_well, "connected")
    broker.publish("old/a", ["old"])
    broker.publish("plant/a", ["new"])
    wait_for(lambda: "new" in here.ids(), "the message of the other topic")
    assert here.ids() == ["new"]
    assert here.rows("dead_letters") == []


def test_properties_of_a_message_fill_columns(broker: Mosquitto, here: Here) -> None:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    wanted = source(broker)
    here.start(plant=Source(stream="plain", mqtt=wanted.mqtt, columns={"place": "$property.place"}))
    wait_for(here.is_well, "connected")
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("place", "barn")
    properties.ContentType = "application/json"
    broker.publish("plant/a", ["1"], properties=properties)
    wait_for(here.ids, "the row")
    assert here.rows() == [{"id": "1", "place": "barn"}]


def test_nobody_there_and_a_wrong_password_are_said_plainly(tmp_path: Path, here: Here) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "passwords").touch()
    broker = Mosquitto(tmp_path / "users", "allow_anonymous false", f"password_file {tmp_path}/users/passwords")
    try:
        url = f"mqtt://me:secret@127.0.0.1:{broker.port}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = f"mqtt://127.0.0.1:{free.getsockname()[1]}"
        here.start(wrong=source(broker, url=url), nobody=source(broker, url=nobody))
        wait_for(lambda: "refused" in here.health()["source wrong"], "the refusal")
        wait_for(lambda: "cannot reach" in here.health()["source nobody"], "the silence")
        assert "not authorized" in here.health()["source wrong"]
        assert "secret" not in str(here.health())
    finally:
        broker.stop(signal.SIGKILL)


def test_tls_with_a_certificate_of_ours(tmp_path: Path, here: Here) -> None:
    authority, other = trustme.CA(), trustme.CA()
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("me@here")),
    ):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    (tmp_path / "tls").mkdir()
    broker = Mosquitto(
        tmp_path / "tls", f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key", "require_certificate true",
    )  # fmt: skip
    try:
        url = f"mqtts://127.0.0.1:{broker.port}"
        cert, key = str(tmp_path / "client.pem"), str(tmp_path / "client.key")
        trusted = BrokerTls(ca=str(tmp_path / "ca.pem"), cert=cert, key=key)
        distrusted = BrokerTls(ca=str(tmp_path / "other.pem"), cert=cert, key=key)
        here.start(good=source(broker, url=url, tls=trusted), bad=source(broker, url=url, tls=distrusted))
        wait_for(lambda: here.health()["source good"] == "ok", "connected by TLS")
        wait_for(lambda: "is not trusted" in here.health()["source bad"], "the distrust")
    finally:
        broker.stop(signal.SIGKILL)


# --- qanat up in a process of its own, killed ------------------------------------------------------------------------


class Project:
    """A project folder with a source, and the process that runs it."""

    def __init__(self, folder: Path, broker: Mosquitto, qos: int) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "streams.sql").write_text("CREATE TABLE plain (id STRING);\n")
        (folder / "qanat.yaml").write_text(
            "listeners: {mqtt: {port: null}, http: {port: 0}}\n"
            f"sources: {{plant: {{stream: plain, mqtt: {{url: 'mqtt://127.0.0.1:{broker.port}', "
            f"topics: ['plant/#'], qos: {qos}}}}}}}\n"
        )
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "qanat", "up", ".", "--json"]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "listening" and event["protocol"] == "http":
                self.url = f"http://127.0.0.1:{event['port']}"
            if event["event"] == "ready":
                return
        raise AssertionError("qanat up did not start")

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.communicate(timeout=20)
            self.process = None

    def is_well(self) -> bool:
        return bool(httpx.get(f"{self.url}/healthz").status_code == 200)

    def stored(self) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        found = [
            line for line in text.splitlines() if line.startswith('qanat_gateway_rows_accepted_total{stream="plain"}')
        ]
        return float(found[0].split()[-1]) if found else 0.0

    def ids(self) -> list[str]:
        log = open_log(f"sqlite:///{self.folder}/.qanat/log.db", read_only=True)
        try:
            return [row["id"] for chunk in log.read(("plain", 0), 0, 10**9) for row in chunk.rows.to_pylist()]
        finally:
            log.close()


@pytest.mark.crash
@pytest.mark.parametrize("qos", [1, 2])
def test_killed_in_the_middle_it_loses_nothing_and_stores_qos_2_once(
    tmp_path: Path, broker: Mosquitto, qos: int
) -> None:
    project = Project(tmp_path / "farm", broker, qos)
    total, batch = 6000, 1000
    try:
        project.start()
        wait_for(project.is_well, "connected")
        for first in range(0, total, batch):
            publisher = threading.Thread(target=broker.publish, args=("plant/a", names(first, first + batch), qos))
            before = project.stored()
            publisher.start()
            wait_for(lambda before=before: project.stored() > before, "some rows")
            project.kill()
            publisher.join()
            project.start()
            wait_for(project.is_well, "connected")
        wait_for(lambda: len(set(project.ids())) >= total, "all rows", 40)
        project.kill(signal.SIGTERM)
    finally:
        project.kill()
    counts = Counter(project.ids())
    assert set(counts) == set(names(0, total))
    if qos == 2:
        assert max(counts.values()) == 1
