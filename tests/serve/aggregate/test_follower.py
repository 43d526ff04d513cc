"""Rows from the log: from as far back as there is room, then as they come."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tests.serve.aggregate.conftest import MEASURE, NOW, Row, append, batch

from qanat.errors import LogError
from qanat.log.base import Append, Log, Transaction
from qanat.model.sections import Duration, Size
from qanat.model.serve import RecentRows as Settings
from qanat.serve.aggregate import blocks
from qanat.serve.aggregate.follower import Follower
from qanat.serve.aggregate.question import parse

HOUR = 3_600_000


def follower(log: Log, **more: object) -> Follower:
    settings = {"horizon": Duration(HOUR), "memory": Size(8 << 20)} | more
    return Follower(log, {"readings": MEASURE}, Settings(**settings), lambda: NOW)  # type: ignore[arg-type]


def rows(*ages: int) -> list[Row]:
    return [("a", 1, "s", NOW - age, float(age)) for age in ages]


def counted(one: Follower, start: int) -> int:
    recent = one.recent("readings")
    assert recent is not None
    tally = recent.tally(parse("", MEASURE), [start, NOW], start, NOW)
    assert tally is not None
    return int(tally.count.sum())


def test_both_partitions_are_read_and_read_on(log: Log) -> None:
    append(log, rows(3000, 2000))
    append(log, rows(1000), partition=1)
    one = follower(log)
    assert one.recent("readings") is None  # not before it has caught up
    one.catch_up()
    assert counted(one, NOW - HOUR) == 3
    append(log, rows(500), partition=1)
    one.catch_up()
    assert counted(one, NOW - HOUR) == 4
    recent = one.recent("readings")
    assert recent is not None
    assert dict(recent.positions) == {0: 2, 1: 2}


def test_old_rows_are_not_even_read(log: Log) -> None:
    for age in (5 * HOUR, 4 * HOUR, 1000):
        append(log, rows(age))
    read: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(log, name)

        def read(self, place: tuple[str, int], offset: int, most: int) -> object:
            read.append(offset)
            return log.read(place, offset, most)

    one = Follower(Counting(), {"readings": MEASURE}, Settings(horizon=Duration(HOUR)), lambda: NOW)  # type: ignore[arg-type]
    one.catch_up()
    assert counted(one, NOW - HOUR) == 1
    assert read[0] == 2


def test_as_many_as_there_is_room_for(log: Log) -> None:
    for age in range(3_000_000, 0, -10_000):
        append(log, [("a", 1, "s", NOW - age + n, 1.0) for n in range(100)])
    one = follower(log, memory=Size(5_000 * blocks.ROW_BYTES))
    one.catch_up()
    recent = one.recent("readings")
    assert recent is not None
    assert NOW - 700_000 < recent.since < NOW - 200_000
    assert recent.bytes <= 5_000 * blocks.ROW_BYTES
    expected = sum(100 for age in range(3_000_000, 0, -10_000) if NOW - age >= recent.since)
    assert abs(counted(one, recent.since) - expected) <= 100


@pytest.mark.parametrize("archived", ["true", "false"])
def test_what_retention_took_away_is_not_answered_from_memory(log: Log, archived: str) -> None:
    """The archive may have such rows; SQL finds them there. Where there is none, nobody does."""
    append(log, rows(HOUR - 1000))
    for _ in range(3):
        append(log, rows(1000))
    log.submit(Transaction([Append("readings", 0, batch(rows(900)), NOW - 60_000, NOW - 900, NOW - 900)])).result()
    stream = log.status()["readings"].stream
    log.create(replace(stream, retention_bytes=600, options={"archive": archived}))
    log.maintain(NOW)  # type: ignore[attr-defined]
    assert log.status()["readings"].starts[0] > 0
    one = follower(log)
    one.catch_up()
    recent = one.recent("readings")
    assert recent is not None
    assert (recent.since > NOW - HOUR // 2) is (archived == "true")


def test_it_follows_by_itself_and_ends(log: Log) -> None:
    came = threading.Event()
    one = Follower(log, {"readings": MEASURE}, Settings(), lambda: NOW, lambda *_: came.set())
    one.start()
    append(log, rows(1000))
    assert came.wait(20)
    one.stop()
    assert one.fault is None


def test_a_log_that_cannot_be_read_leaves_the_answers_to_sql(log: Log) -> None:
    append(log, rows(1000))
    broken = threading.Event()
    failed = threading.Event()

    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(log, name)

        def read(self, *arguments: object) -> object:
            if broken.is_set():
                failed.set()
                raise LogError("the disk is gone")
            return log.read(*arguments)  # type: ignore[arg-type]

    one = Follower(Failing(), {"readings": MEASURE}, Settings(), lambda: NOW)  # type: ignore[arg-type]
    one.catch_up()
    assert one.recent("readings") is not None
    broken.set()
    with pytest.raises(LogError):
        one.catch_up()
    one.start()
    append(log, rows(1000))
    assert failed.wait(20)
    one.stop()
    assert one.recent("readings") is None
    assert one.fault == "the disk is gone"
