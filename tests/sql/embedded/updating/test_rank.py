"""Top-N: changes as Flink 2.3 gives them, and equal to a literal reference for every cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.model.types import BIGINT, DOUBLE, STRING, Type
from qanat.sql.embedded.updating import rank, top_arrays
from qanat.sql.embedded.updating.rank import RankOperator
from qanat.sql.embedded.updating.top_arrays import TopArrays
from qanat.sql.embedded.updating.top_lists import TopLists
from qanat.sql.expressions import Column
from qanat.sql.plan import AggregateCall, Field, GroupAggregate, Ordering, Rank, Scan, Table
from tests.sql.embedded.feeding import UA, UB, D, Event, Fed, I, every_cut, feed

NUMBER = Field("rn", BIGINT)
DOWN = Ordering("v", descending=True, nulls_last=True)
UP = Ordering("v")


def rows(value: Type = BIGINT) -> tuple[Field, ...]:
    return Field("k", STRING), Field("v", value), Field("id", BIGINT)


def node(
    first: int, last: int, order: Ordering = DOWN, *, number: bool = True, changes: bool = False,
    value: Type = BIGINT, ttl: int | None = None,
) -> Rank:  # fmt: skip
    schema = rows(value)
    options = {"format": "debezium-json"} if changes else {}
    below = Scan(Table("t", schema, schema, connector="filesystem", options=options), schema)
    made = (*schema, NUMBER) if number else schema
    return Rank(below, ("k",), (order,), first, last, "rn" if number else None, made, ttl)


def run(plan: Rank, *given_rows: tuple[Any, ...]) -> list[str]:
    """Rows (k, v, id) with an optional kind."""
    events = [Event(0, row[:3], row[3] if len(row) > 3 else I) for row in given_rows]
    return every_cut(RankOperator, plan, (plan.input.schema,), events).shown


# --- as seen on Flink 2.3 --------------------------------------------------------------------------------------------

SEEN = [
    ("a", 5, 1), ("a", 7, 2), ("a", 6, 3), ("a", 6, 4), ("b", None, 5), ("b", 1, 6), ("b", 1, 7), ("a", 9, 8),
    ("b", None, 9), ("b", 2, 10), ("b", 3, 11), ("a", 7, 12),
]  # fmt: skip


def test_with_a_number_every_rank_that_changes_says_so() -> None:
    assert run(node(1, 2), *SEEN) == [
        "+I a 5 1 1", "-U a 5 1 1", "+U a 7 2 1", "+I a 5 1 2", "-U a 5 1 2", "+U a 6 3 2",
        "+I b NULL 5 1", "-U b NULL 5 1", "+U b 1 6 1", "+I b NULL 5 2", "-U b NULL 5 2", "+U b 1 7 2",
        "-U a 7 2 1", "+U a 9 8 1", "-U a 6 3 2", "+U a 7 2 2",
        "-U b 1 6 1", "+U b 2 10 1", "-U b 1 7 2", "+U b 1 6 2", "-U b 2 10 1", "+U b 3 11 1",
        "-U b 1 6 2", "+U b 2 10 2",
    ]  # fmt: skip


def test_without_a_number_rows_enter_and_leave() -> None:
    assert run(node(1, 2, number=False), *SEEN) == [
        "+I a 5 1", "+I a 7 2", "-D a 5 1", "+I a 6 3", "+I b NULL 5", "+I b 1 6", "-D b NULL 5", "+I b 1 7",
        "-D a 6 3", "+I a 9 8", "-D b 1 7", "+I b 2 10", "-D b 1 6", "+I b 3 11",
    ]  # fmt: skip


SECOND_AND_THIRD = [
    "+I a 7 2 2", "-U a 7 2 2", "+U a 6 3 2", "+I a 7 2 3", "-U a 7 2 3", "+U a 6 4 3", "+I b 1 6 2", "+I b 1 7 3",
    "-U b 1 6 2", "+U b NULL 9 2", "-U b 1 7 3", "+U b 1 6 3",
]  # fmt: skip


def test_ranks_that_do_not_begin_with_1_say_changes_with_and_without_number() -> None:
    assert run(node(2, 3, UP), *SEEN) == SECOND_AND_THIRD
    assert run(node(2, 3, UP, number=False), *SEEN) == [row.rsplit(" ", 1)[0] for row in SECOND_AND_THIRD]


def test_the_first_row_alone_is_updated() -> None:
    assert run(node(1, 1, number=False), *SEEN) == [
        "+I a 5 1", "-U a 5 1", "+U a 7 2", "+I b NULL 5", "-U b NULL 5", "+U b 1 6", "-U a 7 2", "+U a 9 8",
        "-U b 1 6", "+U b 2 10", "-U b 2 10", "+U b 3 11",
    ]  # fmt: skip


TAKEN_BACK = [
    ("a", 5, 1), ("a", 7, 2), ("a", 6, 3), ("a", 6, 4), ("a", 7, 2, D), ("a", 5, 1, D), ("a", 9, 1),
]  # fmt: skip


def test_a_changelog_moves_rows_up_and_down() -> None:
    assert run(node(1, 2, changes=True), *TAKEN_BACK) == [
        "+I a 5 1 1", "-U a 5 1 1", "+U a 7 2 1", "+I a 5 1 2", "-U a 5 1 2", "+U a 6 3 2",
        "-U a 7 2 1", "+U a 6 3 1", "-U a 6 3 2", "+U a 6 4 2", "-U a 6 3 1", "+U a 9 1 1", "-U a 6 4 2", "+U a 6 3 2",
    ]  # fmt: skip
    assert run(node(1, 2, changes=True, number=False), *TAKEN_BACK) == [
        "+I a 5 1", "+I a 7 2", "-D a 5 1", "+I a 6 3", "-D a 7 2", "+I a 6 4", "-D a 6 4", "+I a 9 1",
    ]  # fmt: skip
    assert run(node(1, 1, changes=True), *TAKEN_BACK) == [
        "+I a 5 1 1", "-D a 5 1 1", "+I a 7 2 1", "-D a 7 2 1", "+I a 6 3 1", "-D a 6 3 1", "+I a 9 1 1",
    ]  # fmt: skip


def test_a_list_that_shrinks_deletes_its_last_rank() -> None:
    given_rows = [
        ("a", 9, 1),
        ("a", 6, 4),
        ("a", 6, 33),
        ("a", 9, 1, D),
        ("a", 6, 4, D),
        ("a", 6, 99, D),
        ("a", 6, 33, D),
    ]
    assert run(node(1, 2, changes=True), *given_rows)[2:] == [
        "-U a 9 1 1", "+U a 6 4 1", "-U a 6 4 2", "+U a 6 33 2", "-U a 6 4 1", "+U a 6 33 1", "-D a 6 33 2",
        "-D a 6 33 1",
    ]  # fmt: skip


def counted(first: int, last: int, *, number: bool) -> Rank:
    """Over SELECT k, id, COUNT(*) AS c ... GROUP BY k, id: an update can only move its row up."""
    source = (Field("k", STRING), Field("id", BIGINT))
    schema = (*source, Field("c", BIGINT))
    below = Scan(Table("t", source, source, connector="filesystem"), source)
    keys = tuple(Column(one.name, one.type) for one in source)
    grouped = GroupAggregate(below, keys, (AggregateCall("COUNT", (), BIGINT),), schema)
    order = (Ordering("c", descending=True, nulls_last=True),)
    return Rank(grouped, ("k",), order, first, last, "rn" if number else None, (*schema, NUMBER)[: 3 + number])


COUNTS = [
    ("a", 1, 1), ("a", 2, 1), ("a", 3, 1), ("a", 3, 1, UB), ("a", 3, 2, UA), ("a", 2, 1, UB), ("a", 2, 2, UA),
    ("a", 2, 2, UB), ("a", 2, 3, UA), ("a", 1, 1, UB), ("a", 1, 2, UA), ("a", 1, 2, UB), ("a", 1, 3, UA),
]  # fmt: skip


def test_rows_that_only_rise_change_the_ranks_they_pass() -> None:
    events = [Event(0, row[:3], row[3] if len(row) > 3 else I) for row in COUNTS]
    with_number = counted(1, 2, number=True)
    assert every_cut(RankOperator, with_number, (with_number.input.schema,), events).shown == [
        "+I a 1 1 1", "+I a 2 1 2", "-U a 1 1 1", "+U a 3 2 1", "-U a 2 1 2", "+U a 1 1 2", "-U a 1 1 2", "+U a 2 2 2",
        # Flink says both -U before both +U; a -U stands before its own +U here
        "-U a 3 2 1", "+U a 2 3 1", "-U a 2 2 2", "+U a 3 2 2", "-U a 3 2 2", "+U a 1 3 2",
    ]  # fmt: skip
    without = counted(1, 2, number=False)
    assert every_cut(RankOperator, without, (without.input.schema,), events).shown == [
        "+I a 1 1", "+I a 2 1", "-D a 2 1", "+I a 3 2", "-D a 1 1", "+I a 2 2", "-U a 2 2", "+U a 2 3", "-D a 3 2",
        "+I a 1 3",
    ]  # fmt: skip
    single = counted(1, 1, number=False)
    assert every_cut(RankOperator, single, (single.input.schema,), events).shown == [
        "+I a 1 1", "-U a 1 1", "+U a 3 2", "-U a 3 2", "+U a 2 3",
    ]  # fmt: skip


# --- against a literal reference -------------------------------------------------------------------------------------


def better(plan: Rank, mine: Any, theirs: Any) -> bool:
    """Whether a row with value `mine` stands before one with `theirs`."""
    order = plan.order[0]
    if mine is None or theirs is None:
        return (mine is None) != (theirs is None) and (theirs is None) == order.nulls_last
    if mine != mine or theirs != theirs:
        return (mine == mine and theirs != theirs) != order.descending and (mine != mine) != (theirs != theirs)
    return mine > theirs if order.descending else mine < theirs


def expected(plan: Rank, events: list[Event]) -> list[tuple[Any, ...]]:
    """The whole list before and after each row, rank by rank."""
    lists: dict[Any, list[tuple[Any, ...]]] = {}
    touched: dict[Any, int] = {}
    out: list[tuple[Any, ...]] = []
    for event in events:
        assert event.row is not None
        key = event.row[0]
        if plan.ttl is not None and 0 < touched.get(key, 0) <= event.at - plan.ttl:
            lists.pop(key, None)
            touched.pop(key)
        old = lists.get(key, [])
        new = list(old)
        if event.kind in (I, UA):
            new.insert(sum(not better(plan, event.row[1], one[1]) for one in old), event.row)
        elif event.row in old:
            new.remove(event.row)
        lists[key] = new
        if new[: plan.last] != old[: plan.last] or not old:
            touched[key] = event.at
        out += changes(plan, old, new, event.kind in (I, UA))
    return out


def changes(plan: Rank, old: list[Any], new: list[Any], added: bool) -> list[tuple[Any, ...]]:
    was, now = old[: plan.last], new[: plan.last]
    number = plan.number is not None
    single = plan.last == 1
    updating = plan.input.table.options.get("format") == "debezium-json"  # type: ignore[union-attr]
    out: list[tuple[Any, ...]] = []
    if (not number or single) and plan.first == 1 and not (single and not updating):
        left = [one for one in was if one not in now]
        came = [one for one in now if one not in was]
        ones = (1,) if number else ()
        return [("-D", *one, *ones) for one in left] + [("+I", *one, *ones) for one in came]
    for rank_ in range(plan.first, plan.last + 1):
        tail = (rank_,) if number else ()
        before = was[rank_ - 1] if rank_ <= len(was) else None
        after = now[rank_ - 1] if rank_ <= len(now) else None
        if before is None and after is not None:
            out.append(("+I", *after, *tail))
        elif before is not None and after is None:
            out.append(("-D", *before, *tail))
        elif before is not None and after is not None and before != after:
            out += [("-U", *before, *tail), ("+U", *after, *tail)]
    return out


@st.composite
def streams(draw: st.DrawFn, *, texts: bool = False, changes_: bool = False) -> list[Event]:
    values = [None, "", "a", "b", "é"] if texts else [None, 1, 2, 3, 4, -(2**63)]
    events: list[Event] = []
    live: list[tuple[Any, ...]] = []
    at = 1000
    for number in range(draw(st.integers(0, 18))):
        at += draw(st.sampled_from([0, 0, 1, 11]))
        if changes_ and live and draw(st.booleans()):
            events.append(Event(0, live.pop(draw(st.integers(0, len(live) - 1))), D, at=at))
            continue
        row = (draw(st.sampled_from(["a", "a", "b", None])), draw(st.sampled_from(values)), number)
        live.append(row)
        events.append(Event(0, row, at=at))
    return events


PLANS = st.sampled_from([(1, 1), (1, 2), (1, 4), (2, 3), (2, 2)])
ORDERS = st.sampled_from([DOWN, UP, Ordering("v", nulls_last=True), Ordering("v", descending=True)])


def runs(plan: Rank, events: list[Event]) -> Fed:
    return every_cut(RankOperator, plan, (plan.input.schema,), events)


@settings(max_examples=25, deadline=None)
@given(events=streams(), ranks=PLANS, order=ORDERS, number=st.booleans(), few=st.sampled_from([0, 2, 24]))
def test_law_1_inserts_equal_the_reference(
    events: list[Event], ranks: tuple[int, int], order: Ordering, number: bool, few: int
) -> None:
    plan = node(*ranks, order, number=number, ttl=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_arrays, "_FEW", few)
        fed = runs(plan, events)
    assert isinstance(fed.operator is None or feed(RankOperator, plan, (rows(),), []).operator._top, TopArrays)
    assert fed.rows == expected(plan, events)


@settings(max_examples=20, deadline=None)
@given(events=streams(texts=True), ranks=PLANS, order=ORDERS, number=st.booleans())
def test_law_1_inserts_in_order_of_texts_equal_the_reference(
    events: list[Event], ranks: tuple[int, int], order: Ordering, number: bool
) -> None:
    plan = node(*ranks, order, number=number, value=STRING, ttl=10)
    fed = runs(plan, events)
    assert isinstance(fed.operator._top, TopLists)
    assert fed.rows == expected(plan, events)


@settings(max_examples=25, deadline=None)
@given(events=streams(changes_=True), ranks=PLANS, order=ORDERS, number=st.booleans())
def test_law_1_changelogs_equal_the_reference(
    events: list[Event], ranks: tuple[int, int], order: Ordering, number: bool
) -> None:
    plan = node(*ranks, order, number=number, changes=True)
    assert runs(plan, events).rows == expected(plan, events)


@pytest.mark.parametrize("changes_", [False, True])
def test_nan_is_above_everything_and_equals_itself(changes_: bool) -> None:
    nan = float("nan")
    plan = node(1, 2, changes=changes_, value=DOUBLE, number=False)
    given_rows: list[tuple[Any, ...]] = [("a", 1.0, 1), ("a", nan, 2), ("a", -0.0, 3), ("a", float("inf"), 4)]
    want = ["+I a 1.0 1", "+I a nan 2", "-D a 1.0 1", "+I a inf 4"]
    if changes_:
        given_rows.append(("a", nan, 2, D))
        want += ["-D a nan 2", "+I a 1.0 1"]
    events = [Event(0, row[:3], row[3] if len(row) > 3 else I) for row in given_rows]
    assert feed(RankOperator, plan, (plan.input.schema,), events, 2, snapshots=True).shown == want


def test_rows_that_left_are_dropped_from_state() -> None:
    events = [Event(0, (str(number % 7), number, number)) for number in range(30_000)]
    for value in (BIGINT, STRING):
        plan = node(1, 2, number=False, value=value)
        some = [Event(0, (event.row[0], str(event.row[1]).zfill(6), 0)) for event in events if event.row]
        operator = feed(RankOperator, plan, (plan.input.schema,), events if value is BIGINT else some, 1000).operator
        assert operator._rows.height <= 2 * rank._SPARE + 2000
        assert operator.largest(2)[0][1] > 0


def test_without_partition_all_rows_are_one_list() -> None:
    schema = rows()
    below = Scan(Table("t", schema, schema), schema)
    plan = Rank(below, (), (DOWN,), 1, 2, None, schema)
    assert run(plan, ("a", 1, 1), ("b", 2, 2), ("c", 3, 3)) == ["+I a 1 1", "+I b 2 2", "-D a 1 1", "+I c 3 3"]
