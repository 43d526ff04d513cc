"""DECIMAL, exact and in columns: unscaled integers of 128 bits, with Python's decimals for rows that need more.

Flink computes each operation exactly, then rounds halves away from zero to the scale of the result; what has more
digits than the precision is NULL. A quotient is first rounded to 38 digits.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.model.types import Kind, Type
from qanat.sql.coercion import APPROXIMATE, as_decimal
from qanat.sql.embedded.kernels.base import dtype_of

#: Wide enough for products of two DECIMAL(38, s).
_EXACT = Context(prec=120, rounding=ROUND_HALF_UP)
#: How Flink rounds a quotient first.
_QUOTIENT = Context(prec=38, rounding=ROUND_HALF_UP)
#: Below this an unscaled result, its rounding and a division are exact in 128 bits.
_LIMIT = 1e37
#: What 128 bits hold; an unscaled DECIMAL and half of its largest power of ten lie below.
_WIDEST = 1.6e38
_INT128 = pl.Int128()
#: The largest power of ten in 128 bits.
_MOST = 38
#: polars has no unary minus of 128 bits.
_ZERO = pl.lit(0, dtype=_INT128)


def unscaled(values: pl.Series) -> pl.Series:
    """The integers of a DECIMAL or integer column: 1.25 of scale 2 is 125."""
    return (values.to_physical() if isinstance(values.dtype, pl.Decimal) else values).cast(_INT128)


def scaled(integers: pl.Series, target: Type) -> pl.Series:
    """The DECIMAL of unscaled integers, NULL where there are more digits than its precision."""
    limit = 10 ** (target.precision or 10)
    frame = pl.DataFrame({"u": integers})
    u, bound = pl.col("u"), pl.lit(limit, dtype=_INT128)
    fitting = frame.select(pl.when((u < bound) & (u > -bound)).then(u)).to_series().cast(pl.Decimal(38, 0))
    # the same bytes under another scale
    array = fitting.to_arrow()
    chunk = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    kind = pa.decimal128(target.precision or 10, target.scale or 0)
    made = pa.Array.from_buffers(kind, len(chunk), chunk.buffers(), offset=chunk.offset)
    series = pl.from_arrow(made)
    assert isinstance(series, pl.Series)
    return series.cast(dtype_of(target)).alias(integers.name)


def rounded(u: pl.Expr, digits: int) -> pl.Expr:
    """Unscaled integers without their last digits, halves away from zero; below 0: with more zeros."""
    if digits <= 0:
        return u * pl.lit(10**-digits, dtype=_INT128) if digits else u
    if digits > _MOST:
        return u * _ZERO
    divisor = pl.lit(10**digits, dtype=_INT128)
    size = (_absolute(u) + pl.lit(10**digits // 2, dtype=_INT128)) // divisor
    return pl.when(u < 0).then(_ZERO - size).otherwise(size)


def _absolute(u: pl.Expr) -> pl.Expr:
    return pl.when(u < 0).then(_ZERO - u).otherwise(u)


def cut(u: pl.Expr, digits: int) -> pl.Expr:
    """Unscaled integers without their last digits."""
    if digits <= 0:
        return u
    if digits > _MOST:
        return u * _ZERO
    size = _absolute(u) // pl.lit(10**digits, dtype=_INT128)
    return pl.when(u < 0).then(_ZERO - size).otherwise(size)


def arithmetic(name: str, left: pl.Series, right: pl.Series, types: tuple[Type, Type], target: Type) -> pl.Series:
    """`left name right` for columns of equal length; a division by zero is NULL (it is refused before)."""
    s, t = ((as_decimal(one).scale or 0) for one in types)
    frame = pl.DataFrame({"a": unscaled(left), "b": unscaled(right)})
    result, bound = _plan(name, s, t, target.scale or 0)
    missing = pl.col("a").is_null() | pl.col("b").is_null()
    safe = frame.select((bound < _LIMIT).fill_null(True) | missing).to_series()
    if safe.all():
        return scaled(frame.select(result).to_series(), target).alias(left.name)
    inside = frame.with_columns(pl.when(safe).then(pl.all()))
    fast = scaled(inside.select(result).to_series(), target)
    rest = frame.filter(~safe)
    slow = iter(_one(name, Decimal(a).scaleb(-s, _EXACT), Decimal(b).scaleb(-t, _EXACT)) for a, b in rest.iter_rows())
    exact = to_decimal([None if one else next(slow) for one in safe], target)
    return pl.select(pl.when(safe).then(fast).otherwise(exact)).to_series().cast(dtype_of(target)).alias(left.name)


def _plan(name: str, s: int, t: int, scale: int) -> tuple[pl.Expr, pl.Expr]:
    """The unscaled result, and the largest number that computing it comes to."""
    a, b = pl.col("a"), pl.col("b")
    x, y = a.cast(pl.Float64).abs(), b.cast(pl.Float64).abs()
    if name == "*":
        more = max(scale - s - t, 0)
        return rounded(a * b, s + t - scale), x * y * 10.0**more
    if name == "/":
        up = scale - s + t
        divisor = pl.when(b == 0).then(None).otherwise(b)
        if max(up, -up) > _MOST:
            return a, pl.when(a.is_not_null() & b.is_not_null()).then(float("inf"))
        if up < 0:
            divisor, up = divisor * pl.lit(10**-up, dtype=_INT128), 0
        over, under = _absolute(a) * pl.lit(10**up, dtype=_INT128), _absolute(divisor)
        size = over // under
        size = size + pl.when((over - size * under) * 2 >= under).then(1).otherwise(0).cast(_INT128)
        largest = pl.max_horizontal(x * 10.0**up, y * 10.0 ** max(s - t - scale, 0))
        return pl.when((a < 0) != (b < 0)).then(_ZERO - size).otherwise(size), largest * 2
    common = max(s, t)
    left, right = rounded(a, s - common), rounded(b, t - common)
    largest = (x * 10.0 ** (common - s) + y * 10.0 ** (common - t)) * 10.0 ** max(scale - common, 0)
    if name == "%":
        divisor = pl.when(right == 0).then(None).otherwise(_absolute(right))
        size = _absolute(left) - _absolute(left) // divisor * divisor
        return rounded(pl.when(left < 0).then(_ZERO - size).otherwise(size), common - scale), largest
    return rounded(left + right if name == "+" else left - right, common - scale), largest


def _one(name: str, left: Decimal, right: Decimal) -> Decimal | None:
    match name:
        case "+":
            return _EXACT.add(left, right)
        case "-":
            return _EXACT.subtract(left, right)
        case "*":
            return _EXACT.multiply(left, right)
        case _ if not right:
            return None
        case "/":
            return _QUOTIENT.divide(left, right)
        case _:
            return _EXACT.remainder(left, right)


def to_decimal(values: list[Decimal | None], target: Type) -> pl.Series:
    """Python's decimals as DECIMAL(p, s), halves rounded away from zero; NULL where the digits do not suffice."""
    precision, scale = target.precision or 10, target.scale or 0
    quantum, limit = Decimal(1).scaleb(-scale), Decimal(10) ** (precision - scale)
    found: list[Decimal | None] = []
    for one in values:
        whole = None if one is None or one.adjusted() > 80 else one.quantize(quantum, context=_EXACT)
        found.append(None if whole is None or whole.copy_abs() >= limit else whole)
    return pl.Series("", found, dtype=dtype_of(target))


def convert(values: pl.Series, source: Type, target: Type) -> pl.Series:
    """A number or text as DECIMAL: texts that are none are NULL, NaN and infinity too."""
    if source.kind is Kind.STRING:
        return to_decimal([_parsed(one) for one in values.to_list()], target).alias(values.name)
    if source.kind in APPROXIMATE:
        return _from_floats(values, target)
    scale = as_decimal(source).scale or 0
    return _with_scale(values, scale, target, lambda u: rounded(u, scale - (target.scale or 0)))


def _from_floats(values: pl.Series, target: Type) -> pl.Series:
    """By the shortest text of each number, as in Java; where that cannot matter, in columns."""
    numbers = values.cast(pl.Float64).fill_null(0.0).to_numpy()
    with np.errstate(all="ignore"):
        moved = np.abs(numbers) * 10.0 ** (target.scale or 0)
        easy = (moved < 2**50) & (np.abs(moved - np.floor(moved) - 0.5) > 1e-6) & ((target.scale or 0) <= 22)
        whole = np.where(easy, np.sign(numbers) * np.floor(moved + 0.5), 0).astype(np.int64)
    fast = scaled(pl.Series("", whole).cast(_INT128), target)
    if not easy.all():
        rest = to_decimal([_parsed(repr(one)) for one in numbers[~easy].tolist()], target)
        fast = fast.scatter(np.flatnonzero(~easy), rest)
    return pl.select(pl.when(values.is_not_null()).then(fast)).to_series().alias(values.name)


def _parsed(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        found = Decimal(text)
    except decimal.InvalidOperation:
        return None
    return found if found.is_finite() else None


def _with_scale(values: pl.Series, scale: int, target: Type, change: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    frame = pl.DataFrame({"u": unscaled(values)})
    more = 10.0 ** max((target.scale or 0) - scale, 0)
    safe = frame.select((pl.col("u").cast(pl.Float64).abs() * more < _WIDEST).fill_null(True)).to_series()
    inside = frame.with_columns(pl.when(safe).then(pl.all()))
    return scaled(inside.select(change(pl.col("u"))).to_series(), target).alias(values.name)


def to_places(values: pl.Series, source: Type, target: Type, places: int, how: str) -> pl.Series:
    """ROUND, TRUNCATE, FLOOR and CEIL: at most `places` digits after the point (below 0: zeros before it)."""
    scale, wanted = source.scale or 0, target.scale or 0
    digits = scale - places

    def change(u: pl.Expr) -> pl.Expr:
        if digits <= 0:
            return u
        match how:
            case "ROUND":
                found = rounded(u, digits)
            case "TRUNCATE":
                found = cut(u, digits)
            case "FLOOR":
                found = u // pl.lit(10**digits, dtype=_INT128)
            case _:
                found = _ZERO - (_ZERO - u) // pl.lit(10**digits, dtype=_INT128)
        return rounded(found, min(places, 0) - wanted if places < 0 else places - wanted)

    return _with_scale(values, scale, target, change)


def to_integer(values: pl.Series, source: Type) -> pl.Series:
    """Cut towards zero, wrapped to 64 bits."""
    frame = pl.DataFrame({"u": unscaled(values)})
    whole = frame.select(cut(pl.col("u"), source.scale or 0)).to_series()
    return whole.cast(pl.Int64, wrap_numerical=True).alias(values.name)
