"""What every function gives, row by row: (7, -7, NULL) and the like through the compiled expression."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal as D  # noqa: N817
from pathlib import Path

import polars as pl
import pytest

from qanat.errors import DataError
from qanat.sql import compile_script
from qanat.sql.embedded.kernels import KERNELS, dtype_of, to_polars
from qanat.sql.functions import FUNCTIONS
from qanat.sql.plan import Project

GOLDEN = Path(__file__).parent / "functions"
COLUMNS = """i INT, j INT, b BIGINT, d DOUBLE, e DECIMAL(10, 2), s STRING, ok BOOLEAN, ts TIMESTAMP(3),
  l TIMESTAMP_LTZ(3),  arr ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT, y ROW<z STRING>>, dt DATE, f FLOAT"""


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


T1, T2 = datetime(2026, 1, 31, 12, 34, 56, 789000), datetime(1969, 12, 31, 23, 59, 59)
ROWS = {
    "i": [7, -7, None],
    "j": [2, 2, 1],
    "b": [10, -3, None],
    "d": [1.5, -2.5, None],
    "e": [D("1.25"), D("-3.10"), None],
    "s": ["abc", " 12 ", None],
    "ok": [True, False, None],
    "ts": [T1, T2, None],
    "l": [T1.replace(tzinfo=UTC), T2.replace(tzinfo=UTC), None],
    "arr": [[1, 2], [], None],
    "m": [[{"key": "a", "value": 1}], [], None],
    "r": [{"x": 1, "y": {"z": "q"}}, {"x": None, "y": None}, None],
    "dt": [date(1970, 1, 1), date(1970, 1, 11), None],
    "f": [0.5, float("nan"), None],
}


def evaluate(expression: str) -> list[object]:
    """Values of an expression over the three rows; its dtype is what its SQL type says."""
    program = compile_script(f"CREATE TABLE t ({COLUMNS}); SELECT {expression} AS x FROM t")
    schema = program.tables["t"].schema
    frame = pl.DataFrame([pl.Series(one.name, ROWS[one.name], dtype=dtype_of(one.type)) for one in schema])
    root = program.pipelines[0].root
    assert isinstance(root, Project)
    found = frame.with_columns(to_polars(root.expressions[0]).alias("x"))["x"]
    assert found.dtype == dtype_of(root.schema[0].type), expression
    return found.to_list()


CASES: list[tuple[str, list[object]]] = [
    ("i / j", [3, -3, None]),
    ("i % j", [1, -1, None]),
    ("i / 2", [3, -3, None]),
    ("-i / 2", [-3, 3, None]),
    ("i / -2", [-3, 3, None]),
    ("MOD(i, -2)", [1, -1, None]),
    ("i + 2147483647", [-2147483642, 2147483640, None]),
    ("b + i", [17, -10, None]),
    ("i * 1.5", [D("10.5"), D("-10.5"), None]),
    ("e * e", [D("1.5625"), D("9.6100"), None]),
    ("e / j", [D("0.6250000000000"), D("-1.5500000000000"), None]),
    ("e + 1", [D("2.25"), D("-2.10"), None]),
    ("d * 2", [3.0, -5.0, None]),
    ("d / 0", [float("inf"), float("-inf"), None]),
    ("e % 2", [D("1.25"), D("-1.10"), None]),
    ("-b", [-10, 3, None]),
    ("ABS(d)", [1.5, 2.5, None]),
    ("SIGN(i)", [1, -1, None]),
    ("ROUND(d)", [2.0, -3.0, None]),
    ("ROUND(e, 1)", [D("1.3"), D("-3.1"), None]),
    ("ROUND(i, -1)", [10, -10, None]),
    ("FLOOR(d)", [1.0, -3.0, None]),
    ("CEIL(e)", [D("2"), D("-3"), None]),
    ("SQRT(4)", [2.0] * 3),
    ("POWER(i, 2)", [49.0, 49.0, None]),
    ("EXP(0)", [1.0] * 3),
    ("LOG10(100)", [2.0] * 3),
    ("LOG2(8)", [3.0] * 3),
    ("LN(1)", [0.0] * 3),
    ("GREATEST(i, j)", [7, 2, None]),
    ("LEAST(i, j)", [2, -7, None]),
    ("i > 0 AND j = 2", [True, False, False]),
    ("i > 0 AND j = 1", [False, False, None]),
    ("i > 0 OR ok", [True, False, None]),
    ("i > 0 OR j = 1", [True, False, True]),
    ("NOT ok", [False, True, None]),
    ("ok IS TRUE", [True, False, False]),
    ("ok IS FALSE", [False, True, False]),
    ("ok IS NOT TRUE", [False, True, True]),
    ("ok IS NULL", [False, False, True]),
    ("ok IS NOT NULL", [True, True, False]),
    ("i IS DISTINCT FROM NULL", [True, True, False]),
    ("i IS NOT DISTINCT FROM 7", [True, False, False]),
    ("i IN (7, 8)", [True, False, None]),
    ("i IN (7, 8, NULL)", [True, None, None]),
    ("i NOT IN (7, NULL)", [False, None, None]),
    ("i BETWEEN 1 AND 10", [True, False, None]),
    ("i NOT BETWEEN 1 AND 10", [False, True, None]),
    ("i <> 7", [False, True, None]),
    ("i <= j", [False, True, None]),
    ("i = NULL", [None, None, None]),
    ("f > 0", [True, False, None]),
    ("f >= 0", [True, False, None]),
    ("0 < f", [True, False, None]),
    ("f = f", [True, False, None]),
    ("f <> f", [False, True, None]),
    ("ts > '2020-01-01 00:00:00'", [True, False, None]),
    ("CAST(dt AS TIMESTAMP(3)) < ts", [True, False, None]),
    ("CASE WHEN i > 0 THEN 'p' WHEN i < 0 THEN 'n' END", ["p", "n", None]),
    ("CASE i WHEN 7 THEN 1 ELSE 2.5 END", [D("1.0"), D("2.5"), D("2.5")]),
    ("IF(ok, 1, 2)", [1, 2, 2]),
    ("COALESCE(i, j, 5)", [7, -7, 1]),
    ("IFNULL(s, '-')", ["abc", " 12 ", "-"]),
    ("NULLIF(i, 7)", [None, -7, None]),
    ("CASE WHEN j <> 2 THEN i / (j - 2) ELSE 0 END", [0, 0, None]),
    ("j <> 2 AND i / (j - 2) > 0", [False, False, None]),
    ("j = 2 OR i / (j - 2) > 0", [True, True, None]),
    ("COALESCE(j, i / 0)", [2, 2, 1]),
    ("CASE WHEN s = 'abc' THEN 0 ELSE CAST(s AS INT) END", [0, 12, None]),
    ("CAST(d AS INT)", [1, -2, None]),
    ("CAST(1e20 AS INT)", [2147483647] * 3),
    ("CAST(300 AS TINYINT)", [44] * 3),
    ("CAST(f AS INT)", [0, 0, None]),
    ("CAST(e AS INT)", [1, -3, None]),
    ("CAST(b AS STRING)", ["10", "-3", None]),
    ("CAST(d AS STRING)", ["1.5", "-2.5", None]),
    ("CAST(1e10 AS STRING)", ["1.0E10"] * 3),
    ("CAST(e AS STRING)", ["1.25", "-3.10", None]),
    ("CAST(ok AS STRING)", ["TRUE", "FALSE", None]),
    ("CAST(ts AS STRING)", ["2026-01-31 12:34:56.789", "1969-12-31 23:59:59.000", None]),
    ("CAST(dt AS STRING)", ["1970-01-01", "1970-01-11", None]),
    ("CAST(s AS VARCHAR(2))", ["ab", " 1", None]),
    ("CAST(ok AS INT)", [1, 0, None]),
    ("CAST(i - 7 AS BOOLEAN)", [False, True, None]),
    ("CAST(i AS DECIMAL(10, 2))", [D("7.00"), D("-7.00"), None]),
    ("CAST(12345 AS DECIMAL(4, 0))", [None] * 3),
    ("CAST(ts AS DATE)", [T1.date(), T2.date(), None]),
    ("CAST(l AS TIMESTAMP(3))", [T1, T2, None]),
    ("CAST('2026-01-31 12:34:56.789' AS TIMESTAMP(3))", [T1] * 3),
    ("CAST('12.7' AS INT)", [12] * 3),
    ("TRY_CAST(s AS INT)", [None, 12, None]),
    ("TRY_CAST(s AS DOUBLE)", [None, 12.0, None]),
    ("TRY_CAST('yes' AS BOOLEAN)", [True] * 3),
    ("TRY_CAST('1.005' AS DECIMAL(5, 2))", [D("1.01")] * 3),
    ("UPPER(s)", ["ABC", " 12 ", None]),
    ("LOWER('A')", ["a"] * 3),
    ("TRIM(s)", ["abc", "12", None]),
    ("TRIM(LEADING 'a' FROM s)", ["bc", " 12 ", None]),
    ("TRIM(TRAILING ' ' FROM s)", ["abc", " 12", None]),
    ("LTRIM(s)", ["abc", "12 ", None]),
    ("RTRIM(s)", ["abc", " 12", None]),
    ("CHAR_LENGTH(s)", [3, 4, None]),
    ("SUBSTRING(s FROM 2)", ["bc", "12 ", None]),
    ("SUBSTRING(s, 1, 2)", ["ab", " 1", None]),
    ("SUBSTRING(s FROM -2)", ["bc", "2 ", None]),
    ("LEFT(s, 2)", ["ab", " 1", None]),
    ("RIGHT(s, 2)", ["bc", "2 ", None]),
    ("CONCAT(s, 'x')", ["abcx", " 12 x", None]),
    ("s || 'y'", ["abcy", " 12 y", None]),
    ("CONCAT_WS(',', s, 'x', CAST(NULL AS STRING))", ["abc,x", " 12 ,x", "x"]),
    ("REPLACE(s, 'b', '')", ["ac", " 12 ", None]),
    ("REVERSE(s)", ["cba", " 21 ", None]),
    ("SPLIT_INDEX('a,b', ',', 1)", ["b"] * 3),
    ("SPLIT_INDEX('a,b', ',', 2)", [None] * 3),
    ("REGEXP_EXTRACT(s, '([a-z])(b)', 2)", ["b", None, None]),
    ("REGEXP_REPLACE(s, '[a-b]', 'x')", ["xxc", " 12 ", None]),
    ("LPAD(s, 5, '*-')", ["*-abc", "* 12 ", None]),
    ("RPAD(s, 2, '*')", ["ab", " 1", None]),
    ("POSITION('b' IN s)", [2, 0, None]),
    ("STARTSWITH(s, 'a')", [True, False, None]),
    ("ENDSWITH(s, 'c')", [True, False, None]),
    ("s LIKE '%b%'", [True, False, None]),
    ("s NOT LIKE 'a__'", [False, True, None]),
    ("'a%c' LIKE 'a!%_' ESCAPE '!'", [True] * 3),
    ("MD5('abc')", ["900150983cd24fb0d6963f7d28e17f72"] * 3),
    ("SHA256('')", ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] * 3),
    ("""JSON_VALUE('{"a": [1, {"b": "c"}]}', '$.a[1].b')""", ["c"] * 3),
    ("""JSON_VALUE('{"a": [1, {"b": "c"}]}', '$.a')""", [None] * 3),
    ("TO_TIMESTAMP_LTZ(b, 0)", [utc(1970, 1, 1, 0, 0, 10), utc(1969, 12, 31, 23, 59, 57), None]),
    ("TO_TIMESTAMP_LTZ(b, 3)", [utc(1970, 1, 1, 0, 0, 0, 10000), utc(1969, 12, 31, 23, 59, 59, 997000), None]),
    ("TO_TIMESTAMP_LTZ(i, 3)", [utc(1970, 1, 1, 0, 0, 0, 7000), utc(1969, 12, 31, 23, 59, 59, 993000), None]),
    ("TO_TIMESTAMP('2026-01-31 12:34:56.789')", [T1] * 3),
    ("TO_TIMESTAMP('31.01.2026', 'dd.MM.yyyy')", [datetime(2026, 1, 31)] * 3),
    ("TO_TIMESTAMP(s)", [None] * 3),
    ("TO_TIMESTAMP(FROM_UNIXTIME(b))", [datetime(1970, 1, 1, 0, 0, 10), datetime(1969, 12, 31, 23, 59, 57), None]),
    ("TO_DATE('2026-01-31')", [date(2026, 1, 31)] * 3),
    ("FROM_UNIXTIME(b)", ["1970-01-01 00:00:10", "1969-12-31 23:59:57", None]),
    ("UNIX_TIMESTAMP('1970-01-02 00:00:00')", [86400] * 3),
    ("EXTRACT(HOUR FROM ts)", [12, 23, None]),
    ("EXTRACT(EPOCH FROM l)", [1769862896, -1, None]),
    *[(f"{name}(ts)", [*values, None]) for name, values in {
        "YEAR": [2026, 1969], "QUARTER": [1, 4], "MONTH": [1, 12], "WEEK": [5, 1], "DAYOFYEAR": [31, 365],
        "DAYOFMONTH": [31, 31], "DAYOFWEEK": [7, 4], "HOUR": [12, 23], "MINUTE": [34, 59], "SECOND": [56, 59]}.items()],
    ("DATE_FORMAT(l, 'yyyy/MM/dd HH:mm:ss.SSS')", ["2026/01/31 12:34:56.789", "1969/12/31 23:59:59.000", None]),
    ("FLOOR(ts TO HOUR)", [datetime(2026, 1, 31, 12), datetime(1969, 12, 31, 23), None]),
    ("FLOOR(ts TO WEEK)", [datetime(2026, 1, 25), datetime(1969, 12, 28), None]),
    ("CEIL(ts TO DAY)", [datetime(2026, 2, 1), datetime(1970, 1, 1), None]),
    ("TIMESTAMPDIFF(SECOND, ts, TIMESTAMP '2026-01-31 12:34:57')", [0, 1769862898, None]),
    ("TIMESTAMPDIFF(SECOND, TIMESTAMP '2026-01-31 12:34:57', ts)", [0, -1769862898, None]),
    ("TIMESTAMPDIFF(MONTH, ts, TIMESTAMP '2026-03-31 00:00:00')", [1, 674, None]),
    ("TIMESTAMPADD(MONTH, 1, ts)", [T1.replace(month=2, day=28), datetime(1970, 1, 31, 23, 59, 59), None]),
    ("TIMESTAMPADD(HOUR, 1, ts) - INTERVAL '1' HOUR", [T1, T2, None]),
    ("ts + INTERVAL '1' DAY", [datetime(2026, 2, 1, 12, 34, 56, 789000), datetime(1970, 1, 1, 23, 59, 59), None]),
    ("ts - INTERVAL '1' MONTH", [datetime(2025, 12, 31, 12, 34, 56, 789000), datetime(1969, 11, 30, 23, 59, 59), None]),
    ("dt + INTERVAL '1' DAY", [date(1970, 1, 2), date(1970, 1, 12), None]),
    ("arr[1]", [1, None, None]),
    ("arr[j - 2]", [None, None, None]),
    ("CARDINALITY(arr)", [2, 0, None]),
    ("ARRAY[i, j]", [[7, 2], [-7, 2], [None, 1]]),
    ("ARRAY[1, 2]", [[1, 2]] * 3),
    ("ARRAY_CONTAINS(arr, 2)", [True, False, None]),
    ("ROW(i, s)", [{"EXPR$0": 7, "EXPR$1": "abc"}, {"EXPR$0": -7, "EXPR$1": " 12 "}, {"EXPR$0": None, "EXPR$1": None}]),
    ("m['a']", [1, None, None]),
    ("MAP['a', i]['a']", [7, -7, None]),
    ("r.x", [1, None, None]),
    ("t.r.y.z", ["q", None, None]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), CASES, ids=[one for one, _ in CASES])
def test_values(expression: str, expected: list[object]) -> None:
    assert evaluate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("i / (j - 2)", "division by zero: 7 / 0"),
        ("i % 0", "division by zero"),
        ("CAST(s AS INT)", "`abc` is not a INT"),
        ("e / 0", "division by zero"),
    ],
)
def test_errors_of_rows(expression: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(expression)


def test_every_function_has_a_kernel_and_a_case() -> None:
    assert set(FUNCTIONS) - set(KERNELS) == {"AND", "OR", "CASE", "COALESCE", "IFNULL"}
    named = " ".join(one for one, _ in CASES) + " ".join(one.read_text() for one in GOLDEN.glob("*.txt"))
    missing = [one for one in FUNCTIONS if one.isidentifier() and one not in named]
    assert missing == ["NEGATE", "FIELD"]
