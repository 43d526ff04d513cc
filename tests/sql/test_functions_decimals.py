"""DECIMAL arithmetic in columns gives what exact arithmetic gives, one by one: digits, rounding, overflow."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.model.types import STRING, Type, decimal
from qanat.sql.coercion import arithmetic_type
from qanat.sql.embedded.kernels import decimals
from qanat.sql.embedded.kernels.base import dtype_of

EXACT = Context(prec=200, rounding=ROUND_HALF_UP)
QUOTIENT = Context(prec=38, rounding=ROUND_HALF_UP)


@st.composite
def columns(draw: st.DrawFn) -> tuple[Type, list[Decimal | None]]:
    precision = draw(st.sampled_from([1, 3, 9, 10, 18, 19, 20, 37, 38]))
    scale = draw(st.integers(0, precision))
    digits = st.integers(-(10**precision) + 1, 10**precision - 1)
    small = st.integers(-999, 999).filter(lambda one: abs(one) < 10**precision)
    values = draw(st.lists(st.none() | digits | small, min_size=4, max_size=4))
    return decimal(precision, scale), [None if one is None else Decimal(one).scaleb(-scale, EXACT) for one in values]


def expected(name: str, left: Decimal | None, right: Decimal | None, kind: Type) -> Decimal | None:
    """As Flink: exactly, then rounded; a quotient to 38 digits first."""
    if left is None or right is None or (name in "/%" and not right):
        return None
    found = {
        "+": lambda: EXACT.add(left, right),
        "-": lambda: EXACT.subtract(left, right),
        "*": lambda: EXACT.multiply(left, right),
        "/": lambda: QUOTIENT.divide(left, right),
        "%": lambda: EXACT.remainder(left, right),
    }[name]()
    precision, scale = kind.precision or 0, kind.scale or 0
    rounded = found.quantize(Decimal(1).scaleb(-scale), context=EXACT)
    return rounded if rounded.copy_abs() < Decimal(10) ** (precision - scale) else None


@given(columns(), columns(), st.sampled_from("+-*/%"))
@settings(max_examples=400, deadline=None)
def test_arithmetic(
    left: tuple[Type, list[Decimal | None]], right: tuple[Type, list[Decimal | None]], name: str
) -> None:
    kind = arithmetic_type(name, left[0], right[0])
    a, b = (pl.Series(values, dtype=dtype_of(one)) for one, values in (left, right))
    found = decimals.arithmetic(name, a, b, (left[0], right[0]), kind)
    assert found.dtype == dtype_of(kind)
    assert found.to_list() == [expected(name, x, y, kind) for x, y in zip(left[1], right[1], strict=True)]


@given(columns(), st.integers(-3, 12), st.sampled_from(["ROUND", "TRUNCATE", "FLOOR", "CEIL"]))
@settings(max_examples=200, deadline=None)
def test_places(column: tuple[Type, list[Decimal | None]], places: int, how: str) -> None:
    kind, values = column
    places = 0 if how in ("FLOOR", "CEIL") else places
    mode = {"ROUND": ROUND_HALF_UP, "TRUNCATE": "ROUND_DOWN", "FLOOR": "ROUND_FLOOR", "CEIL": "ROUND_CEILING"}[how]
    target = decimal(38, max(min(places, kind.scale or 0), 0))
    found = decimals.to_places(pl.Series(values, dtype=dtype_of(kind)), kind, target, places, how)
    wanted = [
        None if one is None else one if places >= (kind.scale or 0) else
        one.quantize(Decimal(1).scaleb(-places), rounding=mode, context=EXACT)
        for one in values
    ]  # fmt: skip
    limit = Decimal(10) ** (38 - (target.scale or 0))
    assert found.to_list() == [None if one is None or abs(one) >= limit else one for one in wanted]


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("99.995", decimal(4, 2), None), ("-1.005", decimal(5, 2), "-1.01"), ("1e-50", decimal(5, 2), "0.00"),
    ("1e90", decimal(38, 0), None), ("NaN", decimal(5, 2), None), ("x", decimal(5, 2), None),
])  # fmt: skip
def test_texts(text: str, kind: Type, value: str | None) -> None:
    found = decimals.convert(pl.Series([text]), STRING, kind)
    assert found.to_list() == [None if value is None else Decimal(value)]
