"""Order, receipts, atomicity, fencing and group commit: what `submit` promises, over every driver."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.errors import LogError, UnknownStreamError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP_LTZ, array


def ids(log, place=("readings", 0), offset=0, max_rows=10**9):
    return [i for chunk in log.read(place, offset, max_rows) for i in chunk.rows.column("id").to_pylist()]


def test_receipts_say_where_rows_went(log, append):
    first = log.submit(Transaction([append(0, 3), append(100, 2, partition=1)])).result()
    second = log.submit(Transaction([append(3, 2), append(5, 1)])).result()
    assert first.offsets == (0, 0)
    assert second.offsets == (3, 5)
    assert 0 < first.seq < second.seq == log.seq()
    assert ids(log) == [0, 1, 2, 3, 4, 5]
    assert ids(log, ("readings", 1)) == [100, 101]


def test_an_empty_log_has_no_seq(log):
    assert log.seq() == 0
    assert log.read(("readings", 0), 0, 10) == []
    assert log.submit(Transaction(state={"k": b"v"})).result().offsets == ()
    assert log.seq() == 0


def test_an_append_without_rows_takes_no_offset(log, append):
    receipt = log.submit(Transaction([append(0, 2), append(0, 0), append(2, 1)])).result()
    assert receipt.offsets == (0, 2, 2)
    assert ids(log) == [0, 1, 2]


def test_one_bad_append_refuses_its_whole_transaction_and_no_other(log, append):
    bad = Append("readings", 0, pa.record_batch({"id": ["no number"]}), 1)
    futures = [
        log.submit(Transaction([append(0, 1)])),
        log.submit(Transaction([append(50, 1), bad], positions={"c": {("x", 0): 9}}, state={"k": b"v"})),
        log.submit(Transaction([append(60, 1), append(0, 1, stream="nowhere")])),
        log.submit(Transaction([append(70, 1, partition=2)])),
        log.submit(Transaction([append(1, 1)])),
    ]
    assert futures[0].result().offsets == (0,)
    assert "column id of readings" in str(futures[1].exception())
    assert isinstance(futures[2].exception(), UnknownStreamError)
    assert "2 partitions" in str(futures[3].exception())
    assert futures[4].result().offsets == (1,)
    assert ids(log) == [0, 1]
    assert log.positions("c") == {}
    assert log.state("k") is None


def test_a_value_that_cannot_be_stored_fails_alone(log, append):
    futures = [
        log.submit(Transaction([append(0, 1)])),
        log.submit(Transaction([append(9, 1, at=2**70)], state={"k": b"v"})),
        log.submit(Transaction([append(1, 1)])),
    ]
    assert isinstance(futures[1].exception(), LogError)
    assert futures[2].result().offsets == (1,)
    assert ids(log) == [0, 1]
    assert log.state("k") is None


def test_positions_and_state_change_with_the_rows(log, append):
    place = ("readings", 0)
    log.submit(Transaction([append(0, 2)], positions={"c": {place: 2}, "d": {("f", 7): 1}}, state={"k": b"1"})).result()
    assert log.positions("c") == {place: 2}
    assert log.positions("d") == {("f", 7): 1}
    assert log.positions("nobody") == {}
    assert log.state("k") == b"1"
    log.submit(Transaction(positions={"c": {("readings", 1): 5}}, state={"k": None, "l": b""})).result()
    assert log.positions("c") == {place: 2, ("readings", 1): 5}
    assert log.state("k") is None
    assert log.state("l") == b""


def test_expect_compares_with_the_positions_as_of_the_transaction(log, append):
    place = ("readings", 0)

    def step(first, before, after):
        return log.submit(
            Transaction([append(first, 1)], positions={"c": {place: after}}, expect={"c": {place: before}})
        )

    futures = [step(0, 0, 1), step(1, 1, 2), step(98, 1, 2), step(99, 0, 1), step(2, 2, 3)]
    assert [future.exception() is None for future in futures] == [True, True, False, False, True]
    assert "expected position 1 on readings/0, but 2 is stored" in str(futures[2].exception())
    assert ids(log) == [0, 1, 2]
    assert log.positions("c") == {place: 3}


def test_concurrent_producers_keep_their_order_and_share_no_offset(log, append):
    producers, each = 8, 40
    receipts: dict[int, list] = {n: [] for n in range(producers)}

    def produce(n):
        for i in range(each):
            receipts[n].append(log.submit(Transaction([append(n * 1000 + i, 1)])))

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = {n: [future.result().offsets[0] for future in futures] for n, futures in receipts.items()}
    stored = ids(log)
    for n, offsets in places.items():
        assert offsets == sorted(offsets)
        assert [stored[offset] for offset in offsets] == [n * 1000 + i for i in range(each)]
    assert sorted(stored) == sorted(n * 1000 + i for n in range(producers) for i in range(each))


def test_seq_is_one_order_over_all_places(log, append, meters):
    given_order = [append(0, 2), append(10, 1, partition=1), meters("a"), append(2, 1), append(11, 3, partition=1)]
    for one in given_order:
        log.submit(Transaction([one])).result()
    chunks = [c for place in (("readings", 0), ("readings", 1), ("meters", 0)) for c in log.read(place, 0, 100)]
    chunks.sort(key=lambda chunk: chunk.seq)
    assert [(c.stream, c.partition, c.rows.num_rows) for c in chunks] == [
        (a.stream, a.partition, a.rows.num_rows) for a in given_order
    ]
    assert len({chunk.seq for chunk in chunks}) == len(chunks)


def test_who_sees_a_seq_sees_what_came_before(log, append):
    stop = threading.Event()
    wrong = []

    def look():
        while not stop.is_set():
            seen = log.seq()
            newest = max((log.read(("readings", n), 0, 10**6) or [None])[-1].seq if seen > 2 else 0 for n in (0, 1))
            if seen > 2 and newest < seen:
                wrong.append((seen, newest))

    log.submit(Transaction([append(0, 1), append(0, 1, partition=1)])).result()
    thread = threading.Thread(target=look)
    thread.start()
    for i in range(150):
        log.submit(Transaction([append(i, 1, partition=i % 2)])).result()
    stop.set()
    thread.join()
    assert wrong == []


def test_watchers_are_called_after_the_commit(log, append):
    seen, also = [], threading.Event()
    end = log.watch(lambda: seen.append(log.seq()))
    log.watch(also.set)
    receipt = log.submit(Transaction([append(0, 1)])).result()
    assert also.wait(5)
    assert seen == [receipt.seq]
    end()
    end()
    also.clear()
    log.submit(Transaction([append(1, 1)])).result()
    assert also.wait(5)
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_watcher_that_raises_stops_nobody(log, append):
    log.watch(lambda: 1 // 0)
    for i in range(3):
        log.submit(Transaction([append(i, 1)])).result()
    assert ids(log) == [0, 1, 2]


def test_a_callback_of_the_future_may_use_the_log(log, append):
    done = threading.Event()

    def then(future):
        log.create(Stream("more", (Column("id", BIGINT),)))
        log.submit(Transaction([append(future.result().offsets[0] + 1, 1)])).add_done_callback(lambda _: done.set())

    log.submit(Transaction([append(0, 1)])).add_done_callback(then)
    assert done.wait(5)
    assert ids(log) == [0, 1]
    assert "more" in log.status()


def test_nothing_goes_after_close(log, append):
    future = log.submit(Transaction([append(0, 1)]))
    log.close()
    assert future.result().offsets == (0,)
    log.close()
    calls = [
        lambda: log.submit(Transaction([append(1, 1)])),
        lambda: log.read(("readings", 0), 0, 1),
        log.seq,
        log.status,
        lambda: log.positions("c"),
        lambda: log.state("k"),
        lambda: log.watch(print),
        lambda: log.create(Stream("s", ())),
        lambda: log.maintain(0),
    ]
    for call in calls:
        with pytest.raises(LogError, match="closed"):
            call()


SAMPLES = Stream(
    "samples",
    (
        Column("s", STRING),
        Column("xs", array(DOUBLE)),
        Column("t", TIMESTAMP_LTZ),
        Column("n", BIGINT.with_nullable(False)),
    ),
)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("s", pa.large_string()),
        ("s", pa.string_view()),
        ("s", pa.dictionary(pa.int32(), pa.string())),
        ("s", pa.null()),
        ("xs", pa.large_list(pa.float64())),
        ("xs", pa.list_(pa.float32())),
        ("t", pa.timestamp("us", tz="UTC")),
        ("t", pa.timestamp("ms", tz="Europe/Berlin")),
        ("n", pa.int8()),
        ("n", pa.uint32()),
    ],
)
def test_rows_are_cast_to_the_declared_schema(log, column, kind):
    log.create(SAMPLES)
    values = {"s": ["a", None, "b"], "xs": [[1.0], None, []], "t": [1000, None, 2000], "n": [1, 2, 3]}
    plain = {"s": pa.string(), "xs": pa.list_(pa.float64()), "t": pa.timestamp("ms", tz="UTC"), "n": pa.int64()}
    if kind == pa.null():
        values["s"] = [None] * 3
    arrays = {name: pa.array(held, plain[name]) for name, held in values.items()}
    arrays[column] = pa.array(values[column], plain[column]).cast(kind) if kind != pa.null() else pa.nulls(3)
    given_rows = pa.record_batch({name: arrays[name] for name in ("n", "t", "s", "xs")})
    log.submit(Transaction([Append("samples", 0, given_rows, 1)])).result()
    (chunk,) = log.read(("samples", 0), 0, 10)
    assert chunk.rows.to_pydict() == pa.record_batch({n: pa.array(v, plain[n]) for n, v in values.items()}).to_pydict()
    assert chunk.rows.schema.names == ["s", "xs", "t", "n"]
    assert chunk.rows.schema.types == list(plain.values())


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (pa.record_batch({"n": [1], "s": [b"\xff"]}), "s"),
        (pa.record_batch({"n": [1], "other": [1]}), "other"),
        (pa.record_batch({"n": pa.array([2**63], pa.uint64())}), "n"),
        (pa.record_batch({"s": ["n is missing"]}), "n"),
        (pa.record_batch({"n": [1], "t": pa.array([1], pa.timestamp("us", tz="UTC"))}), "t"),
    ],
)
def test_rows_that_do_not_fit_name_the_column(log, rows, named):
    log.create(SAMPLES)
    failure = log.submit(Transaction([Append("samples", 0, rows, 1)])).exception()
    assert isinstance(failure, LogError)
    assert f" {named}" in str(failure)
    assert log.status()["samples"].rows == 0


def test_null_in_a_not_null_column_and_text_for_a_number_are_refused(log):
    log.create(Stream("strict", (Column("n", BIGINT.with_nullable(False)), Column("v", DOUBLE))))
    plain = {"n": pa.array([1, None]), "v": pa.array([0.5, 0.5])}
    text = {"n": pa.array([1]), "v": pa.array(["12"])}
    for columns, named in ((plain, "column n of strict is NOT NULL"), (text, "column v of strict is double")):
        done = log.submit(Transaction([Append("strict", 0, pa.record_batch(columns), 1)]))
        with pytest.raises(LogError, match=named):
            done.result()


def test_missing_nullable_columns_are_null(log):
    log.create(SAMPLES)
    log.submit(Transaction([Append("samples", 0, pa.record_batch({"n": [1]}), 1)])).result()
    (chunk,) = log.read(("samples", 0), 0, 10)
    assert chunk.rows.to_pylist() == [{"s": None, "xs": None, "t": None, "n": 1}]


def test_slices_and_later_changes_of_the_callers_memory_do_not_reach_the_log(log):
    numbers = np.arange(10)
    whole = pa.record_batch({"id": pa.array(numbers), "v": pa.array(numbers * 0.5)})
    log.submit(Transaction([Append("readings", 0, whole.slice(3, 4), 1)])).result()
    numbers[:] = -1
    assert ids(log) == [3, 4, 5, 6]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), max_size=30), st.integers(0, 60), st.integers(1, 20))
def test_any_cut_reads_back_the_same(cuts, offset, max_rows):
    log = open_log("memory://")
    log.create(Stream("readings", (Column("id", BIGINT),), partitions=2))
    expected: dict[int, list[int]] = {0: [], 1: []}
    for partition, count in cuts:
        rows = pa.record_batch(
            {"id": pa.array(range(len(expected[partition]), len(expected[partition]) + count), pa.int64())}
        )
        log.submit(Transaction([Append("readings", partition, rows, 1)])).result()
        expected[partition] += rows.column("id").to_pylist()
    for partition, numbers in expected.items():
        assert ids(log, ("readings", partition), offset) == numbers[offset:]
        got = ids(log, ("readings", partition), offset, max_rows)
        assert got == numbers[offset:][: len(got)]
        assert min(max_rows, len(numbers[offset:])) <= len(got) < max_rows + 5
