"""Alerts to a real Mosquitto: arrived, retained, while it is away, behind a password, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from tests.notify.conftest import put, wait_for

from qanat.errors import ConfigError
from qanat.model.sinks import MqttPublish
from qanat.notify.mqtt import open_mqtt

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """A Mosquitto of our own."""

    def __init__(self, folder: Path, *more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", "user root", *more]) + "\n")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_for(self._answers, "mosquitto listens")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def listen(self) -> tuple[mqtt.Client, list[mqtt.MQTTMessage]]:
        """A subscriber of everything, and what it has heard."""
        heard: list[mqtt.MQTTMessage] = []
        ready: list[int] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_message = lambda _c, _u, message: heard.append(message)
        client.on_subscribe = lambda *_: ready.append(1)
        client.connect("127.0.0.1", self.port)
        client.subscribe("#", 1)
        client.loop_start()
        wait_for(lambda: ready, "subscribed")
        return client, heard


@pytest.fixture
def broker(tmp_path):
    if MOSQUITTO is None:
        text = "no mosquitto: make services installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    begun: list[Broker] = []

    def begin(*more: str) -> Broker:
        begun.append(Broker(tmp_path, *(more or ("allow_anonymous true",))))
        begun[-1].start()
        return begun[-1]

    yield begin
    for one in begun:
        one.stop()


def test_all_of_them_in_order_with_their_ids(log, play, broker):
    one = broker()
    client, heard = one.listen()
    put(log, *((f"field {n % 3}/+#", "raised", 1.0, n) for n in range(250)))
    target = MqttPublish(url=f"mqtt://127.0.0.1:{one.port}", topic="alerts/{site}/x")
    play(mqtt=target, batch=100).run()
    wait_for(lambda: len(heard) >= 250, "all have arrived")
    client.loop_stop()
    assert [json.loads(message.payload)["row"]["n"] for message in heard] == list(range(250))
    assert heard[1].topic == "alerts/field 1%2F%2B%23/x"
    assert heard[1].qos == 1
    assert heard[1].properties.UserProperty == [("idempotency-key", "alerts/0/1")]
    assert log.positions("sink:ops")["alerts", 0] == 250


def test_retained_for_who_comes_later(log, play, broker):
    one = broker()
    put(log, ("a", "raised", 1.0, 7), ("b", "raised", 1.0, 8), ("a", "raised", 1.0, 9))
    play(mqtt=MqttPublish(url=f"mqtt://127.0.0.1:{one.port}", topic="alerts/{$key}", retain=True), key=("site",),
         state="n").run()  # fmt: skip
    client, heard = one.listen()
    wait_for(lambda: len(heard) == 2, "one for each")
    client.loop_stop()
    assert {message.topic: json.loads(message.payload)["row"]["n"] for message in heard} == {
        "alerts/a": 9,
        "alerts/b": 8,
    }


def test_a_broker_that_is_away_gets_it_when_it_is_back(log, play, broker):
    one = broker()
    one.stop()
    put(log, ("a", "raised", 1.0, 7))
    playing = play(mqtt=MqttPublish(url=f"mqtt://127.0.0.1:{one.port}", topic="alerts"))
    playing.run(100)
    assert "cannot reach" in playing.sender.fault
    one.start()
    client, heard = one.listen()
    playing.run(100)
    wait_for(lambda: heard, "it has arrived")
    client.loop_stop()
    assert playing.sender.fault is None


def test_password_and_rights(log, play, broker, tmp_path, monkeypatch):
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "farm", "geheim"], check=True)
    (tmp_path / "acl").write_text("user farm\ntopic write alerts/#\n")
    one = broker("allow_anonymous false", f"password_file {tmp_path}/users", f"acl_file {tmp_path}/acl")
    put(log, ("a", "raised", 1.0, 7))
    url = f"mqtt://farm@127.0.0.1:{one.port}"
    monkeypatch.setenv("BROKER_PASSWORD", "wrong")
    stranger = play(mqtt=MqttPublish(url=url, topic="alerts", password_env="BROKER_PASSWORD"))
    stranger.run(10)
    assert "refused the connection" in stranger.sender.fault
    monkeypatch.setenv("BROKER_PASSWORD", "geheim")
    elsewhere = play(mqtt=MqttPublish(url=url, topic="other", password_env="BROKER_PASSWORD"), attempts=1)
    elsewhere.run(10)
    assert "0x87" in elsewhere.sender.fault
    known = play(mqtt=MqttPublish(url=url, topic="alerts/x", password_env="BROKER_PASSWORD"))
    known.run(10)
    assert known.sender.fault is None
    assert log.positions("sink:ops")["alerts", 0] == 1
    assert log.status()["dead_letters"].rows == 0


def test_a_topic_that_mqtt_cannot_carry_is_about_the_alert(log, play, broker):
    one = broker()
    put(log, ("x" * 70_000, "raised", 1.0, 0), ("b", "raised", 1.0, 1))
    playing = play(mqtt=MqttPublish(url=f"mqtt://127.0.0.1:{one.port}", topic="alerts/{site}"), attempts=1)
    playing.run(10)
    assert log.positions("sink:ops")["alerts", 0] == 2
    assert log.status()["dead_letters"].rows == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "http://x"}, "not the URL"),
        ({"url": "mqtt://u:p@x"}, "holds a password"),
        ({"topic": "alerts/#"}, "is no topic"),
        ({"topic": "{place}"}, "no column"),
        ({"password_env": "SOME_PASSWORD"}, "no user name"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(more, said, monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_PASSWORD", "x")
    with pytest.raises(ConfigError, match=said):
        open_mqtt("ops", MqttPublish(**{"url": "mqtt://x", "topic": "t"} | more), ["site"], 1.0, tmp_path)
