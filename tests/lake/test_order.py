"""Rows are sorted as their values are, by several columns, and stay in order where they are equal."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.lake.order import order_of

COLUMNS = [
    (pa.string(), st.text("aäz€", max_size=2)),
    (pa.binary(), st.binary(max_size=2)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), st.integers(0, 3)),
    (pa.timestamp("ms"), st.datetimes().map(lambda t: t.replace(microsecond=0))),
    (pa.date32(), st.dates()),
    (pa.bool_(), st.booleans()),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.decimal128(10, 2), st.decimals(-1000, 1000, places=2)),
    (pa.duration("ms"), st.timedeltas().map(lambda d: dt.timedelta(d.days, d.seconds))),
]  # fmt: skip


@st.composite
def columns(draw: st.DrawFn) -> list[pa.Array]:
    rows = draw(st.integers(0, 12))
    chosen = draw(st.lists(st.sampled_from(COLUMNS), max_size=3))
    return [
        pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind) for kind, values in chosen
    ] or [pa.nulls(rows, pa.int64())]


@settings(max_examples=300, deadline=None)
@given(columns())
def test_the_order_is_that_of_the_values(case: list[pa.Array]) -> None:
    values = [column.to_pylist() for column in case]
    rows = len(case[0])

    def key(place: int) -> list[tuple[bool, object]]:
        return [(column[place] is None, _zero(column[place])) for column in values]

    assert order_of(case, rows).tolist() == sorted(range(rows), key=key)


def _zero(value: object) -> object:
    """NULL beside nothing; minus zero is zero."""
    return 0 if value is None or value == 0 else value


def test_without_columns_rows_stay_where_they_are() -> None:
    assert order_of([], 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64(), pa.decimal128(5, 1)])
def test_columns_without_values(kind: pa.DataType) -> None:
    assert order_of([pa.nulls(3, kind), pa.array([2, 1, 1])], 3).tolist() == [1, 2, 0]


def test_decimals_and_text_in_chunks() -> None:
    text = pa.chunked_array([["b", "a"], ["c", None]])
    numbers = pa.chunked_array([[decimal.Decimal("1.0")] * 2, [decimal.Decimal("-1.0")] * 2])
    assert order_of([text], 4).tolist() == [1, 0, 2, 3]
    assert order_of([numbers, text], 4).tolist() == [2, 3, 1, 0]
