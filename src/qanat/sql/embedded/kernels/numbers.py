"""Arithmetic. Integers wrap around; their division is cut towards zero and by zero is an error; decimals are exact."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC
from qanat.sql.embedded.kernels.base import Kernel, dtype_of, refuse
from qanat.sql.embedded.kernels.times import add_interval
from qanat.sql.expressions import Call, Expression, Literal

#: Wide enough for products of two DECIMAL(38, s).
_EXACT = Context(prec=90, rounding=ROUND_HALF_UP)


def to_decimal(values: pl.Series, target: Type) -> pl.Series:
    """Numbers as DECIMAL(p, s), halves rounded away from zero; NULL where the digits do not suffice."""
    quantum, limit = (
        Decimal(1).scaleb(-(target.scale or 0)),
        Decimal(10) ** ((target.precision or 10) - (target.scale or 0)),
    )
    found = [None if one is None else Decimal(one).quantize(quantum, context=_EXACT) for one in values.to_list()]
    fitting = [None if one is None or abs(one) >= limit else one for one in found]
    return pl.Series(values.name, fitting, dtype=dtype_of(target))


def _exact(name: str, left: Decimal, right: Decimal) -> Decimal:
    if name == "+":
        return _EXACT.add(left, right)
    if name == "-":
        return _EXACT.subtract(left, right)
    if name == "*":
        return _EXACT.multiply(left, right)
    if name == "/":
        return _EXACT.divide(left, right)
    return _EXACT.remainder(left, right)


def _decimal_arithmetic(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    name = "%" if call.function == "MOD" else call.function
    if name in "/%":
        args = [args[0], _not_zero(args[0], args[1], guard)]

    def compute(found: Sequence[pl.Series]) -> pl.Series:
        length = max(len(one) for one in found)
        sides = [(one.to_list() * length if len(one) == 1 else one.to_list()) for one in found]
        values = [
            None if a is None or b is None else _exact(name, Decimal(a), Decimal(b)) if b or name in "+-*" else None
            for a, b in zip(*sides, strict=True)
        ]
        return to_decimal(pl.Series(found[0].name, values, dtype=pl.Object), call.type)

    return pl.map_batches(args, compute, return_dtype=dtype_of(call.type))


def _not_zero(left: pl.Expr, right: pl.Expr, guard: pl.Expr | None) -> pl.Expr:
    return refuse((right == 0) & left.is_not_null(), right, left, "division by zero: {} / 0", guard)


def _divide(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.type.kind is Kind.DECIMAL:
        return _decimal_arithmetic(call, args, guard)
    if call.type.kind in APPROXIMATE:
        return args[0] / args[1]
    left, right = args[0], _checked(call.args[1], args, guard)
    floor, rest = left // right, left % right
    cut = (rest != 0) & ((left < 0) != (right < 0))
    return floor + cut.cast(dtype_of(call.type))


def _checked(divisor: Expression, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if isinstance(divisor, Literal) and divisor.value not in (0, None):
        return args[1]
    return _not_zero(args[0], args[1], guard)


def _remainder(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.type.kind is Kind.DECIMAL:
        return _decimal_arithmetic(call, args, guard)
    if call.type.kind in APPROXIMATE:
        return pl.map_batches(args, lambda found: _fmod(*found), return_dtype=dtype_of(call.type))
    left, right = args[0], _checked(call.args[1], args, guard)
    rest = left % right
    # polars gives the sign of the divisor, SQL that of the dividend
    return pl.when((rest != 0) & ((left < 0) != (right < 0))).then(rest - right).otherwise(rest)


def _fmod(left: pl.Series, right: pl.Series) -> pl.Series:
    with np.errstate(invalid="ignore"):
        found = pl.Series(left.name, np.fmod(left.to_numpy(), right.to_numpy()), dtype=left.dtype)
    missing = left.is_null() | right.is_null()
    return pl.select(pl.when(missing).then(None).otherwise(found)).to_series().alias(left.name)


def _plus_minus(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.type.kind is Kind.DECIMAL:
        return _decimal_arithmetic(call, args, guard)
    if call.type.kind in NUMERIC:
        return args[0] + args[1] if call.function == "+" else args[0] - args[1]
    return add_interval(call, args)


def _multiply(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    return _decimal_arithmetic(call, args, guard) if call.type.kind is Kind.DECIMAL else args[0] * args[1]


def _round(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    places = int(str(call.args[1].value)) if len(call.args) > 1 and isinstance(call.args[1], Literal) else 0
    kind = call.args[0].type.kind
    if kind is Kind.DECIMAL:
        return pl.map_batches(
            [args[0]], lambda found: _rounded(found[0], places, call.type), return_dtype=dtype_of(call.type)
        )
    if places < 0:
        factor = 10**-places
        scaled: pl.Expr = (args[0] / factor).round(0, mode="half_away_from_zero") * factor
        return scaled.cast(dtype_of(call.type))
    return args[0] if kind in INTEGERS else args[0].round(places, mode="half_away_from_zero")


def _rounded(values: pl.Series, places: int, target: Type) -> pl.Series:
    quantum = Decimal(1).scaleb(-places)
    found = [None if one is None else Decimal(one).quantize(quantum, context=_EXACT) for one in values.to_list()]
    return to_decimal(pl.Series(values.name, found, dtype=pl.Object), target)


def _whole(rounding: str) -> Callable[[Call, pl.Expr], pl.Expr]:
    def kernel(call: Call, arg: pl.Expr) -> pl.Expr:
        kind = call.args[0].type.kind
        if kind in INTEGERS:
            return arg
        if kind in APPROXIMATE:
            return arg.floor() if rounding == decimal.ROUND_FLOOR else arg.ceil()

        def compute(found: Sequence[pl.Series]) -> pl.Series:
            values = [None if one is None else Decimal(one).to_integral_value(rounding) for one in found[0].to_list()]
            return pl.Series(found[0].name, values, dtype=dtype_of(call.type))

        return pl.map_batches([arg], compute, return_dtype=dtype_of(call.type))

    return kernel


#: FLOOR and CEIL of numbers; those of times are in `times`, which dispatches.
floor, ceiling = _whole(decimal.ROUND_FLOOR), _whole(decimal.ROUND_CEILING)


def _absolute(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return args[0].abs()


def _negate(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return -args[0]


def _sign(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return args[0].sign().cast(dtype_of(call.type))


KERNELS: dict[str, Kernel] = {
    "+": _plus_minus,
    "-": _plus_minus,
    "*": _multiply,
    "/": _divide,
    "%": _remainder,
    "MOD": _remainder,
    "NEGATE": _negate,
    "ABS": _absolute,
    "SIGN": _sign,
    "ROUND": _round,
    "SQRT": lambda _call, args, _: args[0].sqrt(),
    "POWER": lambda _call, args, _: args[0].pow(args[1]),
    "EXP": lambda _call, args, _: args[0].exp(),
    "LN": lambda _call, args, _: args[0].log(),
    "LOG10": lambda _call, args, _: args[0].log10(),
    "LOG2": lambda _call, args, _: args[0].log(2.0),
}
