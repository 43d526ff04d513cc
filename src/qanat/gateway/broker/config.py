"""What a source on an outside MQTT broker may be told. Frozen and checked; opens nothing."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qanat.errors import ConfigError
from qanat.gateway.mqtt.packets import V3, V5
from qanat.model.backoff import Backoff
from qanat.model.sources import Broker
from qanat.model.sources import BrokerTls as DeclaredTls

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_VERSIONS = {"5": V5, "3.1.1": V3}
#: The session expiry of MQTT 5 that means never.
_FOR_EVER = 0xFFFF_FFFF
_EXAMPLE = "write mqtt://HOST:1883 or mqtts://USER:PASSWORD@HOST:8883"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and who we are there."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """PEM files: `ca` signs the broker's certificate (None: whom the system trusts), `cert` and `key` are ours."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class BrokerSource:
    """One source. `filters` are MQTT topic filters; `client_id` None: one is drawn and kept in the log.

    `keep_alive` and `session_expiry` in seconds. `in_flight`: so many QoS 1 and 2 messages wait for their commit.
    """

    name: str
    address: Address
    filters: tuple[str, ...]
    qos: int = 1
    client_id: str | None = None
    shared: str | None = None
    version: int = V5
    tls: BrokerTls = BrokerTls()
    keep_alive: int = 30
    session_expiry: int = 7 * 86_400
    in_flight: int = 1000
    connect_timeout_ms: int = 10_000
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The filters as they are subscribed to."""
        if self.shared is None:
            return self.filters
        return tuple(f"$share/{self.shared}/{one}" for one in self.filters)


def parse_url(url: str, name: str) -> Address:
    """`mqtt[s]://[user:password@]host[:port]`. Raises `ConfigError` that names the source, never the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"source {name}: mqtt.url is no URL: {error}", hint=_EXAMPLE) from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ConfigError(f"source {name}: mqtt.url is not the URL of an MQTT broker", hint=_EXAMPLE)
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Address(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", username, password)


def open_source(name: str, declared: Broker, filters: tuple[str, ...], base: Path) -> BrokerSource:
    """The source that qanat.yaml declares; files are relative to `base`. Raises `ConfigError`."""
    address = parse_url(declared.url, name)
    if declared.password_env is not None:
        password = os.environ.get(declared.password_env)
        if not password:
            raise ConfigError(
                f"source {name}: the password is expected in the environment variable {declared.password_env}",
                hint=f"export {declared.password_env}=...",
            )
        address = replace(address, password=password)
    source = BrokerSource(
        name,
        address,
        filters,
        declared.qos,
        declared.client_id,
        declared.shared,
        _VERSIONS[str(declared.version)],
        _tls_files(declared.tls, base),
        int(declared.keep_alive) // 1000,
        min(int(declared.session) // 1000, _FOR_EVER),
        declared.in_flight,
    )
    check_source(source)
    return source


def _tls_files(declared: DeclaredTls | None, base: Path) -> BrokerTls:
    if declared is None:
        return BrokerTls()
    ca, cert, key = (None if one is None else base / one for one in (declared.ca, declared.cert, declared.key))
    return BrokerTls(ca, cert, key)


def check_source(source: BrokerSource) -> None:
    """Raises `ConfigError` for what no broker would take."""
    if not source.filters:
        raise ConfigError(f"source {source.name}: mqtt.topics is empty", hint="topics: [plant/#]")
    for one in source.filters:
        levels = one.split("/")
        hashed = "#" in one and (levels[-1] != "#" or any("#" in level for level in levels[:-1]))
        if not one or hashed or any("+" in level and level != "+" for level in levels):
            raise ConfigError(
                f"source {source.name}: {one!r} is no MQTT topic filter", hint="plant/+/power, or plant/#"
            )
    if source.shared is not None and (not source.shared or set(source.shared) & set("/+#")):
        raise ConfigError(
            f"source {source.name}: mqtt.shared is {source.shared!r}", hint="a group is a name without / + #"
        )
    if not 0 <= source.keep_alive <= 65_535:
        raise ConfigError(f"source {source.name}: mqtt.keep_alive is {source.keep_alive} s", hint="from 0 s to 18 h")
    if source.address.password is not None and source.address.username is None:
        raise ConfigError(f"source {source.name}: a password and no user name", hint=_EXAMPLE)
    if not source.address.tls and source.tls != BrokerTls():
        raise ConfigError(f"source {source.name}: mqtt.tls is given and the URL is mqtt://", hint="write mqtts://")
    if (source.tls.cert is None) != (source.tls.key is None):
        raise ConfigError(f"source {source.name}: mqtt.tls needs cert and key together")


def tls_context(source: BrokerSource) -> ssl.SSLContext | None:
    """What TLS checks and shows; None for a connection without. Raises `ConfigError` for files that do not work."""
    if not source.address.tls:
        return None
    tls = source.tls
    try:
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"source {source.name}: the files of mqtt.tls cannot be used: {error}",
            hint="ca, cert and key are PEM files, relative to the project",
        ) from error
    return context
