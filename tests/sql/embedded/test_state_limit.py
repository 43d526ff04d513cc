"""A pipeline that holds too much stops and says why; the others go on; sizes follow what operators hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from qanat.errors import ConfigError, StateLimitError
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.embedded.carried import carried
from qanat.sql.embedded.engine import failure_key
from qanat.sql.embedded.state_limit import size_text
from qanat.sql.fingerprint import Part

TABLES = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, n BIGINT);
CREATE TABLE copies (k STRING);
INSERT INTO copies SELECT k FROM readings;
"""
QUERIES = {
    "WindowAggregate": "SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR)) "
    "GROUP BY k, window_start, window_end",
    "ARRAY_AGG": "SELECT k, CARDINALITY(ARRAY_AGG(v)) FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), "
    "INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end",
    "SESSION": "SELECT k, COUNT(*) FROM TABLE(SESSION(TABLE readings PARTITION BY k, DESCRIPTOR(ts), "
    "INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end",
}


def fill(log: Log, keys: list[str]) -> None:
    times = [1000 * i for i in range(len(keys))]
    schema = pa.schema([("k", pa.string()), ("v", pa.float64()), ("ts", pa.timestamp("ms"))])
    rows = pa.record_batch([pa.array(keys), pa.array([1.0] * len(keys)), pa.array(times, pa.timestamp("ms"))], schema)
    log.submit(Transaction([Append("readings", 0, rows, 1, 0, times[-1])])).result()


@pytest.fixture
def log(tmp_path: Path):
    opened = open_log(f"sqlite:///{tmp_path}/log.db")
    for table in compile_script(TABLES).tables.values():
        assert table.stream is not None
        opened.create(table.stream)
    yield opened
    opened.close()


def copied(log: Log) -> int:
    return log.status()["copies"].rows


@pytest.mark.parametrize("query", QUERIES)
def test_it_stops_with_operator_and_keys_and_the_others_go_on(log: Log, query: str) -> None:
    fill(log, ["large"] * 3000 + [f"k{i}" for i in range(3000)])
    program = compile_script(f"{TABLES} SET 'qanat.state.limit' = '64 kb'; INSERT INTO totals {QUERIES[query]};")
    engine = Engine(program, log, EngineOptions(batch_rows=500))
    with pytest.raises(StateLimitError) as raised:
        engine.run()
    text = str(raised.value)
    assert "pipeline totals holds" in text
    assert "64.0 kB is its limit" in text
    assert "in WindowAggregate; its largest keys: large (" in text
    assert "qanat.state.limit" in text
    assert copied(log) == 6000
    states = {status.name: (status.state, status.state_bytes) for status in engine.status()}
    assert states["totals"][0] == "failed"
    assert states["copies"] == ("finished", 0)
    assert log.status()["totals"].rows == 0
    assert "holds" in json.loads(log.state(failure_key("totals")) or b"")["error"]


def test_a_start_with_room_forgets_the_failure_and_goes_on_where_it_was(log: Log) -> None:
    fill(log, [f"k{i}" for i in range(3000)])
    sql = f"{TABLES} INSERT INTO totals {QUERIES['WindowAggregate']};"
    tight = EngineOptions(batch_rows=500, state_limits={"totals": 100_000})
    for _ in range(2):  # a second start does not run into a loop
        with pytest.raises(StateLimitError):
            Engine(compile_script(sql), log, tight).run()
    Engine(compile_script(sql), log, EngineOptions(state_limit=1, state_limits={"totals": 10**8, "copies": 0})).run()
    assert log.state(failure_key("totals")) is None
    assert log.status()["totals"].rows == 3000
    assert copied(log) == 3000


def test_a_limit_that_is_none_is_refused(log: Log) -> None:
    with pytest.raises(ConfigError, match=r"qanat.state.limit.*lots"):
        Engine(compile_script(TABLES + "SET 'qanat.state.limit' = 'lots';"), log)


class _Unrepeatable:
    """An operator that asks the outside world, around one that does not."""

    repeatable = False

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_what_cannot_be_repeated_is_stored_with_every_commit(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    from qanat.sql.embedded import operators

    fill(log, ["a"] * 10)
    original = operators._operator
    program = compile_script(TABLES)
    options = EngineOptions(snapshot_interval_ms=10**9)
    Engine(program, log, options).run()
    assert log.state("snapshot/copies") is None
    monkeypatch.setattr(operators, "_operator", lambda node, context: _Unrepeatable(original(node, context)))
    again = compile_script(TABLES.replace("copies", "others"))
    Engine(again, log, options).run()
    assert log.state("snapshot/others") is not None
    assert log.positions("others@snapshot") == log.positions("others")


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 bytes"), (1536, "1.5 kB"), (3 << 30, "3.0 GB"), (200 << 20, "200 MB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_states_find_their_operators_and_their_names() -> None:
    old = (Part("Filter", None), Part("A", "x", ("k", "s")), Part("B", "y", ("k",)))
    new = (Part("A", "x", ("key", "s")), Part("Project", None), Part("B", "y", ("k",)))
    frame = pl.DataFrame({"k": [1], "s": [2], "__time": [3]})
    found = carried([{}, {"parts": [frame], "n": 1}, {"f": frame}], old, new)
    assert found[0]["parts"][0].columns == ["key", "s", "__time"]
    assert (found[0]["n"], found[1]) == (1, {})
    assert found[2]["f"].columns == ["k", "s", "__time"]
    swapped = (Part("A", "x", ("s", "k")), Part("B", "y", ("k",)))
    assert carried([{}, {"f": frame}, {}], old, swapped)[0]["f"].to_dicts() == [{"s": 1, "k": 2, "__time": 3}]


def test_sizes_go_down_again(log: Log) -> None:
    fill(log, [f"k{i}" for i in range(2000)])
    program = compile_script(f"{TABLES} INSERT INTO totals {QUERIES['ARRAY_AGG']};".replace("'1' HOUR", "'10' SECOND"))
    engine = Engine(program, log, EngineOptions(batch_rows=100))
    engine.run()
    # all windows are out; up to 4096 keys are remembered, their rows are not
    assert sum(status.state_bytes for status in engine.status()) < 2000 * 200
