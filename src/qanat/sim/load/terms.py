"""What is to be sent, and what came of it. Values only; both travel as JSON between processes."""

from __future__ import annotations

from typing import Literal

import msgspec


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """`payload`: JSON with $client, $time (ms), $seconds and $value in it; see `payloads.Mold`.

    `rate`: messages (HTTP: rows) per second over all connections; 0: as fast as they are taken. `in_flight`: messages
    of one connection that may be unacknowledged at once (MQTT QoS 1). `rows`: in one HTTP body. `clients`: how many
    different ones the payloads name; each is sent over one connection. `tick_ms`: how often what has come up is sent,
    with a `rate`. `stamps`: whether the result says when each tick was sent.
    """

    stream: str
    payload: str
    port: int
    protocol: Literal["mqtt", "http"] = "mqtt"
    host: str = "127.0.0.1"
    qos: Literal[0, 1] = 1
    mqtt_version: Literal["3.1.1", "5"] = "3.1.1"
    username: str | None = None
    password: str | None = None
    connections: int = 8
    clients: int = 1000
    rate: float = 0.0
    seconds: float = 5.0
    in_flight: int = 2000
    rows: int = 1000
    tick_ms: int = 5
    name: str = "load"
    stamps: bool = False


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; each message counts."""

    p50: float
    p90: float
    p99: float
    p999: float
    largest: float


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """`acknowledged`: stored, by the gateway's word; of MQTT QoS 0, which has no word for it, the last message of every
    connection is sent with QoS 1, and its acknowledgement stands for all before it. `refused`: rows of requests that
    were told to come later (HTTP 429, 503); others went in their place. `checksum`: the sum of $value over what was
    acknowledged. `seconds`: from first byte to last acknowledgement. `ack_ms`: from when a message was due (with
    a rate) or sent; None for QoS 0. `late_ms`: how far the sender itself was behind its rate at worst. `stamps`: ms,
    for `Load.stamps`.
    """

    sent: int
    acknowledged: int
    refused: int
    checksum: float
    seconds: float
    rate: float
    began_ms: int
    bytes: int
    ack_ms: Percentiles | None
    late_ms: float
    cpu_seconds: float
    connect_seconds: float
    stamps: list[int]
