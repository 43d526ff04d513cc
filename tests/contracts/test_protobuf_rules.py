"""Each rule of Protobuf's evolution, before and after, in both directions."""

from __future__ import annotations

import pytest

from qanat.codec.protobuf_schema import ProtoFile, parse_protobuf
from qanat.contracts.protobuf_rules import problems

#: What changed; before; after; rules broken when the new one reads the old, and when the old one reads the new.
CASES: list[tuple[str, str, str, list[str], list[str]]] = [
    ("nothing", "int32 a = 1;", "int32 a = 1;", [], []),
    ("field added", "int32 a = 1;", "int32 a = 1; string b = 2;", [], []),
    ("field removed", "int32 a = 1; string b = 2;", "int32 a = 1;", [], []),
    ("field renamed", "int32 a = 1;", "int32 x = 1;", [], []),
    ("field moved", "int32 a = 1; string b = 2;", "string b = 2; int32 a = 1;", [], []),
    (
        "number changed to one of another type",
        "int32 a = 1; string b = 2;",
        "int32 a = 2;",
        ["FIELD_SCALAR_KIND_CHANGED"],
        ["FIELD_SCALAR_KIND_CHANGED"],
    ),
    *[
        (f"{old} to {new}", f"{old} a = 1;", f"{new} a = 1;", [], [])
        for old, new in [
            ("int32", "int64"),
            ("int32", "uint32"),
            ("int64", "bool"),
            ("sint32", "sint64"),
            ("string", "bytes"),
            ("fixed32", "sfixed32"),
            ("fixed64", "sfixed64"),
        ]
    ],
    *[
        (
            f"{old} to {new}",
            f"{old} a = 1;",
            f"{new} a = 1;",
            ["FIELD_SCALAR_KIND_CHANGED"],
            ["FIELD_SCALAR_KIND_CHANGED"],
        )
        for old, new in [
            ("int32", "sint32"),
            ("int32", "string"),
            ("float", "double"),
            ("int32", "fixed32"),
            ("fixed32", "fixed64"),
            ("double", "int64"),
        ]
    ],
    ("enum to int32", "enum E { Z = 0; } E a = 1;", "int32 a = 1;", [], []),
    ("enum grows", "enum E { Z = 0; } E a = 1;", "enum E { Z = 0; Y = 1; } E a = 1;", [], []),
    ("string to list", "string a = 1;", "repeated string a = 1;", [], []),
    (
        "number to list",
        "int32 a = 1;",
        "repeated int32 a = 1;",
        ["FIELD_NUMERIC_LABEL_CHANGED"],
        ["FIELD_NUMERIC_LABEL_CHANGED"],
    ),
    (
        "scalar to message",
        "message I { int32 x = 1; } int32 a = 1;",
        "message I { int32 x = 1; } I a = 1;",
        ["FIELD_KIND_CHANGED"],
        ["FIELD_KIND_CHANGED"],
    ),
    (
        "another message",
        "message I {} message J {} I a = 1;",
        "message I {} message J {} J a = 1;",
        ["FIELD_NAMED_TYPE_CHANGED"],
        ["FIELD_NAMED_TYPE_CHANGED"],
    ),
    ("message removed", "message I {} int32 a = 1;", "int32 a = 1;", ["MESSAGE_REMOVED"], []),
    (
        "inside of a message",
        "message I { int32 x = 1; } I a = 1;",
        "message I { string x = 1; } I a = 1;",
        ["FIELD_SCALAR_KIND_CHANGED"],
        ["FIELD_SCALAR_KIND_CHANGED"],
    ),
    (
        "map values",
        "map<string, int32> a = 1;",
        "map<string, string> a = 1;",
        ["FIELD_SCALAR_KIND_CHANGED"],
        ["FIELD_SCALAR_KIND_CHANGED"],
    ),
    (
        "map to message",
        "map<string, int32> a = 1;",
        "message I {} I a = 1;",
        ["FIELD_KIND_CHANGED"],
        ["FIELD_KIND_CHANGED", "MESSAGE_REMOVED"],
    ),
    ("one field into a oneof", "int32 a = 1;", "oneof o { int32 a = 1; string b = 2; }", [], ["ONEOF_FIELD_REMOVED"]),
    (
        "two fields into a oneof",
        "int32 a = 1; int32 b = 2;",
        "oneof o { int32 a = 1; int32 b = 2; }",
        ["MULTIPLE_FIELDS_MOVED_TO_ONEOF"],
        [],
    ),
    (
        "a field into a oneof of others",
        "int32 a = 1; oneof o { int32 b = 2; }",
        "oneof o { int32 a = 1; int32 b = 2; }",
        ["FIELD_MOVED_TO_EXISTING_ONEOF"],
        [],
    ),
    ("oneof grows", "oneof o { int32 a = 1; }", "oneof o { int32 a = 1; int32 b = 2; }", [], ["ONEOF_FIELD_REMOVED"]),
    (
        "type inside of a oneof",
        "oneof o { int32 a = 1; }",
        "oneof o { string a = 1; }",
        ["FIELD_SCALAR_KIND_CHANGED"],
        ["FIELD_SCALAR_KIND_CHANGED"],
    ),
    ("reserved number used", "reserved 2; int32 a = 1;", "int32 a = 1; int32 b = 2;", ["RESERVED_NUMBER_USED"], []),
    ("reserved name used", 'reserved "b"; int32 a = 1;', "int32 a = 1; int32 b = 2;", ["RESERVED_NAME_USED"], []),
    ("removed and reserved", "int32 a = 1; int32 b = 2;", "reserved 2; int32 a = 1;", [], ["RESERVED_NUMBER_USED"]),
]


def compiled(body: str) -> ProtoFile:
    return parse_protobuf(f'syntax = "proto3"; message M {{ {body} }}')


@pytest.mark.parametrize(
    ("before", "after", "backward", "forward"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_what_a_change_breaks(before: str, after: str, backward: list[str], forward: list[str]) -> None:
    old, new = compiled(before), compiled(after)
    assert [one.rule for one in problems(new, old)] == backward
    assert [one.rule for one in problems(old, new)] == forward


def test_required_fields_may_neither_come_nor_go() -> None:
    def proto2(body: str) -> ProtoFile:
        return parse_protobuf(f'syntax = "proto2"; message M {{ {body} }}')

    without, with_it = proto2("optional int32 a = 1;"), proto2("optional int32 a = 1; required int32 b = 2;")
    assert [one.rule for one in problems(with_it, without)] == ["REQUIRED_FIELD_ADDED"]
    assert [one.rule for one in problems(without, with_it)] == ["REQUIRED_FIELD_REMOVED"]


def test_the_content_of_an_imported_message_counts_too() -> None:
    def importing(body: str) -> ProtoFile:
        inner = f'syntax = "proto3"; package x; message I {{ {body} }}'
        return parse_protobuf('syntax = "proto3"; import "i.proto"; message M { x.I a = 1; }', {"i.proto": inner})

    assert [str(one) for one in problems(importing("string v = 1;"), importing("int32 v = 1;"))] == [
        "/M/1/1: the field v was int32 (a number) and is string (a string or bytes) (FIELD_SCALAR_KIND_CHANGED)"
    ]
