"""Each rule of Avro's schema resolution, before and after, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qanat.codec.avro_schema import parse_avro
from qanat.contracts.avro_rules import problems


def record(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": symbols, **more}


A, B = field("a", "int"), field("b", "string")
#: What changed; before; after; rules broken when the new one reads the old, and when the old one reads the new.
CASES: list[tuple[str, Any, Any, list[str], list[str]]] = [
    ("nothing", record(A), record(A), [], []),
    ("field added", record(A), record(A, B), ["READER_FIELD_MISSING_DEFAULT_VALUE"], []),
    ("field added with default", record(A), record(A, field("b", "string", default="")), [], []),
    ("field added, NULL by default", record(A), record(A, field("b", ["null", "int"], default=None)), [], []),
    ("field removed", record(A, B), record(A), [], ["READER_FIELD_MISSING_DEFAULT_VALUE"]),
    ("field moved", record(A, B), record(B, A), [], []),
    (
        "field renamed",
        record(A),
        record(field("x", "int")),
        ["READER_FIELD_MISSING_DEFAULT_VALUE"],
        ["READER_FIELD_MISSING_DEFAULT_VALUE"],
    ),
    (
        "field renamed with alias",
        record(A),
        record(field("x", "int", aliases=["a"])),
        [],
        ["READER_FIELD_MISSING_DEFAULT_VALUE"],
    ),
    ("record renamed", record(A), record(A, name="S"), ["NAME_MISMATCH"], ["NAME_MISMATCH"]),
    ("record renamed with alias", record(A), record(A, name="S", aliases=["R"]), [], ["NAME_MISMATCH"]),
    ("namespace changed", record(A), record(A, namespace="farm"), [], []),
    *[
        (f"{old} to {new}", record(field("a", old)), record(field("a", new)), [], ["TYPE_MISMATCH"])
        for old, new in [
            ("int", "long"),
            ("int", "float"),
            ("int", "double"),
            ("long", "float"),
            ("long", "double"),
            ("float", "double"),
        ]
    ],
    ("string to bytes", record(field("a", "string")), record(field("a", "bytes")), [], []),
    ("int to string", record(field("a", "int")), record(field("a", "string")), ["TYPE_MISMATCH"], ["TYPE_MISMATCH"]),
    ("boolean to int", "boolean", "int", ["TYPE_MISMATCH"], ["TYPE_MISMATCH"]),
    ("type to union with it", record(A), record(field("a", ["null", "int"])), [], ["TYPE_MISMATCH"]),
    ("union grows", ["null", "int"], ["null", "int", "string"], [], ["MISSING_UNION_BRANCH"]),
    ("union reordered", ["null", "int"], ["int", "null"], [], []),
    ("union branch promoted", ["null", "int"], ["null", "long"], [], ["MISSING_UNION_BRANCH"]),
    ("union to a type", ["null", "int"], "int", ["TYPE_MISMATCH"], []),
    ("union without the type", "string", ["null", "int"], ["MISSING_UNION_BRANCH"], ["TYPE_MISMATCH", "TYPE_MISMATCH"]),
    ("enum grows", enum("X"), enum("X", "Y"), [], ["MISSING_ENUM_SYMBOLS"]),
    ("enum grows, old has a default", enum("X", default="X"), enum("X", "Y"), [], []),
    ("enum shrinks with a default", enum("X", "Y"), enum("X", default="X"), [], []),
    ("enum renamed", enum("X"), {**enum("X"), "name": "F"}, ["NAME_MISMATCH"], ["NAME_MISMATCH"]),
    (
        "fixed size",
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "fixed", "name": "F", "size": 5},
        ["FIXED_SIZE_MISMATCH"],
        ["FIXED_SIZE_MISMATCH"],
    ),
    ("array items", {"type": "array", "items": "int"}, {"type": "array", "items": "long"}, [], ["TYPE_MISMATCH"]),
    (
        "map values",
        {"type": "map", "values": "int"},
        {"type": "map", "values": "string"},
        ["TYPE_MISMATCH"],
        ["TYPE_MISMATCH"],
    ),
    (
        "array to map",
        {"type": "array", "items": "int"},
        {"type": "map", "values": "int"},
        ["TYPE_MISMATCH"],
        ["TYPE_MISMATCH"],
    ),
    (
        "scale",
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3},
        ["TYPE_MISMATCH"],
        ["TYPE_MISMATCH"],
    ),
    (
        "precision",
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        [],
        [],
    ),
    ("doc", record(A), record({**A, "doc": "watts"}), [], []),
    (
        "inside itself",
        record(A, field("next", ["null", "R"])),
        record(A, field("next", ["null", "R"]), B),
        ["READER_FIELD_MISSING_DEFAULT_VALUE"],
        [],
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "backward", "forward"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_what_a_change_breaks(before: Any, after: Any, backward: list[str], forward: list[str]) -> None:
    old, new = parse_avro(json.dumps(before)), parse_avro(json.dumps(after))
    assert [one.rule for one in problems(new, old)] == backward
    assert [one.rule for one in problems(old, new)] == forward


def test_a_problem_says_which_field_and_what_is_wrong_with_it() -> None:
    old = parse_avro(json.dumps(record(field("inner", record(A, name="I")))))
    new = parse_avro(json.dumps(record(field("inner", record(field("a", "string"), name="I")))))
    assert [str(one) for one in problems(new, old)] == ["/inner/a: string does not read int (TYPE_MISMATCH)"]
