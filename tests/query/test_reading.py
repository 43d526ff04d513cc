"""What a statement reads: bounds that are understood, bounds that must not be, and answers that bounds never change."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.query.conditions import Condition, Conditions, Domain
from qanat.query.constants import Values
from qanat.query.reading import Reading, read

DOMAINS = {"k": Domain.TEXT, "n": Domain.WHOLE, "ts": Domain.TIME}
NOW = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND, HOUR = 1_000_000, 3_600_000_000


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'").fetchall()
    return connection


def reading(duck: duckdb.DuckDBPyConnection, sql: str) -> Reading:
    (text,) = duck.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0]
    found = read(json.loads(text))
    assert found is not None, text
    return found


def bounds(duck: duckdb.DuckDBPyConnection, sql: str, table: str = "t", parameters: Any = ()) -> Conditions:
    return reading(duck, sql).conditions(table, DOMAINS, Values(parameters, NOW))


UNDERSTOOD = [
    ("ts >= TIMESTAMP '2026-01-01 00:00:01'", {"ts": Condition(None, NOW + SECOND)}),
    ("'2026-01-01' < ts", {"ts": Condition(None, NOW)}),
    ("ts < DATE '2026-01-01'", {"ts": Condition(None, None, NOW)}),
    ("ts = '2026-01-01 00:00:00.5Z'", {"ts": Condition(None, NOW + SECOND // 2, NOW + SECOND // 2)}),
    ("ts BETWEEN '2026-01-01' AND '2026-01-01 01:00'", {"ts": Condition(None, NOW, NOW + HOUR)}),
    ("ts > now() - INTERVAL 3 HOUR", {"ts": Condition(None, NOW - 3 * HOUR)}),
    ("ts > now() - INTERVAL '3 hours'", {"ts": Condition(None, NOW - 3 * HOUR)}),
    ("ts > current_timestamp - to_seconds(1.5)", {"ts": Condition(None, NOW - 3 * SECOND // 2)}),
    ("ts > epoch_ms(1767225600000)", {"ts": Condition(None, NOW)}),
    ("ts > to_timestamp(1767225600)", {"ts": Condition(None, NOW)}),
    ("ts > make_timestamp(1767225600000000) + INTERVAL 1 HOUR", {"ts": Condition(None, NOW + HOUR)}),
    ("ts > '2026-01-01'::TIMESTAMPTZ", {"ts": Condition(None, NOW)}),
    ("k = 'a'", {"k": Condition(frozenset("a"))}),
    ("T.K IN ('a', 'b')", {"k": Condition(frozenset("ab"))}),
    ("n = 3 AND k = 'a'", {"n": Condition(frozenset({3}), 3, 3), "k": Condition(frozenset("a"))}),
    ("n > -5 AND n <= 2.5", {"n": Condition(None, -5, 3)}),
    ("k = 'a' OR k = 'b'", {"k": Condition(frozenset("ab"))}),
    ("(k = 'a' AND n = 1) OR (n = 4 AND v > 2)", {"n": Condition(frozenset({1, 4}), 1, 4)}),
    ("k = 'a' AND (n = 1 OR v = 2)", {"k": Condition(frozenset("a"))}),
    ("k = 'a' AND k IN ('b', 'a')", {"k": Condition(frozenset("a"))}),
    ("ts > '2026-01-01' AND upper(k) = 'A'", {"ts": Condition(None, NOW)}),
]
NOT_UNDERSTOOD = [
    "k = 'a' OR v = 2", "NOT k = 'a'", "k <> 'a'", "k NOT IN ('a')", "n = '3'", "n = 1.5", "k = 3", "k IS NULL",
    "ts < now()", "ts = now()", "ts > '2026-01-01 00:00:00+02'", "ts > '01/02/2026'", "ts > TIMESTAMP '2026-13-01'",
    "date_trunc('day', ts) = '2026-01-01'", "k IN (SELECT 'a')", "n > (SELECT 3)", "k = NULL", "n > n", "v = 2",
    "k || '' = 'a'", "n > TRY_CAST('3' AS BIGINT)", "ts > '2026-01-01' IS TRUE", "k LIKE 'a%'", "k = lower('A')",
    "n > 9007199254740993.5",
]  # fmt: skip


@pytest.mark.parametrize(("where", "expected"), UNDERSTOOD)
def test_what_bounds(duck: duckdb.DuckDBPyConnection, where: str, expected: Conditions) -> None:
    assert bounds(duck, f"SELECT v FROM t WHERE {where}") == expected


@pytest.mark.parametrize("where", NOT_UNDERSTOOD)
def test_what_bounds_nothing(duck: duckdb.DuckDBPyConnection, where: str) -> None:
    assert bounds(duck, f"SELECT v FROM t WHERE {where}") == {}


def test_parameters_bound(duck: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT v FROM t WHERE k = ? AND ts > ? AND n = ?"
    found = bounds(duck, sql, parameters=["a", dt.datetime(2026, 1, 1), None])
    assert found == {"k": Condition(frozenset("a")), "ts": Condition(None, NOW)}
    named = bounds(duck, "SELECT v FROM t WHERE n = $n AND ts < $ts", parameters={"n": 4, "ts": dt.date(2026, 1, 1)})
    assert named == {"n": Condition(frozenset({4}), 4, 4), "ts": Condition(None, None, NOW)}


A = {"k": Condition(frozenset("a"))}
SHAPES = [
    ("SELECT v FROM t WHERE k = 'a' UNION ALL SELECT v FROM t", {}),
    ("SELECT v FROM t WHERE k = 'a' UNION ALL SELECT v FROM t WHERE k = 'a' AND n = 3", A),
    ("SELECT x.v FROM t x JOIN t y ON x.n = y.n WHERE x.k = 'a'", {}),
    ("SELECT x.v FROM t x JOIN t y ON x.n = y.n WHERE x.k = 'a' AND y.k = 'a'", A),
    ("SELECT x.v FROM u LEFT JOIN t x ON x.n = u.n WHERE x.k = 'a'", A),
    ("SELECT x.v FROM u ASOF JOIN t x ON u.ts >= x.ts WHERE x.k = 'a'", {}),
    ("SELECT x.v FROM u POSITIONAL JOIN t x WHERE x.k = 'a'", {}),
    ("SELECT v FROM t JOIN u USING (k) WHERE k = 'a'", A),
    ("SELECT v FROM t TABLESAMPLE 10% WHERE k = 'a'", {}),
    ("SELECT v FROM t WHERE k = 'a' USING SAMPLE 3 ROWS", {}),
    ("SELECT upper(v) AS k FROM t WHERE k = 'a'", {}),
    ("SELECT k AS k FROM t WHERE k = 'a'", A),
    ("SELECT v FROM t AS s(k, n, v, ts) WHERE k = 'a'", {}),
    ("WITH c AS (SELECT * FROM t WHERE k = 'a') SELECT * FROM c WHERE n = 3", A),
    ("WITH t AS (SELECT * FROM t) SELECT * FROM t WHERE k = 'a'", {}),
    ("SELECT * FROM (SELECT * FROM t) WHERE k = 'a'", {}),
    ("SELECT * FROM (SELECT * FROM t WHERE k = 'a') WHERE n = 3", A),
    ("SELECT 1 FROM u WHERE EXISTS (SELECT 1 FROM t WHERE t.n = u.n AND k = 'a')", A),
    ("SELECT (SELECT max(v) FROM t WHERE k = 'a'), count(*) FROM t", {}),
    ("SELECT v FROM t GROUP BY ALL HAVING v = 1", {}),
    ("SELECT v FROM t QUALIFY row_number() OVER (ORDER BY ts) = 1", {}),
    ("SUMMARIZE t", {}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), SHAPES)
def test_bounds_hold_for_every_place_that_names_the_table(
    duck: duckdb.DuckDBPyConnection, sql: str, expected: Conditions
) -> None:
    assert bounds(duck, sql) == expected


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT v FROM t WHERE k = 'a'", ["k", "v"]),
        ("SELECT count(*) FROM t", []),
        ("FROM t", ["k", "n", "v", "ts"]),
        ("SELECT t FROM t", ["k", "n", "v", "ts"]),
        ("SELECT s FROM t s", ["k", "n", "v", "ts"]),
        ("SELECT COLUMNS('v|k') FROM t", ["k", "n", "v", "ts"]),
        ("SELECT u.n FROM t NATURAL JOIN u", ["k", "n", "v", "ts"]),
        ("SELECT max(V) FROM t JOIN u USING (N)", ["n", "v"]),
        ("SELECT 1 FROM u WHERE EXISTS (SELECT v FROM t)", ["v"]),
    ],
)
def test_columns_that_may_be_read(duck: duckdb.DuckDBPyConnection, sql: str, columns: list[str]) -> None:
    assert reading(duck, sql).wanted(["k", "n", "v", "ts"]) == columns


# --- answers do not change -----------------------------------------------------------------------------------------

_TEXTS = st.sampled_from(["a", "b", "c"])
_NUMBERS = st.integers(0, 4)
_TIMES = st.integers(0, 4).map(lambda n: f"TIMESTAMP '2026-01-01 00:00:0{n}'")


def _term(alias: str) -> st.SearchStrategy[str]:
    sign = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
    return st.one_of(
        st.builds(lambda s, v: f"{alias}k {s} '{v}'", st.sampled_from(["=", "<>", "<"]), _TEXTS),
        st.builds(lambda s, v: f"{alias}n {s} {v}", sign, _NUMBERS),
        st.builds(lambda s, v: f"{v} {s} {alias}n", sign, _NUMBERS),
        st.builds(lambda s, v: f"{alias}ts {s} {v}", sign, _TIMES),
        st.builds(lambda a, b: f"{alias}ts BETWEEN {a} AND {b}", _TIMES, _TIMES),
        st.builds(lambda a, b: f"{alias}k IN ('{a}', '{b}')", _TEXTS, _TEXTS),
        st.builds(lambda a: f"{alias}n NOT IN ({a})", _NUMBERS),
        st.just(f"{alias}k IS NULL"),
        st.builds(lambda a: f"coalesce({alias}n, 0) = {a}", _NUMBERS),
    )


def _where(*aliases: str) -> st.SearchStrategy[str]:
    terms = st.one_of(*map(_term, aliases))
    return st.recursive(
        terms,
        lambda inner: st.one_of(
            st.builds(lambda a, b: f"({a} AND {b})", inner, inner),
            st.builds(lambda a, b: f"({a} OR {b})", inner, inner),
            st.builds(lambda a: f"NOT ({a})", inner),
        ),
        max_leaves=5,
    )


_JOINS = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "ASOF JOIN"])


@st.composite
def _statements(draw: st.DrawFn) -> str:
    one, two = draw(_where("x.")), draw(_where("x.", "y."))
    plain, join = draw(_where("")), draw(_JOINS)
    condition = "x.k = y.k AND x.ts >= y.ts" if join == "ASOF JOIN" else draw(st.sampled_from(["x.n = y.n", one, two]))
    visible = one if join in ("SEMI JOIN", "ANTI JOIN") else two
    columns = "x.*" if join in ("SEMI JOIN", "ANTI JOIN") else "x.*, y.*"
    other = draw(st.sampled_from(["t", "u"]))
    return draw(
        st.sampled_from(
            [
                f"SELECT * FROM t WHERE {plain}",
                f"SELECT k, count(*), sum(n) FROM t WHERE {plain} GROUP BY k",
                f"SELECT {columns} FROM t x {join} {other} y ON {condition} WHERE {visible}",
                f"SELECT {columns} FROM {other} x {join} t y ON {condition} WHERE {visible}",
                f"SELECT * FROM t x JOIN t y USING (k) WHERE k = 'a' AND {two}",
                f"SELECT * FROM t x FULL JOIN u y USING (k) WHERE k = 'a' OR {two}",
                f"SELECT * FROM t WHERE {plain} UNION ALL SELECT * FROM t WHERE k = 'b'",
                f"WITH c AS (SELECT * FROM t WHERE {plain}) SELECT * FROM c x JOIN t y ON x.n = y.n WHERE {two}",
                f"WITH t AS (SELECT k, n + 1 AS n, ts FROM t) SELECT * FROM t WHERE {plain}",
                f"SELECT * FROM u x WHERE EXISTS (SELECT 1 FROM t y WHERE {two})",
                f"SELECT * FROM u x WHERE n IN (SELECT n FROM t WHERE {plain}) AND {one}",
                f"SELECT n % 2 AS n, k FROM t WHERE {plain}",
                f"SELECT *, (SELECT max(n) FROM t y WHERE {two}) FROM t x",
                f"SELECT * FROM t x, LATERAL (SELECT n AS m FROM t y WHERE {two}) WHERE {one}",
            ]
        )
    )


_ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0, 1, 2, 3, 4, None]), st.integers(0, 4)),
    max_size=8,
)


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    times = [None if n is None else dt.datetime(2026, 1, 1, 0, 0, n) for _, _, n in rows]
    columns = [[row[0] for row in rows], [row[1] for row in rows], times]
    return pa.table(columns, schema=pa.schema([("k", pa.string()), ("n", pa.int64()), ("ts", pa.timestamp("us"))]))


def _kept(table: pa.Table, conditions: Conditions) -> pa.Table:
    """The fewest rows that the bounds allow."""
    rows = [row for row in table.to_pylist() if all(_meets(row[name], one) for name, one in conditions.items())]
    return pa.Table.from_pylist(rows, table.schema)


def _meets(value: Any, condition: Condition) -> bool:
    if value is None:
        return False
    if condition.among is not None and value not in condition.among:
        return False
    number = value
    if isinstance(value, dt.datetime):
        number = (value - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    if not isinstance(number, int):
        return True
    return (condition.low is None or number >= condition.low) and (condition.high is None or number <= condition.high)


_ONE = duckdb.connect(":memory:", config={"threads": 1})


@settings(max_examples=400, deadline=None)
@given(_statements(), _ROWS, _ROWS)
def test_answers_are_the_same_with_the_fewest_rows_that_bounds_allow(
    sql: str, mine: list[tuple[Any, ...]], others: list[tuple[Any, ...]]
) -> None:
    whole = {"t": _table(mine), "u": _table(others)}
    found = reading(_ONE, sql)
    few = {name: _kept(table, found.conditions(name, DOMAINS, Values((), NOW))) for name, table in whole.items()}
    answers = []
    for tables in (whole, few):
        for name, table in tables.items():
            _ONE.register(name, table)
        answers.append(sorted(map(repr, _ONE.sql(sql).to_arrow_table().to_pylist())))
    assert answers[0] == answers[1]
