"""Tables of text and cells: what is written is read back, and mistakes have their line."""

from __future__ import annotations

import datetime as dt
import decimal
import doctest
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.texts import Misfit
from qanat.model import types as t
from qanat.model.arrow import to_arrow
from qanat.model.types import Kind, Type
from qanat.trial import tables
from qanat.trial.cases import Written
from qanat.trial.cells import arrow_of, equal, loose, read_cell, show, time_ms, time_text, values_of
from qanat.trial.tables import parse_table, split_row, write_rule, write_table

ROW = Type(Kind.ROW, fields=(("at", t.TIMESTAMP), ("n", t.INT)))


class RefusedError(Exception):
    """A line, and why."""


def fail(line: int, message: str) -> Any:
    raise RefusedError(f"{line}: {message}")


def test_examples() -> None:
    assert doctest.testmod(tables).failed == 0


def test_a_table() -> None:
    rows = parse_table(["| a | b |", "|---|---|", "# why", "| 1 |   |", "", "| x y | NULL |"], 7, fail)
    assert rows.columns == ("a", "b")
    assert [(row.line, dict(row.cells)) for row in rows.rows] == [
        (10, {"a": "1", "b": ""}),
        (12, {"a": "x y", "b": "NULL"}),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["| a | b |", "| 1 |"], "8: expected 2 cells (a, b), found 1"),
        (["| a | a |"], "7: column a stands here twice"),
        (["| a |  |"], "7: column 2 of the table has no name"),
        (["a | b"], "7: a row of a table begins and ends with |"),
        (["# nothing"], "7: expected a table"),
    ],
)
def test_mistakes_in_tables(lines: list[str], said: str) -> None:
    with pytest.raises(RefusedError, match=said.replace("(", r"\(").replace(")", r"\)").replace("|", r"\|")):
        parse_table(lines, 7, fail)


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2), max_size=4))
def test_every_text_survives_a_table(texts: list[list[str]]) -> None:
    shown = [[show(text, t.STRING, None) for text in row] for row in texts]
    _, *lines = write_table(["a", "b"], shown, {1})
    found = [[read_cell(Written(cell), t.STRING, None) for cell in split_row(line)] for line in lines]
    assert found == texts


def test_a_rule_fits_its_header() -> None:
    header, _ = write_table(["key", "n|m"], [["a", "1"]], set())
    assert write_rule(header) == "|-----|------|"
    assert tables.is_rule(write_rule(header))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("", t.DOUBLE, None),
        ("NULL", t.STRING, None),
        ('"NULL"', t.STRING, "NULL"),
        ('""', t.STRING, ""),
        ("1", t.STRING, "1"),
        ("1", t.DOUBLE, 1.0),
        ("1e3", t.DOUBLE, 1000.0),
        ("NaN", t.DOUBLE, "nan"),
        ("1.50", t.decimal(5, 2), decimal.Decimal("1.50")),
        ("TRUE", t.BOOLEAN, True),
        ("10:00", t.TIMESTAMP, "2026-01-31 10:00:00"),
        ("10:00:01.5", t.TIMESTAMP_LTZ, "2026-01-31 10:00:01.5"),
        ("2026-01-01", t.TIMESTAMP, "2026-01-01 00:00:00"),
        ("2026-01-01T10:00:00Z", t.TIMESTAMP_LTZ, "2026-01-01 10:00:00"),
        ("2026-01-01 10:00:00+02:00", t.TIMESTAMP_LTZ, "2026-01-01 08:00:00"),
        ("2026-01-01", t.DATE, "2026-01-01"),
        ("[1, null]", t.array(t.INT), [1, None]),
        ('{"at": "10:00", "n": 1}', ROW, {"at": "2026-01-31 10:00:00", "n": 1}),
        ('{"a": 1}', Type(Kind.MAP, key=t.STRING, element=t.INT), {"a": 1}),
        ("grün", t.BYTES, "grün"),
        ("base64:/w==", t.BYTES, "base64:/w=="),
    ],
)
def test_cells_have_the_type_of_their_column(text: str, kind: Type, value: object) -> None:
    column = arrow_of([read_cell(Written(text), kind, "2026-01-31")], kind)
    assert column.type == to_arrow(kind)
    (found,) = values_of(column, kind)
    assert (str(found) if value == "nan" else found) == value
    again = arrow_of([read_cell(Written(show(found, kind, None)), kind, None)], kind)
    assert equal(values_of(again, kind)[0], found, 0), show(found, kind, None)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("warm", t.DOUBLE, "expected DOUBLE, found string"),
        ("1.5", t.BIGINT, "expected BIGINT"),
        ("300", t.TINYINT, "out of range"),
        ("10:00", t.TIMESTAMP, "give the case a date"),
        ("soon", t.TIMESTAMP, "expected a time such as"),
        ("2026-02-30 10:00:00", t.TIMESTAMP, "day"),
        ("2026-01-01 10:00:00Z", t.TIMESTAMP, "expected a time such as"),
        ("[1", t.array(t.INT), "as JSON"),
        ('{"m": 1}', ROW, "has no field m"),
    ],
)
def test_cells_that_do_not_fit(text: str, kind: Type, said: str) -> None:
    with pytest.raises(Misfit, match=said):
        arrow_of([read_cell(Written(text), kind, None)], kind)


def test_times() -> None:
    assert time_text("10:00", "2026-01-31", zoned=False) == "2026-01-31 10:00:00"
    assert (
        time_ms("2026-01-01 00:00:00.25", None) == int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() * 1000) + 250
    )
    column = pa.array([1], pa.timestamp("ms", tz="UTC"))
    assert values_of(column, t.TIMESTAMP_LTZ) == ["1970-01-01 00:00:00.001"]


def test_what_is_equal() -> None:
    assert equal(0.1 + 0.2, 0.3, 1e-9)
    assert not equal(0.1 + 0.2, 0.3, 0)
    assert equal(float("nan"), float("nan"), 0)
    assert not equal(1.0, None, 1e-9)
    assert not equal(True, 1, 1e-9)
    assert equal([1.0, {"a": 2.0}], [1.0, {"a": 2.0 + 1e-12}], 1e-9)


def test_columns_of_late_rows_have_no_type() -> None:
    assert loose(Written("99")) == loose(99.0) == loose(Written("99.0"))
    assert loose(Written("2026-01-01 10:00")) == loose("2026-01-01 10:00:00Z")
    assert loose(Written("NULL")) is None
    assert loose(Written('"NULL"')) == loose("NULL")
    assert loose(Written("true")) is loose(True)
