"""`user:password@host:port/name?option=value`, what follows the scheme in the URL of a store behind a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from qanat.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. `name`: the database or keyspace. `password` is shown nowhere."""

    hosts: tuple[str, ...]
    port: int
    name: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{','.join(self.hosts)}:{self.port}/{self.name}"


def parse_address(scheme: str, rest: str, port: int, password: str | None, options: frozenset[str]) -> Address:
    """The parts of `scheme://rest`; hosts may be several, with commas. Raises `ConfigError`."""
    form = f"{scheme}://user@host:{port}/name"
    try:
        parts = urlsplit(f"x://{rest}")
        host, found = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{scheme}:// with an address that cannot be read: {error}", hint=f"write {form}") from error
    name = parts.path.strip("/")
    if not host or not name or "/" in name:
        raise ConfigError(f"{scheme}:// needs a host and a name after it", hint=f"write {form}")
    given = dict(parse_qsl(parts.query))
    for unknown in sorted(set(given) - options):
        hint = f"known are: {', '.join(sorted(options))}" if options else "there are none"
        raise ConfigError(f"{scheme}:// has no option {unknown!r}", hint=hint)
    user = None if parts.username is None else unquote(parts.username)
    own = None if parts.password is None else unquote(parts.password)
    hosts = tuple(host.strip("[]").split(","))
    return Address(hosts, found or port, unquote(name), user, password if password is not None else own, given)
