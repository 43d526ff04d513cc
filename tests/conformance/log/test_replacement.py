"""A new version of a stream in one transaction, consumers that are forgotten, and what the log knows of times."""

from __future__ import annotations

import pytest

from qanat.errors import LogError
from qanat.log import open_log
from qanat.log.base import Transaction

PLACE = ("readings", 0)


def ids(log, place=PLACE, offset=0):
    return [i for chunk in log.read(place, offset, 10**6) for i in chunk.rows.column("id").to_pylist()]


def put(log, *appends, **more):
    return log.submit(Transaction(appends, **more)).result()


def test_all_rows_are_swapped_and_offsets_go_on(log, append):
    put(log, append(1, 3), append(100, 2, partition=1))
    seq, meters = log.seq(), log.status()["meters"]
    receipt = log.replace("readings", [append(10, 2), append(20, 1)], lambda _: Transaction())
    assert (ids(log), ids(log, ("readings", 1))) == ([10, 11, 20], [])
    assert receipt.offsets == (3, 5)
    assert [(c.offset, c.seq) for c in log.read(PLACE, 0, 10**6)] == [(3, seq + 1), (5, seq + 2)]
    status = log.status()["readings"]
    assert (status.starts, status.ends, status.rows, status.max_time) == ({0: 3, 1: 2}, {0: 6, 1: 2}, 3, 20)
    assert log.status()["meters"] == meters
    put(log, append(30, 1), append(200, 1, partition=1))
    assert (ids(log), ids(log, ("readings", 1))) == ([10, 11, 20, 30], [200])


def test_positions_and_state_change_with_the_rows(log, append):
    put(log, append(1, 3), positions={"reader": {PLACE: 3}})
    found = []

    def then(ends):
        found.append(dict(ends))
        return Transaction(positions={"reader": {PLACE: ends[0]}}, state={"version": b"2"})

    log.replace("readings", [append(10, 2)], then)
    assert found == [{0: 5, 1: 0}]
    assert (log.positions("reader"), log.state("version")) == ({PLACE: 5}, b"2")


def test_rows_may_be_made_of_the_old_ones(log, append):
    put(log, append(1, 4))
    old = (append(i * 10, 1) for i in ids(log) if i % 2)
    log.replace("readings", old, lambda _: Transaction())
    assert ids(log) == [10, 30]


def test_a_failure_on_the_way_leaves_the_old_version(log, append):
    put(log, append(1, 3))
    before = log.status(), log.seq()

    def broken():
        yield append(10, 2)
        raise LogError("no more")

    with pytest.raises(LogError, match="no more"):
        log.replace("readings", broken(), lambda _: Transaction())
    with pytest.raises(LogError, match="another process"):
        log.replace("readings", [append(10, 2)], lambda _: Transaction(expect={"reader": {PLACE: 7}}))
    with pytest.raises(LogError, match="cannot replace"):
        log.replace("meters", [append(10, 2)], lambda _: Transaction())
    assert (log.status(), log.seq()) == before
    assert ids(log) == [1, 2, 3]
    put(log, append(4, 1))
    assert ids(log) == [1, 2, 3, 4]


def test_a_stream_can_be_replaced_by_nothing_and_is_still_there_after_a_restart(tmp_path, append, log):
    url = f"sqlite:///{tmp_path}/again.db"
    first = open_log(url)
    first.create(log.status()["readings"].stream)
    put(first, append(1, 3))
    reader = open_log(url, read_only=True)
    assert ids(reader) == [1, 2, 3]
    first.replace("readings", [], lambda _: Transaction())
    assert ids(reader) == []
    first.replace("readings", [append(7, 1)], lambda _: Transaction())
    first.close()
    assert ids(reader) == [7]
    reader.close()
    again = open_log(url)
    assert [(c.offset, c.rows.num_rows) for c in again.read(PLACE, 0, 9)] == [(3, 1)]
    again.close()


def test_a_forgotten_consumer_has_no_positions(log, append):
    put(log, append(1, 3), positions={"gone": {PLACE: 2}, "stays": {PLACE: 1}})
    assert log.consumers() == ["gone", "stays"]
    put(log, forget=["gone"])
    assert (log.positions("gone"), log.consumers()) == ({}, ["stays"])
    put(log, positions={"stays": {("readings", 1): 0}}, forget=["stays"])
    assert log.positions("stays") == {("readings", 1): 0}
    put(log, positions={"gone": {PLACE: 1}}, expect={"gone": {PLACE: 0}})


def test_the_offset_of_a_time_comes_before_every_row_of_it(log, append):
    put(log, append(10, 5))
    put(log, append(20, 5))
    put(log, append(5, 2))
    for time in range(30):
        offset = log.offset_at(PLACE, time)
        assert [i for i in ids(log) if i >= time] == [i for i in ids(log, offset=offset) if i >= time]
