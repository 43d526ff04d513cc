"""Functions of arrays, maps and rows: the rules of their types."""

from __future__ import annotations

from dataclasses import replace

from qanat.model.types import BOOLEAN, INT, STRING, Kind, Type, array
from qanat.sql.coercion import coerce, common_type
from qanat.sql.expressions import Expression, Literal
from qanat.sql.functions.signature import Arguments, Mismatch, Row, Rule, common, fits, nullable, types_of, want


def _array(arguments: Arguments) -> tuple[Arguments, Type]:
    found = common(arguments)
    if found.kind is Kind.NULL:
        raise Mismatch("the type of the elements is not known", "ARRAY[CAST(NULL AS INT)]")
    return tuple(coerce(one, found) for one in arguments), array(found).with_nullable(False)


def _map(arguments: Arguments) -> tuple[Arguments, Type]:
    if len(arguments) % 2:
        raise Mismatch("keys and values come in pairs")
    key, value = common(arguments[0::2]), common(arguments[1::2])
    cast = tuple(coerce(one, value if i % 2 else key) for i, one in enumerate(arguments))
    return cast, Type(Kind.MAP, nullable=False, key=key, element=value)


def _row(arguments: Arguments) -> tuple[Arguments, Type]:
    fields = tuple((f"EXPR${i}", one.type) for i, one in enumerate(arguments))
    return arguments, Type(Kind.ROW, nullable=False, fields=fields)


def _field(arguments: Arguments) -> tuple[Arguments, Type]:
    row, name = arguments
    for field, kind in row.type.fields:
        if isinstance(name, Literal) and field == name.value:
            return arguments, kind.with_nullable(kind.nullable or row.type.nullable)
    raise Mismatch("no such field")


def element_of(whole: Expression) -> Type:
    """The type of an array's elements."""
    want(whole, (Kind.ARRAY,), "an array")
    return whole.type.element or Type(Kind.NULL)


def _element(arguments: Arguments) -> tuple[Arguments, Type]:
    """array[index from 1], map[key], or ELEMENT(array of one)."""
    if len(arguments) == 1:
        inner = element_of(arguments[0])
        return arguments, inner.with_nullable(inner.nullable or arguments[0].type.nullable)
    whole, index = arguments
    want(whole, (Kind.ARRAY, Kind.MAP), "an array or a map")
    result = (whole.type.element or whole.type).with_nullable(True)
    if whole.type.kind is Kind.MAP:
        return (whole, fits(index, whole.type.key or STRING)), result
    if isinstance(index, Literal) and isinstance(index.value, int) and index.value < 1:
        raise Mismatch(f"an array's first element is 1, found {index.value}")
    return (whole, fits(index, INT)), result


def _cardinality(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (Kind.ARRAY, Kind.MAP), "an array or a map")
    return arguments, nullable(INT, arguments)


def _with_needle(arguments: Arguments) -> tuple[Expression, Expression]:
    whole, needle = arguments
    element = element_of(whole)
    both = common_type([element, needle.type])
    if both is None or both.with_nullable(True) != element.with_nullable(True):
        raise Mismatch(f"the array holds {element.with_nullable(True)}, found {needle.type.with_nullable(True)}")
    return whole, coerce(needle, element)


def _contains(arguments: Arguments) -> tuple[Arguments, Type]:
    return _with_needle(arguments), BOOLEAN.with_nullable(arguments[0].type.nullable)


def _position(arguments: Arguments) -> tuple[Arguments, Type]:
    return _with_needle(arguments), nullable(INT, arguments)


def _remove(arguments: Arguments) -> tuple[Arguments, Type]:
    return _with_needle(arguments), arguments[0].type


def _append(arguments: Arguments) -> tuple[Arguments, Type]:
    whole, needle = _with_needle(arguments)
    element = element_of(whole)
    wider = element.with_nullable(element.nullable or needle.type.nullable)
    return (whole, needle), nullable(array(wider), arguments)


def _same(arguments: Arguments) -> tuple[Arguments, Type]:
    element_of(arguments[0])
    return arguments, arguments[0].type


def _with_numbers(arguments: Arguments) -> tuple[Arguments, Type]:
    element_of(arguments[0])
    cast = (arguments[0], *(fits(one, INT) for one in arguments[1:]))
    return cast, nullable(arguments[0].type, arguments)


def _sorted(arguments: Arguments) -> tuple[Arguments, Type]:
    element = element_of(arguments[0])
    if element.kind in (Kind.ARRAY, Kind.MAP, Kind.ROW):
        raise Mismatch(f"values of {element.kind.value} have no order")
    cast = (arguments[0], *(fits(one, BOOLEAN) for one in arguments[1:]))
    return cast, nullable(arguments[0].type, arguments)


def _together(arguments: Arguments) -> tuple[Arguments, Type]:
    """Arrays as one type."""
    for one in arguments:
        element_of(one)
    found = common(arguments)
    return tuple(coerce(one, found) for one in arguments), nullable(found, arguments)


def _extreme(arguments: Arguments) -> tuple[Arguments, Type]:
    return arguments, element_of(arguments[0]).with_nullable(True)


def _join(arguments: Arguments) -> tuple[Arguments, Type]:
    if element_of(arguments[0]).kind not in (Kind.STRING, Kind.NULL):
        raise Mismatch("expected an array of STRING", "CAST(x AS ARRAY<STRING>)")
    return (arguments[0], *(fits(one, STRING) for one in arguments[1:])), nullable(STRING, arguments)


def _of_map(what: str) -> Rule:
    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        want(arguments[0], (Kind.MAP,), "a map")
        whole = arguments[0].type
        key, value = whole.key or STRING, whole.element or STRING
        entry = Type(Kind.ROW, fields=(("key", key), ("value", value)))
        return arguments, nullable(array({"KEYS": key, "VALUES": value, "ENTRIES": entry}[what]), arguments)

    return rule


def _from_arrays(arguments: Arguments) -> tuple[Arguments, Type]:
    key, value = (element_of(one) for one in arguments)
    return arguments, nullable(Type(Kind.MAP, key=key, element=value), arguments)


def _map_union(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        want(one, (Kind.MAP,), "a map")
    found = common_type(types_of(arguments))
    if found is None:
        raise Mismatch("the maps have no common type", "CAST the maps to one type")
    return tuple(coerce(one, replace(found, nullable=one.type.nullable)) for one in arguments), nullable(
        found, arguments
    )


COLLECTIONS: list[Row] = [
    ("ARRAY", "ARRAY[a, b, ...]", "An array.", _array, 1, None),
    ("MAP", "MAP[key, value, ...]", "A map.", _map, 2, None),
    ("ROW", "ROW(a, b, ...)", "A row.", _row, 1, None),
    ("FIELD", "row.name", "A field of a row.", _field, 2, 2),
    ("ELEMENT", "array[1], map['key'], ELEMENT(array)", "An element; NULL if there is none.", _element, 1, 2),
    ("CARDINALITY", "CARDINALITY(x)", "How many elements.", _cardinality, 1, 1),
    ("ARRAY_APPEND", "ARRAY_APPEND(array, x)", "With x at its end.", _append, 2, 2),
    ("ARRAY_CONCAT", "ARRAY_CONCAT(array, ...)", "The arrays in a row.", _together, 1, None),
    ("ARRAY_CONTAINS", "ARRAY_CONTAINS(array, x)", "Whether x is in it.", _contains, 2, 2),
    ("ARRAY_DISTINCT", "ARRAY_DISTINCT(array)", "Each value once.", _same, 1, 1),
    ("ARRAY_EXCEPT", "ARRAY_EXCEPT(array, other)", "Each value once that is not in the other.", _together, 2, 2),
    ("ARRAY_INTERSECT", "ARRAY_INTERSECT(array, other)", "Each value once that is in both.", _together, 2, 2),
    (
        "ARRAY_JOIN",
        "ARRAY_JOIN(array, separator [, null])",
        "The texts, separated; NULLs left out or replaced.",
        _join,
        2,
        3,
    ),
    ("ARRAY_MAX", "ARRAY_MAX(array)", "The largest element.", _extreme, 1, 1),
    ("ARRAY_MIN", "ARRAY_MIN(array)", "The smallest element.", _extreme, 1, 1),
    ("ARRAY_POSITION", "ARRAY_POSITION(array, x)", "Where x is first, from 1; 0 if nowhere.", _position, 2, 2),
    ("ARRAY_PREPEND", "ARRAY_PREPEND(array, x)", "With x in front.", _append, 2, 2),
    ("ARRAY_REMOVE", "ARRAY_REMOVE(array, x)", "Without every x.", _remove, 2, 2),
    ("ARRAY_REVERSE", "ARRAY_REVERSE(array)", "Back to front.", _same, 1, 1),
    (
        "ARRAY_SLICE",
        "ARRAY_SLICE(array, from [, to])",
        "Elements from .. to; below 0 from the end.",
        _with_numbers,
        2,
        3,
    ),
    ("ARRAY_SORT", "ARRAY_SORT(array [, ascending [, nulls first]])", "In order.", _sorted, 1, 3),
    ("ARRAY_UNION", "ARRAY_UNION(array, other)", "Each value of both once.", _together, 2, 2),
    ("MAP_KEYS", "MAP_KEYS(map)", "Its keys.", _of_map("KEYS"), 1, 1),
    ("MAP_VALUES", "MAP_VALUES(map)", "Its values.", _of_map("VALUES"), 1, 1),
    ("MAP_ENTRIES", "MAP_ENTRIES(map)", "Its entries, as rows of key and value.", _of_map("ENTRIES"), 1, 1),
    ("MAP_FROM_ARRAYS", "MAP_FROM_ARRAYS(keys, values)", "A map of two arrays.", _from_arrays, 2, 2),
    ("MAP_UNION", "MAP_UNION(map, ...)", "One map of all; the last value of a key counts.", _map_union, 1, None),
]
