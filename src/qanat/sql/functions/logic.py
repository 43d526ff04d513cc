"""Comparisons, conditions, choices: the rules of their types."""

from __future__ import annotations

from qanat.model.types import BOOLEAN, STRING, Kind, Type
from qanat.sql.coercion import coerce, common_type
from qanat.sql.expressions import Expression
from qanat.sql.functions.signature import (
    Arguments,
    Mismatch,
    Row,
    Rule,
    common,
    comparable,
    conditions,
    never_null,
    nullable,
    types_of,
    want,
)


def _compare(ordered: bool) -> Rule:
    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        cast = comparable(*arguments)
        if ordered and cast[0].type.kind in (Kind.ARRAY, Kind.MAP, Kind.ROW):
            raise Mismatch(f"values of {cast[0].type.kind.value} have no order")
        return cast, nullable(BOOLEAN, arguments)

    return rule


def _distinct(arguments: Arguments) -> tuple[Arguments, Type]:
    return comparable(*arguments), BOOLEAN.with_nullable(False)


def _test(arguments: Arguments) -> tuple[Arguments, Type]:
    return arguments, BOOLEAN.with_nullable(False)


def _one_of(arguments: Arguments) -> tuple[Arguments, Type]:
    found = common_type(types_of(arguments))
    if found is None:
        comparable(arguments[0], next(one for one in arguments if common_type([arguments[0].type, one.type]) is None))
        raise Mismatch("the values have no common type")
    return tuple(coerce(one, found) for one in arguments), nullable(BOOLEAN, arguments)


def _coalesce(arguments: Arguments) -> tuple[Arguments, Type]:
    found = common(arguments)
    empty = all(one.type.nullable or one.type.kind is Kind.NULL for one in arguments)
    return tuple(coerce(one, found) for one in arguments), found.with_nullable(empty)


def _extreme(arguments: Arguments) -> tuple[Arguments, Type]:
    found = common(arguments)
    return tuple(coerce(one, found) for one in arguments), nullable(found, arguments)


def _nullif(arguments: Arguments) -> tuple[Arguments, Type]:
    comparable(*arguments)
    return arguments, arguments[0].type.with_nullable(True)


def _case(arguments: Arguments) -> tuple[Arguments, Type]:
    """condition, value, condition, value, ..., else."""
    last = len(arguments) - 1
    values = [one for i, one in enumerate(arguments) if i % 2 == 1 or i == last]
    found = common(tuple(values))
    cast: list[Expression] = []
    for i, one in enumerate(arguments):
        if i % 2 == 1 or i == last:
            cast.append(coerce(one, found))
        else:
            want(one, (Kind.BOOLEAN,), "a condition (BOOLEAN)")
            cast.append(coerce(one, BOOLEAN))
    return tuple(cast), found


def _typeof(arguments: Arguments) -> tuple[Arguments, Type]:
    return arguments, STRING


LOGIC: list[Row] = [
    ("=", "a = b", "Equal.", _compare(False), 2, 2),
    ("<>", "a <> b", "Not equal.", _compare(False), 2, 2),
    ("<", "a < b", "Less.", _compare(True), 2, 2),
    ("<=", "a <= b", "Less or equal.", _compare(True), 2, 2),
    (">", "a > b", "Greater.", _compare(True), 2, 2),
    (">=", "a >= b", "Greater or equal.", _compare(True), 2, 2),
    ("AND", "a AND b", "Both; NULL where that is not known.", conditions, 2, 2),
    ("OR", "a OR b", "Either; NULL where that is not known.", conditions, 2, 2),
    ("NOT", "NOT a", "The contrary; NULL stays NULL.", conditions, 1, 1),
    ("IS NULL", "x IS NULL", "Whether there is no value.", _test, 1, 1),
    ("IS NOT NULL", "x IS NOT NULL", "Whether there is a value.", _test, 1, 1),
    ("IS TRUE", "x IS TRUE", "TRUE; neither FALSE nor NULL.", never_null(conditions), 1, 1),
    ("IS FALSE", "x IS FALSE", "FALSE; neither TRUE nor NULL.", never_null(conditions), 1, 1),
    ("IS DISTINCT FROM", "a IS DISTINCT FROM b", "Not equal, where NULL equals NULL.", _distinct, 2, 2),
    ("IS NOT DISTINCT FROM", "a IS NOT DISTINCT FROM b", "Equal, where NULL equals NULL.", _distinct, 2, 2),
    ("IN", "x IN (a, b, ...)", "One of the values.", _one_of, 2, None),
    ("CASE", "CASE WHEN a THEN b ELSE c END", "The value of the first condition that holds.", _case, 3, None),
    ("COALESCE", "COALESCE(a, b, ...)", "The first that is not NULL.", _coalesce, 1, None),
    ("IFNULL", "IFNULL(a, b)", "a, or b where a is NULL.", _coalesce, 2, 2),
    ("NULLIF", "NULLIF(a, b)", "a, or NULL where a equals b.", _nullif, 2, 2),
    ("GREATEST", "GREATEST(a, b, ...)", "The largest; NULL if any is NULL.", _extreme, 1, None),
    ("LEAST", "LEAST(a, b, ...)", "The smallest; NULL if any is NULL.", _extreme, 1, None),
    ("TYPEOF", "TYPEOF(x)", "The type of x, as text.", _typeof, 1, 2),
]
