"""SQL columns as a Protobuf message, and a Protobuf message as SQL columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qanat.codec.protobuf_schema import ProtoField, ProtoFile, ProtoMessage
from qanat.errors import SchemaError
from qanat.model import types as t
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = {
    Kind.BOOLEAN: "bool",
    Kind.TINYINT: "int32",
    Kind.SMALLINT: "int32",
    Kind.INT: "int32",
    Kind.BIGINT: "int64",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.STRING: "string",
    Kind.BYTES: "bytes",
    Kind.INTERVAL_YEAR: "int32",
}
#: Kinds that are messages of other files.
_MESSAGES = {
    Kind.TIMESTAMP: ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
    Kind.TIMESTAMP_LTZ: ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
    Kind.INTERVAL_DAY: ("google.protobuf.Duration", "google/protobuf/duration.proto"),
    Kind.DATE: ("google.type.Date", "google/type/date.proto"),
    Kind.TIME: ("google.type.TimeOfDay", "google/type/timeofday.proto"),
    Kind.DECIMAL: ("confluent.type.Decimal", "confluent/type/decimal.proto"),
}
_KINDS = {
    "double": t.DOUBLE,
    "float": t.FLOAT,
    "bool": t.BOOLEAN,
    "string": t.STRING,
    "bytes": t.BYTES,
    "enum": t.STRING,
    **dict.fromkeys(("int32", "sint32", "sfixed32"), t.INT),
    **dict.fromkeys(("int64", "sint64", "sfixed64", "uint32", "fixed32"), t.BIGINT),
    **dict.fromkeys(("uint64", "fixed64"), t.decimal(20, 0)),
}
_KNOWN = {
    "google.protobuf.Timestamp": Type(Kind.TIMESTAMP_LTZ, precision=9),
    "google.protobuf.Duration": Type(Kind.INTERVAL_DAY),
    "google.protobuf.Struct": t.STRING,
    "google.protobuf.Value": t.STRING,
    "google.protobuf.ListValue": t.STRING,
    "google.type.Date": t.DATE,
    "google.type.TimeOfDay": Type(Kind.TIME, precision=3),
    "confluent.type.Decimal": t.decimal(38, 9),
    "google.protobuf.DoubleValue": t.DOUBLE,
    "google.protobuf.FloatValue": t.FLOAT,
    "google.protobuf.Int64Value": t.BIGINT,
    "google.protobuf.UInt64Value": t.decimal(20, 0),
    "google.protobuf.Int32Value": t.INT,
    "google.protobuf.UInt32Value": t.BIGINT,
    "google.protobuf.BoolValue": t.BOOLEAN,
    "google.protobuf.StringValue": t.STRING,
    "google.protobuf.BytesValue": t.BYTES,
}


def declare(name: str, columns: Sequence[Column], previous: ProtoFile | None = None) -> str:
    """A proto3 file with one message. Fields of `previous` keep their numbers; numbers of those gone are reserved.

    Raises `SchemaError` for a column whose name or type Protobuf does not allow.
    """
    before = previous.messages[0] if previous is not None and previous.messages else None
    message, imports = _message(_title(name), [(one.name, one.type) for one in columns], before)
    head = ['syntax = "proto3";', "", *(f'import "{one}";' for one in sorted(imports))]
    return "\n".join([*head, *([""] if imports else []), *message]) + "\n"


def _title(name: str) -> str:
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name) if part)
    return title if _NAME.fullmatch(title) else f"_{title}"


def _message(title: str, fields: Sequence[tuple[str, Type]], before: ProtoMessage | None) -> tuple[list[str], set[str]]:
    old = {one.name: one.number for one in before.fields.values()} if before is not None else {}
    reserved = [(first, last) for first, last in (before.reserved if before is not None else ())]
    names = {name for name, _ in fields}
    reserved += [(number, number) for name, number in old.items() if name not in names]
    taken = [*old.values(), *(last for _, last in reserved)]
    following = max(taken, default=0) + 1
    lines, inner, imports = [], [], set[str]()
    for name, kind in fields:
        if not _NAME.fullmatch(name):
            raise SchemaError(f"Protobuf does not allow the name {name!r}: letters, digits and _")
        number = old.get(name)
        if number is None:
            number, following = following, following + 1
        nested = (
            next((one for one in before.messages if one.name.endswith(f".{_title(name)}")), None) if before else None
        )
        text, more, used = _field(name, kind, nested)
        lines.append(f"  {text} {name} = {number};")
        inner += [f"  {line}" for line in more]
        imports |= used
    said = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in sorted(reserved))
    return [f"message {title} {{", *([f"  reserved {said};"] if said else []), *inner, *lines, "}"], imports


def _field(name: str, kind: Type, before: ProtoMessage | None) -> tuple[str, list[str], set[str]]:
    """Label and type, messages that it needs inside, files that it needs."""
    match kind.kind:
        case Kind.ARRAY:
            assert kind.element is not None
            if kind.element.kind in (Kind.ARRAY, Kind.MAP):
                raise SchemaError(f"{name}: Protobuf has no list of lists or maps")
            text, inner, imports = _typed(name, kind.element, before)
            return f"repeated {text}", inner, imports
        case Kind.MAP:
            assert kind.key is not None
            assert kind.element is not None
            key = _PLAIN.get(kind.key.kind, "")
            if key in ("", "float", "double", "bytes") or kind.element.kind in (Kind.ARRAY, Kind.MAP):
                raise SchemaError(f"{name}: Protobuf has no {kind}")
            text, inner, imports = _typed(name, kind.element, before)
            return f"map<{key}, {text}>", inner, imports
        case _:
            text, inner, imports = _typed(name, kind, before)
            optional = "optional " if kind.nullable and kind.kind in _PLAIN else ""
            return optional + text, inner, imports


def _typed(name: str, kind: Type, before: ProtoMessage | None) -> tuple[str, list[str], set[str]]:
    if kind.kind is Kind.ROW:
        inner, imports = _message(_title(name), kind.fields, before)
        return _title(name), inner, imports
    if kind.kind in _MESSAGES:
        text, file = _MESSAGES[kind.kind]
        return text, [], {file}
    if kind.kind not in _PLAIN:
        raise SchemaError(f"{name}: Protobuf has no {kind}")
    return _PLAIN[kind.kind], [], set()


def columns(file: ProtoFile, message: str | None = None) -> tuple[Column, ...]:
    """The columns that hold a message, the first of the file unless named. Raises `SchemaError`."""
    found = file.named(message) if message is not None else (file.messages[0] if file.messages else None)
    if found is None:
        raise SchemaError(f"the file has no message {message or 'at all'}")
    return tuple(Column(one.name, _sql(one, (found.name,))) for one in found.fields.values())


def _sql(one: ProtoField, above: tuple[str, ...]) -> Type:
    if one.message is not None and one.message.is_map:
        key, value = one.message.fields[1], one.message.fields[2]
        element = _bare(value, above).with_nullable(False)
        return Type(Kind.MAP, False, key=_bare(key, above).with_nullable(False), element=element)
    if one.repeated:
        return t.array(_bare(one, above).with_nullable(False)).with_nullable(False)
    return _bare(one, above).with_nullable(one.presence and not one.required)


def _bare(one: ProtoField, above: tuple[str, ...]) -> Type:
    if one.message is None:
        if one.kind not in _KINDS:
            raise SchemaError(f"the field {one.name}: SQL has no type for a {one.kind}")
        return _KINDS[one.kind]
    if one.message.name in _KNOWN:
        return _KNOWN[one.message.name]
    if one.message.name in above:
        raise SchemaError(f"the field {one.name}: {one.message.name} is inside itself; SQL has no such type")
    inside = (*above, one.message.name)
    return Type(Kind.ROW, fields=tuple((other.name, _sql(other, inside)) for other in one.message.fields.values()))
