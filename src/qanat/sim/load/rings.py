"""What one connection sends, over and over: whole packets (MQTT) or lines (HTTP) side by side in one array.

Pure. Everything but times is written when a ring is made, so sending is slicing. Packet ids are the place in the ring
plus one; a connection never has more in flight than its ring is long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import V3, V5
from qanat.sim.load.payloads import Bytes, Mold, client_numbers
from qanat.sim.load.terms import Load

#: Messages in the rings of all connections together, and the fewest and most of one.
_ALL, _FEWEST, _MOST = 400_000, 8, 60_000
VERSIONS = {"3.1.1": V3, "5": V5}


@dataclass(slots=True)
class Ring:
    """`rows[i]` is message i as bytes, `weights[i]` what the checksum gets of the first i messages; `at` is next."""

    rows: Bytes
    weights: npt.NDArray[np.float64]
    mold: Mold
    first: int
    at: int = 0

    def take(self, count: int, now_ms: int) -> tuple[bytes, float]:
        """The next messages, with this time in them, and their share of the checksum."""
        parts: list[bytes] = []
        weight = 0.0
        while count:
            part = min(count, len(self.rows) - self.at)
            rows = self.rows[self.at : self.at + part]
            self.mold.stamp(rows, self.first, now_ms)
            parts.append(rows.tobytes())
            weight += float(self.weights[self.at + part] - self.weights[self.at])
            self.at = (self.at + part) % len(self.rows)
            count -= part
        return (parts[0] if len(parts) == 1 else b"".join(parts)), weight

    def last(self, load: Load, packet_id: int, now_ms: int) -> tuple[bytes, float]:
        """One message more, with QoS 1."""
        row, weight = self.take(1, now_ms)
        payload = row[self.first : self.first + len(self.mold.text)]
        return encode_publish(load.stream, payload, 1, packet_id, VERSIONS[load.mqtt_version]), weight


def ring_for(load: Load, mold: Mold, connection: int) -> Ring:
    """The ring of one connection."""
    least = load.in_flight + 1 if load.protocol == "mqtt" and load.qos else load.rows if load.protocol == "http" else 1
    count = min(max(_ALL // load.connections, least, _FEWEST), _MOST)
    if load.protocol == "http":
        frame, first, place = mold.text + b"\n", 0, None
    else:
        frame = encode_publish(load.stream, mold.text, load.qos, 1, VERSIONS[load.mqtt_version])
        first = len(frame) - len(mold.text)
        place = first - 2 - (load.mqtt_version == "5") if load.qos else None
    rows = np.tile(np.frombuffer(frame, dtype=np.uint8), (count, 1))
    numbers = np.arange(count, dtype=np.int64)
    values = connection * 7919 + numbers
    clients = client_numbers(connection, load.connections, load.clients, count)
    mold.fill(rows, first, clients, values, load.name)
    if place is not None:
        rows[:, place], rows[:, place + 1] = (numbers + 1) >> 8, (numbers + 1) & 0xFF
    weights = np.concatenate([np.zeros(1), np.cumsum(mold.weights(values))])
    return Ring(rows, weights, mold, first)
