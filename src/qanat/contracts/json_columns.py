"""SQL columns as a JSON Schema, and a JSON Schema as SQL columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qanat.codec.json_schema import DRAFT_7
from qanat.contracts.json_schema import JsonSchema
from qanat.errors import SchemaError
from qanat.model import types as t
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_BITS = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}
_TEXTS = {
    Kind.DATE: {"format": "date"},
    Kind.TIME: {"format": "time"},
    Kind.TIMESTAMP: {"format": "local-date-time"},
    Kind.TIMESTAMP_LTZ: {"format": "date-time"},
    Kind.BYTES: {"contentEncoding": "base64"},
}
_FORMATS = {
    "date": t.DATE,
    "time": Type(Kind.TIME, precision=3),
    "local-date-time": t.TIMESTAMP,
    "date-time": t.TIMESTAMP_LTZ,
}


def declare(name: str, columns: Sequence[Column]) -> str:
    """A closed object; a column that may be NULL may be missing, too. The event time may always be missing."""
    return json.dumps({"$schema": DRAFT_7, "title": name, **_object([(one.name, one.type) for one in columns])})


def _object(fields: Sequence[tuple[str, Type]]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": {name: _typed(kind) for name, kind in fields}}
    if required := [name for name, kind in fields if not kind.nullable]:
        made["required"] = required
    return {**made, "additionalProperties": False}


def _typed(kind: Type) -> dict[str, Any]:
    made = _bare(kind)
    if kind.nullable:
        given = made["type"]
        made["type"] = [*(given if isinstance(given, list) else [given]), "null"]
    return made


def _bare(kind: Type) -> dict[str, Any]:
    match kind.kind:
        case Kind.BOOLEAN:
            return {"type": "boolean"}
        case k if k in _BITS:
            half = 1 << (_BITS[k] - 1)
            return {"type": "integer", "minimum": -half, "maximum": half - 1}
        case Kind.FLOAT | Kind.DOUBLE:
            return {"type": "number"}
        case Kind.DECIMAL:
            return {"type": ["number", "string"]}
        case Kind.ARRAY:
            assert kind.element is not None
            return {"type": "array", "items": _typed(kind.element)}
        case Kind.MAP:
            assert kind.element is not None
            return {"type": "object", "additionalProperties": _typed(kind.element)}
        case Kind.ROW:
            return _object(kind.fields)
        case Kind.NULL:
            return {"type": "null"}
        case Kind.INTERVAL_DAY | Kind.INTERVAL_YEAR:
            return {"type": "integer"}
        case other:
            return {"type": "string", **_TEXTS.get(other, {})}


def columns(schema: JsonSchema) -> tuple[Column, ...]:
    """The columns that hold an object of this schema; what may be missing may be NULL. Raises `SchemaError`."""
    root = schema.follow(schema.document)
    if not isinstance(root, dict) or "properties" not in root:
        raise SchemaError("the rows of a stream are objects; the schema names no properties")
    return tuple(Column(name, kind) for name, kind in _fields(schema, root, ()))


def _fields(schema: JsonSchema, part: dict[str, Any], above: tuple[int, ...]) -> tuple[tuple[str, Type], ...]:
    required = set(part.get("required", ()))
    found = []
    for name, one in part["properties"].items():
        kind = _sql(schema, one, above, name)
        found.append((name, kind if name in required else kind.with_nullable(True)))
    return tuple(found)


def _sql(schema: JsonSchema, part: Any, above: tuple[int, ...], path: str) -> Type:
    part = schema.follow(part)
    if id(part) in above:
        raise SchemaError(f"{path}: a schema inside itself; SQL has no such type")
    if not isinstance(part, dict):
        raise SchemaError(f"{path}: a schema without a type; SQL needs one")
    for key in ("anyOf", "oneOf"):
        if key in part:
            return _choice(schema, part[key], (*above, id(part)), path)
    types, nullable = _type_names(part)
    if len(types) != 1:
        if types == {"number", "string"}:
            return t.decimal(38, 9).with_nullable(nullable)
        raise SchemaError(f"{path}: {' or '.join(sorted(types)) or 'no type'}; SQL needs one type")
    return _named(schema, part, next(iter(types)), (*above, id(part)), path).with_nullable(nullable)


def _type_names(part: dict[str, Any]) -> tuple[set[str], bool]:
    given = part.get("type")
    if given is None and ("enum" in part or "const" in part):
        values = part.get("enum", [part.get("const")])
        given = ["string" if isinstance(one, str) else "null" if one is None else "number" for one in values]
    names = {given} if isinstance(given, str) else set(given or ())
    return names - {"null"}, "null" in names


def _choice(schema: JsonSchema, parts: Sequence[Any], above: tuple[int, ...], path: str) -> Type:
    others = [one for one in parts if schema.follow(one).get("type") != "null"]
    if len(others) != 1:
        raise SchemaError(f"{path}: a choice of {len(others)} types; SQL needs one")
    kind = _sql(schema, others[0], above, path)
    return kind.with_nullable(kind.nullable or len(others) < len(parts))


def _named(schema: JsonSchema, part: dict[str, Any], name: str, above: tuple[int, ...], path: str) -> Type:
    match name:
        case "boolean":
            return t.BOOLEAN
        case "integer":
            return _whole(part)
        case "number":
            return t.DOUBLE
        case "string":
            if part.get("contentEncoding") == "base64":
                return t.BYTES
            return _FORMATS.get(part.get("format", ""), t.STRING)
        case "array":
            items = part.get("items")
            if not isinstance(items, dict):
                raise SchemaError(f"{path}: an array of anything; SQL needs the type of its items")
            return t.array(_sql(schema, items, above, f"{path}[]"))
        case _:
            if "properties" in part:
                return Type(Kind.ROW, fields=_fields(schema, part, above))
            other = part.get("additionalProperties")
            if not isinstance(other, dict):
                raise SchemaError(f"{path}: an object of anything; SQL needs its properties")
            return Type(Kind.MAP, key=t.STRING.with_nullable(False), element=_sql(schema, other, above, f"{path}[]"))


def _whole(part: dict[str, Any]) -> Type:
    """The smallest type that the bounds allow, not below INT unless they are those of a smaller one."""
    bounds = (part.get("minimum"), part.get("maximum"))
    for kind, bits in _BITS.items():
        if bounds == (-(1 << (bits - 1)), (1 << (bits - 1)) - 1):
            return Type(kind)
    return t.BIGINT
