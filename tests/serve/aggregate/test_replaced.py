"""A stream whose rows are swapped for others (`qanat replay`) while the rows in memory follow it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.control.conftest import TABLES, TOTALS, Project, readings
from tests.serve.aggregate.conftest import MEASURE, NOW, READINGS, Row, Start, append, batch

from qanat.control import Replay, Window
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.sections import Duration
from qanat.model.serve import Aggregate
from qanat.model.serve import RecentRows as Settings
from qanat.serve.aggregate.follower import Follower
from qanat.serve.aggregate.measure import Measure, measures_of
from qanat.serve.aggregate.question import parse
from qanat.sql import compile_script

HOUR = 3_600_000


@pytest.fixture(params=["sqlite", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log = open_log("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/replaced.db")
    log.create(READINGS)
    yield log
    log.close()


def rows(*values: float) -> list[Row]:
    return [("a", 1, "s", NOW - 600_000 + place, value) for place, value in enumerate(values)]


def replace(log: Log, *values: float, partition: int = 0) -> None:
    """Swap all rows for these."""
    new = [Append("readings", partition, batch(rows(*values)), NOW - HOUR, NOW - 600_000, NOW)] if values else []
    log.replace("readings", new, lambda _: Transaction())  # type: ignore[attr-defined]


def follower(log: Log, on_anew: Callable[[str], None] | None = None, measure: Measure = MEASURE) -> Follower:
    settings = Settings(horizon=Duration(2 * HOUR))
    return Follower(log, {measure.name: measure}, settings, lambda: NOW, on_anew=on_anew)


def values_in(one: Follower) -> tuple[int, float | None]:
    """How many rows there are and the largest value, where memory says so."""
    recent = one.recent("readings")
    assert recent is not None
    tally = recent.tally(parse("functions=count,max", MEASURE), [NOW - HOUR // 4, NOW], NOW - HOUR // 4, NOW)
    assert tally is not None
    return int(tally.count.sum()), max(tally.found["max"].tolist(), default=None)


@pytest.mark.parametrize("unread", [0, 2])
@pytest.mark.parametrize("after", [0, 2])
def test_the_new_rows_stand_in_place_of_the_old_ones(stored: Log, unread: int, after: int) -> None:
    """Whether it had read all of the old rows or not, and whether others have come since or not."""
    told: list[str] = []
    one = follower(stored, told.append)
    append(stored, rows(1, 2, 99))
    append(stored, rows(3), partition=1)
    one.catch_up()
    assert values_in(one) == (4, 99)
    if unread:
        append(stored, rows(*[98] * unread))
    replace(stored, 10, 20)
    if after:
        append(stored, rows(*[30] * after), partition=1)
    one.catch_up()
    assert values_in(one) == (2 + after, 30 if after else 20)
    assert told == ["readings"]
    append(stored, rows(40))
    one.catch_up()
    assert values_in(one) == (3 + after, 40)
    assert told == ["readings"]


def test_rows_that_were_replaced_by_none_are_gone(stored: Log) -> None:
    one = follower(stored)
    append(stored, rows(1, 2, 3))
    one.catch_up()
    replace(stored)
    one.catch_up()
    recent = one.recent("readings")
    assert recent is not None
    assert recent.bytes == 0
    one.catch_up()
    append(stored, rows(7))
    one.catch_up()
    assert one.recent("readings") is recent  # it went on; it does not begin anew for ever


def test_twice_in_a_row_and_with_nothing_read_before(stored: Log) -> None:
    one = follower(stored)
    one.catch_up()
    append(stored, rows(1, 2, 3))
    replace(stored, 4, 5)
    replace(stored, 6)
    one.catch_up()
    assert values_in(one) == (1, 6)


def test_a_swap_while_it_reads_mixes_nothing(stored: Log) -> None:
    """Partition 0 is read before, partition 1 after the swap."""
    append(stored, rows(1, 2, 3))
    append(stored, rows(4), partition=1)
    swaps = [lambda: replace(stored, 50, 60, partition=1), lambda: None]

    class Swapping:
        """Swaps between the two partitions."""

        def __getattr__(self, name: str) -> object:
            return getattr(stored, name)

        def read(self, place: tuple[str, int], offset: int, most: int) -> object:
            if place[1] == 1 and swaps:
                swaps.pop(0)()
            return stored.read(place, offset, most)

    one = follower(Swapping())  # type: ignore[arg-type]
    one.catch_up()
    assert values_in(one) == (2, 60)


def test_where_retention_has_deleted_all_that_was_read_it_goes_on(log: Log) -> None:
    """It looks the same."""
    one = follower(log)
    append(log, rows(1, 2, 3))
    one.catch_up()
    stream = log.status()["readings"].stream
    log.create(dataclasses.replace(stream, retention_ms=1000))
    log.maintain(NOW + HOUR)  # type: ignore[attr-defined]
    assert log.status()["readings"].rows == 0
    one.catch_up()
    before = one.recent("readings")
    one.catch_up()
    assert one.recent("readings") is before is not None
    append(log, rows(7))
    one.catch_up()
    assert values_in(one) == (1, 7)


def test_a_replay_of_a_pipeline(tmp_path: Path) -> None:
    """Results of SQL that was changed; the aggregate of them is that of the new ones."""
    project = Project(open_log(f"sqlite:///{tmp_path}/log.db"))
    old = TABLES + TOTALS
    changed = old.replace("SUM(v)", "SUM(v * 2)")
    totals = compile_script(old).tables["totals"].stream
    assert totals is not None
    declared = Aggregate(stream="totals", value="s", dimensions=("k",))
    measure = measures_of({"totals": declared}, {"totals": totals})["totals"]
    project.feed(readings(0, 36))
    project.run(old)
    one = Follower(project.log, {"totals": measure}, Settings(horizon=Duration(HOUR)), lambda: 60_000)
    one.catch_up()
    assert sums(one, measure) == pytest.approx(435.0)  # 0 + 1 + ... + 29
    assert Replay(compile_script(changed), project.log, "totals", Window(), live=True, rows=7).run() == 6
    one.catch_up()
    assert sums(one, measure) == pytest.approx(870.0)
    project.feed(readings(36, 53))
    project.run(changed)
    one.catch_up()
    assert sums(one, measure) == pytest.approx(2 * sum(range(50)))
    project.log.close()


def sums(one: Follower, measure: Measure) -> float:
    """All that memory holds, whatever it covers for sure."""
    recent = one.recent("totals")
    assert recent is not None
    start = max(0, recent.since)
    tally = recent.tally(parse("functions=sum", measure), [start, 60_000], start, 60_000)
    assert tally is not None
    return float(tally.found["sum"].sum())


def test_answers_end_also_those_to_questions_that_no_new_row_is_about(start: Start, log: Log) -> None:
    server = start(invalidate=True, live=True)
    server.append([("gone", 1, "s", NOW - 1000, 99.0), *rows(1, 2)])

    def asked(**question: str) -> tuple[int, str]:
        answer = server.get(**question)
        return answer.json()["rows"], answer.headers["cache-status"]

    wait_for(lambda: server.aggregates.follower.recent("readings") is not None)  # type: ignore[union-attr]
    wait_for(lambda: asked(site="gone")[0] == 1)
    asked(site="gone")
    assert asked(site="gone") == (1, "qanat; hit")
    replace(log, 5, 6, 7)
    wait_for(lambda: asked(site="gone")[0] == 0)
    wait_for(lambda: asked(site="a")[0] == 3)


def wait_for(condition: Callable[[], bool]) -> None:
    ending = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ending, "it did not come about"
        time.sleep(0.02)
