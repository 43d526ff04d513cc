"""Comparisons and tests. NaN is not equal to anything and neither above nor below, as in Java, unlike polars."""

from __future__ import annotations

import operator
from collections.abc import Callable

import polars as pl

from qanat.model.types import Kind
from qanat.sql.embedded.kernels.base import Kernel
from qanat.sql.expressions import Call, Literal, columns

_OPERATORS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


_SWAPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _compare(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    name, sides, types = call.function, args, call.args
    if not columns(types[0]):
        # polars gives one row for a constant on the left of a column that it knows to be constant
        name, sides, types = _SWAPPED[name], args[::-1], types[::-1]
    found = _OPERATORS[name](*sides)
    # the side whose NaN polars would let through
    side = 1 if name in ("<", "<=") else 0
    if types[side].type.kind not in (Kind.FLOAT, Kind.DOUBLE) or isinstance(types[side], Literal):
        return found
    if name == "<>":
        return found | sides[side].is_nan()
    return found & sides[side].is_not_nan()


def _distinct(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    left, right = args if columns(call.args[0]) else args[::-1]
    return left.eq_missing(right) if "NOT" in call.function else left.ne_missing(right)


def _in(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    tests = [args[0] == one if columns(call.args[0]) else one == args[0] for one in args[1:]]
    found = tests[0]
    for one in tests[1:]:
        found = found | one
    return found


def _nullif(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return pl.when((args[0] == args[1]).fill_null(False)).then(None).otherwise(args[0])


def _extreme(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    found = pl.max_horizontal(args) if call.function == "GREATEST" else pl.min_horizontal(args)
    return pl.when(pl.any_horizontal([one.is_null() for one in args])).then(None).otherwise(found)


KERNELS: dict[str, Kernel] = {
    **dict.fromkeys(_OPERATORS, _compare),
    "NOT": lambda _call, args, _: ~args[0],
    "IS NULL": lambda _call, args, _: args[0].is_null(),
    "IS NOT NULL": lambda _call, args, _: args[0].is_not_null(),
    "IS TRUE": lambda _call, args, _: args[0].fill_null(False),
    "IS FALSE": lambda _call, args, _: (~args[0]).fill_null(False),
    "IS DISTINCT FROM": _distinct,
    "IS NOT DISTINCT FROM": _distinct,
    "IN": _in,
    "NULLIF": _nullif,
    "GREATEST": _extreme,
    "LEAST": _extreme,
    "TYPEOF": lambda call, _args, _: pl.lit(str(call.args[0].type)),
}
