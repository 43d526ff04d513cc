"""Making devices out of descriptions: draws their secrets and what checks them. Stores nothing.

A drawn secret has 192 bits and is shown once; what is kept of it (an argon2 hash, a SHA-256) does not give it back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from msgspec.structs import replace

from qanat.errors import ConfigError
from qanat.model.devices import Credential, Device, Record, Secret, apply_record, check_id
from qanat.secure.certificates import read_fingerprint
from qanat.secure.passwords import Cost, draw_secret, hash_password

#: What every token begins with, so that one is known where it should not be.
TOKEN_PREFIX = "qnt_"  # noqa: S105  no secret
_THREADS = 2
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device, what checks it, and the secret that was drawn for it (None where it brings its own)."""

    device: Device
    credential: Credential
    secret: str | None = None


def enrol(records: Sequence[Record], now: int) -> tuple[Enrolled, ...]:
    """The devices that the records describe, each with one way to come in; without a word about it, a password.

    Raises `ConfigError` that says which record is wrong, or that there is none. Hashing takes 0.05 ms a device, 20 ms
    for passwords that somebody chose.
    """
    if not records:
        raise ConfigError("there is no device in it", hint="one object or line for each device")
    devices = [apply_record(Device(record.id, created_at=now), record) for record in records]
    known: set[str] = set()
    for device in devices:
        if device.id in known:
            raise ConfigError(f"device {device.id!r} is given twice", hint="give each device its own id")
        known.add(device.id)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="qanat-enrol") as threads:
        drawn = threads.map(lambda record: credential_of(record, now), records)
        return tuple(
            Enrolled(device, credential, secret) for device, (credential, secret) in zip(devices, drawn, strict=True)
        )


def renew(device: Device, credentials: Sequence[Credential], wanted: Record, now: int) -> Enrolled:
    """Another credential for a device: as the record says, or another of the kind that it has now.

    Raises `ConfigError` where it has a certificate and the record brings no other.
    """
    chosen = replace(wanted, id=device.id)
    if chosen == Record(id=device.id):
        kind = max(credentials, key=lambda one: one.created_at).kind if credentials else Secret.PASSWORD
        if kind not in (Secret.PASSWORD, Secret.TOKEN):
            raise ConfigError(
                f"device {device.id!r} comes with a certificate", hint="--certificate FILE.pem, or --token"
            )
        chosen = Record(id=device.id, credential=kind.value)
    credential, secret = credential_of(chosen, now)
    return Enrolled(device, credential, secret)


def credential_of(record: Record, now: int) -> tuple[Credential, str | None]:
    """What checks the device, and the secret where one was drawn. Raises `ConfigError`."""
    given = [name for name in ("credential", *_GIVEN) if getattr(record, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"device {record.id!r} has {' and '.join(given)}", hint="one way to come in, please")
    match given[0] if given else "credential":
        case "credential":
            kind = Secret(record.credential or "password")
            secret = draw(kind)
            return Credential(record.id, kind, check_value(kind, secret), now), secret
        case "password":
            value = hash_password(record.password or "", Cost.PERSON)
            return Credential(record.id, Secret.PASSWORD, value, now), None
        case "password_hash":
            return Credential(record.id, Secret.PASSWORD, _argon2(record), now), None
        case "certificate":
            return Credential(record.id, Secret.CERTIFICATE, read_fingerprint(record.certificate or ""), now), None
        case "common_name":
            name = (record.common_name or "").replace("{id}", record.id)
            return Credential(record.id, Secret.COMMON_NAME, name or record.id, now), None
        case other:
            raise AssertionError(other)


def draw(kind: Secret) -> str:
    """A new password or token."""
    return TOKEN_PREFIX + draw_secret() if kind is Secret.TOKEN else draw_secret()


def check_value(kind: Secret, secret: str) -> str:
    """What is kept of a drawn secret."""
    return token_digest(secret) if kind is Secret.TOKEN else hash_password(secret, Cost.DEVICE)


def token_digest(token: str) -> str:
    """What is kept of a token. Its 192 bits cannot be guessed, so that one pass of SHA-256 is enough to hide it."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def numbered(template: Record, prefix: str, count: int, first: int = 1) -> list[Record]:
    """`count` records like the template, with the ids PREFIX00001, PREFIX00002, ... from `first` on."""
    if not 1 <= count <= _MOST or first < 0:
        raise ConfigError(f"{count} devices from number {first}", hint=f"1 to {_MOST:,} at a time, from 0 or more")
    width = max(5, len(str(first + count - 1)))
    check_id(f"{prefix}{first:0{width}d}")
    return [replace(template, id=f"{prefix}{number:0{width}d}") for number in range(first, first + count)]


_GIVEN = ("password", "password_hash", "certificate", "common_name")


def _argon2(record: Record) -> str:
    value = record.password_hash or ""
    if not value.startswith("$argon2"):
        raise ConfigError(f"password_hash of device {record.id!r} is no argon2 hash", hint="it begins with $argon2id$")
    return value
