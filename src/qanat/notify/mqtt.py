"""Alerts to an outside MQTT 5 broker: PUBLISH with QoS 1, delivered when every PUBACK is there.

The protocol is the gateway's own (`gateway.mqtt.device`); this is a blocking socket around it, a connection per batch.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qanat.errors import ConfigError, ProtocolError
from qanat.gateway.mqtt.device import GOODBYE, Acked, Device
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.packets import V5, Connack, Leave, Publish
from qanat.gateway.mqtt.properties import Properties, Property
from qanat.model.sinks import MqttPublish
from qanat.notify.messages import Message, Template, encode_json
from qanat.notify.target import DownError, RefusedError, client_context, secret_of

_PORTS = {"mqtt": 1883, "mqtts": 8883}
#: PUBACK reasons that are about the message: topic name, packet too large, payload format.
_ABOUT_IT = frozenset({0x90, 0x95, 0x99})
_REFUSED = 0x80
#: MQTT demands that a client lets so many be sent before it waits; brokers may allow fewer.
_DEFAULT_IN_FLIGHT = 65_535
_EXAMPLE = "url: mqtts://USER@HOST:8883"


@dataclass(frozen=True, slots=True)
class Broker:
    """Where alerts are published, and as whom. `tls` None: without. `timeout`: seconds for a whole batch."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    timeout: float
    client_id: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    retain: bool = False


def open_mqtt(name: str, declared: MqttPublish, columns: Collection[str], timeout: float, base: Path) -> MqttTarget:
    """The target that qanat.yaml declares. Raises `ConfigError`."""
    try:
        parts = urlsplit(declared.url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"sink {name}: mqtt.url is no URL: {error}", hint=_EXAMPLE) from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ConfigError(f"sink {name}: mqtt.url is not the URL of an MQTT broker", hint=_EXAMPLE)
    if parts.password is not None:
        raise ConfigError(f"sink {name}: mqtt.url holds a password", hint="password_env: NAME_OF_A_VARIABLE")
    user = None if parts.username is None else unquote(parts.username)
    password = secret_of(name, "mqtt.password_env", declared.password_env)
    if password is not None and user is None:
        raise ConfigError(f"sink {name}: a password and no user name", hint=_EXAMPLE)
    topic = Template(declared.topic, columns, f"sinks.{name}.mqtt.topic")
    if not declared.topic or set(declared.topic) & set("+#\0"):
        raise ConfigError(f"sink {name}: mqtt.topic {declared.topic!r} is no topic", hint="topic: alerts/{site}")
    broker = Broker(
        parts.hostname,
        port or _PORTS[parts.scheme],
        client_context(name, declared.ca, base) if parts.scheme == "mqtts" else None,
        timeout,
        declared.client_id or f"qanat-{name}-{secrets.token_hex(4)}",
        user,
        password,
        declared.retain,
    )
    return MqttTarget(broker, topic)


class MqttTarget:
    """See `Target`."""

    def __init__(self, broker: Broker, topic: Template, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker, self._topic, self._clock = broker, topic, clock
        self.where = f"{'mqtt' if broker.tls is None else 'mqtts'}://{broker.host}:{broker.port} {topic.text}"
        self._socket: socket.socket | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """See `Target`."""
        one, end = self._broker, self._clock() + self._broker.timeout
        packets = [self._packet(number, message) for number, message in enumerate(messages)]
        try:
            with self._connect() as sock:
                self._socket = sock
                _Exchange(sock, one, end, self._clock).run(packets)
        except ProtocolError as error:
            raise DownError(f"{self.where}: the broker broke the protocol: {error.message}") from error
        except ssl.SSLCertVerificationError as error:
            raise DownError(f"the certificate of {self.where} is not trusted: {error.verify_message}") from error
        except TimeoutError as error:
            raise DownError(f"{self.where} has not acknowledged within {one.timeout:g} s") from error
        except OSError as error:
            raise DownError(f"cannot reach {self.where}: {error.strerror or error}") from error
        finally:
            self._socket = None

    def abort(self) -> None:
        """See `Target`."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        one = self._broker
        plain = socket.create_connection((one.host, one.port), one.timeout)
        if one.tls is None:
            return plain
        try:
            return one.tls.wrap_socket(plain, server_hostname=one.host)
        except BaseException:
            plain.close()
            raise

    def _packet(self, number: int, message: Message) -> tuple[int, bytes]:
        values = {name: _level(text) for name, text in self._topic.fill(message).items()}
        values["$key"] = "/".join(_level(part) for part in message.key.split("/"))
        topic = self._topic.render_with(values)
        properties: Properties = {
            Property.CONTENT_TYPE: "application/json",
            Property.USER_PROPERTY: (("idempotency-key", message.id),),
        }
        packet_id = number % 65_535 + 1
        sent = Publish(topic, encode_json(message), 1, packet_id, self._broker.retain, properties=properties)
        try:
            return packet_id, encode(sent, V5)
        except ProtocolError as error:
            raise RefusedError(f"MQTT cannot carry it: {error.message}") from error


class _Exchange:
    """One connection: CONNECT, all messages, all PUBACKs, DISCONNECT."""

    def __init__(self, sock: socket.socket, broker: Broker, end: float, clock: Callable[[], float]) -> None:
        self._socket, self._end, self._clock = sock, end, clock
        self._device = Device(
            broker.client_id, version=V5, username=broker.user, password=broker.password, keep_alive=60
        )

    def run(self, packets: Sequence[tuple[int, bytes]]) -> None:
        self._socket.sendall(self._device.connect())
        room = self._enter()
        open_ids: set[int] = set()
        for packet_id, packet in packets:
            while len(open_ids) >= room or packet_id in open_ids:
                self._take(open_ids)
            open_ids.add(packet_id)
            self._socket.sendall(packet)
        while open_ids:
            self._take(open_ids)
        self._socket.sendall(GOODBYE)

    def _enter(self) -> int:
        """How many messages may be on their way at a time."""
        while True:
            for event in self._device.feed(self._receive()):
                match event:
                    case Connack(0, _, properties):
                        room = properties.get(Property.RECEIVE_MAXIMUM, _DEFAULT_IN_FLIGHT)
                        return room if isinstance(room, int) else _DEFAULT_IN_FLIGHT
                    case Connack(reason) | Leave(_, reason):
                        raise DownError(f"the broker refused the connection with {reason:#04x}")

    def _take(self, open_ids: set[int]) -> None:
        for event in self._device.feed(self._receive()):
            match event:
                case Acked(packet_ids, reason) if reason < _REFUSED:
                    open_ids.difference_update(packet_ids)
                case Acked(_, reason) if reason in _ABOUT_IT:
                    raise RefusedError(f"the broker refused the message with {reason:#04x}")
                case Acked(_, reason):
                    raise DownError(f"the broker does not take messages: {reason:#04x}")
                case Leave(_, reason):
                    raise DownError(f"the broker closed the connection with {reason:#04x}")

    def _receive(self) -> bytes:
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        data = self._socket.recv(65_536)
        if not data:
            raise DownError("the broker closed the connection")
        return data


def _level(text: str) -> str:
    """A value as one level of a topic, escaped as in the topics of our own streams (docs/gateway.md)."""
    for character in "%+#/\0":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
