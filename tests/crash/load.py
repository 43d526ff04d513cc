"""A sender that keeps the account: what it sent over MQTT (QoS 1) and HTTP, and what was acknowledged."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass, field

from qanat.gateway.mqtt.device import Acked, Device

#: 2026-01-01T00:00:00Z
BASE = 1_767_225_600_000


@dataclass
class Account:
    """Message numbers per client, over all connections. `unacknowledged`: sent again on the next connection."""

    client: str
    next: int = 0
    acknowledged: set[int] = field(default_factory=set)
    unacknowledged: list[int] = field(default_factory=list)

    def row(self, number: int) -> dict[str, object]:
        """One reading; event time moves 250 ms a message, now and then backwards."""
        back = 1500 if number % 11 == 0 else 0
        return {"k": self.client, "n": number, "v": number % 7 + 0.5, "t": BASE + number * 250 - back}


class MqttSender(threading.Thread):
    """Publishes as fast as 100 messages in flight allow, until the connection breaks."""

    def __init__(self, account: Account, port: int) -> None:
        super().__init__(daemon=True)
        self.account, self._port = account, port
        self._numbers: dict[int, int] = {}

    def run(self) -> None:
        device = Device(f"{self.account.client}-{time.monotonic_ns()}")
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                connection.sendall(device.connect())
                while True:
                    self._fill(connection, device)
                    self._hear(device, connection.recv(65536))
        except OSError:
            self.account.unacknowledged = sorted(self._numbers.values()) + self.account.unacknowledged

    def _fill(self, connection: socket.socket, device: Device) -> None:
        out = b""
        while len(device.unacked) < 100:
            if self.account.unacknowledged:
                number = self.account.unacknowledged.pop(0)
            else:
                number, self.account.next = self.account.next, self.account.next + 1
            packet = device.publish("readings", json.dumps(self.account.row(number)).encode(), qos=1)
            self._numbers[next(reversed(device.unacked))] = number
            out += packet
        connection.sendall(out)

    def _hear(self, device: Device, data: bytes) -> None:
        if not data:
            raise ConnectionError
        for event in device.feed(data):
            if isinstance(event, Acked):
                assert event.reason < 0x80
                self.account.acknowledged.update(self._numbers.pop(i) for i in event.packet_ids)


class HttpSender(threading.Thread):
    """Posts bodies of 20 rows, one after the other, until the connection breaks."""

    def __init__(self, account: Account, port: int) -> None:
        super().__init__(daemon=True)
        self.account, self._port = account, port

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        numbers: list[int] = []
        try:
            while True:
                numbers = self._numbers()
                self._post(connection, numbers)
                self.account.acknowledged.update(numbers)
                numbers = []
        except (OSError, http.client.HTTPException):
            self.account.unacknowledged = numbers + self.account.unacknowledged
        finally:
            connection.close()

    def _numbers(self) -> list[int]:
        numbers = self.account.unacknowledged[:20]
        del self.account.unacknowledged[:20]
        while len(numbers) < 20:
            numbers.append(self.account.next)
            self.account.next += 1
        return numbers

    def _post(self, connection: http.client.HTTPConnection, numbers: list[int]) -> None:
        body = "\n".join(json.dumps(self.account.row(n)) for n in numbers)
        connection.request("POST", "/streams/readings", body, {"Content-Type": "application/x-ndjson"})
        with connection.getresponse() as response:
            response.read()
            if response.status != 200:
                raise ConnectionError(response.status)
