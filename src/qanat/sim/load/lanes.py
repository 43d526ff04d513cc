"""One connection under load, as bytes: what it sends next, and how far what came back acknowledges it.

Pure but for the ring's place: no sockets and no clock. A lane counts messages; HTTP counts rows.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from qanat.errors import AuthError, ProtocolError
from qanat.gateway.mqtt.device import GOODBYE, encode_connect
from qanat.sim.load.rings import VERSIONS, Ring
from qanat.sim.load.terms import Load

_PUBACK = b"\x40\x02"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_ACCEPTED = re.compile(rb'"accepted": *([0-9]+)')
#: A later try is welcome.
_LATER = (b"429", b"503")


@dataclass(slots=True)
class Share:
    """What was handed to the socket at once: when it was due (s), how many, and their part of the checksum."""

    due: float
    count: int
    weight: float


@dataclass(slots=True)
class Answered:
    """What an answer settles: shares in the order sent, whether they are stored, and when to go on where not."""

    shares: list[Share] = field(default_factory=list)
    stored: bool = True


class Lane(Protocol):
    """`waiting`: shares without an answer, oldest first; `in_flight` counts their messages."""

    ring: Ring
    waiting: deque[Share]
    in_flight: int
    ready: bool

    def hello(self) -> bytes: ...
    def goodbye(self) -> bytes: ...
    def room(self) -> int: ...
    def write(self, count: int, due: float, now_ms: int) -> bytes: ...
    def finish(self, due: float, now_ms: int) -> bytes: ...
    def feed(self, data: bytes) -> Answered: ...


class MqttLane:
    """PUBLISH out, PUBACK in, counted by their bytes: with QoS 1 the gateway answers a connection in order."""

    def __init__(self, load: Load, ring: Ring, number: int) -> None:
        self.ring, self.waiting, self.in_flight = ring, deque[Share](), 0
        self.ready = False
        self._load, self._name = load, f"{load.name}-{number}"
        self._rest = b""
        self._finished = False

    def hello(self) -> bytes:
        """CONNECT."""
        load, version = self._load, VERSIONS[self._load.mqtt_version]
        return encode_connect(self._name, version=version, username=load.username, password=load.password, keep_alive=0)

    def goodbye(self) -> bytes:
        """DISCONNECT."""
        return GOODBYE

    def room(self) -> int:
        """How many messages may go out now."""
        return self._load.in_flight - self.in_flight if self._load.qos else len(self.ring.rows)

    def write(self, count: int, due: float, now_ms: int) -> bytes:
        """The next messages."""
        data, weight = self.ring.take(count, now_ms)
        self.in_flight += count
        if self.waiting and not self._load.qos:  # they are all answered at once, at the end
            self.waiting[0].count += count
            self.waiting[0].weight += weight
        else:
            self.waiting.append(Share(due, count, weight))
        return data

    def finish(self, due: float, now_ms: int) -> bytes:
        """With QoS 0: one more message, whose acknowledgement stands for all that came before it."""
        if self._load.qos or self._finished:
            return b""
        self._finished = True
        data, weight = self.ring.last(self._load, 1, now_ms)
        self.waiting.append(Share(due, 1, weight))
        self.in_flight += 1
        return data

    def feed(self, data: bytes) -> Answered:
        """Raises `AuthError` where the gateway keeps the client out, `ProtocolError` for any answer but PUBACK."""
        data = self._rest + data
        if not self.ready:
            if len(data) < 4 or len(data) < 2 + data[1]:
                self._rest = data
                return Answered()
            data = self._welcome(data)
        count = len(data) // 4
        self._rest = data[4 * count :]
        if data[0 : 4 * count : 4].count(_PUBACK[0]) != count or data[1 : 4 * count : 4].count(_PUBACK[1]) != count:
            raise ProtocolError(f"{self._name}: the gateway answered {data[:64].hex(' ')}, which is not all PUBACKs")
        if not self._load.qos and count:
            return self._settle(self.in_flight)
        return self._settle(count)

    def _welcome(self, data: bytes) -> bytes:
        if data[0] != 0x20 or data[3]:
            raise AuthError(
                f"{self._name}: the gateway does not let it in: {data[:64].hex(' ')}", hint="--username, --password"
            )
        self.ready = True
        return data[2 + data[1] :]

    def _settle(self, count: int) -> Answered:
        if count > self.in_flight:
            raise ProtocolError(f"{self._name}: {count} PUBACKs for {self.in_flight} messages")
        self.in_flight -= count
        return Answered(take_shares(self.waiting, count))


class HttpLane:
    """POST with a body of lines, one request at a time on a connection that stays open."""

    def __init__(self, load: Load, ring: Ring, number: int) -> None:  # noqa: ARG002  as for MQTT
        self.ring, self.waiting, self.in_flight = ring, deque[Share](), 0
        self.ready = True
        self._load = load
        self._head = _request_head(load)
        self._rest = b""

    def hello(self) -> bytes:
        """Nothing."""
        return b""

    def goodbye(self) -> bytes:
        """Nothing."""
        return b""

    def room(self) -> int:
        """A body's rows while no request is under way."""
        return 0 if self.in_flight else self._load.rows

    def write(self, count: int, due: float, now_ms: int) -> bytes:
        """A request with `count` rows."""
        body, weight = self.ring.take(count, now_ms)
        self.waiting.append(Share(due, count, weight))
        self.in_flight += count
        return self._head % len(body) + body

    def finish(self, due: float, now_ms: int) -> bytes:  # noqa: ARG002  as for MQTT
        """Nothing: each request has its answer."""
        return b""

    def feed(self, data: bytes) -> Answered:
        """Raises `ProtocolError` for any answer but 200 and those that ask to come back."""
        data = self._rest + data
        head, found, body = data.partition(b"\r\n\r\n")
        size = _LENGTH.search(head) if found else None
        if size is None or len(body) < int(size[1]):
            self._rest = data
            return Answered()
        self._rest = body[int(size[1]) :]
        status, accepted = data[9:12], _ACCEPTED.search(body)
        if status not in (b"200", *_LATER) or (
            status == b"200" and int(accepted[1] if accepted else 0) != self.in_flight
        ):
            raise ProtocolError(f"the gateway answered {data[:300].decode(errors='replace')}")
        shares, self.in_flight = list(self.waiting), 0
        self.waiting.clear()
        return Answered(shares, status == b"200")


def take_shares(waiting: deque[Share], count: int) -> list[Share]:
    """The oldest `count` messages, which leave `waiting`. A share that is cut gives its weight with its last part."""
    taken: list[Share] = []
    while count:
        share = waiting[0]
        if share.count > count:
            share.count -= count
            taken.append(Share(share.due, count, 0.0))
            return taken
        taken.append(waiting.popleft())
        count -= share.count
    return taken


def _request_head(load: Load) -> bytes:
    from base64 import b64encode

    lines = [f"POST /streams/{load.stream} HTTP/1.1", f"host: {load.host}:{load.port}"]
    if load.username is not None:
        secret = b64encode(f"{load.username}:{load.password or ''}".encode()).decode()
        lines.append(f"authorization: Basic {secret}")
    lines += ["content-type: application/x-ndjson", "content-length: %d", "", ""]
    return "\r\n".join(lines).encode()
