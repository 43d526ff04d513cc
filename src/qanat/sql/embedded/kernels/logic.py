"""Comparisons and tests. NaN is not equal to anything and neither above nor below, as in Java, unlike polars."""

from __future__ import annotations

import operator
from collections.abc import Callable

import polars as pl

from qanat.model.types import Kind
from qanat.sql.embedded.kernels.base import Kernel
from qanat.sql.expressions import Call, Literal

_OPERATORS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    found = _OPERATORS[call.function](*args)
    # the side whose NaN polars would let through
    side = 1 if call.function in ("<", "<=") else 0
    if call.args[side].type.kind not in (Kind.FLOAT, Kind.DOUBLE) or isinstance(call.args[side], Literal):
        return found
    if call.function == "<>":
        return found | args[side].is_nan()
    return found & args[side].is_not_nan()


def _in(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    found = args[0] == args[1]
    for one in args[2:]:
        found = found | (args[0] == one)
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
    "IS DISTINCT FROM": lambda _call, args, _: args[0].ne_missing(args[1]),
    "IS NOT DISTINCT FROM": lambda _call, args, _: args[0].eq_missing(args[1]),
    "IN": _in,
    "NULLIF": _nullif,
    "GREATEST": _extreme,
    "LEAST": _extreme,
    "TYPEOF": lambda call, _args, _: pl.lit(str(call.args[0].type)),
}
