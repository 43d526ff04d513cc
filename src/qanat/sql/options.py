"""The WITH clause: which connectors and options there are, and what their values may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from qanat.model.lake import split_names
from qanat.sql.source import Source, near
from qanat.sql.statements import CreateTable, Option

_DURATION_UNITS = {
    "ms": 1, "milli": 1, "millis": 1, "millisecond": 1, "milliseconds": 1,
    "s": 1000, "sec": 1000, "secs": 1000, "second": 1000, "seconds": 1000, "": 1,
    "m": 60_000, "min": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
}  # fmt: skip
_SIZE_UNITS = {"": 1, "b": 1, "bytes": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}


def duration_ms(text: str) -> int:
    """A duration as Flink writes it; without a unit it is milliseconds. Raises ValueError.

    >>> duration_ms("7 d"), duration_ms("36h"), duration_ms("500 ms")
    (604800000, 129600000, 500)
    """
    return _scaled(text, _DURATION_UNITS, "a duration such as '30 s', '36 h' or '7 d'")


def size_bytes(text: str) -> int:
    """A size in bytes. Raises ValueError.

    >>> size_bytes("10 gb")
    10737418240
    """
    return _scaled(text, _SIZE_UNITS, "a size such as '500 mb' or '10 gb'")


def _scaled(text: str, units: dict[str, int], wanted: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text.strip().lower())
    if match is None or match.group(2) not in units:
        raise ValueError(wanted)
    return int(match.group(1)) * units[match.group(2)]


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise ValueError("a number from 1 to 1024")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise ValueError("a whole number")
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("'true' or 'false'")
    return text.lower() == "true"


def _one_of(*values: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in values:
            raise ValueError("one of " + ", ".join(f"'{one}'" for one in values))
        return text

    return check


def _text(text: str) -> str:
    if not text:
        raise ValueError("not empty")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = split_names(text)
    if not names or len(set(names)) < len(names):
        raise ValueError("columns, with commas between them, each of them once")
    return names


def _character(text: str) -> str:
    if len(text.encode().decode("unicode_escape")) != 1:
        raise ValueError("one character")
    return text


Check = Callable[[str], object]

_STREAM: dict[str, Check] = {
    "partitions": _count,
    "retention": duration_ms,
    "retention.bytes": size_bytes,
    "compact": _flag,
    "archive": _flag,
    "archive.sort": _names,
}
_JSON: dict[str, Check] = {
    "json.timestamp-format.standard": _one_of("SQL", "ISO-8601"),
    "json.ignore-parse-errors": _flag,
    "json.fail-on-missing-field": _flag,
}
_CSV: dict[str, Check] = {
    "csv.field-delimiter": _character,
    "csv.quote-character": _character,
    "csv.escape-character": _character,
    "csv.disable-quote-character": _flag,
    "csv.allow-comments": _flag,
    "csv.ignore-parse-errors": _flag,
    "csv.array-element-delimiter": _text,
    "csv.header": _flag,
    "csv.null-literal": lambda text: text,
}
_SOURCE: dict[str, Check] = {"scan.watermark.idle-timeout": duration_ms}
_DEBEZIUM: dict[str, Check] = {
    "debezium-json.timestamp-format.standard": _one_of("SQL"),
    "debezium-json.ignore-parse-errors": _flag,
    "debezium-json.schema-include": _one_of("false"),
}
_FORMATS: dict[str, dict[str, Check]] = {"json": _JSON, "debezium-json": _DEBEZIUM, "csv": _CSV, "parquet": {}}


@dataclass(frozen=True, slots=True)
class Connector:
    """What one connector takes. `reads`: whether a query may read from it."""

    options: dict[str, Check]
    required: tuple[str, ...] = ()
    reads: bool = False


#: None: a stream in the log.
CONNECTORS: dict[str | None, Connector] = {
    None: Connector({**_STREAM, **_SOURCE}, reads=True),
    "filesystem": Connector(
        {
            "path": _text,
            "format": _one_of(*_FORMATS),
            **_SOURCE,
            "source.monitor-interval": duration_ms,
            "sink.rolling-policy.file-size": size_bytes,
            "sink.rolling-policy.rollover-interval": duration_ms,
            "sink.rolling-policy.check-interval": duration_ms,
        },
        required=("path", "format"),
        reads=True,
    ),
    "jdbc": Connector(
        {
            "url": _text,
            "table-name": _text,
            "username": _text,
            "password": _text,
            "lookup.cache": _one_of("NONE", "PARTIAL"),
            "lookup.partial-cache.max-rows": _whole,
            "lookup.partial-cache.expire-after-write": duration_ms,
            "lookup.max-retries": _whole,
        },
        required=("url", "table-name"),
        reads=True,
    ),
    "print": Connector({"print-identifier": _text, "standard-error": _flag}),
    "blackhole": Connector({}),
}


#: What a WITH clause that lacks something could look like.
_EXAMPLES: dict[str | None, str] = {
    "filesystem": "WITH ('connector' = 'filesystem', 'path' = 'DIR', 'format' = 'json')",
    "jdbc": "WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://HOST:5432/DATABASE', 'table-name' = 'NAME')",
}


def check_options(table: CreateTable, source: Source) -> tuple[str | None, dict[str, object]]:
    """The connector (None: the log) and the options' values. Raises `SqlError` at the option that is wrong."""
    connector: str | None = None
    for option in table.options:
        if option.key.text == "connector":
            connector = option.value
            if connector not in CONNECTORS:
                known = [one for one in CONNECTORS if one]
                hint = f"connectors: {', '.join(known)}; without one the table is a stream in the log"
                raise source.unsupported(f"the connector '{connector}' is not known", option.value_at, hint)
    entry = CONNECTORS[connector]
    chosen = next((one.value for one in table.options if one.key.text == "format"), "")
    known_checks = {**entry.options, **(_FORMATS.get(chosen, {}) if connector == "filesystem" else {})}
    values: dict[str, object] = {}
    for option in table.options:
        if option.key.text != "connector":
            values[option.key.text] = _check(option, known_checks, connector, source)
    missing = [one for one in entry.required if one not in values]
    if missing:
        hint = _EXAMPLES[connector]
        message = f"the connector '{connector}' needs {' and '.join(repr(one) for one in missing)}"
        raise source.error(message, table.name.at, hint)
    return connector, values


def _check(option: Option, known: dict[str, Check], connector: str | None, source: Source) -> object:
    key = option.key.text
    if key not in known:
        what = f"the connector '{connector}'" if connector else "a stream in the log"
        hint = near(key, list(known)) or ("options: " + ", ".join(known) if known else "it takes no options")
        raise source.unsupported(f"{what} has no option '{key}'", option.key.at, hint)
    try:
        return known[key](option.value)
    except ValueError as error:
        raise source.error(f"'{key}' is {error}, found '{option.value}'", option.value_at) from None
