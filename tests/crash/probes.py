"""What the server of today can do: QoS 2, sessions that outlive their connection, idempotency keys."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass

from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.packets import V5, Ack, Connack, Connect, Kind, Packet, find_frame
from qanat.gateway.mqtt.properties import Property

#: What is sent to find out. It does not fit the stream, and so is a dead letter.
PROBE = b"{}"


@dataclass(frozen=True)
class Abilities:
    """Whether it has them."""

    qos2: bool
    sessions: bool
    keys: bool

    def missing(self) -> list[str]:
        """Their names."""
        names = {"QoS 2": self.qos2 and self.sessions, "sessions": self.sessions, "idempotency keys": self.keys}
        return [name for name, there in names.items() if not there]


async def probe(mqtt: int, http: int) -> Abilities:
    """Ask it."""
    qos2 = await _qos2(mqtt)
    sessions = await _connected(mqtt)
    return Abilities(qos2 and sessions, sessions, await asyncio.to_thread(_keys, http))


async def _exchange(port: int, clean: bool, *packets: bytes) -> list[Packet]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    hello = Connect("probe", V5, clean, 30, properties={Property.SESSION_EXPIRY: 60})
    writer.write(encode(hello, V5) + b"".join(packets))
    data, heard = b"", list[Packet]()
    try:
        async with asyncio.timeout(5):
            while len(heard) < 1 + len(packets) and (more := await reader.read(65_536)):
                data += more
                while (frame := find_frame(data, 0)) is not None and frame.end <= len(data):
                    heard.append(decode(data, frame, V5))
                    data = data[frame.end :]
    except TimeoutError:
        return heard
    finally:
        writer.transport.abort()
    return heard


async def _connected(port: int) -> bool:
    heard = await _exchange(port, False)
    return any(isinstance(one, Connack) and one.session_present for one in heard)


async def _qos2(port: int) -> bool:
    """Publishes and leaves it there, so that the session holds something."""
    heard = await _exchange(port, False, encode_publish("readings/probe", PROBE, 2, 1, V5))
    return any(isinstance(one, Ack) and one.kind is Kind.PUBREC for one in heard)


def _keys(port: int) -> bool:
    headers = {"idempotency-key": "probe", "content-type": "application/json"}
    replayed = None
    for _ in range(2):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/streams/readings", b"[" + PROBE + b"]", headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                replayed = answer.headers.get("idempotency-replayed")
        except urllib.error.HTTPError as error:
            replayed = error.headers.get("idempotency-replayed")
            error.close()
    return replayed == "true"
