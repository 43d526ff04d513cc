"""GROUP BY without a window: changes as Flink 2.3 gives them, and equal to a literal reference for every cut."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.errors import SqlError
from qanat.model.functions import UserFunction
from qanat.model.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    STRING,
    TIMESTAMP,
    TINYINT,
    Type,
    array,
    decimal,
)
from qanat.sql.embedded.flow import Batch, Context
from qanat.sql.embedded.updating import layout
from qanat.sql.embedded.updating.group_aggregate import GroupAggregateOperator
from qanat.sql.expressions import Call, Column, Expression, Literal
from qanat.sql.plan import AggregateCall, Field, GroupAggregate, Node, Normalize, Schema
from tests.sql.embedded.feeding import UA, UB, D, Event, Fed, I, every_cut, feed, scan

MONEY = decimal(6, 2)
ROWS = (Field("k", STRING), Field("x", INT), Field("d", DOUBLE), Field("s", STRING), Field("m", MONEY))
COLUMNS = {one.name: Column(one.name, one.type) for one in ROWS}
K, X, FLOATING, S, M = COLUMNS.values()
BIG = Call(">", (X, Literal(5, INT)), BOOLEAN)


def changing(schema: Schema = ROWS) -> Node:
    """An input whose rows may be taken back."""
    return Normalize(scan("t", schema), (schema[0].name,), schema)


def aggregate(
    name: str, *args: Expression, of: Type | None = None, distinct: bool = False, where: Expression | None = None
) -> AggregateCall:
    kinds = {"COUNT": BIGINT, "ARRAY_AGG": array(args[0].type) if args else None}
    kind = of or kinds.get(name) or args[0].type
    return AggregateCall(name, args, kind, distinct, where)


def group(
    source: Node, calls: tuple[AggregateCall, ...], keys: tuple[Expression, ...] = (K,), ttl: int | None = None
) -> GroupAggregate:
    schema = (
        *(Field(f"key{i}", one.type) for i, one in enumerate(keys)),
        *(Field(f"a{i}", call.type) for i, call in enumerate(calls)),
    )
    return GroupAggregate(source, keys, calls, schema, ttl)


def run(node: GroupAggregate, events: list[Event], schema: Schema = ROWS) -> Fed:
    return every_cut(GroupAggregateOperator, node, (schema,), events)


def shown_of(node: GroupAggregate, events: list[Event], schema: Schema) -> list[str]:
    """As `run`, for rows with NaN, which are not equal to themselves."""
    whole = feed(GroupAggregateOperator, node, (schema,), events).shown
    for cut in (1, 2, 3, 7):
        assert feed(GroupAggregateOperator, node, (schema,), events, cut, snapshots=True).shown == whole
    return whole


# --- as seen on Flink 2.3 --------------------------------------------------------------------------------------------

A: tuple[Any, ...] = ("a", 5, 1.5, "p", Decimal("1.10"))
B: tuple[Any, ...] = ("a", 7, 0.1, "q", Decimal("2.25"))
NONE: tuple[Any, ...] = ("a", None, None, None, None)
C: tuple[Any, ...] = ("a", 5, 0.2, "p", Decimal("3.00"))
Z: tuple[Any, ...] = ("b", 1, 1.0, "z", Decimal("1.00"))
CHANGES = [
    Event(0, row, kind)
    for kind, row in [
        (I, A), (I, B), (I, NONE), (I, C), (D, A), (I, Z), (D, B), (D, Z), (D, NONE), (D, C), (D, A), (I, B),
    ]
]  # fmt: skip
INSERTS = [Event(0, row) for row in (A, B, NONE, C, Z, A)]


def pairs(*after: str) -> list[str]:
    """`+I x`, then -U and +U of each result and the next; `-D` repeats the result before."""
    shown: list[str] = []
    last: dict[str, str] = {}
    for one in after:
        key, gone = one.split()[0], one.endswith("!")
        if gone:
            shown.append(f"-D {last.pop(key)}")
        elif key in last:
            shown += [f"-U {last[key]}", f"+U {one}"]
        else:
            shown.append(f"+I {one}")
        if not gone:
            last[key] = one
    return shown


def test_counts_sums_and_extremes_of_a_changelog() -> None:
    calls = (
        aggregate("COUNT"), aggregate("COUNT", X), aggregate("SUM", X), aggregate("AVG", X), aggregate("MIN", X),
        aggregate("MAX", X),
    )  # fmt: skip
    assert run(group(changing(), calls), CHANGES).shown == pairs(
        "a 1 1 5 5 5 5", "a 2 2 12 6 5 7", "a 3 2 12 6 5 7", "a 4 3 17 5 5 7", "a 3 2 12 6 5 7", "b 1 1 1 1 1 1",
        "a 2 1 5 5 5 5", "b !", "a 1 1 5 5 5 5", "a !", "a 1 1 7 7 7 7",
    )  # fmt: skip


def test_without_keys_there_is_one_row_and_none_when_all_rows_are_gone() -> None:
    calls = (aggregate("COUNT"), aggregate("SUM", X))
    shown = run(group(changing(), calls, keys=()), CHANGES).shown
    assert shown[:3] == ["+I 1 5", "-U 1 5", "+U 2 12"]
    assert shown[-4:] == ["-U 2 5", "+U 1 5", "-D 1 5", "+I 1 7"]
    assert len(shown) == 19


def test_values_in_order_lose_the_first_equal_one() -> None:
    calls = (
        aggregate("FIRST_VALUE", S), aggregate("LAST_VALUE", S), aggregate("LISTAGG", S), aggregate("ARRAY_AGG", S),
    )  # fmt: skip
    fed = run(group(changing(), calls), CHANGES)
    assert [(row[0], *row[2:]) for row in fed.rows if row[1] == "a" and row[0] != "-U"] == [
        ("+I", "p", "p", "p", ["p"]),
        ("+U", "p", "q", "p,q", ["p", "q"]),
        ("+U", "p", "q", "p,q", ["p", "q", None]),
        ("+U", "p", "p", "p,q,p", ["p", "q", None, "p"]),
        ("+U", "q", "p", "q,p", ["q", None, "p"]),
        ("+U", "p", "p", "p", [None, "p"]),
        ("+U", "p", "p", "p", ["p"]),
        ("-D", "p", "p", "p", ["p"]),
        ("+I", "q", "q", "q", ["q"]),
    ]


def test_distinct_rows_appear_once_and_go_when_the_last_of_them_goes() -> None:
    assert run(group(changing(), ()), CHANGES).shown == ["+I a", "+I b", "-D b", "-D a", "+I a"]
    assert run(group(changing(), (), keys=(K, X)), CHANGES).shown == [
        "+I a 5", "+I a 7", "+I a NULL", "+I b 1", "-D a 7", "-D b 1", "-D a NULL", "-D a 5", "+I a 7",
    ]  # fmt: skip
    inserts = run(group(scan("t", ROWS), ()), INSERTS)
    assert inserts.shown == ["+I a", "+I b"]


def test_a_result_that_stays_the_same_gives_nothing() -> None:
    calls = (aggregate("COUNT", where=BIG), aggregate("SUM", X, where=BIG))
    assert run(group(changing(), calls), CHANGES).shown == pairs(
        "a 0 NULL", "a 1 7", "b 0 NULL", "a 0 NULL", "b !", "a !", "a 1 7"
    )
    assert run(group(scan("t", ROWS), calls), INSERTS).shown == pairs("a 0 NULL", "a 1 7", "b 0 NULL")


def test_sums_of_floats_and_decimals_with_a_way_back() -> None:
    calls = (
        aggregate("SUM", FLOATING), aggregate("AVG", FLOATING), aggregate("SUM", M, of=decimal(38, 2)),
        aggregate("AVG", M, of=decimal(38, 6)), aggregate("COUNT", X, distinct=True),
        aggregate("SUM", X, distinct=True),
    )  # fmt: skip
    assert run(group(changing(), calls), CHANGES).shown == pairs(
        "a 1.5 1.5 1.10 1.100000 1 5", "a 1.6 0.8 3.35 1.675000 2 12", "a 1.8 0.6 6.35 2.116667 2 12",
        "a 0.30000000000000004 0.15000000000000002 5.25 2.625000 2 12", "b 1.0 1.0 1.00 1.000000 1 1",
        "a 0.20000000000000004 0.20000000000000004 3.00 3.000000 1 5", "b !", "a !", "a 0.1 0.1 2.25 2.250000 1 7",
    )  # fmt: skip


def test_deviations_are_welford_s_and_null_where_retraction_leaves_less_than_nothing() -> None:
    calls = (aggregate("VAR_POP", FLOATING), aggregate("AVG", FLOATING))
    assert run(group(changing(), calls), CHANGES).shown == pairs(
        "a 0.0 1.5", "a 0.49 0.8", "a 0.4066666666666667 0.6", "a 0.0024999999999999467 0.15000000000000002",
        "b 0.0 1.0", "a NULL 0.20000000000000004", "b !", "a !", "a 0.0 0.1",
    )  # fmt: skip
    kinds = [I, I, I, I, D, D, I, D, D, I]
    values = [0.0, 1.1, 2.3, 0.7, 1.1, 2.3, 7.7, 0.7, 7.7, 3.3]
    events = [Event(0, ("n", None, value, None, None), kind) for kind, value in zip(kinds, values, strict=True)]
    large = Call(">", (FLOATING, Literal(1.0, DOUBLE)), BOOLEAN)
    calls = (
        aggregate("VAR_POP", FLOATING),
        aggregate("VAR_SAMP", FLOATING),
        aggregate("STDDEV_POP", FLOATING, where=large),
    )
    assert run(group(changing(), calls), events).shown == pairs(
        "n 0.0 NULL NULL", "n 0.30250000000000005 0.6050000000000001 0.0", "n 0.882222222222222 1.323333333333333"
        " 0.5999999999999999", "n 0.6968749999999998 0.9291666666666664 0.5999999999999999",
        "n 0.9266666666666664 1.3899999999999997 0.0", "n 0.12250000000000005 0.2450000000000001 NULL",
        "n 12.086666666666668 18.130000000000003 0.0", "n 14.822500000000002 29.645000000000003 0.0",
        "n 7.105427357601002e-15 NULL NULL", "n 2.722500000000002 5.445000000000004 0.0",
    )  # fmt: skip


def test_deviations_of_other_types() -> None:
    six = decimal(38, 6)
    calls = (
        aggregate("STDDEV_POP", FLOATING), aggregate("STDDEV_SAMP", FLOATING), aggregate("VAR_POP", FLOATING),
        aggregate("VAR_SAMP", X), aggregate("VAR_SAMP", M, of=six), aggregate("VAR_POP", M, of=six),
        aggregate("STDDEV_POP", M, of=six),
    )  # fmt: skip
    assert run(group(scan("t", ROWS), calls), INSERTS).shown == pairs(
        "a 0.0 NULL 0.0 NULL NULL 0.000000 0.000000",
        "a 0.7 0.9899494936611666 0.49 2 0.661250 0.330625 0.575000",
        "a 0.6377042156569663 0.7810249675906654 0.4066666666666667 1 0.915833 0.610556 0.781381",
        "b 0.0 NULL 0.0 NULL NULL 0.000000 0.000000",
        "a 0.6759252917297888 0.7804912982645398 0.45687500000000003 1 0.868958 0.651719 0.807291",
    )


@pytest.mark.parametrize("source", [scan("t", ROWS), changing()])
def test_distinct_filters_and_lists_of_inserts(source: Node) -> None:
    calls = (
        aggregate("LISTAGG", S, distinct=True), aggregate("ARRAY_AGG", X, distinct=True),
        aggregate("ARRAY_AGG", X, where=BIG), aggregate("FIRST_VALUE", X, where=BIG),
        AggregateCall("LISTAGG", (S, Literal(";", STRING)), STRING, False, BIG),
        aggregate("COUNT", X, distinct=True, where=Call(">", (FLOATING, Literal(0.15, DOUBLE)), BOOLEAN)),
    )  # fmt: skip
    fed = run(group(source, calls, keys=()), INSERTS)
    # as in Flink an array with a NULL in it differs from itself, so that its row is sent again
    assert [row[1:] for row in fed.rows if row[0] != "-U"] == [
        ("p", [5], None, None, None, 1),
        ("p,q", [5, 7], [7], 7, "q", 1),
        ("p,q", [5, 7, None], [7], 7, "q", 1),
        ("p,q", [5, 7, None], [7], 7, "q", 1),
        ("p,q,z", [5, 7, None, 1], [7], 7, "q", 2),
        ("p,q,z", [5, 7, None, 1], [7], 7, "q", 2),
    ]


def test_retractions_of_rows_that_never_came_are_ignored() -> None:
    kinds = [D, I, D, I, I, D, D, I, D, D, I]
    rows = [A, B, A, NONE, C, C, C, A, NONE, B, A]
    events = [Event(0, row, kind) for kind, row in zip(kinds, rows, strict=True)]
    calls = (aggregate("COUNT"), aggregate("SUM", X), aggregate("MIN", X))
    expected = pairs("a 1 7 7", "a !", "a 1 NULL NULL", "a 2 5 5", "a 1 NULL NULL", "a !", "a 1 5 5", "a !", "a 1 5 5")
    assert run(group(changing(), calls), events).shown == expected


def test_a_value_that_is_taken_back_before_it_comes_waits_for_it() -> None:
    rows = [
        (I, 5, -0.0), (I, 6, 0.0), (D, 7, None), (I, 7, 1.0), (I, 3, 0.5), (D, 2, 0.0), (I, 9, None), (D, 3, None),
        (I, 2, None), (D, 9, -0.0),
    ]  # fmt: skip
    events = [Event(0, ("a", x, d, None, None), kind) for kind, x, d in rows]
    calls = (
        aggregate("COUNT"), aggregate("MIN", X), aggregate("MAX", X), aggregate("COUNT", X, distinct=True),
        aggregate("SUM", X), aggregate("FIRST_VALUE", FLOATING),
    )  # fmt: skip
    assert [row[1:] for row in run(group(changing(), calls, keys=()), events).rows if row[0] != "-U"] == [
        (1, 5, 5, 1, 5, 0.0), (2, 5, 6, 2, 11, 0.0), (1, 5, 6, 2, 4, 0.0), (2, 5, 7, 2, 11, 0.0), (3, 3, 7, 3, 14, 0.0),
        (2, 3, 7, 3, 12, 0.0), (3, 3, 9, 4, 21, 0.0), (2, 2, 9, 3, 18, 0.0), (3, 2, 9, 3, 20, 0.0),
        (2, 2, 6, 2, 11, 1.0),
    ]  # fmt: skip


NUMBERS = (
    Field("k", STRING), Field("x", INT), Field("d", DOUBLE), Field("e", FLOAT), Field("b", BIGINT), Field("y", TINYINT),
)  # fmt: skip
N = {one.name: Column(one.name, one.type) for one in NUMBERS}
MOST, MOST_LONG = 2**31 - 1, 2**63 - 1
WILD = [
    Event(0, row)
    for row in [
        ("a", MOST, -0.0, 0.1, MOST_LONG, 127), ("a", MOST, 0.0, 0.2, MOST_LONG, 127),
        ("a", MOST, math.nan, 0.3, 1, 2), ("a", 2, 1.0, 0.4, 2, 3), ("a", -3, -1.0, 1e8, -7, -128),
        ("b", 5, math.nan, 1, 1, 1), ("b", 5, 1.0, 1, 1, 1), ("b", 5, -1.0, 3, 1, 1),
        ("c", 3, 0.0, 2, 3, 1), ("c", 3, -0.0, 2, 3, 1),
    ]
]  # fmt: skip


@pytest.mark.parametrize("source", [scan("t", NUMBERS), changing(NUMBERS)])
def test_whole_numbers_wrap_and_floats_keep_their_width(source: Node) -> None:
    calls = tuple(aggregate(name, N[column]) for column in "ebyx" for name in ("SUM", "AVG"))
    fed = run(group(source, calls, keys=(N["k"],)), WILD, NUMBERS)
    single = [np.float32(row[2]) for row in fed.rows if row[1] == "a" and row[0] != "-U"]
    assert single == [np.float32(one) for one in (0.1, 0.3, 0.6, 1.0, 1e8)]
    average = [np.float32(row[3]) for row in fed.rows if row[1] in "ab" and row[0] != "-U"]
    assert average == [np.float32(one) for one in (0.1, 0.15, 0.2, 0.25, 2e7, 1, 1, 1.6666666)]
    assert [row[4:] for row in fed.rows if row[1] == "a" and row[0] != "-U"] == [
        (MOST_LONG, MOST_LONG, 127, 127, MOST, MOST),
        (-2, -1, -2, 127, -2, MOST),
        (-1, 0, 0, 85, 2147483645, MOST),
        (1, 0, 3, 64, MOST, 1610612735),
        (-6, -1, -125, 26, 2147483644, 1288490188),
    ]


def test_nan_stays_and_zero_keeps_its_sign() -> None:
    calls = (aggregate("SUM", N["d"]), aggregate("MIN", N["d"]), aggregate("MAX", N["d"]))
    assert shown_of(group(scan("t", NUMBERS), calls, keys=(N["k"],)), WILD, NUMBERS) == [
        "+I a -0.0 -0.0 -0.0",
        "-U a 0.0 -0.0 -0.0", "+U a nan -0.0 -0.0",
        "-U a nan -0.0 -0.0", "+U a nan -0.0 1.0",
        "-U a nan -0.0 1.0", "+U a nan -1.0 1.0",
        "+I b nan nan nan", "-U b nan nan nan", "+U b nan nan nan", "-U b nan nan nan", "+U b nan nan nan",
        "+I c 0.0 0.0 0.0",
    ]  # fmt: skip


@pytest.mark.parametrize("source", [scan("t", NUMBERS), changing(NUMBERS)])
def test_every_bit_pattern_of_a_float_is_a_value_of_its_own(source: Node) -> None:
    fed = run(group(source, (aggregate("COUNT", N["d"], distinct=True),), keys=(N["k"],)), WILD, NUMBERS)
    assert [row[2] for row in fed.rows if row[0] != "-U"] == [1, 2, 3, 4, 5, 1, 2, 3, 1, 2]
    shown = shown_of(group(source, (), keys=(N["d"],)), WILD, NUMBERS)
    assert shown == ["+I -0.0", "+I 0.0", "+I nan", "+I 1.0", "+I -1.0"]


def test_with_a_ttl_every_row_is_sent_since_it_keeps_the_key_alive() -> None:
    events = [Event(0, row, at=1000) for row in (A, B, NONE, C, Z, A)]
    assert run(group(scan("t", ROWS), (), ttl=3600), events).shown == pairs("a", "a", "a", "a", "b", "a")
    calls = (aggregate("MAX", X),)
    assert run(group(scan("t", ROWS), calls, ttl=3600), events).shown == pairs("a 5", "a 7", "a 7", "a 7", "b 1", "a 7")


# --- time to live ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [scan("t", ROWS), changing()])
def test_an_untouched_key_is_forgotten(source: Node) -> None:
    ages = [0, 9, 19, 20, 29]
    events = [Event(0, ("a", i, None, None, None), at=1000 + age) for i, age in enumerate(ages)]
    calls = (aggregate("COUNT"), aggregate("SUM", X), aggregate("COUNT", X, distinct=True))
    shown = run(group(source, calls, ttl=10), events).shown
    assert shown[:3] == ["+I a 1 0 1", "-U a 1 0 1", "+U a 2 1 2"]
    assert shown[3:] == ["+I a 1 2 1", "-U a 1 2 1", "+U a 2 5 2", "-U a 2 5 2", "+U a 3 9 3"]


def test_a_retraction_for_a_forgotten_key_is_ignored_and_does_not_touch_it() -> None:
    given_ = [(I, 0), (D, 10), (D, 11), (I, 12), (I, 13), (D, 22), (D, 32), (I, 33)]
    events = [Event(0, ("a", 1, None, None, None), kind, at=1000 + age) for kind, age in given_]
    shown = run(group(changing(), (aggregate("COUNT"),), ttl=10), events).shown
    assert shown == ["+I a 1", "+I a 1", "-U a 1", "+U a 2", "-U a 2", "+U a 1", "+I a 1"]


def test_a_distinct_value_counts_again_after_its_own_time() -> None:
    events = [
        Event(0, ("a", value, None, None, None), at=1000 + age) for value, age in [(1, 0), (2, 9), (3, 18), (1, 20)]
    ]
    fed = run(group(scan("t", ROWS), (aggregate("COUNT", X, distinct=True),), ttl=10), events)
    assert [row[2] for row in fed.rows if row[0] != "-U"] == [1, 2, 3, 4]


def test_where_the_arrival_is_unknown_nothing_is_forgotten() -> None:
    events = [Event(0, row) for row in (A, B)]
    assert run(group(scan("t", ROWS), (aggregate("COUNT"),), ttl=1), events).shown == pairs("a 1", "a 2")


@pytest.mark.parametrize("source", [scan("t", ROWS), changing()])
def test_state_of_forgotten_keys_is_dropped(source: Node) -> None:
    rows = [(str(i), i, None, None, None) for i in range(40_000)]
    events = [Event(0, row, at=1000 + i) for i, row in enumerate(rows)]
    calls = (aggregate("SUM", X), aggregate("COUNT", X, distinct=True), aggregate("LAST_VALUE", S))
    node = group(source, calls, ttl=100)
    fed = feed(GroupAggregateOperator, node, (ROWS,), events, 2000)
    assert len(fed.rows) == 40_000
    assert len(fed.operator._numbers) < 20_000
    again = feed(GroupAggregateOperator, node, (ROWS,), events, 7001, snapshots=True)
    assert again.rows == fed.rows


def test_state_of_keys_whose_rows_are_all_gone_is_dropped() -> None:
    events = [Event(0, (str(i), i, None, "v", None), kind) for i in range(20_000) for kind in (I, D)]
    calls = (aggregate("MAX", X), aggregate("COUNT", S, distinct=True))
    fed = feed(GroupAggregateOperator, group(changing(), calls), (ROWS,), events, 3000)
    assert [row[0] for row in fed.rows] == ["+I", "-D"] * 20_000
    assert len(fed.operator._numbers) < 10_000
    assert fed.operator.largest(3) == []


# --- laws ------------------------------------------------------------------------------------------------------------

WIDE = (
    Field("k", STRING), Field("x", INT), Field("d", DOUBLE), Field("s", STRING), Field("m", MONEY),
    Field("at", TIMESTAMP), Field("day", DATE), Field("keep", BOOLEAN),
)  # fmt: skip
W = {one.name: Column(one.name, one.type) for one in WIDE}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = (
    aggregate("COUNT"),
    *(aggregate(name, W[column], of=of) for name, column, of in [
        ("COUNT", "d", None), ("SUM", "x", None), ("SUM", "d", None), ("AVG", "d", None), ("AVG", "x", None),
        ("SUM", "m", decimal(38, 2)), ("AVG", "m", decimal(38, 6)), ("MIN", "x", None), ("MAX", "d", None),
        ("MIN", "d", None), ("MAX", "s", None), ("MIN", "m", None), ("MAX", "at", None), ("MIN", "day", None),
        ("FIRST_VALUE", "s", None), ("LAST_VALUE", "at", None), ("LAST_VALUE", "d", None), ("LISTAGG", "s", None),
        ("ARRAY_AGG", "at", None), ("MAX", "keep", None),
    ]),
    *(aggregate(name, W[column], where=W["keep"]) for name, column in [
        ("COUNT", "x"), ("SUM", "d"), ("MAX", "x"), ("MIN", "s"), ("FIRST_VALUE", "x"), ("ARRAY_AGG", "x"),
    ]),
    *(aggregate(name, W[column], distinct=True, where=keep) for name, column in [
        ("COUNT", "x"), ("SUM", "x"), ("SUM", "d"), ("COUNT", "s"), ("ARRAY_AGG", "s"), ("LISTAGG", "s"), ("MIN", "x"),
    ] for keep in (None, W["keep"])),
)  # fmt: skip


def bits(value: Any) -> Any:
    return struct.pack("d", value) if isinstance(value, float) else value


class Definition:
    """One aggregate of one key by its definition: the values that take part, in order of arrival; of equal ones the
    first is taken back. DISTINCT: a value comes with its first row and goes with its last one."""

    def __init__(self, call: AggregateCall) -> None:
        self.call, self.values = call, list[Any]()
        self.copies: list[Any] = []
        names = [one.name for one in WIDE]
        self.place = names.index(call.args[0].name) if call.args and isinstance(call.args[0], Column) else None

    def change(self, row: tuple[Any, ...], back: bool) -> None:
        if self.call.filter is not None and not row[7]:
            return
        value = bits(row[self.place]) if self.place is not None else 0
        if back:
            self.copies.remove(value)
        first_or_last = value not in self.copies
        if not back:
            self.copies.append(value)
        if self.call.distinct and not first_or_last:
            return
        (self.values.remove if back else self.values.append)(value)

    def value(self) -> Any:
        values = [struct.unpack("d", one)[0] if isinstance(one, bytes) else one for one in self.values]
        present = [one for one in values if one is not None]
        if self.call.function == "COUNT":
            return len(present)
        if self.call.function == "ARRAY_AGG":
            return values or None
        return literal_of(self.call, present) if present else None


def literal_of(call: AggregateCall, present: list[Any]) -> Any:
    total: Any = None
    match call.function:
        case "SUM" | "AVG":
            for value in present:
                total = value if total is None else total + value
            if call.function == "SUM":
                return total
            if isinstance(total, Decimal):
                return (total / len(present)).quantize(Decimal("0.000001"), "ROUND_HALF_UP")
            return int(total / len(present)) if isinstance(total, int) else total / len(present)
        case "MIN":
            return min(present)
        case "MAX":
            return max(present)
        case "FIRST_VALUE":
            return present[0]
        case "LAST_VALUE":
            return present[-1]
        case _:
            return ",".join(present)


def literal_changes(calls: tuple[AggregateCall, ...], events: list[Event]) -> list[tuple[Any, ...]]:
    """Row by row, everything anew."""
    groups: dict[Any, tuple[list[Any], list[Definition]]] = {}
    out: list[tuple[Any, ...]] = []
    for event in events:
        assert event.row is not None
        row, back = (*event.row[:5], at(event.row[5]), *event.row[6:]), event.kind in (UB, D)
        rows, literals = groups.setdefault(row[0], ([], [Definition(call) for call in calls]))
        before = (row[0], *(one.value() for one in literals))
        if back and row not in rows:
            continue
        (rows.remove if back else rows.append)(row)
        for one in literals:
            one.change(row, back)
        after = (row[0], *(one.value() for one in literals))
        if not back and len(rows) == 1:
            out.append(("+I", *after))
        elif not rows:
            out.append(("-D", *before))
        elif before != after or any(isinstance(one, list) and None in one for one in after):
            out += [("-U", *before), ("+U", *after)]
    return out


def at(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)


def inputs(numbers: list[float | None]) -> st.SearchStrategy[tuple[Any, ...]]:
    def maybe(*values: Any) -> st.SearchStrategy[Any]:
        return st.sampled_from([None, *values])

    return st.tuples(
        maybe("a", "b", ""), maybe(-7, 0, 5, MOST // 64), st.sampled_from(numbers), maybe("x", "y", "é", "zz"),
        maybe(Decimal("1.10"), Decimal("-2.25")), maybe(0, 1, 86_400_000), maybe(datetime(2026, 1, 1).date()),
        maybe(True, False),
    )  # fmt: skip


ANY_FLOATS: list[float | None] = [None, 0.1, 0.2, 0.7, 1e16, -3.0, 1e-9]
EXACT_FLOATS: list[float | None] = [None, 0.5, 0.25, 8.0, -3.0]


def equals_the_reference(node: GroupAggregate, events: list[Event], cut: int) -> None:
    whole = feed(GroupAggregateOperator, node, (WIDE,), events)
    assert whole.rows == literal_changes(CALLS, events)
    pieces = feed(GroupAggregateOperator, node, (WIDE,), events, cut, snapshots=cut > 1)
    assert (pieces.rows, pieces.seqs) == (whole.rows, whole.seqs)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(inputs(ANY_FLOATS), max_size=24), cut=st.integers(1, 9))
def test_law_1_groups_of_inserts_equal_the_reference_for_every_cut(rows: list[tuple[Any, ...]], cut: int) -> None:
    equals_the_reference(group(scan("t", WIDE), CALLS, keys=(W["k"],)), [Event(0, row) for row in rows], cut)


@st.composite
def changelogs(draw: st.DrawFn) -> list[Event]:
    """Rows come, change and go; sometimes one goes that never came, of a key without rows."""
    events: list[Event] = []
    live: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(0, 24))):
        step = draw(st.sampled_from(["come", "come", "go", "change", "stray"]))
        row = draw(inputs(EXACT_FLOATS))
        if step == "come" or (not live and step != "stray"):
            live.append(row)
            events.append(Event(0, row))
        elif step == "stray":
            if all(row[0] != one[0] for one in live):
                events.append(Event(0, row, D))
        else:
            old = live.pop(draw(st.integers(0, len(live) - 1)))
            events.append(Event(0, old, D if step == "go" else UB))
            if step == "change":
                live.append(row)
                events.append(Event(0, row, UA))
    return events


@settings(max_examples=40, deadline=None)
@given(events=changelogs(), cut=st.integers(1, 9))
def test_law_1_groups_of_a_changelog_equal_the_reference_for_every_cut(events: list[Event], cut: int) -> None:
    equals_the_reference(group(changing(WIDE), CALLS, keys=(W["k"],)), events, cut)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(ANY_FLOATS)), max_size=40))
def test_long_and_short_segments_give_the_same_bits(rows: list[tuple[str, float | None]]) -> None:
    schema = (Field("k", STRING), Field("d", DOUBLE))
    columns = Column("k", STRING), Column("d", DOUBLE)
    calls = tuple(aggregate(name, columns[1]) for name in ("SUM", "AVG", "MIN", "MAX"))
    node = group(scan("t", schema), calls, keys=columns[:1])
    events = [Event(0, row) for row in rows]
    found = []
    for limit in (0, 2, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout, "_SIDE_BY_SIDE", limit)
            found.append(feed(GroupAggregateOperator, node, (schema,), events).shown)
    assert found[0] == found[1] == found[2]


# --- user aggregates, limits -----------------------------------------------------------------------------------------


class Product:
    """The product of a column."""

    def __init__(self) -> None:
        self.value = 1

    def add(self, values: Any) -> None:
        for one in values.to_pylist():
            self.value *= one if one is not None else 1

    def retract(self, values: Any) -> None:
        for one in values.to_pylist():
            self.value //= one if one is not None else 1

    def result(self) -> int:
        return self.value

    def state(self) -> int:
        return self.value

    def restore(self, state: int) -> None:
        self.value = state


class Forward(Product):
    """It cannot take back."""

    retract = None  # type: ignore[assignment]


def user(body: type) -> AggregateCall:
    function = UserFunction("product", "AGGREGATE", (INT,), BIGINT, (), body)
    return AggregateCall("product", (X,), BIGINT, user=function)


def test_an_aggregate_of_the_user() -> None:
    fed = run(group(changing(), (user(Product),)), CHANGES)
    assert [row[2] for row in fed.rows if row[0] != "-U"] == [5, 35, 175, 35, 1, 5, 1, 5, 7]


def test_an_aggregate_of_the_user_that_cannot_take_back_says_so() -> None:
    with pytest.raises(SqlError, match="product cannot take rows back"):
        feed(GroupAggregateOperator, group(changing(), (user(Forward),)), (ROWS,), CHANGES)


def test_the_largest_keys_are_those_with_most_values() -> None:
    rows = [("many", i, None, str(i), None) for i in range(500)] + [("few", 1, None, "x", None)]
    calls = (aggregate("COUNT", X, distinct=True), aggregate("ARRAY_AGG", S))
    fed = feed(GroupAggregateOperator, group(scan("t", ROWS), calls), (ROWS,), [Event(0, row) for row in rows])
    (first, most), (second, least) = fed.operator.largest(2)
    assert (first, second) == ("many", "few")
    assert most > 100 * 64 > least
    assert fed.operator.held() > most


def test_a_batch_of_inserts_that_are_marked_as_such_is_fast_too() -> None:
    node = group(scan("t", ROWS), (aggregate("MIN", X),))
    operator = GroupAggregateOperator(node, Context())
    frame = pl.DataFrame([A, B], schema=dict(operator_schema()), orient="row")
    marked = Batch(frame, np.arange(2), np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int8))
    assert operator.process((marked,)).frame.rows() == [("a", 5)]


def operator_schema() -> list[tuple[str, pl.DataType]]:
    from qanat.sql.embedded.flow import polars_type

    return [(one.name, polars_type(one.type)) for one in ROWS]
