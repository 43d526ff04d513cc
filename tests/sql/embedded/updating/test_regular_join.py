"""Regular joins: changes as Flink gives them, and equal to a literal reference for every cut."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.model.types import BIGINT, BOOLEAN, STRING, array
from qanat.sql.embedded.updating.regular_join import RegularJoinOperator
from qanat.sql.expressions import Call, Column
from qanat.sql.plan import Field, RegularJoin
from tests.sql.embedded.feeding import UA, UB, D, Event, Fed, I, every_cut, feed, scan

LEFT = (Field("k", STRING), Field("v", BIGINT))
RIGHT = (Field("k0", STRING), Field("w", BIGINT))
SMALLER = Call("<", (Column("v", BIGINT), Column("w", BIGINT)), BOOLEAN)
KINDS = ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")


def join(kind: str, residual: Any = None, ttl: int | None = None) -> RegularJoin:
    half = kind in ("SEMI", "ANTI")
    return RegularJoin(
        scan("l", LEFT), scan("r", RIGHT), (Column("k", STRING),), (Column("k0", STRING),), residual,
        LEFT if half else LEFT + RIGHT, kind, LEFT + RIGHT if half else (), ttl, ttl,
    )  # fmt: skip


def run(node: RegularJoin, *events: Event) -> Fed:
    return every_cut(RegularJoinOperator, node, (LEFT, RIGHT), events)


def left(k: str | None, v: int | None, kind: int = I, at: int = 0) -> Event:
    return Event(0, (k, v), kind, at=at)


def right(k: str | None, w: int | None, kind: int = I, at: int = 0) -> Event:
    return Event(1, (k, w), kind, at=at)


# --- the changes that Flink 2.3 gives --------------------------------------------------------------------------------
# Seen there with the left side first: kinds and rows. Not taken from it: partners come in order of arrival here (there
# in no certain order), and -U rows that are not each followed by their +U are -D and +I.

OLD = [left("a", 1), left("a", 2), left(None, 3), left("b", 4), left("a", 1)]
PADDED = ["+I a 1 NULL NULL", "+I a 2 NULL NULL", "+I NULL 3 NULL NULL", "+I b 4 NULL NULL", "+I a 1 NULL NULL"]


def test_a_left_join_takes_the_row_without_partner_back() -> None:
    fed = run(join("LEFT"), *OLD, right("a", 10), right("a", 11), right(None, 12), right("c", 13))
    assert fed.shown == [
        *PADDED,
        "-D a 1 NULL NULL", "+I a 1 a 10", "-D a 1 NULL NULL", "+I a 1 a 10", "-D a 2 NULL NULL", "+I a 2 a 10",
        "+I a 1 a 11", "+I a 1 a 11", "+I a 2 a 11",
    ]  # fmt: skip


def test_a_full_join_with_a_residual_keeps_what_it_excludes_as_rows_without_partner() -> None:
    node = join("FULL", Call("<>", (Column("w", BIGINT), Column("v", BIGINT)), BOOLEAN))
    fed = run(node, left("a", 11), right("a", 11), right(None, 12), right("a", 10))
    assert fed.shown == [
        "+I a 11 NULL NULL", "+I NULL NULL a 11", "+I NULL NULL NULL 12", "-D a 11 NULL NULL", "+I a 11 a 10",
    ]  # fmt: skip


def test_an_update_of_one_side_updates_the_rows_of_an_inner_join() -> None:
    fed = run(join("INNER"), *OLD, right("a", 1), right("a", 1, UB), right("a", 2, UA))
    assert fed.shown == [
        "+I a 1 a 1", "+I a 2 a 1", "+I a 1 a 1",
        "-U a 1 a 1", "+U a 1 a 2", "-U a 1 a 1", "+U a 1 a 2", "-U a 2 a 1", "+U a 2 a 2",
    ]  # fmt: skip


def test_an_update_that_the_residual_cuts_off_deletes() -> None:
    events = (left("a", 1), right("a", 2), right("a", 2, UB), right("a", 0, UA))
    assert run(join("INNER", SMALLER), *events).shown == ["+I a 1 a 2", "-D a 1 a 2"]
    assert run(join("SEMI", SMALLER), *events).shown == ["+I a 1", "-D a 1"]
    assert run(join("ANTI", SMALLER), *events).shown == ["+I a 1", "-D a 1", "+I a 1"]


def test_an_update_of_the_right_side_of_a_left_join_deletes_and_inserts() -> None:
    fed = run(join("LEFT"), left("a", 1), right("a", 1), right("a", 1, UB), right("a", 2, UA))
    assert fed.shown == [
        "+I a 1 NULL NULL", "-D a 1 NULL NULL", "+I a 1 a 1",
        "-D a 1 a 1", "+I a 1 NULL NULL", "-D a 1 NULL NULL", "+I a 1 a 2",
    ]  # fmt: skip


def test_semi_and_anti_joins_give_left_rows_only() -> None:
    events = (*OLD, right("a", 1), right("a", 2), right("a", 1, D), right("a", 2, D), right(None, 5))
    assert run(join("SEMI"), *events).shown == [
        "+I a 1", "+I a 1", "+I a 2", "-D a 1", "-D a 1", "-D a 2",
    ]  # fmt: skip
    assert run(join("ANTI"), *events).shown == [
        "+I a 1", "+I a 2", "+I NULL 3", "+I b 4", "+I a 1",
        "-D a 1", "-D a 1", "-D a 2", "+I a 1", "+I a 1", "+I a 2",
    ]  # fmt: skip


def test_rows_of_nested_types_and_not_a_number_are_taken_back() -> None:
    wide = (*LEFT, Field("xs", array(BIGINT)))
    node = RegularJoin(
        scan("l", wide), scan("r", RIGHT), (Column("k", STRING),), (Column("k0", STRING),), None, wide + RIGHT
    )
    events = [Event(0, ("a", 1, [1, None])), Event(0, ("a", 1, [1])), right("a", 1), Event(0, ("a", 1, [1, None]), D)]
    fed = every_cut(RegularJoinOperator, node, (wide, RIGHT), events)
    assert fed.rows[-1] == ("-D", "a", 1, [1, None], "a", 1)
    again = every_cut(RegularJoinOperator, node, (wide, RIGHT), [*events, right("a", 2)])
    assert again.rows[-1] == ("+I", "a", 1, [1], "a", 2)


# --- TTL ------------------------------------------------------------------------------------------------------------


def test_a_row_that_nobody_touched_for_its_ttl_is_forgotten() -> None:
    node = join("INNER", ttl=100)
    fed = run(
        node, left("a", 1, at=1000), left("b", 1, at=1050), left("a", 2, at=1090),
        right("a", 7, at=1100), right("b", 7, at=1149), left("a", 3, at=1199), left("a", 4, at=1200),
    )  # fmt: skip
    assert fed.shown == ["+I a 2 a 7", "+I b 1 b 7", "+I a 3 a 7"]


def test_an_equal_row_or_a_match_of_the_outer_side_keeps_a_row_alive() -> None:
    fed = run(join("INNER", ttl=100), left("a", 1, at=1000), left("a", 1, at=1060), right("a", 7, at=1120))
    assert fed.shown == ["+I a 1 a 7"] * 2
    fed = run(join("LEFT", ttl=100), left("a", 1, at=1000), right("a", 7, at=1060), right("a", 8, at=1120))
    assert fed.shown[-1] == "+I a 1 a 8"
    fed = run(join("INNER", ttl=100), left("a", 1, at=1000), right("a", 7, at=1060), right("a", 8, at=1120))
    assert fed.shown == ["+I a 1 a 7"]


def test_without_a_time_of_arrival_nothing_expires() -> None:
    assert run(join("INNER", ttl=1), left("a", 1), right("a", 7)).shown == ["+I a 1 a 7"]


# --- laws -----------------------------------------------------------------------------------------------------------


def reference(kind: str, residual: bool, rows: list[tuple[int, tuple[Any, Any], int]]) -> Counter[tuple[Any, ...]]:
    """The result as SQL defines it, of what is left of both sides in the end."""
    sides = (Counter[Any](), Counter[Any]())
    for side, row, change in rows:
        sides[side][row] += change
    ones, twos = ([row for row, n in side.items() for _ in range(n)] for side in sides)

    def fits(one: Any, two: Any) -> bool:
        equal = one[0] is not None and one[0] == two[0]
        return equal and (not residual or (one[1] is not None and two[1] is not None and one[1] < two[1]))

    found: Counter[tuple[Any, ...]] = Counter()
    for one in ones:
        partners = [two for two in twos if fits(one, two)]
        if kind in ("SEMI", "ANTI"):
            found[one] += bool(partners) is (kind == "SEMI")
            continue
        for two in partners:
            found[one + two] += 1
        if not partners and kind in ("LEFT", "FULL"):
            found[(*one, None, None)] += 1
    for two in twos:
        if kind in ("RIGHT", "FULL") and not any(fits(one, two) for one in ones):
            found[(None, None, *two)] += 1
    return +found


@st.composite
def histories(draw: st.DrawFn, changes: bool = True) -> list[Event]:
    """Rows come, go and change on both sides; only what is there goes."""
    there: tuple[list[Any], list[Any]] = ([], [])
    events: list[Event] = []
    row = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0, 1, 2, None]))
    for _ in range(draw(st.integers(0, 25))):
        side = draw(st.integers(0, 1))
        act = draw(st.sampled_from(["+", "+", "-", "u"])) if changes and there[side] else "+"
        new = draw(row)
        if act != "+":
            old = there[side].pop(draw(st.integers(0, len(there[side]) - 1)))
            events.append(Event(side, old, UB if act == "u" else D))
        if act != "-":
            there[side].append(new)
            events.append(Event(side, new, UA if act == "u" else I))
    return events


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(events=histories(), cut=st.integers(1, 9))
def test_law_1_the_changes_add_up_to_the_join_for_every_cut(
    kind: str, residual: bool, events: list[Event], cut: int
) -> None:
    node = join(kind, SMALLER if residual else None)
    whole = feed(RegularJoinOperator, node, (LEFT, RIGHT), events)
    pieces = feed(RegularJoinOperator, node, (LEFT, RIGHT), events, cut, snapshots=True)
    assert (pieces.rows, pieces.seqs) == (whole.rows, whole.seqs)
    result: Counter[tuple[Any, ...]] = Counter()
    for change, *row in whole.rows:
        result[tuple(row)] += 1 if change[0] == "+" else -1
        assert result[tuple(row)] >= 0  # nothing is taken back that is not there
    rows = [(e.side, e.row, 1 if e.kind in (I, UA) else -1) for e in events if e.row is not None]
    assert +result == reference(kind, residual, rows)


@settings(max_examples=60, deadline=None)
@given(events=histories(changes=False), cut=st.integers(1, 9), residual=st.booleans())
def test_law_1_inserts_meet_all_earlier_rows_in_order(events: list[Event], cut: int, residual: bool) -> None:
    node = join("INNER", SMALLER if residual else None)
    want: list[tuple[Any, ...]] = []
    for place, event in enumerate(events):
        for other in events[:place]:
            if other.side != event.side and event.row and other.row and event.row[0] == other.row[0] is not None:
                one, two = (event.row, other.row) if event.side == 0 else (other.row, event.row)
                if not residual or (None not in (one[1], two[1]) and one[1] < two[1]):
                    want.append(("+I", *one, *two))
    for size, snapshots in ((10_000, False), (cut, True)):
        assert feed(RegularJoinOperator, node, (LEFT, RIGHT), events, size, snapshots=snapshots).rows == want


def test_a_join_without_keys_pairs_everything() -> None:
    node = RegularJoin(scan("l", LEFT), scan("r", RIGHT), (), (), SMALLER, LEFT + RIGHT)
    fed = run(node, left("a", 1), right("b", 2), left(None, 0), right("c", 1))
    assert fed.shown == ["+I a 1 b 2", "+I NULL 0 b 2", "+I NULL 0 c 1"]


# --- state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [I, D])
def test_state_says_how_much_it_is_and_which_keys_hold_most(last: int) -> None:
    events = [*(left("many", i) for i in range(50)), left("few", 1), right("few", 2), left("few", 1, last)]
    operator = feed(RegularJoinOperator, join("INNER"), (LEFT, RIGHT), events).operator
    assert operator.held() > 1000
    (name, size), *rest = operator.largest(2)
    assert (name, [key for key, _ in rest]) == ("many", ["few"])
    assert 0 < rest[0][1] < size <= operator.held()


def test_state_is_freed_with_its_rows() -> None:
    events = [event for i in range(6000) for event in (left(f"k{i}", i), left(f"k{i}", i, D))]
    events += [right("k1", 1), left("k1", 5)]
    fed = feed(RegularJoinOperator, join("INNER"), (LEFT, RIGHT), events, 1000)
    assert fed.shown == ["+I k1 5 k1 1"]
    assert fed.operator.held() < 2_000_000


def test_state_is_freed_after_its_ttl() -> None:
    events = [left(f"k{i}", i, at=1000 + i) for i in range(12_000)]
    operator = feed(RegularJoinOperator, join("INNER", ttl=100), (LEFT, RIGHT), events, 1000).operator
    assert operator.held() < 2_500_000
