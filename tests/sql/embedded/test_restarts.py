"""Live pipelines that fail: begun again, and rows that they cannot compute with set aside, once and for all readers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat.errors import DataError, FunctionError, LogError, RowsError, StateLimitError
from qanat.log import open_log
from qanat.log.base import Append, Chunk, Log, Transaction
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions, RestartPolicy
from qanat.sql.embedded.restarts import Failure, Restarts
from qanat.sql.embedded.skipped import Skipped, Suspect
from tests.sql.embedded.test_engine import log_rows, until

FAST = RestartPolicy(first_ms=1, longest_ms=20)
WORDS = "CREATE TABLE words (word STRING, number BIGINT);"
NUMBERS = "CREATE TABLE numbers (n INT); INSERT INTO numbers SELECT CAST(word AS INT) FROM words;"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = open_log(f"sqlite:///{tmp_path}/log.db")
    yield opened
    opened.close()


def send(log: Log, *words: str | None) -> None:
    rows = pa.RecordBatch.from_pydict({"word": pa.array(words, pa.string()), "number": list(range(len(words)))})
    log.submit(Transaction([Append("words", 0, rows, at=1)])).result()


@contextmanager
def running(sql: str, log: Log, policy: RestartPolicy = FAST) -> Iterator[Engine]:
    engine = Engine(compile_script(sql), log, EngineOptions(live=True, restarts=policy))
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine
    finally:
        engine.stop()
        thread.join(20)
        assert not thread.is_alive()


def numbers(log: Log) -> list[object]:
    return [row["n"] for row in log_rows(log, "numbers")]


def test_a_row_that_cannot_be_cast_is_set_aside_and_the_others_come_through(log: Log) -> None:
    with running(WORDS + NUMBERS, log) as engine:
        send(log, *map(str, range(500)), "five", *map(str, range(500, 1000)))
        until(lambda: len(numbers(log)) == 1000)
        until(lambda: engine.status()[0].error is None)
        send(log, "1000")
        until(lambda: len(numbers(log)) == 1001)
        assert engine.status()[0].state == "running"
        assert engine.status()[0].dead_letters == 1
    assert numbers(log) == list(range(1001))
    (letter,) = log_rows(log, "dead_letters")
    assert json.loads(bytes(letter["data"])) == {"word": "five", "number": 500}
    assert (letter["stream"], letter["partition"], letter["offset"]) == ("words", 0, 500)
    assert (letter["source"], letter["reason"]) == ("sql", "CAST: `five` is not a INT")
    assert len(log_rows(log, "words")) == 1002  # the stream keeps it


def test_rows_that_computed_columns_fail_on_are_found_in_the_block(log: Log) -> None:
    sql = """CREATE TABLE words (word STRING, number BIGINT, n AS CAST(word AS INT));
    CREATE TABLE numbers (n INT); INSERT INTO numbers SELECT n FROM words;"""
    with running(sql, log):
        send(log, "1", "x", "2", "y", "3", "z")
        until(lambda: len(log_rows(log, "dead_letters")) == 3)
        send(log, "4")
        until(lambda: len(numbers(log)) == 4)
    assert numbers(log) == [1, 2, 3, 4]
    assert [letter["offset"] for letter in log_rows(log, "dead_letters")] == [1, 3, 5]


def test_a_null_that_the_sink_does_not_take_is_set_aside(log: Log) -> None:
    sql = WORDS + "CREATE TABLE numbers (n STRING NOT NULL); INSERT INTO numbers SELECT word FROM words;"
    with running(sql, log):
        send(log, "a", None, "b")
        until(lambda: len(numbers(log)) == 2)
        send(log, "c")
        until(lambda: len(numbers(log)) == 3)
    assert numbers(log) == ["a", "b", "c"]
    assert [letter["offset"] for letter in log_rows(log, "dead_letters")] == [1]


def test_after_a_restart_the_row_is_passed_over_and_state_is_what_it_was(log: Log) -> None:
    sql = WORDS + "CREATE TABLE numbers (n BIGINT, PRIMARY KEY (n) NOT ENFORCED);"
    sql += "INSERT INTO numbers SELECT SUM(CAST(word AS INT)) FROM words;"
    with running(sql, log):
        send(log, "1", "x", "2")
        until(lambda: len(log_rows(log, "dead_letters")) == 1)
        until(lambda: 3 in numbers(log))
    with running(sql, log):
        send(log, "4", "y", "8")
        until(lambda: 15 in numbers(log))
    with running(sql, log):
        send(log, "16")
        until(lambda: 31 in numbers(log))
    assert [letter["offset"] for letter in log_rows(log, "dead_letters")] == [1, 4]


def test_the_row_is_found_where_nothing_comes_out_for_a_long_time(log: Log) -> None:
    sql = """CREATE TABLE words
      (word STRING, number BIGINT, at_ AS TO_TIMESTAMP_LTZ(number, 0), WATERMARK FOR at_ AS at_);
    CREATE TABLE numbers (n INT);
    INSERT INTO numbers SELECT SUM(CAST(word AS INT))
    FROM TABLE(TUMBLE(TABLE words, DESCRIPTOR(at_), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end;"""
    with running(sql, log):
        send(log, *["1"] * 300, "x", *["1"] * 400)
        until(lambda: len(numbers(log)) == 1)
    assert numbers(log) == [599]
    assert [letter["offset"] for letter in log_rows(log, "dead_letters")] == [300]


def test_a_function_that_fails_for_a_while_costs_no_row(log: Log) -> None:
    tried: list[int] = []

    @qanat.udf("STRING", returns="BIGINT")
    def ask(words: pa.Array) -> pa.Array:
        tried.append(len(words))
        if len(tried) < 4:
            raise ConnectionError("the other side is away")
        return pa.array([len(word.as_py()) for word in words], pa.int64())

    sql = WORDS + "CREATE TABLE numbers (n BIGINT); INSERT INTO numbers SELECT ask(word) FROM words;"
    engine = Engine(compile_script(sql, functions={"ask": ask}), log, EngineOptions(live=True, restarts=FAST))
    thread = threading.Thread(target=engine.run)
    thread.start()
    send(log, "a")
    until(lambda: numbers(log) == [1])
    engine.stop()
    thread.join()
    assert log_rows(log, "dead_letters") == []


def test_a_pipeline_that_fails_on_every_row_stops_setting_them_aside(log: Log) -> None:
    with running(WORDS + NUMBERS, log, RestartPolicy(first_ms=1, longest_ms=20, in_a_row=3)) as engine:
        send(log, *"abcdefgh")
        until(lambda: len(log_rows(log, "dead_letters")) == 3)
        until(lambda: engine.status()[0].state == "restarting")
        assert "is not a INT" in str(engine.status()[0].error)
    assert len(log_rows(log, "dead_letters")) == 3


def test_what_is_not_there_yet_is_waited_for(tmp_path: Path, log: Log) -> None:
    sql = f"""CREATE TABLE lines (n INT) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/in', 'format' = 'json');
    CREATE TABLE numbers (n INT); INSERT INTO numbers SELECT n FROM lines;"""
    with running(sql, log) as engine:
        until(lambda: engine.status()[0].state == "restarting")
        assert "no file or folder" in str(engine.status()[0].error)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.jsonl").write_text('{"n": 7}\n')
        until(lambda: numbers(log) == [7])
        until(lambda: engine.status()[0].error is None)


def test_bounded_runs_raise_as_ever() -> None:
    with pytest.raises(DataError, match="is not a INT"):
        qanat.run(
            WORDS + "SELECT CAST(word AS INT) FROM words;", inputs={"words": pa.table({"word": ["x"], "number": [1]})}
        )


ROW = Suspect(("words", 0), 5, "no number")


@pytest.mark.parametrize("error", [StateLimitError("too much"), LogError("another engine"), KeyboardInterrupt()])
def test_what_no_new_beginning_helps_is_left_failed(error: BaseException) -> None:
    assert Restarts(FAST).on_failure(Failure(error, 0, 1, [ROW])) is None


def test_waits_double_and_begin_anew_after_success() -> None:
    restarts = Restarts(RestartPolicy(first_ms=1000, longest_ms=5000))

    def wait() -> int | None:
        decision = restarts.on_failure(Failure(OSError("away"), 10, 0))
        return decision and decision.wait_ms

    assert [wait() for _ in range(5)] == [1000, 2000, 4000, 5000, 5000]
    assert restarts.on_success(9)
    assert wait() == 5000  # that was before the place
    assert restarts.on_success(10)
    assert wait() == 1000


@pytest.mark.parametrize("error", [DataError("no"), RowsError("NULL"), ZeroDivisionError()])
def test_micro_batches_shrink_until_the_row_is_known_and_grow_behind_it(error: Exception) -> None:
    restarts, sizes, events = Restarts(FAST), [], 100_000
    while events > 1:
        decision = restarts.on_failure(Failure(error, 0, events))
        assert decision is not None
        assert decision.events is not None
        assert (decision.wait_ms, decision.aside) == (0, ())
        events = decision.events
        sizes.append(events)
    assert sizes == [12_500, 1_562, 195, 24, 3, 1]
    decision = restarts.on_failure(Failure(error, 2, 1, [ROW]))
    assert decision is not None
    assert (decision.aside, decision.events) == ((ROW,), 1)
    assert not restarts.on_success(3)
    assert restarts.on_success(100_000)


def test_a_users_function_is_tried_again_before_its_row_is_set_aside() -> None:
    restarts = Restarts(RestartPolicy(first_ms=10, longest_ms=1000, tries=3))
    decisions = [restarts.on_failure(Failure(FunctionError("no"), 0, 1, [ROW])) for _ in range(3)]
    assert [(one.wait_ms, one.aside) for one in decisions if one] == [(10, ()), (20, ()), (0, (ROW,))]


@given(st.sets(st.integers(0, 30)), st.integers(0, 20), st.integers(0, 12))
@settings(deadline=None)
def test_what_is_passed_over_is_left_out_and_all_else_keeps_its_offset(gone: set[int], first: int, count: int) -> None:
    rows = pa.RecordBatch.from_pydict({"o": pa.array(range(first, first + count), pa.int64())})
    chunk = Chunk("s", 0, first, 9, 2, 7, rows)
    skipped = Skipped().add([Suspect(("s", 0), one, "") for one in gone], {})
    parts = list(Skipped.load(skipped.dump()).without(chunk))
    assert [one for part in parts for one in part.rows["o"].to_pylist()] == sorted(
        set(range(first, first + count)) - gone
    )
    for part in parts:
        assert part.rows["o"].to_pylist() == list(range(part.offset, part.end))
        assert (part.seq, part.at, part.row) == (9, 7, 2 + part.offset - first)
    assert skipped.add([], {("s", 0): 15}).count == len([one for one in gone if one >= 15])
