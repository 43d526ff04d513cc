"""What the gateway may be told: listeners, users, limits. Frozen, checked by `check_config`; reads no files."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qanat.codec.arrow_body import Limits as BodyLimits
from qanat.contracts.decoders import Contracts
from qanat.errors import ConfigError
from qanat.gateway.limits import RateLimits
from qanat.gateway.mqtt.machine import Limits
from qanat.model.sources import Source
from qanat.secure.users import User

_FIVE_MINUTES = 300_000
#: Packets shorter than this take the hot path, which does not look at the limit.
_SMALLEST_PACKET_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How much may wait for the log, and how it is cut into flushes.

    `linger_ms`: at least so long between the starts of two flushes; `linger_max_ms`: up to so long while more keeps
    coming and less than `linger_messages` wait. `flush_messages`: one flush takes about so many at most.
    `inline_bytes`: a flush up to this size is decoded in the event loop, a larger one in a thread.
    """

    max_pending_messages: int = 200_000
    max_pending_bytes: int = 64 << 20
    linger_ms: int = 4
    linger_max_ms: int = 30
    linger_messages: int = 1000
    flush_messages: int = 50_000
    inline_bytes: int = 131_072
    max_future_skew_ms: int = _FIVE_MINUTES


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `client_ca`: certificates of clients that it signed count; `demand_client`: no others come in."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    demand_client: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """Where one protocol listens. A port of None is no listener, 0 takes a free one; with `tls`, behind TLS."""

    protocol: str
    host: str = "127.0.0.1"
    port: int | None = None
    tls: TlsFiles | None = None


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What listens, who may come in, and how much.

    `users`: none on a loopback address means that everybody may publish; any other address demands users, or devices.
    `devices`: the file of their registry, made where it is missing, or None. `keys`: the file of API keys, which need
    not be there. `registered`: there are devices or keys.
    `contracts`: the schemas of streams, and the registry that they are kept in. `accepts`: the streams that take input
    from outside; None = all but `dead_letters` and `late`. `sources`: what feeds them
    beside the topics of their own name; `base`: what their paths are relative to. `stop_timeout_ms`: how long `stop`
    waits for what is in flight. `max_body_bytes`: of an HTTP body as it comes; `body_limits`: without its compression.
    """

    mqtt_host: str = "127.0.0.1"
    mqtt_port: int | None = 1883
    http_host: str = "127.0.0.1"
    http_port: int | None = 8080
    http_tls: TlsFiles | None = None
    mqtts: Listener = Listener("mqtts")
    grpc: Listener = Listener("grpc")
    users: tuple[User, ...] = ()
    devices: Path | None = None
    keys: Path | None = None
    contracts: Contracts | None = None
    registered: bool = False
    limits: RateLimits = field(default_factory=RateLimits)
    accepts: frozenset[str] | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    base: Path = field(default_factory=Path)
    mqtt: Limits = field(default_factory=Limits)
    ingest: IngestLimits = field(default_factory=IngestLimits)
    max_body_bytes: int = 16 << 20
    body_limits: BodyLimits = field(default_factory=BodyLimits)
    max_connections: int = 20_000
    stop_timeout_ms: int = 10_000

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """All of them, with those that have no port."""
        mqtt = Listener("mqtt", self.mqtt_host, self.mqtt_port)
        http = Listener("http", self.http_host, self.http_port, self.http_tls)
        return (mqtt, self.mqtts, http, self.grpc)


def check_config(config: GatewayConfig) -> None:
    """Raises `ConfigError` for open listeners that others could reach, and for limits that cannot work."""
    for listener in config.listeners:
        if listener.port is not None and not (config.users or config.registered or is_loopback(listener.host)):
            raise ConfigError(
                f"the {listener.protocol} listener on {listener.host} would be open to everybody who can reach it",
                hint="declare users, add devices (qanat device add) or keys (qanat key add), or listen on 127.0.0.1",
            )
    if config.mqtt.max_packet_bytes < _SMALLEST_PACKET_LIMIT:
        raise ConfigError(f"max_packet_bytes is {config.mqtt.max_packet_bytes}; the least is {_SMALLEST_PACKET_LIMIT}")
    if not 1 <= config.mqtt.receive_maximum <= 65_535:
        raise ConfigError(f"receive_maximum is {config.mqtt.receive_maximum}; MQTT allows 1 to 65,535")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
