"""Retention and compaction, over every driver."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, STRING

PLACE = ("old", 0)
OLD = Stream("old", (Column("id", BIGINT), Column("v", BIGINT)), partitions=2, retention_ms=100)
METERS = Stream("meters", (Column("meter", STRING), Column("v", BIGINT)), key=("meter",), compact=True)


def fill(log, *ats, partition=0, rows=10):
    for at in ats:
        numbers = pa.array(range(at, at + rows), pa.int64())
        batch = pa.record_batch({"id": numbers, "v": numbers})
        log.submit(Transaction([Append("old", partition, batch, at)])).result()


def first_ids(log, place=PLACE, offset=0):
    return [chunk.rows.column("id")[0].as_py() for chunk in log.read(place, offset, 10**6)]


def test_age_deletes_whole_appends_from_the_start(log):
    log.create(OLD)
    fill(log, 0, 100, 200)
    assert log.maintain(100) == {}
    assert log.maintain(201) == {"old": 20}
    assert first_ids(log) == [200]
    assert [(c.offset, c.row) for c in log.read(PLACE, 0, 1)] == [(20, 0)]  # an offset that is gone: the first there is
    assert (log.status()["old"].starts, log.status()["old"].ends) == ({0: 20, 1: 0}, {0: 30, 1: 0})
    assert log.status()["old"].rows == 10
    assert log.maintain(201) == {}


def test_offsets_and_seq_go_on_when_all_is_deleted(log):
    log.create(OLD)
    fill(log, 0, 1)
    before = log.seq()
    assert log.maintain(10_000) == {"old": 20}
    assert log.status()["old"].starts == {0: 20, 1: 0}
    assert log.status()["old"].bytes == 0
    assert log.read(PLACE, 0, 10) == []
    assert log.seq() == before
    fill(log, 20_000)
    assert [(c.offset, c.seq > before) for c in log.read(PLACE, 0, 10)] == [(20, True)]


def test_rows_that_a_consumer_has_not_read_stay(log):
    log.create(OLD)
    fill(log, 0, 1, 2)
    fill(log, 0, 1, partition=1)
    log.submit(Transaction(positions={"c": {PLACE: 15}, "other": {("elsewhere", 0): 0}})).result()
    assert log.maintain(10_000) == {"old": 10}  # 15 is in the middle of the second append; partition 1: nothing read
    assert first_ids(log) == [1, 2]
    assert first_ids(log, ("old", 1)) == [0, 1]
    log.submit(Transaction(positions={"c": {PLACE: 20, ("old", 1): 20}})).result()
    assert log.maintain(10_000) == {"old": 30}
    assert first_ids(log) == [2]


def test_size_deletes_the_oldest_of_all_partitions(log):
    log.create(replace(OLD, retention_ms=None))
    for at in range(10):
        fill(log, at, partition=at % 2)
    size = log.status()["old"].bytes
    log.create(replace(OLD, retention_ms=None, retention_bytes=size // 2))
    assert log.maintain(0) == {"old": 50}
    assert first_ids(log) == [6, 8]
    assert first_ids(log, ("old", 1)) == [5, 7, 9]
    assert log.status()["old"].bytes <= size // 2


def pairs(log, offset=0):
    return [
        (chunk.offset + n, row["meter"], row["v"])
        for chunk in log.read(("meters", 0), offset, 10**6)
        for n, row in enumerate(chunk.rows.to_pylist())
    ]


def test_compaction_keeps_the_last_row_per_key_at_its_offset(log, meters):
    for keys in (("a", "b", "c", "d", "b"), ("a", None), ("x", None, "d")):
        log.submit(Transaction([meters(*keys, at=7)])).result()
    before = {chunk.offset: chunk.seq for chunk in log.read(("meters", 0), 0, 100)}
    assert log.maintain(0) == {"meters": 4}
    assert pairs(log) == [(2, "c", 2), (4, "b", 4), (5, "a", 0), (7, "x", 0), (8, None, 1), (9, "d", 2)]
    chunks = log.read(("meters", 0), 0, 100)
    assert [(c.offset, c.row, c.rows.num_rows) for c in chunks] == [(2, 2, 1), (4, 4, 1), (5, 0, 1), (7, 0, 3)]
    assert [c.seq for c in chunks] == [before[0], before[0], before[5], before[7]]
    assert {c.at for c in chunks} == {7}
    assert log.status()["meters"].starts == {0: 2}
    assert log.status()["meters"].rows == 6
    assert log.maintain(0) == {}


def test_compacted_rows_are_compacted_again(log, meters):
    log.submit(Transaction([meters("a", "b", "c", "a")])).result()
    log.maintain(0)
    log.submit(Transaction([meters("c")])).result()
    assert log.maintain(0) == {"meters": 1}
    assert pairs(log) == [(1, "b", 1), (3, "a", 3), (4, "c", 0)]
    log.submit(Transaction([meters("a", "b")])).result()
    assert log.maintain(0) == {"meters": 2}
    assert pairs(log) == [(4, "c", 0), (5, "a", 0), (6, "b", 1)]
    assert [pairs(log, n)[0][0] for n in (0, 3, 4, 5, 6)] == [4, 4, 4, 5, 6]


def test_compaction_leaves_what_a_consumer_has_not_read(log, meters):
    log.submit(Transaction([meters("a", "a", "a", "a")], positions={"c": {("meters", 0): 2}})).result()
    assert log.maintain(0) == {"meters": 2}
    assert [offset for offset, _, _ in pairs(log)] == [2, 3]
    log.submit(Transaction(positions={"c": {("meters", 0): 4}})).result()
    assert log.maintain(0) == {"meters": 1}


@pytest.mark.parametrize("driver", ["sqlite", "memory"])
@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=8),
    step=st.integers(1, 5),
)
def test_any_appends_compact_to_their_last_rows(tmp_path_factory, driver, batches, step):
    url = f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db" if driver == "sqlite" else "memory://"
    log = open_log(url)
    log.create(METERS)
    expected: dict[str, int] = {}
    end = 0
    for n, keys in enumerate(batches):
        columns = {"meter": pa.array(keys), "v": pa.array(range(end, end + len(keys)), pa.int64())}
        log.submit(Transaction([Append("meters", 0, pa.record_batch(columns), 1)])).result()
        expected |= {key: end + i for i, key in enumerate(keys)}
        end += len(keys)
        if n % step == 0:
            log.maintain(0)
    log.maintain(0)
    assert pairs(log) == sorted((offset, key, offset) for key, offset in expected.items())
    for offset in range(end + 1):
        assert pairs(log, offset) == sorted((o, key, o) for key, o in expected.items() if o >= offset)
    log.close()
