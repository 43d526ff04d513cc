"""Upserts <-> changelogs: equal to literal references for every cut, with Flink's rules."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.model.types import BIGINT, DOUBLE, STRING
from qanat.sql.embedded.updating.upserts import MaterializeOperator, NormalizeOperator
from qanat.sql.plan import Field, Materialize, Node, Normalize
from tests.sql.embedded.feeding import UA, UB, D, Event, Fed, I, every_cut, feed, scan

ROWS = (Field("k", STRING), Field("v", BIGINT), Field("d", DOUBLE))
IS_BACK = (UB, D)


def normalize(ttl: int | None = None) -> Normalize:
    return Normalize(scan("t", ROWS), ("k",), ROWS, ttl)


def materialize(key: str, source: Node | None = None, ttl: int | None = None) -> Materialize:
    return Materialize(source or scan("t", ROWS), (key,), ROWS, ttl)


def upserts(*rows: tuple[str | None, int | None, int]) -> list[Event]:
    """(key, value, kind)."""
    return [Event(0, (key, value, None), kind) for key, value, kind in rows]


def shown(fed: Fed) -> list[str]:
    """Kind, key, value."""
    return [" ".join("NULL" if one is None else str(one) for one in row[:3]) for row in fed.rows]


# --- Normalize -------------------------------------------------------------------------------------------------------


def test_upserts_become_a_changelog() -> None:
    events = upserts(
        ("a", 1, I), ("a", 2, UA), ("a", 2, I), ("b", 1, UA), ("a", None, D), ("a", None, D), ("c", None, D),
        ("a", 3, I), (None, 1, I), (None, 2, I), ("b", 9, UB), ("b", None, I),
    )  # fmt: skip
    assert shown(every_cut(NormalizeOperator, normalize(), (ROWS,), events)) == [
        "+I a 1", "-U a 1", "+U a 2", "+I b 1", "-D a 2", "+I a 3", "+I NULL 1", "-U NULL 1", "+U NULL 2", "-U b 1",
        "+U b NULL",
    ]  # fmt: skip


def test_a_tombstone_shows_the_whole_row_that_was() -> None:
    events = [Event(0, ("a", 1, 2.5)), Event(0, ("a", None, None), D)]
    assert every_cut(NormalizeOperator, normalize(), (ROWS,), events).shown == ["+I a 1 2.5", "-D a 1 2.5"]


def test_with_a_ttl_equal_rows_are_sent_and_keep_the_key_alive() -> None:
    ages = [(1, I, 0), (1, I, 9), (1, I, 18), (2, I, 28), (None, D, 38), (3, I, 40), (None, D, 49), (None, D, 50)]
    events = [Event(0, ("a", value, None), kind, at=1000 + age) for value, kind, age in ages]
    assert shown(every_cut(NormalizeOperator, normalize(ttl=10), (ROWS,), events)) == [
        "+I a 1", "-U a 1", "+U a 1", "-U a 1", "+U a 1", "+I a 2", "+I a 3", "-D a 3",
    ]  # fmt: skip


def test_floats_differ_by_their_bits_and_nan_from_itself() -> None:
    events = [Event(0, ("a", 1, value)) for value in (0.0, 0.0, -0.0, float("nan"), float("nan"), None, None)]
    found = feed(NormalizeOperator, normalize(), (ROWS,), events).shown
    assert found == [
        "+I a 1 0.0", "-U a 1 0.0", "+U a 1 -0.0", "-U a 1 -0.0", "+U a 1 nan", "-U a 1 nan", "+U a 1 nan",
        "-U a 1 nan", "+U a 1 NULL",
    ]  # fmt: skip
    assert feed(NormalizeOperator, normalize(), (ROWS,), events, 1, snapshots=True).shown == found


def literal_normalize(events: list[Event], ttl: int | None) -> list[tuple[Any, ...]]:
    """Row by row over a dict."""
    rows: dict[Any, tuple[Any, int]] = {}
    out: list[tuple[Any, ...]] = []
    for event in events:
        assert event.row is not None
        key = event.row[0]
        old, touched = rows.get(key, (None, 0))
        if ttl is not None and 0 < touched <= event.at - ttl:
            old = None
        if event.kind == UB:
            continue
        if event.kind == D:
            rows.pop(key, None)
            out += [("-D", *old)] if old is not None else []
            continue
        rows[key] = (event.row, event.at)
        if old is None:
            out.append(("+I", *event.row))
        elif old != event.row or ttl is not None:
            out += [("-U", *old), ("+U", *event.row)]
    return out


KEYS, VALUES = st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, 1, 2])


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(KEYS, VALUES, st.sampled_from([I, UA, UB, D]), st.sampled_from([0, 1, 4, 11])), max_size=30
    ),
    ttl=st.sampled_from([None, 5]),
    cut=st.integers(1, 9),
)
def test_law_1_normalize_equals_the_reference_for_every_cut(
    rows: list[tuple[Any, ...]], ttl: int | None, cut: int
) -> None:
    now = 1000
    events: list[Event] = []
    for key, value, kind, later in rows:
        # an update is one event, which has one time
        now += 0 if events and (events[-1].kind, kind) == (UB, UA) else later
        events.append(Event(0, (key, value, 0.5), kind, at=now))
    whole = feed(NormalizeOperator, normalize(ttl), (ROWS,), events)
    assert whole.rows == literal_normalize(events, ttl)
    pieces = feed(NormalizeOperator, normalize(ttl), (ROWS,), events, cut, snapshots=cut > 1)
    assert pieces.rows == whole.rows


def test_state_of_deleted_and_expired_keys_is_dropped() -> None:
    events = [Event(0, (str(i), i, 0.5), kind) for i in range(20_000) for kind in (I, D)]
    fed = feed(NormalizeOperator, normalize(), (ROWS,), events, 3000)
    assert len(fed.rows) == 40_000
    assert len(fed.operator._keys) < 10_000
    assert fed.operator.largest(3) == []
    events = [Event(0, (str(i), i, 0.5), at=1000 + i) for i in range(40_000)]
    fed = feed(NormalizeOperator, normalize(ttl=10), (ROWS,), events, 3000)
    assert len(fed.rows) == 40_000
    assert len(fed.operator._keys) < 15_000
    again = [Event(0, ("same", i, 0.5)) for i in range(40_000)]
    fed = feed(NormalizeOperator, normalize(), (ROWS,), again, 100)
    assert fed.operator._rows.height < 10_000
    ((name, size),) = fed.operator.largest(3)
    assert name == "same"
    assert size == fed.operator.held()


# --- Materialize -----------------------------------------------------------------------------------------------------


def test_the_last_row_that_was_added_is_shown() -> None:
    events = upserts(
        ("a", 1, I), ("a", 2, I), ("a", 3, I), ("a", 2, D), ("a", 3, D), ("a", 9, D), ("a", 1, D),
        ("b", 1, UA), ("b", 1, UA), ("b", 1, UB), ("b", 1, D), ("b", 1, D), ("c", None, I), ("c", None, D),
    )  # fmt: skip
    assert shown(every_cut(MaterializeOperator, materialize("k"), (ROWS,), events)) == [
        "+I a 1", "-U a 1", "+U a 2", "-U a 2", "+U a 3", "-U a 3", "+U a 1", "-D a 1",
        "+I b 1", "-U b 1", "+U b 1", "-D b 1", "+I c NULL", "-D c NULL",
    ]  # fmt: skip


def test_rows_are_known_by_the_key_of_the_input() -> None:
    source = Normalize(scan("t", ROWS), ("v",), ROWS)
    rows = [(("a", 1, 0.5), I), (("a", 2, 0.5), I), (("a", 1, 7.5), D), (("a", 2, 8.5), UA), (("a", 2, 9.5), D)]
    events = [Event(0, row, kind) for row, kind in rows]
    assert every_cut(MaterializeOperator, materialize("k", source), (ROWS,), events).shown == [
        "+I a 1 0.5", "-U a 1 0.5", "+U a 2 0.5", "-U a 2 0.5", "+U a 2 8.5", "-D a 2 8.5",
    ]  # fmt: skip


def test_rows_of_a_sink_s_key_are_forgotten_after_the_ttl() -> None:
    ages = [(1, I, 0), (2, I, 9), (2, D, 19), (3, I, 20), (4, I, 25), (3, D, 26), (4, D, 36), (5, I, 37)]
    events = [Event(0, ("a", value, None), kind, at=1000 + age) for value, kind, age in ages]
    assert shown(every_cut(MaterializeOperator, materialize("k", ttl=10), (ROWS,), events)) == [
        "+I a 1", "-U a 1", "+U a 2", "+I a 3", "-U a 3", "+U a 4", "+I a 5",
    ]  # fmt: skip


def literal_materialize(events: list[Event]) -> list[tuple[Any, ...]]:
    """Flink's SinkUpsertMaterializer, as a changelog."""
    lists: dict[Any, list[tuple[Any, ...]]] = {}
    out: list[tuple[Any, ...]] = []
    for event in events:
        assert event.row is not None
        rows = lists.setdefault(event.row[0], [])
        before = rows[-1] if rows else None
        at = None
        if event.kind in IS_BACK:
            if event.row not in rows:
                continue
            at = rows.index(event.row)
            rows.pop(at)
        else:
            rows.append(event.row)
        if at is not None and at < len(rows):
            continue
        if before is None:
            out.append(("+I", *event.row))
        elif not rows:
            out.append(("-D", *before))
        else:
            out += [("-U", *before), ("+U", *rows[-1])]
    return out


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(KEYS, VALUES, st.sampled_from([I, I, UA, UB, D])), max_size=30), cut=st.integers(1, 9))
def test_law_1_materialize_equals_the_reference_for_every_cut(rows: list[tuple[Any, ...]], cut: int) -> None:
    events = upserts(*rows)
    whole = feed(MaterializeOperator, materialize("k"), (ROWS,), events)
    assert whole.rows == literal_materialize(events)
    assert feed(MaterializeOperator, materialize("k"), (ROWS,), events, cut, snapshots=cut > 1).rows == whole.rows


def test_state_of_rows_that_are_gone_is_dropped() -> None:
    events = [Event(0, (str(i % 5), i, 0.5), kind) for i in range(20_000) for kind in (I, D)]
    fed = feed(MaterializeOperator, materialize("k"), (ROWS,), events, 1000)
    assert [row[0] for row in fed.rows] == ["+I", "-D"] * 20_000
    assert fed.operator._store.height < 12_000
    many = [Event(0, ("many", i, 0.5)) for i in range(300)] + [Event(0, ("few", 1, 0.5))]
    fed = feed(MaterializeOperator, materialize("k"), (ROWS,), many)
    (first, most), (second, least) = fed.operator.largest(2)
    assert (first, second) == ("many", "few")
    assert most == 300 * least
