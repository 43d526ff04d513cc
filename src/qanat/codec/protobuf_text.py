"""A FileDescriptorProto -> the .proto text that it was compiled from, less comments and custom options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

_TYPES = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    6: "fixed64",
    7: "fixed32",
    8: "bool",
    9: "string",
    12: "bytes",
    13: "uint32",
    15: "sfixed32",
    16: "sfixed64",
    17: "sint32",
    18: "sint64",
}
_MAX_FIELD, _MAX_ENUM = 536_870_911, 2**31 - 1


def as_text(file: FileDescriptorProto) -> str:
    """The whole file."""
    lines = [f'syntax = "{file.syntax or "proto2"}";']
    if file.package:
        lines += ["", f"package {file.package};"]
    if file.dependency:
        public = set(file.public_dependency)
        lines.append("")
        lines += [
            f'import {"public " if place in public else ""}"{name}";' for place, name in enumerate(file.dependency)
        ]
    for enum in file.enum_type:
        lines += ["", *_enum(enum)]
    for message in file.message_type:
        lines += ["", *_message(message, file)]
    return "\n".join(lines) + "\n"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _message(message: DescriptorProto, file: FileDescriptorProto) -> Iterator[str]:
    maps = {one.name: one for one in message.nested_type if one.options.map_entry}
    yield f"message {message.name} {{"
    if message.reserved_range:
        yield f"  reserved {', '.join(_range(one.start, one.end - 1, _MAX_FIELD) for one in message.reserved_range)};"
    if message.reserved_name:
        yield f"  reserved {', '.join(map(_quoted, message.reserved_name))};"
    for enum in message.enum_type:
        yield from _indented(_enum(enum))
    yield from _members(message, maps, file)
    for span in message.extension_range:
        yield f"  extensions {_range(span.start, span.end - 1, _MAX_FIELD)};"
    yield "}"


def _members(message: DescriptorProto, maps: dict[str, Any], file: FileDescriptorProto) -> Iterator[str]:
    """Fields and nested messages, both in their order. A map is one of each: the messages before it stand before it.

    The order counts: payloads name their message by its place.
    """
    waiting = list(message.nested_type)
    begun: set[int] = set()

    def nested_before(entry: str | None) -> Iterator[str]:
        while waiting and waiting[0].name != entry:
            one = waiting.pop(0)
            if one.name not in maps:
                yield from _indented(_message(one, file))
        if waiting and entry is not None:
            waiting.pop(0)

    for one in message.field:
        entry = one.type_name.rpartition(".")[2]
        if entry in maps and one.label == one.LABEL_REPEATED:
            yield from nested_before(entry)
        if not one.HasField("oneof_index") or one.proto3_optional:
            yield f"  {_field(one, maps, file)}"
        elif one.oneof_index not in begun:
            begun.add(one.oneof_index)
            yield f"  oneof {message.oneof_decl[one.oneof_index].name} {{"
            for other in message.field:
                if other.HasField("oneof_index") and other.oneof_index == one.oneof_index:
                    yield f"    {_field(other, maps, file, inside=True)}"
            yield "  }"
    yield from nested_before(None)


def _field(one: Any, maps: dict[str, Any], file: FileDescriptorProto, inside: bool = False) -> str:
    tail = f" {one.name} = {one.number}{_options(one)};"
    entry = maps.get(one.type_name.rpartition(".")[2]) if one.label == one.LABEL_REPEATED else None
    if entry is not None and one.type == one.TYPE_MESSAGE:
        key, value = entry.field
        return f"map<{_type(key)}, {_type(value)}>{tail}"
    label = ""
    if one.label == one.LABEL_REPEATED:
        label = "repeated "
    elif one.label == one.LABEL_REQUIRED:
        label = "required "
    elif one.proto3_optional or (file.syntax != "proto3" and not inside):
        label = "optional "
    return f"{label}{_type(one)}{tail}"


def _type(one: Any) -> str:
    return _TYPES.get(one.type) or one.type_name


def _options(one: Any) -> str:
    given = []
    if one.HasField("default_value"):
        text = one.type in (one.TYPE_STRING, one.TYPE_BYTES)
        given.append(f"default = {_quoted(one.default_value) if text else one.default_value}")
    if one.options.HasField("packed"):
        given.append(f"packed = {str(one.options.packed).lower()}")
    if one.options.HasField("deprecated"):
        given.append(f"deprecated = {str(one.options.deprecated).lower()}")
    return f" [{', '.join(given)}]" if given else ""


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    if enum.options.allow_alias:
        yield "  option allow_alias = true;"
    if enum.reserved_range:
        yield f"  reserved {', '.join(_range(one.start, one.end, _MAX_ENUM) for one in enum.reserved_range)};"
    if enum.reserved_name:
        yield f"  reserved {', '.join(map(_quoted, enum.reserved_name))};"
    for value in enum.value:
        yield f"  {value.name} = {value.number};"
    yield "}"


def _range(first: int, last: int, highest: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last >= highest else last}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
