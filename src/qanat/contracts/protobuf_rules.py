"""Whether a Protobuf schema can read what another one wrote: field numbers, types, oneofs and reservations.

Pure. Protocol Buffers documentation, "Updating A Message Type"; the rules have the names that the Confluent Schema
Registry gives them. Stricter than it in two things, which docs/contracts.md says: a list of numbers that becomes a
single number, and a number that was reserved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qanat.codec.protobuf_schema import ProtoField, ProtoFile, ProtoMessage
from qanat.contracts.schema import Problem

#: Scalars of one class are read out of each other's bytes.
_CLASSES = {
    **dict.fromkeys(("int32", "int64", "uint32", "uint64", "bool", "enum"), "a number"),
    **dict.fromkeys(("sint32", "sint64"), "a zigzag number"),
    **dict.fromkeys(("string", "bytes"), "a string or bytes"),
    **dict.fromkeys(("fixed32", "sfixed32"), "four fixed bytes"),
    **dict.fromkeys(("fixed64", "sfixed64"), "eight fixed bytes"),
    "float": "a float",
    "double": "a double",
}


def problems(reader: ProtoFile, writer: ProtoFile) -> list[Problem]:
    """Why `reader` cannot read what `writer` wrote; nothing where it can."""
    return list(_level(reader.messages, writer.messages, "", _own(writer.messages)))


def _own(messages: Sequence[ProtoMessage]) -> set[str]:
    """Messages that are compared where they stand; imported ones are where a field has them."""
    return {one.name for one in messages} | {name for one in messages for name in _own(one.messages)}


def _level(
    reader: Sequence[ProtoMessage], writer: Sequence[ProtoMessage], path: str, done: set[str]
) -> Iterator[Problem]:
    now = {one.name.rpartition(".")[2]: one for one in reader}
    for before in writer:
        name = before.name.rpartition(".")[2]
        place = f"{path}/{name}"
        if name not in now:
            if not before.is_map:
                yield Problem("MESSAGE_REMOVED", place, f"the message {name} is gone")
        elif not before.is_map:
            yield from _message(now[name], before, place, done)


def _message(reader: ProtoMessage, writer: ProtoMessage, path: str, done: set[str]) -> Iterator[Problem]:
    yield from _oneofs(reader, writer, path)
    for number in sorted({*reader.fields, *writer.fields}):
        now, before = reader.fields.get(number), writer.fields.get(number)
        place = f"{path}/{number}"
        if now is None:
            assert before is not None
            yield from _gone(before, place)
        elif before is None:
            yield from _new(now, writer, place)
        else:
            yield from _field(now, before, place, done)
    yield from _level(reader.messages, writer.messages, path, done)


def _gone(before: ProtoField, path: str) -> Iterator[Problem]:
    if before.required:
        yield Problem("REQUIRED_FIELD_REMOVED", path, f"the required field {before.name} is gone")
    if before.oneof is not None:
        yield Problem("ONEOF_FIELD_REMOVED", path, f"the field {before.name} is gone from the oneof {before.oneof}")


def _new(now: ProtoField, writer: ProtoMessage, path: str) -> Iterator[Problem]:
    if now.required:
        yield Problem("REQUIRED_FIELD_ADDED", path, f"the field {now.name} is new and required")
    if any(first <= now.number <= last for first, last in writer.reserved):
        yield Problem(
            "RESERVED_NUMBER_USED", path, f"the field {now.name} has the number {now.number}, which was reserved"
        )
    if now.name in writer.reserved_names:
        yield Problem("RESERVED_NAME_USED", path, f"the name {now.name} was reserved")


def _oneofs(reader: ProtoMessage, writer: ProtoMessage, path: str) -> Iterator[Problem]:
    """Fields that could be set together must not exclude each other now."""
    groups: dict[str, list[ProtoField]] = {}
    for one in reader.fields.values():
        if one.oneof is not None:
            groups.setdefault(one.oneof, []).append(one)
    for name, members in groups.items():
        known = [writer.fields[one.number] for one in members if one.number in writer.fields]
        moved = [one for one in known if one.oneof is None]
        place = f"{path}/{name}"
        if len(moved) > 1:
            names = ", ".join(one.name for one in moved)
            message = f"the fields {names} can be set together and now exclude each other in the oneof {name}"
            yield Problem("MULTIPLE_FIELDS_MOVED_TO_ONEOF", place, message)
        elif moved and len(known) > 1:
            message = f"the field {moved[0].name} moved into the oneof {name}, which other fields were in before"
            yield Problem("FIELD_MOVED_TO_EXISTING_ONEOF", place, message)


def _field(now: ProtoField, before: ProtoField, path: str, done: set[str]) -> Iterator[Problem]:
    kinds = (_form(before), _form(now))
    if kinds[0] != kinds[1]:
        yield Problem("FIELD_KIND_CHANGED", path, f"the field {before.name} was {kinds[0]} and is {kinds[1]}")
        return
    if kinds[0] == "a map":
        assert now.message is not None
        assert before.message is not None
        for number, what in ((1, "key"), (2, "value")):
            yield from _field(now.message.fields[number], before.message.fields[number], f"{path}/{what}", done)
        return
    if kinds[0] == "a message":
        yield from _named(now, before, path, done)
        return
    classes = (_CLASSES.get(before.kind), _CLASSES.get(now.kind))
    if classes[0] != classes[1]:
        message = f"the field {before.name} was {before.kind} ({classes[0]}) and is {now.kind} ({classes[1]})"
        yield Problem("FIELD_SCALAR_KIND_CHANGED", path, message)
    elif now.repeated != before.repeated and classes[0] != "a string or bytes":
        message = f"the field {before.name} of numbers {'became a list' if now.repeated else 'is no list any more'}"
        yield Problem("FIELD_NUMERIC_LABEL_CHANGED", path, message)


def _named(now: ProtoField, before: ProtoField, path: str, done: set[str]) -> Iterator[Problem]:
    assert now.message is not None
    assert before.message is not None
    if now.message.local_name != before.message.local_name:
        message = f"the field {before.name} was of {before.message.local_name} and is of {now.message.local_name}"
        yield Problem("FIELD_NAMED_TYPE_CHANGED", path, message)
    elif before.message.name not in done:
        done.add(before.message.name)
        yield from _message(now.message, before.message, path, done)


def _form(one: ProtoField) -> str:
    if one.message is None:
        return "a group" if one.kind == "group" else "a scalar"
    return "a map" if one.message.is_map else "a message"
