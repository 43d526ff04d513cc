"""Each rule of JSON Schema's compatibility, before and after, in both directions; and that they keep their promise."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qanat.contracts.json_rules import problems
from qanat.contracts.json_schema import parse_json_schema

INT, TEXT = {"type": "integer"}, {"type": "string"}


def obj(required: tuple[str, ...] = (), extra: Any = None, **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        made["required"] = list(required)
    if extra is not None:
        made["additionalProperties"] = extra
    return made


#: What changed; before; after; rules broken when the new one reads the old, and when the old one reads the new.
CASES: list[tuple[str, Any, Any, list[str], list[str]]] = [
    ("nothing", obj(a=INT), obj(a=INT), [], []),
    ("title", {**INT, "title": "x"}, {**INT, "description": "y", "default": 1}, [], []),
    ("open: property added", obj(a=INT), obj(a=INT, b=TEXT), ["PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"], []),
    ("open: anything added", obj(a=INT), obj(a=INT, b={}), [], []),
    (
        "closed: optional added",
        obj(extra=False, a=INT),
        obj(extra=False, a=INT, b=TEXT),
        [],
        ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"],
    ),
    (
        "closed: required added",
        obj(extra=False, a=INT),
        obj(("b",), extra=False, a=INT, b=TEXT),
        ["REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL"],
        ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"],
    ),
    (
        "closed: required with default added",
        obj(extra=False, a=INT),
        obj(("b",), extra=False, a=INT, b={**TEXT, "default": ""}),
        [],
        ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"],
    ),
    ("partly open: covered", obj(extra=TEXT, a=INT), obj(extra=TEXT, a=INT, b=TEXT), [], []),
    (
        "partly open: not covered",
        obj(extra=TEXT, a=INT),
        obj(extra=TEXT, a=INT, b=INT),
        ["PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "TYPE_CHANGED"],
        ["PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", "TYPE_CHANGED"],
    ),
    ("closed to open", obj(extra=False, a=INT), obj(a=INT), [], ["ADDITIONAL_PROPERTIES_REMOVED"]),
    ("others get a schema", obj(a=INT), obj(extra=TEXT, a=INT), ["ADDITIONAL_PROPERTIES_NARROWED"], []),
    ("required added", obj(a=INT), obj(("a",), a=INT), ["REQUIRED_ATTRIBUTE_ADDED"], []),
    ("required added with default", obj(a=INT), obj(("a",), a={**INT, "default": 0}), [], []),
    ("a property that is no more is required", obj(a={}), obj(("a",)), ["REQUIRED_ATTRIBUTE_ADDED"], []),
    ("anything, required", obj(), obj(("b",), b={}), ["REQUIRED_ATTRIBUTE_ADDED"], []),
    ("type changed", INT, TEXT, ["TYPE_CHANGED"], ["TYPE_CHANGED"]),
    ("integer to number", INT, {"type": "number"}, [], ["TYPE_NARROWED"]),
    ("types grow", INT, {"type": ["integer", "null"]}, [], ["TYPE_NARROWED"]),
    ("inside", obj(a=obj(b=INT)), obj(a=obj(b=TEXT)), ["TYPE_CHANGED"], ["TYPE_CHANGED"]),
    ("maximum raised", {**INT, "maximum": 5}, {**INT, "maximum": 9}, [], ["MAXIMUM_DECREASED"]),
    ("minimum added", INT, {**INT, "minimum": 0}, ["MINIMUM_ADDED"], []),
    ("minLength raised", {**TEXT, "minLength": 1}, {**TEXT, "minLength": 2}, ["MIN_LENGTH_INCREASED"], []),
    ("pattern added", TEXT, {**TEXT, "pattern": "a"}, ["PATTERN_ADDED"], []),
    ("pattern changed", {**TEXT, "pattern": "a"}, {**TEXT, "pattern": "b"}, ["PATTERN_CHANGED"], ["PATTERN_CHANGED"]),
    ("multipleOf reduced", {**INT, "multipleOf": 6}, {**INT, "multipleOf": 3}, [], ["MULTIPLE_OF_EXPANDED"]),
    ("enum grows", {"enum": ["a"]}, {"enum": ["a", "b"]}, [], ["ENUM_ARRAY_NARROWED"]),
    ("enum changes", {"enum": ["a", "c"]}, {"enum": ["a", "b"]}, ["ENUM_ARRAY_CHANGED"], ["ENUM_ARRAY_CHANGED"]),
    ("const gone", {"const": 1}, {}, [], ["TYPE_NARROWED"]),
    ("items", {"type": "array", "items": INT}, {"type": "array", "items": TEXT}, ["TYPE_CHANGED"], ["TYPE_CHANGED"]),
    ("uniqueItems", {"type": "array"}, {"type": "array", "uniqueItems": True}, ["UNIQUE_ITEMS_ADDED"], []),
    ("maxItems", {"type": "array"}, {"type": "array", "maxItems": 3}, ["MAX_ITEMS_ADDED"], []),
    (
        "tuple grows, closed",
        {"type": "array", "items": [INT], "additionalItems": False},
        {"type": "array", "items": [INT, TEXT], "additionalItems": False},
        [],
        ["ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL"],
    ),
    ("dependency", obj(a=INT), {**obj(a=INT), "dependencies": {"a": ["b"]}}, ["DEPENDENCY_ARRAY_ADDED"], []),
    ("oneOf grows", {"oneOf": [INT, TEXT]}, {"oneOf": [INT, TEXT, {"type": "null"}]}, [], ["SUM_TYPE_NARROWED"]),
    ("oneOf reordered", {"oneOf": [INT, TEXT]}, {"oneOf": [TEXT, INT]}, [], []),
    (
        "oneOf changed",
        {"oneOf": [INT, TEXT]},
        {"oneOf": [INT, {"type": "null"}]},
        ["COMBINED_TYPE_SUBSCHEMAS_CHANGED"],
        ["COMBINED_TYPE_SUBSCHEMAS_CHANGED"],
    ),
    ("type to oneOf with it", INT, {"oneOf": [INT, TEXT]}, [], ["TYPE_CHANGED"]),
    ("types to anyOf", {"type": ["integer", "string"]}, {"anyOf": [TEXT, INT]}, [], []),
    ("allOf grows", {"allOf": [obj(a=INT)]}, {"allOf": [obj(a=INT), obj(b=INT)]}, ["PRODUCT_TYPE_EXTENDED"], []),
    ("oneOf to anyOf", {"oneOf": [INT, TEXT]}, {"anyOf": [INT, TEXT]}, [], ["COMBINED_TYPE_CHANGED"]),
    ("not widened", {"not": {"type": "null"}}, {"not": {"type": ["null", "integer"]}}, ["NOT_TYPE_EXTENDED"], []),
    (
        "$ref",
        {"$ref": "#/$defs/x", "$defs": {"x": INT}},
        {"$ref": "#/$defs/y", "$defs": {"y": {"type": "number"}}},
        [],
        ["TYPE_NARROWED"],
    ),
    ("nothing any more", INT, False, ["TYPE_NARROWED"], []),
]


def broken(now: Any, before: Any) -> list[str]:
    return [
        one.rule for one in problems(parse_json_schema(json.dumps(now), {}), parse_json_schema(json.dumps(before), {}))
    ]


@pytest.mark.parametrize(
    ("before", "after", "backward", "forward"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_what_a_change_breaks(before: Any, after: Any, backward: list[str], forward: list[str]) -> None:
    assert broken(after, before) == backward
    assert broken(before, after) == forward


SMALL = st.integers(0, 4)
LEAVES = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"type": st.just("integer")}, optional={"minimum": SMALL, "maximum": SMALL, "multipleOf": st.integers(1, 4)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": SMALL,
            "maxLength": SMALL,
            "enum": st.lists(st.sampled_from(["", "a", "ab"]), min_size=1, unique=True),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.lists(st.sampled_from(["integer", "string", "null", "boolean"]), min_size=1, unique=True)}
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)},
            optional={
                "required": st.lists(st.sampled_from("ab"), unique=True, min_size=1),
                "additionalProperties": st.one_of(st.booleans(), inner),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")}, optional={"items": inner, "maxItems": SMALL, "minItems": SMALL}
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 5), st.sampled_from(["", "a", "ab", "abc"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, SCHEMAS, VALUES)
def test_a_compatible_schema_takes_every_document_that_the_old_one_took(before: Any, after: Any, value: Any) -> None:
    assume(jsonschema_rs.is_valid(before, value))
    if not broken(after, before):
        assert jsonschema_rs.is_valid(after, value)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS)
def test_every_schema_follows_itself(schema: Any) -> None:
    assert broken(schema, schema) == []
