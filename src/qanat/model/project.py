"""What a project folder declares around its SQL: the content of qanat.yaml, checked.

No I/O; `qanat.cli.project` reads the file. Every setting has a default, so an empty file and no file mean the same.
Durations are written `500 ms`, `30 s`, `5 min`, `12 h`, `7 d`; sizes `800 kB`, `512 MiB`, `10 GB`. What is not known is
refused with its place and the nearest known key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from qanat.errors import ConfigError
from qanat.model.api import Api
from qanat.model.cache import Cache
from qanat.model.lake import ARCHIVE, Lake, problem_of_archive
from qanat.model.query import QuerySettings
from qanat.model.sections import Duration as Duration
from qanat.model.sections import Section as _Section
from qanat.model.sections import Size as Size
from qanat.model.serve import Serve
from qanat.model.sinks import Sink, problem_of
from qanat.model.sources import Source
from qanat.model.stores import Store
from qanat.model.streams import Stream
from qanat.model.tables import OutsideTable

#: Where in the file: keys and list positions from the top, e.g. ("listeners", "mqtt", "port").
Path = tuple[str | int, ...]

_DURATION = {"ms": 1, "s": 1000, "sec": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


#: A TCP port; 0 takes a free one.
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Tls(_Section, frozen=True):
    """Certificate chain and key, PEM files relative to the project. `client_ca`: whose clients' certificates count.

    `demand_client`: who brings no certificate is not let in.
    """

    cert: str
    key: str
    client_ca: str | None = None
    demand_client: bool = False


class Mqtt(_Section, frozen=True):
    """Where MQTT listens. Port 0 takes a free one; null switches the protocol off."""

    host: str = "127.0.0.1"
    port: Port | None = 1883


class Mqtts(_Section, frozen=True):
    """Where MQTT listens behind TLS. Without `tls` there is no such listener."""

    host: str = "127.0.0.1"
    port: Port | None = 8883
    tls: Tls | None = None


class Http(_Section, frozen=True):
    """Where HTTP and WebSocket listen, with `tls` as HTTPS. Port 0 takes a free one; null switches them off."""

    host: str = "127.0.0.1"
    port: Port | None = 8080
    tls: Tls | None = None


class Grpc(_Section, frozen=True):
    """Where gRPC listens. Port 0 takes a free one; null, the default, is no listener."""

    host: str = "127.0.0.1"
    port: Port | None = None
    tls: Tls | None = None


class Listeners(_Section, frozen=True):
    """The listeners of the gateway."""

    mqtt: Mqtt = Mqtt()
    mqtts: Mqtts = Mqtts()
    http: Http = Http()
    grpc: Grpc = Grpc()


class User(_Section, frozen=True):
    """Who may send: exactly one of the password fields, and patterns (`*`, `?`, `[...]`) of the streams to feed.

    `subscribe`: patterns of the topics to read, `STREAM` or `STREAM/KEY`. `admin`: may manage devices over HTTP.
    """

    name: str
    password: str | None = None
    password_hash: str | None = None
    password_env: str | None = None
    publish: tuple[str, ...] = ("*",)
    subscribe: tuple[str, ...] = ()
    admin: bool = False


class DeviceLimits(_Section, frozen=True):
    """What one device or user may send and hold open; null is no limit."""

    messages_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    bytes_per_second: Size | None = None
    connections: Annotated[int, msgspec.Meta(ge=1)] | None = None
    message_size: Size | None = None


class TotalLimits(_Section, frozen=True):
    """What all together may send and hold open; null is no limit."""

    messages_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    bytes_per_second: Size | None = None
    connections: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Limits(_Section, frozen=True):
    """How much may come in."""

    device: DeviceLimits = DeviceLimits()
    total: TotalLimits = TotalLimits()


class Retention(_Section, frozen=True):
    """How long streams keep their rows that do not say so themselves. None keeps them for ever."""

    age: Duration | None = None
    bytes: Size | None = None


class Engine(_Section, frozen=True):
    """How the engine cuts its work: rows per micro-batch, and how often it writes a snapshot of its state."""

    batch_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    snapshot_interval: Duration | None = None


class PipelineSettings(_Section, frozen=True):
    """What holds for one pipeline."""

    state_limit: Size | None = None


class Contract(_Section, frozen=True):
    """The contract of a stream: what a new version must be able to do, and its schema where it is not the columns.

    `schema`: a file (.avsc, .proto, .json) relative to the project; `message`: which message of a .proto it is.
    """

    compatibility: (
        Literal[
            "NONE",
            "BACKWARD",
            "BACKWARD_TRANSITIVE",
            "FORWARD",
            "FORWARD_TRANSITIVE",
            "FULL",
            "FULL_TRANSITIVE",
        ]
        | None
    ) = None
    format: Literal["avro", "json-schema", "protobuf"] | None = None
    schema: str | None = None
    message: str | None = None


class Project(_Section, frozen=True):
    """Everything that qanat.yaml may say."""

    listeners: Listeners = Listeners()
    users: tuple[User, ...] = ()
    limits: Limits = Limits()
    max_future_skew: Duration = Duration(5 * 60_000)
    retention: Retention = Retention()
    archive: tuple[str, ...] = ()
    parameters: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)
    engine: Engine = Engine()
    state_limit: Size | None = None
    pipelines: dict[str, PipelineSettings] = msgspec.field(default_factory=dict)
    sources: dict[str, Source] = msgspec.field(default_factory=dict)
    contracts: dict[str, Contract] = msgspec.field(default_factory=dict)
    sinks: dict[str, Sink] = msgspec.field(default_factory=dict)
    stores: dict[str, Store] = msgspec.field(default_factory=dict)
    cache: Cache = Cache()
    lake: Lake = Lake()
    query: QuerySettings = QuerySettings()
    tables: dict[str, OutsideTable] = msgspec.field(default_factory=dict)
    api: Api = Api()
    serve: Serve = Serve()

    def retained(self, stream: Stream) -> Stream:
        """The stream, with the project's retention where it has none of its own; archived, if `archive` names it."""
        age, size = stream.retention_ms, stream.retention_bytes
        if age is None and self.retention.age is not None:
            age = int(self.retention.age)
        if size is None and self.retention.bytes is not None:
            size = int(self.retention.bytes)
        options = {**stream.options, ARCHIVE: "true"} if stream.name in self.archive else stream.options
        return replace(stream, retention_ms=age, retention_bytes=size, options=options)


def parse_duration(text: str) -> Duration:
    """`30 s` -> 30000 ms. Raises ValueError that says what is possible."""
    return Duration(_measure(text, _DURATION, "a duration such as 500 ms, 30 s, 5 min, 12 h or 7 d"))


def parse_size(text: str) -> Size:
    """`10 GiB` -> bytes. Raises ValueError that says what is possible."""
    return Size(_measure(text, _SIZE, "a size such as 800 kB, 512 MiB or 10 GB"))


def _measure(text: str, units: Mapping[str, int], wanted: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"expected {wanted}, found {text!r}")
    return int(float(match[1]) * units[match[2].lower()])


def validate(raw: object, source: str, line_of: Callable[[Path], int | None]) -> Project:
    """The project that a decoded qanat.yaml declares; `line_of` knows where a key stands in the file.

    Raises `ConfigError` that names file, line and key.
    """

    def fail(path: Path, message: str, hint: str | None = None) -> ConfigError:
        line = line_of(path)
        place = source if line is None else f"{source}:{line}"
        return ConfigError(f"{place}: {message}", hint=hint or "docs/project.md lists every key of qanat.yaml")

    if raw is None:
        return Project()
    _check_keys(Project, raw, (), fail)
    try:
        project = msgspec.convert(raw, Project, dec_hook=_decode)
    except msgspec.ValidationError as error:
        message, path = _inside_a_table(raw) or _place(str(error))
        raise fail(path, f"{_dotted(path)}: {message}" if path else message) from error
    if (found := problem_of_archive(project.archive)) is not None:
        raise fail(("archive", found[0]), *found[1:])
    for number, user in enumerate(project.users):
        _check_user(user, ("users", number), fail)
    for name, declared in project.sources.items():
        _check_source(name, declared, ("sources", name), fail)
    for name, sink in project.sinks.items():
        if (problem := problem_of(sink)) is not None:
            raise fail(("sinks", name), f"sink {name!r} {problem}", "docs/alerts.md shows sinks of every kind")
    return project


_Fail = Callable[..., ConfigError]


def _decode(kind: type, value: object) -> object:
    match kind, value:
        case _, bool():
            pass
        case (k, int()) if k is Size:
            return Size(value)
        case (k, str()) if k is Size:
            return parse_size(str(value))
        case (k, str()) if k is Duration:
            return parse_duration(str(value))
    wanted = "a size in bytes" if kind is Size else "a duration with its unit, such as 30 s"
    raise ValueError(f"expected {wanted}, found {value!r}")


def _check_keys(kind: type[_Section], raw: object, path: Path, fail: _Fail) -> None:
    """Refuse unknown keys before msgspec does: with the place, and with what was probably meant."""
    if not isinstance(raw, Mapping):
        raise fail(path, f"{_dotted(path) or 'the file'} must be a mapping of keys to values")
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in raw.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1, 0.5)
            meant = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(fields)}"
            raise fail((*path, key), f"{_dotted(path) + ' has' if path else 'there is'} no key {key!r}{meant}")
        _check_inside(fields[key], value, (*path, key), fail)


def _check_inside(kind: Any, value: object, path: Path, fail: _Fail) -> None:
    if isinstance(kind, UnionType) and value is not None:
        for one in get_args(kind):
            _check_inside(one, value, path, fail)
    elif isinstance(kind, type) and issubclass(kind, _Section):
        _check_keys(kind, value, path, fail)
    elif get_origin(kind) is tuple and issubclass(get_args(kind)[0], _Section) and isinstance(value, list):
        for number, item in enumerate(value):
            _check_keys(get_args(kind)[0], item, (*path, number), fail)
    elif get_origin(kind) is dict and isinstance(value, Mapping):
        for name, item in value.items():
            _check_inside(get_args(kind)[1], item, (*path, name), fail)


def _check_user(user: User, path: Path, fail: _Fail) -> None:
    given = [name for name in ("password", "password_hash", "password_env") if getattr(user, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise fail(path, f"user {user.name!r} needs one of password_hash, password_env and password; found {found}")


def _check_source(name: str, source: Source, path: Path, fail: _Fail) -> None:
    if len(source.ways) != 1:
        found = " and ".join(source.ways) or "none of them"
        raise fail(path, f"source {name!r} needs one of topic, mqtt and folder; found {found}")


def _inside_a_table(raw: object) -> tuple[str, Path] | None:
    """What is wrong in a mapping of names to sections, whose names msgspec does not tell; None if that is all well."""
    for field in msgspec.structs.fields(Project):
        items = raw.get(field.name) if get_origin(field.type) is dict and isinstance(raw, Mapping) else None
        for name, item in items.items() if isinstance(items, Mapping) else ():
            try:
                msgspec.convert(item, get_args(field.type)[1], dec_hook=_decode)
            except msgspec.ValidationError as error:
                message, path = _place(str(error))
                return message, (field.name, str(name), *path)
    return None


def _place(message: str) -> tuple[str, Path]:
    """msgspec's `Expected ... - at `$.users[0].name`` as a message and a path."""
    text, _, where = message.partition(" - at `$")
    parts = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", where)
    text = text[:1].lower() + text[1:]
    return text, tuple(int(index) if index else name for name, index in parts)


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)
