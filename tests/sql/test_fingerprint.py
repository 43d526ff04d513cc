"""What is the same pipeline, and which operators keep their state."""

from __future__ import annotations

import pytest

from qanat.sql import compile_script
from qanat.sql.fingerprint import Fingerprint, fingerprint

TABLES = """
CREATE TABLE readings (k STRING, v DOUBLE, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE others (k STRING, w DOUBLE, at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_ - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, s DOUBLE);
"""
WINDOW = """INSERT INTO totals SELECT k, SUM(v) FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  WHERE v > 1 AND n <> 3 GROUP BY k, window_start, window_end;"""
JOIN = """INSERT INTO totals SELECT readings.k, v + w FROM readings JOIN others ON readings.k = others.k
  AND ts BETWEEN at_ - INTERVAL '5' SECOND AND at_ + INTERVAL '5' SECOND;"""


def of(sql: str, tables: str = TABLES) -> Fingerprint:
    return fingerprint(compile_script(tables + sql).pipelines[0])


@pytest.mark.parametrize(
    "other",
    [
        WINDOW.replace("\n", " -- why\n   "),
        WINDOW.replace("SELECT k, SUM(v)", "SELECT k AS who, SUM(v) AS how_much"),
        WINDOW.replace("v > 1 AND n <> 3", "n <> 3 AND v > 1"),
        WINDOW.replace("TABLE readings", "TABLE same").replace(
            "INSERT", "CREATE VIEW same AS SELECT ts AS t, n, v, k FROM readings; INSERT"
        ).replace("DESCRIPTOR(ts)", "DESCRIPTOR(t)"),
        WINDOW.replace("TABLE readings", "TABLE same").replace(
            "INSERT", "CREATE VIEW same AS SELECT * FROM readings WHERE n <> 3; INSERT"
        ).replace(" AND n <> 3", ""),
    ],
)  # fmt: skip
def test_the_same_written_differently(other: str) -> None:
    assert of(other).whole == of(WINDOW).whole
    assert of(other).states == of(WINDOW).states


@pytest.mark.parametrize(
    ("old", "new", "keeps"),
    [
        ("SELECT k, SUM(v)", "SELECT LOWER(k), SUM(v)", True),
        ("SELECT k, SUM(v)", "SELECT k, SUM(v) * 2", True),
        ("SUM(v)", "MAX(v)", False),
        ("SUM(v)", "SUM(v) FILTER (WHERE n = 1)", False),
        ("'10' SECOND", "'20' SECOND", False),
        (
            "TUMBLE(TABLE readings, DESCRIPTOR(ts), ",
            "CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, ",
            False,
        ),
        ("v > 1", "v > 2", False),
        (" AND n <> 3", "", False),
    ],
)
def test_changes_and_what_keeps_its_state(old: str, new: str, keeps: bool) -> None:
    changed = of(WINDOW.replace(old, new))
    assert changed.whole != of(WINDOW).whole
    assert (changed.states == of(WINDOW).states) == keeps


def test_declarations_that_matter() -> None:
    assert of(WINDOW, TABLES.replace("v DOUBLE", "added STRING, v DOUBLE")).whole == of(WINDOW).whole
    assert of(WINDOW, TABLES.replace("'2' SECOND", "'3' SECOND")).states != of(WINDOW).states
    assert of(WINDOW, TABLES.replace("v DOUBLE", "v FLOAT")).states != of(WINDOW).states


def test_a_join_keeps_rows_so_their_columns_count() -> None:
    assert of(JOIN.replace("v + w", "v - w")).states == of(JOIN).states
    assert of(JOIN.replace("v + w", "v + w + n")).states != of(JOIN).states
    turned = JOIN.replace("readings.k = others.k", "others.k = readings.k")
    assert of(turned).states == of(JOIN).states
    assert of(JOIN.replace("+ INTERVAL '5'", "+ INTERVAL '6'")).states != of(JOIN).states


def test_a_renamed_key_has_another_name_in_the_state() -> None:
    view = "CREATE VIEW same AS SELECT UPPER(k) AS kk, v, n, ts FROM readings; INSERT"
    grouped = WINDOW.replace("INSERT", view).replace("TABLE readings", "TABLE same").replace(" k,", " kk,")
    one, two = of(grouped), of(grouped.replace("kk", "zz"))
    assert one.whole == two.whole
    assert [part.names for part in one.parts if part.state] != [part.names for part in two.parts if part.state]
