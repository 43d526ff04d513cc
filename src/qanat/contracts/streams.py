"""The columns of CREATE TABLE as a contract: what a stream declares is a version of `STREAM-value` (and `-key`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qanat.codec.fit import takes
from qanat.contracts.formats import LANGUAGES
from qanat.contracts.registry import Registry
from qanat.contracts.schema import Format, Level, Schema, Version
from qanat.errors import ConfigError, ContractError, IncompatibleError, SchemaError
from qanat.model.arrow import to_arrow
from qanat.model.streams import Column, Stream


@dataclass(frozen=True, slots=True)
class Terms:
    """What a project says about a stream's contract (qanat.yaml, `contracts`).

    `text` is a schema of its own instead of the columns, in `format`; `message` names the Protobuf message in it.
    """

    compatibility: Level | None = None
    format: Format | None = None
    text: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """The version that holds for a stream now."""

    stream: str
    version: Version
    message: str | None = None


def value_subject(stream: str) -> str:
    """The subject of a stream's rows."""
    return f"{stream}-value"


def key_subject(stream: str) -> str:
    """The subject of a stream's keys."""
    return f"{stream}-key"


def bind(
    registry: Registry, streams: Iterable[Stream], terms: Mapping[str, Terms], dry_run: bool = False
) -> dict[str, Bound]:
    """Register what the streams declare, where it is new; the contract of each.

    Raises `IncompatibleError` for a declaration that may not follow the version before it, `ConfigError` for a schema
    that does not have the stream's columns. `dry_run` raises the same and stores nothing; new versions are not in what
    it gives back.
    """
    bound: dict[str, Bound] = {}
    for stream in streams:
        one = terms.get(stream.name, Terms())
        found = _bind(registry, value_subject(stream.name), stream, columns_of(stream), one, dry_run)
        if stream.key:
            keys = tuple(column for column in stream.columns if column.name in stream.key)
            key_terms = Terms(one.compatibility, one.format)
            _bind(registry, key_subject(stream.name), stream, keys, key_terms, dry_run)
        if found is not None:
            bound[stream.name] = Bound(stream.name, found, one.message)
    return bound


def columns_of(stream: Stream) -> tuple[Column, ...]:
    """The columns as senders see them: the event time may be missing, since the arrival takes its place."""
    arrival = None if stream.arrival is None else stream.arrival.name
    return tuple(
        replace(one, type=one.type.with_nullable(True)) if one.name == arrival else one for one in stream.columns
    )


def declared_schema(registry: Registry, subject: str, name: str, columns: tuple[Column, ...], terms: Terms) -> Schema:
    """The schema of a stream: that of its terms, or its columns in the terms' format, or in that of its last version,
    or in Avro (JSON Schema where a name is not one of Avro's)."""
    if terms.text is not None and terms.format is not None:
        return Schema(terms.format, terms.text)
    latest = _latest(registry, subject)
    wanted = terms.format or (latest.schema.format if latest is not None else Format.AVRO)
    previous = registry.tree(latest.id) if latest is not None and latest.schema.format is wanted else None
    try:
        return Schema(wanted, LANGUAGES[wanted].declare(name, columns, previous))
    except SchemaError:
        if terms.format is not None or latest is not None:
            raise
        return Schema(Format.JSON, LANGUAGES[Format.JSON].declare(name, columns, None))


def _latest(registry: Registry, subject: str) -> Version | None:
    try:
        return registry.version(subject, None)
    except ContractError:
        return None


def _bind(
    registry: Registry, subject: str, stream: Stream, columns: tuple[Column, ...], terms: Terms, dry_run: bool
) -> Version | None:
    if terms.compatibility is not None and not dry_run and registry.own_level(subject) is not terms.compatibility:
        registry.set_level(subject, terms.compatibility)
    try:
        schema = declared_schema(registry, subject, stream.name, columns, terms)
        if terms.text is not None:
            _check_columns(stream, columns, registry.parse(schema), schema.format, terms)
        return registry.register(subject, schema, dry_run=dry_run)
    except IncompatibleError as error:
        raise IncompatibleError(
            f"the stream {stream.name} was changed against its contract {subject}: {error.problems[0]}",
            error.problems[1:],
            hint=f"undo the change; or allow it: qanat schema compatibility {subject} NONE",
        ) from error
    except SchemaError as error:
        raise SchemaError(f"the contract of the stream {stream.name}: {error.message}", hint=error.hint) from error


def _check_columns(stream: Stream, columns: tuple[Column, ...], tree: Any, format_: Format, terms: Terms) -> None:
    """A schema of its own has to fill the columns that may not be NULL, each with a type that fits."""
    if format_ is Format.PROTOBUF and terms.message is not None:
        from qanat.contracts import protobuf_columns

        given = {one.name: one.type for one in protobuf_columns.columns(tree, terms.message)}
    else:
        given = {one.name: one.type for one in LANGUAGES[format_].columns(tree)}
    for column in columns:
        found = given.get(column.name)
        if found is None:
            if not column.type.nullable:
                raise ConfigError(f"the schema of {stream.name} has no field for the column {column.name} NOT NULL")
        elif not takes(column.type, to_arrow(found)):
            raise ConfigError(f"the schema of {stream.name} has {column.name} as {found}, the column is {column.type}")
