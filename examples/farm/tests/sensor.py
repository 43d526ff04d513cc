"""A sensor of these tests: a paho client with QoS 1 that remembers what the broker says."""

from __future__ import annotations

import json
from collections.abc import Iterable

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .conftest import wait_for


class Sensor:
    """`entered`: reason of each CONNACK (0: come in), and whether a session was kept; `codes`: of each acknowledgement;
    `gone`: of each end of the connection. One with a name has a session of an hour."""

    def __init__(self, port: int, name: str | None = None, password: str | None = None) -> None:
        self.entered: list[tuple[int, bool]] = []
        self.codes: list[int] = []
        self.gone: list[int] = []
        client_id = None if name is None else f"client-{name}"
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.entered.append(
            (reason.value, flags.session_present)
        )
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self.codes.append(reason.value)
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self.gone.append(reason.value)
        lasting = Properties(PacketTypes.CONNECT)
        if name is not None:
            self.client.username_pw_set(name, password)
            lasting.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, clean_start=name is None, properties=lasting)
        self.client.loop_start()
        wait_for(lambda: self.entered, "an answer to CONNECT", 30)

    def send(self, topic: str, **row: object) -> int:
        """The broker's word on one message."""
        known = len(self.codes)
        self.client.publish(topic, json.dumps(row), 1)
        wait_for(lambda: len(self.codes) > known, "an acknowledgement", 30)
        return self.codes[-1]

    def send_all(self, messages: Iterable[tuple[str, dict[str, object]]]) -> None:
        """All of them, without waiting in between; each must be taken."""
        known, count = len(self.codes), 0
        for topic, row in messages:
            self.client.publish(topic, json.dumps(row), 1)
            count += 1
        wait_for(lambda: len(self.codes) == known + count, "all acknowledgements", 30)
        assert set(self.codes[known:]) <= {0}

    def end(self) -> None:
        """Say goodbye."""
        self.client.disconnect()
        self.client.loop_stop()
