"""Arithmetic. Integers wrap around; their division is cut towards zero and by zero is an error; decimals are exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

import numpy as np
import polars as pl

from qanat.model.types import Kind
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC
from qanat.sql.embedded.kernels import decimals
from qanat.sql.embedded.kernels.base import Kernel, broadcast, dtype_of, refuse, row_by_row
from qanat.sql.embedded.kernels.times import add_interval
from qanat.sql.expressions import Call, Expression, Literal

_WIDE = Context(prec=400)


def _decimal_arithmetic(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    name = "%" if call.function == "MOD" else call.function
    if name in "/%":
        args = [args[0], _checked(call.args[1], args, guard)]
    types = (call.args[0].type, call.args[1].type)

    def compute(found: Sequence[pl.Series]) -> pl.Series:
        left, right = broadcast(found)
        return decimals.arithmetic(name, left, right, types, call.type)

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
    left, right = args[0], _checked(call.args[1], args, guard)
    rest = left % right
    # polars gives the sign of the divisor, SQL that of the dividend
    signed = pl.when((rest != 0) & ((left < 0) != (right < 0))).then(rest - right).otherwise(rest)
    return signed.cast(dtype_of(call.type), wrap_numerical=True)


def _plus_minus(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.type.kind is Kind.DECIMAL:
        return _decimal_arithmetic(call, args, guard)
    if call.type.kind in NUMERIC:
        return args[0] + args[1] if call.function == "+" else args[0] - args[1]
    return add_interval(call, args)


def _multiply(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.type.kind is Kind.DECIMAL:
        return _decimal_arithmetic(call, args, guard)
    if call.type.kind is Kind.INTERVAL_YEAR:
        return (args[0].cast(pl.Int64) * args[1]).cast(pl.Int32, wrap_numerical=True)
    return args[0] * args[1]


def _to_places(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    """ROUND and TRUNCATE."""
    places = int(str(call.args[1].value)) if len(call.args) > 1 and isinstance(call.args[1], Literal) else 0
    source = call.args[0].type
    if source.kind in INTEGERS:
        return args[0] if places >= 0 else _whole_tens(args[0], -places, call)
    dtype = dtype_of(call.type)
    if source.kind is Kind.DECIMAL:
        return pl.map_batches(
            [args[0]],
            lambda found: decimals.to_places(found[0], source, call.type, places, call.function),
            return_dtype=dtype,
        )
    how = ROUND_HALF_UP if call.function == "ROUND" else ROUND_DOWN
    return pl.map_batches([args[0]], lambda found: _float_places(found[0], places, how), return_dtype=dtype)


def _whole_tens(value: pl.Expr, zeros: int, call: Call) -> pl.Expr:
    wide, factor = value.cast(pl.Int128), pl.lit(10**zeros, dtype=pl.Int128)
    if call.function == "ROUND":
        cut = decimals.rounded(wide, zeros)
    else:
        cut = decimals.cut(wide, zeros)
    return (cut * factor).cast(dtype_of(call.type), wrap_numerical=True)


def _float_places(values: pl.Series, places: int, how: str) -> pl.Series:
    """Decimal digits of the shortest text of a number decide, as in Java; numbers near a tie go one by one."""
    numbers = values.cast(pl.Float64).to_numpy()
    with np.errstate(all="ignore"):
        moved = np.abs(numbers) * 10.0**places
        whole = np.floor(moved + 0.5) if how == ROUND_HALF_UP else np.floor(moved)
        distance = np.abs(moved - np.floor(moved) - 0.5) if how == ROUND_HALF_UP else np.abs(moved - np.rint(moved))
        found = np.sign(numbers) * (whole / 10.0**places if places >= 0 else whole * 10.0**-places)
        easy = (moved < 2**50) & (distance > 1e-6) & (abs(places) <= 22)
    hard = np.flatnonzero(~easy & np.isfinite(numbers))
    found[~np.isfinite(numbers)] = numbers[~np.isfinite(numbers)]
    for row in hard.tolist():
        found[row] = _one_places(float(numbers[row]), places, how)
    made = pl.Series(values.name, found, dtype=pl.Float64)
    return pl.select(pl.when(values.is_not_null()).then(made)).to_series().cast(values.dtype).alias(values.name)


def _one_places(value: float, places: int, how: str) -> float:
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), rounding=how, context=_WIDE))


def _whole(how: str) -> Callable[[Call, pl.Expr], pl.Expr]:
    def kernel(call: Call, arg: pl.Expr) -> pl.Expr:
        source = call.args[0].type
        if source.kind in INTEGERS:
            return arg
        if source.kind in APPROXIMATE:
            return arg.floor() if how == "FLOOR" else arg.ceil()
        return pl.map_batches(
            [arg],
            lambda found: decimals.to_places(found[0], source, call.type, 0, how),
            return_dtype=dtype_of(call.type),
        )

    return kernel


#: FLOOR and CEIL of numbers; those of times are in `times`, which dispatches.
floor, ceiling = _whole("FLOOR"), _whole("CEIL")


def _absolute(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    if call.type.kind in INTEGERS:
        # wraps for the smallest
        return pl.when(args[0] < 0).then(-args[0]).otherwise(args[0])
    return args[0].abs()


def _sign(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return args[0].sign().cast(dtype_of(call.type))


def _vector(function: Callable[..., np.ndarray]) -> Kernel:
    """A numpy function of DOUBLEs."""

    def kernel(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
        def compute(found: list[pl.Series]) -> pl.Series:
            columns = broadcast(found)
            with np.errstate(all="ignore"):
                made = pl.Series(found[0].name, function(*(one.to_numpy() for one in columns)), dtype=pl.Float64)
            known = pl.DataFrame(columns, schema=[str(i) for i in range(len(columns))])
            present = known.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
            return pl.select(pl.when(present).then(made)).to_series().alias(found[0].name)

        return pl.map_batches(args, lambda found: compute(list(found)), return_dtype=pl.Float64)

    return kernel


def _logarithm(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if len(args) == 1:
        return args[0].log()
    return _vector(lambda base, x: np.log(x) / np.log(base))(call, args, guard)


def _base(digits: str) -> Callable[[int], str]:
    return lambda number: format(number & 0xFFFFFFFFFFFFFFFF, digits)


def _hex(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if call.args[0].type.kind is Kind.STRING:
        return args[0].str.encode("hex").str.to_uppercase()
    return row_by_row(_base("X"))(call, args, guard)


def _constant_number(value: float) -> Kernel:
    return lambda _call, _args, _guard: pl.lit(value, dtype=pl.Float64)


KERNELS: dict[str, Kernel] = {
    "+": _plus_minus,
    "-": _plus_minus,
    "*": _multiply,
    "/": _divide,
    "%": _remainder,
    "MOD": _remainder,
    "NEGATE": lambda _call, args, _: -args[0],
    "ABS": _absolute,
    "SIGN": _sign,
    "ROUND": _to_places,
    "TRUNCATE": _to_places,
    "SQRT": lambda _call, args, _: args[0].sqrt(),
    "POWER": _vector(np.power),
    "EXP": lambda _call, args, _: args[0].exp(),
    "LN": lambda _call, args, _: args[0].log(),
    "LOG": _logarithm,
    "LOG10": _vector(np.log10),
    "LOG2": _vector(lambda x: np.log(x) / np.log(2.0)),
    "SIN": _vector(np.sin),
    "COS": _vector(np.cos),
    "TAN": _vector(np.tan),
    "COT": _vector(lambda x: 1.0 / np.tan(x)),
    "ASIN": _vector(np.arcsin),
    "ACOS": _vector(np.arccos),
    "ATAN": _vector(np.arctan),
    "ATAN2": _vector(np.arctan2),
    "SINH": _vector(np.sinh),
    "COSH": _vector(np.cosh),
    "TANH": _vector(np.tanh),
    "DEGREES": _vector(np.degrees),
    "RADIANS": _vector(np.radians),
    "PI": _constant_number(math.pi),
    "E": _constant_number(math.e),
    "BIN": row_by_row(_base("b")),
    "HEX": _hex,
}
