"""The languages that schemas are written in: one explicit table. Pure; nothing is stored here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qanat.codec.avro_schema import AvroType, load_json, parse_avro
from qanat.codec.protobuf_schema import ProtoFile, parse_protobuf
from qanat.contracts import avro_columns, avro_rules, json_columns, json_rules, protobuf_columns, protobuf_rules
from qanat.contracts.json_schema import JsonSchema, parse_json_schema
from qanat.contracts.schema import Format, Problem
from qanat.errors import ConfigError
from qanat.model.streams import Column

#: A parsed schema, as its language has it.
Tree = AvroType | ProtoFile | JsonSchema


@dataclass(frozen=True, slots=True)
class Language:
    """`parse(text, references)`: references are texts by name, needed ones first; raises `SchemaError`.

    `identity(text, tree)`: equal texts for equal schemas; `stored(text, tree)`: the text that is kept and given out.
    `normal(text, tree)`: as `identity`, for those who ask to `normalize`. `problems(reader, writer)`: why the one
    cannot read the other. `columns(tree)`, `declare(name, columns, previous)`: from and to SQL.
    """

    parse: Callable[[str, Mapping[str, str]], Any]
    stored: Callable[[str, Any], str]
    identity: Callable[[str, Any], str]
    normal: Callable[[str, Any], str]
    problems: Callable[[Any, Any], list[Problem]]
    columns: Callable[[Any], tuple[Column, ...]]
    declare: Callable[[str, Sequence[Column], Any], str]


def _compact(text: str, _: object) -> str:
    return json.dumps(load_json(text), separators=(",", ":"), ensure_ascii=False)


def _sorted(text: str, _: object) -> str:
    return json.dumps(load_json(text), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _plain_avro(text: str, _: object) -> str:
    """Keys in order, and primitive types by their bare names."""

    def plain(part: Any) -> Any:
        if isinstance(part, list):
            return [plain(one) for one in part]
        if isinstance(part, dict):
            return part["type"] if list(part) == ["type"] else {key: plain(one) for key, one in part.items()}
        return part

    return json.dumps(plain(load_json(text)), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _descriptor(_: str, tree: ProtoFile) -> str:
    return tree.descriptor.hex()


LANGUAGES: Mapping[Format, Language] = {
    Format.AVRO: Language(
        parse=lambda text, references: parse_avro(text, tuple(references.values())),
        stored=_compact,
        identity=_sorted,
        normal=_plain_avro,
        problems=avro_rules.problems,
        columns=avro_columns.columns,
        declare=lambda name, columns, _: avro_columns.declare(name, columns),
    ),
    Format.PROTOBUF: Language(
        parse=parse_protobuf,
        stored=lambda _, tree: tree.text,
        identity=_descriptor,
        normal=_descriptor,
        problems=protobuf_rules.problems,
        columns=protobuf_columns.columns,
        declare=protobuf_columns.declare,
    ),
    Format.JSON: Language(
        parse=parse_json_schema,
        stored=_compact,
        identity=_sorted,
        normal=_sorted,
        problems=json_rules.problems,
        columns=json_columns.columns,
        declare=lambda name, columns, _: json_columns.declare(name, columns),
    ),
}

#: What formats are called in qanat.yaml and on the command line.
NAMES: Mapping[str, Format] = {"avro": Format.AVRO, "json-schema": Format.JSON, "protobuf": Format.PROTOBUF}
_ENDINGS = {".avsc": Format.AVRO, ".proto": Format.PROTOBUF, ".json": Format.JSON}


def format_of(path_or_name: str) -> Format:
    """The format of a file, by its ending, or of a name. Raises `ConfigError`."""
    for ending, found in _ENDINGS.items():
        if path_or_name.endswith(ending):
            return found
    named = NAMES.get(path_or_name.lower()) or (
        Format(path_or_name.upper()) if path_or_name.upper() in Format.__members__ else None
    )
    if named is None:
        raise ConfigError(
            f"no format {path_or_name!r}", hint=f"known are {', '.join(NAMES)}; files end in {', '.join(_ENDINGS)}"
        )
    return named
