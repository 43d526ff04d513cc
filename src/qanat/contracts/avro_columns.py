"""SQL columns as an Avro schema, and an Avro schema as SQL columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from qanat.codec.avro_schema import AvroType
from qanat.errors import SchemaError
from qanat.model import types as t
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = {
    Kind.BOOLEAN: "boolean",
    Kind.TINYINT: "int",
    Kind.SMALLINT: "int",
    Kind.INT: "int",
    Kind.BIGINT: "long",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.STRING: "string",
    Kind.BYTES: "bytes",
    Kind.INTERVAL_DAY: "long",
    Kind.INTERVAL_YEAR: "int",
    Kind.NULL: "null",
}
_KINDS = {
    "boolean": t.BOOLEAN,
    "int": t.INT,
    "long": t.BIGINT,
    "float": t.FLOAT,
    "double": t.DOUBLE,
    "string": t.STRING,
    "enum": t.STRING,
    "bytes": t.BYTES,
    "fixed": t.BYTES,
    "null": t.NULL,
}
_DIGITS = {"millis": 3, "micros": 6, "nanos": 9}


def declare(name: str, columns: Sequence[Column]) -> str:
    """A record of that name; a column that may be NULL is a union with null, NULL by default.

    Raises `SchemaError` for a column whose name Avro does not allow.
    """
    fields = [_field(one.name, one.type, _record_name(name)) for one in columns]
    return json.dumps({"type": "record", "name": _record_name(name), "fields": fields})


def _record_name(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if _NAME.fullmatch(safe) else f"_{safe}"


def _field(name: str, kind: Type, path: str) -> dict[str, Any]:
    if not _NAME.fullmatch(name):
        raise SchemaError(
            f"Avro does not allow the name {name!r}: letters, digits and _, beginning with a letter or _",
            hint="rename the column, or declare the contract in JSON: contracts: {STREAM: {format: json-schema}}",
        )
    made = _typed(kind, f"{path}_{name}")
    return {"name": name, "type": made, "default": None} if kind.nullable else {"name": name, "type": made}


def _typed(kind: Type, path: str) -> Any:
    made = _bare(kind, path)
    return ["null", made] if kind.nullable and made != "null" else made


def _bare(kind: Type, path: str) -> Any:
    match kind.kind:
        case Kind.DECIMAL:
            precision, scale = kind.precision or 10, kind.scale or 0
            return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
        case Kind.DATE:
            return {"type": "int", "logicalType": "date"}
        case Kind.TIME:
            return {"type": "int", "logicalType": "time-millis"}
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            local = "local-" if kind.kind is Kind.TIMESTAMP else ""
            return {"type": "long", "logicalType": f"{local}timestamp-{_unit(kind.precision)}"}
        case Kind.ARRAY:
            assert kind.element is not None
            return {"type": "array", "items": _typed(kind.element, f"{path}_item")}
        case Kind.MAP:
            return _map(kind, path)
        case Kind.ROW:
            return {"type": "record", "name": path, "fields": [_field(name, one, path) for name, one in kind.fields]}
        case plain:
            return _PLAIN[plain]


def _map(kind: Type, path: str) -> Any:
    """Avro's keys are strings; a map with others is a list of entries."""
    assert kind.key is not None
    assert kind.element is not None
    if kind.key.kind is Kind.STRING:
        return {"type": "map", "values": _typed(kind.element, f"{path}_value")}
    entry = [_field("key", kind.key.with_nullable(False), path), _field("value", kind.element, path)]
    return {"type": "array", "items": {"type": "record", "name": f"{path}_entry", "fields": entry}}


def _unit(precision: int | None) -> str:
    digits = 3 if precision is None else precision
    return "millis" if digits <= 3 else "micros" if digits <= 6 else "nanos"


def columns(root: AvroType) -> tuple[Column, ...]:
    """The columns that hold what the schema describes. Raises `SchemaError` where SQL has no type for it."""
    if root.kind != "record":
        raise SchemaError(f"the rows of a stream are records; the schema is {root}")
    return tuple(Column(one.name, _sql(one.type, (root.name,), one.name)) for one in root.fields)


def _sql(kind: AvroType, above: tuple[str, ...], path: str) -> Type:
    if kind.kind == "union":
        others = [one for one in kind.branches if one.kind != "null"]
        nullable = len(others) < len(kind.branches)
        return _several(others, above, path).with_nullable(nullable)
    return _single(kind, above, path).with_nullable(kind.kind == "null")


def _several(branches: Sequence[AvroType], above: tuple[str, ...], path: str) -> Type:
    """Several types in one place: the widest of numbers, else text."""
    if len(branches) == 1:
        return _single(branches[0], above, path)
    if not branches:
        return t.NULL
    kinds = {one.kind for one in branches}
    if kinds <= {"int", "long"}:
        return t.BIGINT
    return t.DOUBLE if kinds <= {"int", "long", "float", "double"} else t.STRING


def _single(kind: AvroType, above: tuple[str, ...], path: str) -> Type:
    match kind.kind:
        case "record":
            if kind.name in above:
                raise SchemaError(f"{path}: the record {kind.name} is inside itself; SQL has no such type")
            inside = (*above, kind.name)
            fields = tuple((one.name, _sql(one.type, inside, f"{path}.{one.name}")) for one in kind.fields)
            return Type(Kind.ROW, fields=fields)
        case "array":
            return t.array(_sql(kind.inside, above, f"{path}[]"))
        case "map":
            return Type(Kind.MAP, key=t.STRING.with_nullable(False), element=_sql(kind.inside, above, f"{path}[]"))
        case plain:
            return _logical(kind) or _KINDS[plain]


def _logical(kind: AvroType) -> Type | None:
    match kind.logical:
        case "decimal" if kind.precision <= 38:
            return t.decimal(kind.precision, kind.scale)
        case "date":
            return t.DATE
        case "time-millis" | "time-micros":
            return Type(Kind.TIME, precision=3)
        case "uuid":
            return t.STRING
        case str(name) if "timestamp" in name:
            digits = _DIGITS[name.rpartition("-")[2]]
            return Type(Kind.TIMESTAMP if name.startswith("local") else Kind.TIMESTAMP_LTZ, precision=digits)
        case _:
            return None
