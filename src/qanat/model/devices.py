"""Devices: what the registry knows of one, and how a device may be described in files and requests. No I/O.

Times are milliseconds since 1970. Secrets are no part of a device; a `Credential` holds what checks one.
"""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import msgspec

from qanat.clock import instant_text
from qanat.errors import ConfigError
from qanat.model.project import parse_duration

#: What a device may do unless it is said otherwise: everything under its own name, `STREAM/ID` and below.
OWN_TOPICS = ("+/{id}/#",)

#: The keys of a record that say how the device comes in.
WAYS = frozenset({"credential", "password", "password_hash", "certificate", "common_name"})

_LONGEST = 128
_REFUSED = "/+#:{}"
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


class Secret(enum.Enum):
    """What a device proves itself by. Password and token are drawn here; certificates are made elsewhere."""

    PASSWORD = "password"  # noqa: S105  a name, no secret
    TOKEN = "token"  # noqa: S105  as above
    CERTIFICATE = "certificate"
    COMMON_NAME = "common_name"


@dataclass(frozen=True, slots=True)
class Device:
    """One device, without its secrets.

    `publish`, `subscribe`: MQTT topic filters in which `{id}` stands for the device's id. `interval_ms`: how often it
    sends. `seen_at`: when it last came in or sent something, a few seconds behind.
    """

    id: str
    owner: str = ""
    kind: str = ""
    interval_ms: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    publish: tuple[str, ...] = OWN_TOPICS
    subscribe: tuple[str, ...] = OWN_TOPICS
    disabled: bool = False
    created_at: int = 0
    rotated_at: int | None = None
    seen_at: int | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """`value`: an argon2 hash, the SHA-256 of a token or of a certificate (hex), or a common name.

    `expires_at`: until when a secret that was replaced still counts; None is for ever.
    """

    device: str
    kind: Secret
    value: str
    created_at: int = 0
    expires_at: int | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device as files and requests describe it. What is None is left as it is, or takes the default.

    `credential`: what to draw. `password`, `password_hash`: one that the device already has. `certificate`: PEM, or the
    SHA-256 of its DER form as hex.
    """

    id: str = ""
    owner: str | None = None
    kind: str | None = None
    interval: str | None = None
    labels: dict[str, str] | None = None
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    credential: Literal["password", "token"] | None = None
    password: str | None = None
    password_hash: str | None = None
    certificate: str | None = None
    common_name: str | None = None


def apply_record(device: Device, record: Record) -> Device:
    """The device with what the record says, checked. Raises `ConfigError` for what cannot be."""
    interval = device.interval_ms if record.interval is None else parse_time(record.interval, "interval")
    changed = replace(
        device,
        owner=_said(record.owner, device.owner),
        kind=_said(record.kind, device.kind),
        interval_ms=interval,
        labels=_said(record.labels, device.labels),
        publish=_said(record.publish, device.publish),
        subscribe=_said(record.subscribe, device.subscribe),
    )
    _check(changed)
    return changed


def over(record: Record, defaults: Record) -> Record:
    """The record, and where it says nothing what the defaults say; a way to come in counts as one thing."""
    said = {name: value for name, value in _values(record).items() if value is not None and name != "id"}
    basic = {name: value for name, value in _values(defaults).items() if value is not None}
    if said.keys() & WAYS:
        basic = {name: value for name, value in basic.items() if name not in WAYS}
    return Record(**{**basic, **said, "id": record.id})


def check_id(text: str) -> str:
    """A device id, which is also a user name, a client id and a level of topics. Raises `ConfigError`."""
    problem = None
    if not text or len(text) > _LONGEST:
        problem = f"has {len(text)} characters; 1 to {_LONGEST} are possible"
    elif not text.isprintable() or any(character.isspace() for character in text):
        problem = "has white space or characters that cannot be shown"
    elif text[0] == "$" or set(text) & set(_REFUSED):
        problem = f"begins with $ or has one of {' '.join(_REFUSED)}"
    elif unicodedata.normalize("NFC", text) != text:
        problem = "is not in Unicode's form NFC, so that two ids could look the same"
    if problem is not None:
        shown = text if text.isprintable() else ascii(text)[1:-1]
        raise ConfigError(f"device id {shown[:_LONGEST]!r} {problem}", hint="letters, digits, . _ - are always right")
    return text


def filter_problem(text: str) -> str | None:
    """What is wrong with an MQTT topic filter, or None."""
    levels = text.split("/")
    if not text or len(text.encode(errors="replace")) > 65_535 or "\0" in text:
        return "a topic filter has 1 to 65,535 bytes and no NUL"
    if any("#" in level for level in levels[:-1]) or (levels[-1] != "#" and "#" in levels[-1]):
        return "# stands alone in the last level of a topic filter"
    if any("+" in level and level != "+" for level in levels):
        return "+ stands alone in its level of a topic filter"
    return None


def duration_text(milliseconds: int) -> str:
    """30000 -> `30 s`, as `parse_duration` reads it."""
    unit, size = next((unit, size) for unit, size in _UNITS if milliseconds % size == 0)
    return f"{milliseconds // size} {unit}"


def parse_time(text: str, name: str) -> int:
    """`24 h` -> ms. Raises `ConfigError` that says what `name` should be."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def describe(device: Device, credentials: Sequence[Credential] | None = None) -> dict[str, object]:
    """A device as JSON and people see it; of its credentials nothing that could be used."""
    told: dict[str, object] = {
        "id": device.id,
        "owner": device.owner,
        "kind": device.kind,
        "interval": None if device.interval_ms is None else duration_text(device.interval_ms),
        "labels": dict(device.labels),
        "publish": list(device.publish),
        "subscribe": list(device.subscribe),
        "disabled": device.disabled,
        "created": instant_text(device.created_at),
        "rotated": None if device.rotated_at is None else instant_text(device.rotated_at),
        "seen": None if device.seen_at is None else instant_text(device.seen_at),
    }
    if credentials is not None:
        told["credentials"] = [_credential(one) for one in credentials]
    return told


def parse_label(text: str) -> tuple[str, str]:
    """`site=north` as a pair. Raises `ConfigError`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"label {text!r} is not NAME=VALUE", hint="for example site=north")
    return name.strip(), value.strip()


_T = TypeVar("_T")


def _said(value: _T | None, otherwise: _T) -> _T:
    return otherwise if value is None else value


def _values(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _credential(one: Credential) -> dict[str, object]:
    told: dict[str, object] = {"kind": one.kind.value, "created": instant_text(one.created_at)}
    if one.kind in (Secret.CERTIFICATE, Secret.COMMON_NAME):
        told["value"] = one.value
    if one.expires_at is not None:
        told["expires"] = instant_text(one.expires_at)
    return told


def _check(device: Device) -> None:
    check_id(device.id)
    for text in (*device.publish, *device.subscribe):
        problem = filter_problem(text.replace("{id}", "id"))
        if problem is None and set(text.replace("{id}", "")) & {"{", "}"}:
            problem = "of the words in braces only {id} is known"
        if problem is not None:
            raise ConfigError(
                f"device {device.id!r}: topic {text!r}: {problem}", hint="for example power/{id} or farm/+/#"
            )
    for text in (device.owner, device.kind, *device.labels, *device.labels.values()):
        if not text.isprintable() or len(text) > _LONGEST:
            raise ConfigError(
                f"device {device.id!r}: {text!a} is no owner, kind or label; they have up to {_LONGEST} characters"
            )
