"""The laws of semantics, each by a test that is named after it: they fail when what the law promises is broken.

What these show at few rows is shown by force elsewhere: tests/conformance/sql (equal to Flink), tests/crash (deaths),
tests/sql/embedded/test_laws (random streams against a reference), tests/gateway (protocols).
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

import qanat
from qanat.errors import LogFullError, UnsupportedError
from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import V3, V5, Ack, Kind, Plain
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.options import CONNECTORS
from tests.crash.scenario import SCENARIOS
from tests.gateway.conftest import NOW
from tests.laws import inputs

_PING = b"\xc0\x00"
TUMBLE = "TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))"
READINGS = "CREATE TABLE readings (k STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);"


def stored(log: Log, stream: str) -> list[dict[str, Any]]:
    """All rows of a stream, partition by partition."""
    places = [(stream, partition) for partition in log.status()[stream].ends]
    return [row for place in places for chunk in log.read(place, 0, 10**6) for row in chunk.rows.to_pylist()]


def second(text: int | float) -> datetime:
    return datetime(2026, 1, 1) + timedelta(seconds=text)


def readings(*given: tuple[str, int, float]) -> pa.Table:
    """Rows of (key, number, second)."""
    keys, numbers, times = zip(*given, strict=True)
    return pa.table({"k": keys, "n": numbers, "ts": pa.array([second(t) for t in times], pa.timestamp("ms"))})


# --- 1, 2: batches and replays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_law_1_results_do_not_depend_on_batches(scenario: str, tmp_path: Path) -> None:
    whole = inputs.results(scenario, None, tmp_path / "whole")
    assert sum(len(found) for found in whole.values()) > 100
    assert scenario == "updates" or any(name.startswith("late of") for name in whole)
    for batch_rows in (1, 7):
        pieces = inputs.results(scenario, batch_rows, tmp_path / str(batch_rows))
        assert [name for name in whole if pieces[name] != whole[name]] == []
        assert pieces.keys() == whole.keys()


def test_law_2_same_log_same_answer(tmp_path: Path) -> None:
    """One log, replayed by two processes with other numbers of threads: the outputs are equal to the last byte."""
    ready = inputs.ready(tmp_path / "ready", "joins")
    replays = []
    for threads in ("1", "5"):
        folder = tmp_path / f"with {threads}"
        shutil.copytree(ready, folder)
        assert inputs.work(folder, "joins", POLARS_MAX_THREADS=threads) == 0
        replays.append(inputs.stored_bytes(folder, "joins"))
    assert min(len(rows) for rows in replays[0].values()) > 1_000
    assert [name for name, rows in replays[0].items() if replays[1][name] != rows] == []


# --- 3, 4, 5: time ---------------------------------------------------------------------------------------------------

_CASE = """
- case: a silent partition is left out and comes back
  date: 2026-01-01
  steps:
    - given:
        readings: |
          | k | n | ts       | @partition |
          | a | 1 | 10:00:01 | 0          |
          | b | 2 | 10:00:03 | 1          |
          | a | 3 | 10:00:25 | 0          |
    - expect:
        counts: 0
        watermark: {counts: "10:00:01"}
    - idle: readings/1
    - expect:
        counts: |
          | window_start | n |
          | 10:00:00     | 2 |
        watermark: {counts: "10:00:23"}
    - given:
        readings: |
          | k | n | ts       | @partition |
          | b | 4 | 10:00:14 | 1          |
    - expect:
        watermark: {counts: "10:00:23"}
  expect:
    counts: |
      | window_start | n |
      | 10:00:00     | 2 |
      | 10:00:20     | 1 |
    late: |
      | event_time | watermark |
      | 10:00:14   | 10:00:23  |
    watermark: {counts: end}
"""


def test_law_3_the_watermark_is_the_minimum_and_never_goes_back(tmp_path: Path) -> None:
    """Over partitions and inputs; without those that are idle; the end of a bounded input is the end of time."""
    (tmp_path / "counts.sql").write_text(
        READINGS.replace(");", ") WITH ('partitions' = '2', 'scan.watermark.idle-timeout' = '30 s');")
        + "CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT);"
        + f"INSERT INTO counts SELECT window_start, COUNT(*) FROM {TUMBLE} GROUP BY window_start, window_end;"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "idle.yaml").write_text(_CASE)
    (result,) = qanat.run_cases(tmp_path)
    assert result.passed, result.text()


def test_law_3_a_window_waits_for_every_input() -> None:
    """`other` is behind by a minute: no window of the union may close before its rows are in."""
    sql = (
        READINGS
        + READINGS.replace("readings", "other")
        + (
            "CREATE VIEW both_ AS SELECT k, n, ts FROM readings UNION ALL SELECT k, n, ts FROM other;"
            "SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE both_, DESCRIPTOR(ts), INTERVAL '10' SECOND))"
            " GROUP BY window_start, window_end"
        )
    )
    ahead = readings(*(("a", i, 60 + i) for i in range(20)))
    behind = readings(*(("b", i, i) for i in range(60)))
    for batch_rows in (1, 7, None):
        found = qanat.run(sql, {"readings": ahead, "other": behind}, batch_rows=batch_rows)
        assert [row["n"] for row in found["result"].to_pylist()] == [10] * 8
        assert found["late"].num_rows == 0


@pytest.mark.parametrize("batch_rows", [1, 7, None])
def test_law_4_late_rows_are_never_silently_lost(batch_rows: int | None) -> None:
    """Every row is in its window, or in `late` with a watermark that had closed it."""
    given = inputs.rows(200)["readings"].select(["k", "n", "ts"])
    found = qanat.run(
        f"{READINGS} SELECT window_start, COUNT(*) AS n FROM {TUMBLE} GROUP BY window_start, window_end",
        {"readings": given},
        batch_rows=batch_rows,
    )
    late = found["late"].to_pylist()
    times = given["ts"].to_pylist()
    start = {time: time - timedelta(seconds=time.second % 10, microseconds=time.microsecond) for time in times}
    all_rows = Counter(start[time] for time in times)
    in_windows = {row["window_start"]: row["n"] for row in found["result"].to_pylist()}
    condemned = Counter(start[row["event_time"].replace(tzinfo=None)] for row in late)
    assert len(late) > 10
    assert all_rows == Counter(in_windows) + condemned
    for row in late:
        closed = start[row["event_time"].replace(tzinfo=None)] + timedelta(seconds=10, milliseconds=-1)
        assert row["watermark"].replace(tzinfo=None) >= closed
        assert row["reason"]
        assert datetime.fromisoformat(json.loads(row["row"])["ts"]) == row["event_time"].replace(tzinfo=None)


def test_law_4_a_row_that_misses_some_of_its_windows_is_counted_as_partly_late() -> None:
    log = open_log("memory://")
    sql = f"""{READINGS} CREATE TABLE hops (window_start TIMESTAMP(3), n BIGINT);
      INSERT INTO hops SELECT window_start, COUNT(*)
      FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
      GROUP BY window_start, window_end;"""
    given = readings(("a", 1, 1), ("a", 2, 13), ("a", 3, 6), ("a", 4, 1))
    engine = Engine(compile_script(sql), log, EngineOptions(), inputs={"readings": given})
    engine.run()
    status = engine.status()[0]
    assert (status.partly_late, status.late) == (1, 1)
    assert [(row["window_start"].second, row["n"]) for row in stored(log, "hops")] == [(55, 1), (0, 1), (5, 2), (10, 1)]
    assert [row["event_time"].second for row in stored(log, "late")] == [1]
    log.close()


POWER = """CREATE TABLE `power` (client_id STRING, `timestamp` BIGINT, consumption DOUBLE,
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT);
INSERT INTO counts SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE `power`, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;"""


def test_law_5_a_broken_clock_cannot_stop_the_stream(start: Callable[..., Any]) -> None:
    """A device whose clock is ten years ahead, between two that are right."""
    log = open_log("memory://")
    program = compile_script(POWER)
    log.create(program.tables["power"].stream)  # type: ignore[arg-type]
    running = start(log, accepts=frozenset({"power"}))
    now = NOW // 1000
    times = [now, now + 299, now + 301, now + 10 * 365 * 86_400, now + 1]
    for number, time in enumerate(times):
        row = {"client_id": f"m{number}", "timestamp": time, "consumption": 1.0}
        httpx.post(f"{running.url}/streams/power", json=row)
    running.stop()
    Engine(program, log, EngineOptions()).run()
    assert [row["client_id"] for row in stored(log, "power")] == ["m0", "m1", "m4"]
    dead = stored(log, "dead_letters")
    assert [json.loads(row["data"])["client_id"] for row in dead] == ["m2", "m3"]
    assert all("future" in row["reason"] or "ahead" in row["reason"] for row in dead)
    # five minutes ahead is allowed and moves the watermark; ten years would have condemned m4 with ten years
    assert [row["watermark"] for row in stored(log, "late")] == [datetime.fromtimestamp(now + 297, UTC)]
    assert sum(row["n"] for row in stored(log, "counts")) == 2
    log.close()


# --- 6, 7: what was taken, and what was not ---------------------------------------------------------------------------


def row_of(number: int) -> dict[str, Any]:
    return {"client_id": "m1", "timestamp": NOW // 1000, "consumption": float(number)}


def after_a_power_cut(folder: Path, copy: Path) -> list[float]:
    """What a log would hold that was never closed: its files as they lie there at this moment."""
    copy.mkdir()
    for path in folder.glob("log.db*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, copy / path.name)
    log = open_log(f"sqlite:///{copy}/log.db")
    found = [row["consumption"] for row in stored(log, "power")]
    log.close()
    return found


@pytest.mark.parametrize("version", [V3, V5])
def test_law_6_nothing_that_was_acknowledged_is_lost(
    start: Callable[..., Any], raw: Callable[..., Any], tmp_path: Path, version: int
) -> None:
    """At the moment of each PUBACK and each HTTP 200 the row is in the files of the log."""
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    log.create(compile_script(POWER).tables["power"].stream)  # type: ignore[arg-type]
    running = start(log, accepts=frozenset({"power"}))
    client = raw(running.mqtt, version)
    for number in range(3):
        client.send(encode_publish("power", json.dumps(row_of(number)).encode(), 1, number + 1, version))
        ack = client.read()
        assert isinstance(ack, Ack)
        assert (ack.kind, ack.packet_id) == (Kind.PUBACK, number + 1)
        assert after_a_power_cut(tmp_path, tmp_path / f"mqtt{number}") == list(range(number + 1))
    for number in range(3, 5):
        assert httpx.post(f"{running.url}/streams/power", json=row_of(number)).status_code == 200
        assert after_a_power_cut(tmp_path, tmp_path / f"http{number}") == list(range(number + 1))
    running.stop()
    log.close()


def test_law_6_the_acknowledgement_waits_for_the_commit(
    start: Callable[..., Any], raw: Callable[..., Any], fake_log: Any
) -> None:
    fake_log.held = True
    running = start(fake_log)
    client = raw(running.mqtt, V5)
    client.send(encode_publish("power", json.dumps(row_of(1)).encode(), 1, 7, V5))
    assert fake_log.submitted.acquire(timeout=20)
    client.send(_PING)
    assert client.read() == Plain(Kind.PINGRESP)  # the server goes on; a PUBACK would have come first
    answers: list[httpx.Response] = []
    post = threading.Thread(target=lambda: answers.append(httpx.post(f"{running.url}/streams/power", json=row_of(2))))
    post.start()
    assert fake_log.submitted.acquire(timeout=20)
    assert answers == []
    running.loop.call_soon_threadsafe(fake_log.release)
    ack = client.read()
    assert isinstance(ack, Ack)
    assert ack.packet_id == 7
    post.join(20)
    assert answers[0].status_code == 200


def test_law_6_what_cannot_be_taken_now_is_refused_with_a_time(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.fail_with = LogFullError("the disk is full")
    running = start(fake_log)
    answer = httpx.post(f"{running.url}/streams/power", json=row_of(1))
    assert (answer.status_code, fake_log.stored) == (507, [])
    assert int(answer.headers["retry-after"]) >= 1
    fake_log.fail_with = None
    assert httpx.post(f"{running.url}/streams/power", json=row_of(1)).status_code == 200
    assert len(fake_log.rows("power")) == 1


def test_law_7_bad_data_has_an_address(start: Callable[..., Any], raw: Callable[..., Any]) -> None:
    """Bytes, reason, source, topic or path, client, time of arrival; and once repaired it can be sent again."""
    running = start()
    client = raw(running.mqtt, V5, client_id="meter-7")
    bad = b'{"client_id": "m1", "timestamp": 5, "consumption": "\xff"}'
    client.send(encode_publish("power/7", bad, 1, 1, V5))
    assert isinstance(client.read(), Ack)
    running.now = NOW + 1_000
    httpx.post(f"{running.url}/streams/power", content=b'{"client_id": 3')
    first, second_ = running.log.rows("dead_letters")
    assert (first["data"], first["source"], first["origin"], first["client"]) == (bad, "mqtt", "power/7", "meter-7")
    assert (first["stream"], first["arrived"]) == ("power", datetime.fromtimestamp(NOW / 1000, UTC))
    assert (second_["data"], second_["source"], second_["stream"]) == (b'{"client_id": 3', "http", "power")
    assert second_["arrived"] == datetime.fromtimestamp(NOW / 1000 + 1, UTC)
    assert all(row["reason"] for row in (first, second_))
    assert running.log.rows("power") == []
    repaired = first["data"].replace(b'"\xff"', b"1.5")
    assert httpx.post(f"{running.url}/streams/power", content=repaired).status_code == 200
    assert [row["consumption"] for row in running.log.rows("power")] == [1.5]


def test_law_7_bad_lines_of_files_have_one_too(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"k": "a", "n": 1}\n{"k": "b", "n": "many"}\nnonsense\n')
    sql = f"""CREATE TABLE t (k STRING, n BIGINT)
      WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/in.json', 'format' = 'json'); SELECT k, n FROM t"""
    found = qanat.run(sql)
    assert found["result"].to_pylist() == [{"k": "a", "n": 1}]
    dead = found["dead_letters"].to_pylist()
    assert [row["data"] for row in dead] == [b'{"k": "b", "n": "many"}', b"nonsense"]
    assert all(row["source"] == "file" and row["reason"] and row["arrived"] for row in dead)
    assert [re.findall(r"in\.json\D+(\d+)", row["origin"]) for row in dead]


# --- 8, 9: exactly once ----------------------------------------------------------------------------------------------


#: Where the process dies, and at which time that it comes there; then it is started again.
DEATHS = (
    ("before COMMIT", 9),
    ("files durable", 2),
    ("after COMMIT", 15),
    ("before files are renamed", 1),
    ("snapshot packed", 3),
)


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What every window pipeline wrote in an undisturbed run, and in one that was killed again and again."""
    plain, killed = (inputs.ready(tmp_path_factory.mktemp("laws") / name, "windows") for name in ("plain", "killed"))
    assert inputs.work(plain, "windows") == 0
    for death in DEATHS:
        assert inputs.work(killed, "windows", death) < 0, death
    assert inputs.work(killed, "windows") == 0
    return inputs.found(plain, "windows"), inputs.found(killed, "windows")


def test_law_8_exactly_once_from_log_to_log(survived: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The same rows are there in the end, late ones too, in this order."""
    expected, outcome = survived
    streams = ["tumbled", "hopped", "cumulated", "sessions", "best", "paired", "hourly", "late"]
    assert all(expected[name] for name in streams)
    assert [name for name in streams if outcome.get(name) != expected[name]] == []


def test_law_9_sinks_outside_the_log_state_their_guarantee_and_keep_it(
    survived: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """The filesystem: exactly once, also where death comes between the commit and the renaming of its files."""
    page = (inputs.ROOT / "docs" / "sql.md").read_text()
    stated = dict(re.findall(r"^\| `(\w+)` \| (exactly once|at least once|nothing is kept)", page, re.MULTILINE))
    assert stated.keys() == {name for name in CONNECTORS if name is not None} - {"jdbc"}
    assert stated["filesystem"] == "exactly once"
    expected, outcome = survived
    files = [name for name in expected if name.startswith("files")]
    assert sum(len(expected[name]) for name in files) > 20
    assert {name: expected[name] for name in files} == {name: outcome.get(name) for name in files}


# --- 10, 11, 12: order, values, refusals -----------------------------------------------------------------------------


def test_law_10_rows_of_one_key_keep_their_order_through_every_stage() -> None:
    """A filter, a second stream, a join with a third; arrays over time are in order of time."""
    log = open_log("memory://")
    sql = f"""{READINGS}
      CREATE TABLE passed (k STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
        WITH ('partitions' = '3');
      CREATE TABLE named (k STRING, n BIGINT, name STRING);
      CREATE TABLE names (k STRING, name STRING, since TIMESTAMP(3), WATERMARK FOR since AS since);
      CREATE TABLE arrays (k STRING, ns ARRAY<BIGINT>, seconds ARRAY<BIGINT>);
      INSERT INTO passed SELECT k, n, ts FROM readings WHERE n >= 0;
      INSERT INTO named SELECT p.k, p.n, m.name FROM passed AS p JOIN names AS m ON p.k = m.k;
      INSERT INTO arrays SELECT k, ARRAY_AGG(n), ARRAY_AGG(EXTRACT(SECOND FROM ts))
      FROM TABLE(TUMBLE(TABLE passed, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;"""
    program = compile_script(sql)
    for name in ("readings", "names"):
        log.create(program.tables[name].stream)  # type: ignore[arg-type]
    names = pa.table({"k": ["a", "b"], "name": ["Ada", "Ben"], "since": pa.array([second(0)] * 2, pa.timestamp("ms"))})
    log.submit(Transaction([Append("names", 0, names.to_batches()[0], 0)])).result()
    for first in range(0, 30, 3):  # each second one of a key is a second and a half earlier than the one before
        given = [("ab"[i % 2], i, i - (1.5 if i % 4 > 1 else 0)) for i in range(first, first + 3)]
        log.submit(Transaction([Append("readings", 0, readings(*given).to_batches()[0], 0)])).result()
    Engine(program, log, EngineOptions(batch_rows=4)).run()
    for stream in ("passed", "named"):
        rows = stored(log, stream)
        for key, numbers in (("a", range(0, 30, 2)), ("b", range(1, 30, 2))):
            assert [row["n"] for row in rows if row["k"] == key] == list(numbers), stream
    arrays = stored(log, "arrays")
    assert sorted(row["k"] for row in arrays) == ["a", "b"]
    for row in arrays:
        assert row["seconds"] == sorted(row["seconds"])
        assert len(row["ns"]) == 15
    log.close()


def test_law_11_nulls_types_and_arithmetic_follow_flink() -> None:
    """As Flink 2.3 answers to the same rows."""
    given = pa.table(
        {
            "i": pa.array([2**31 - 1, 2, None], pa.int32()),
            "b": pa.array([2**63 - 1, 1, None], pa.int64()),
            "d": pa.array([Decimal("10.00"), Decimal("3.00"), None], pa.decimal128(10, 2)),
            "ts": pa.array([datetime(2026, 1, 1, 10, 0, i, 123_456) for i in range(3)], pa.timestamp("us")),
        }
    )
    table = "CREATE TABLE t (i INT, b BIGINT, d DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts);"
    found = qanat.run(
        f"{table} SELECT i + 1 AS i, b + 1 AS b, i / 2 AS h, d * d AS m, d / 3.00 AS q, ts FROM t", {"t": given}
    )
    rows = found["result"]
    assert rows.drop_columns(["ts"]).to_pylist()[:2] == [
        {"i": -(2**31), "b": -(2**63), "h": 2**30 - 1, "m": Decimal("100.0000"), "q": Decimal("3.333333")},
        {"i": 3, "b": 2, "h": 1, "m": Decimal("9.0000"), "q": Decimal("1.000000")},
    ]
    assert set(rows.drop_columns(["ts"]).to_pylist()[2].values()) == {None}
    assert [str(rows.schema.field(name).type) for name in ("i", "h", "m", "ts")] == [
        "int32", "int32", "decimal128(21, 4)", "timestamp[ms]",
    ]  # fmt: skip
    assert rows["ts"].to_pylist()[0] == datetime(2026, 1, 1, 10, 0, 0, 123_000)

    def totals(calls: str) -> list[dict[str, Any]]:
        window = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end"
        return qanat.run(f"{table} SELECT {calls} FROM {window}", {"t": given})["result"].to_pylist()  # type: ignore[no-any-return]

    (counts,) = totals("COUNT(*) AS n, COUNT(i) AS c, SUM(i) AS s, MIN(b) AS lo, COUNT(*) FILTER (WHERE i > 2) AS some")
    assert counts == {"n": 3, "c": 2, "s": -(2**31) + 1, "lo": 1, "some": 1}
    assert totals("AVG(i) AS a") == [{"a": 2**30}]
    (decimals,) = totals("SUM(d) AS s, AVG(d) AS a")
    assert [str(value) for value in decimals.values()] == ["13.00", "6.500000"]


REFUSED = {
    "SELECT k FROM readings\nORDER BY n": (2, 10, "ORDER BY", "LIMIT"),
    "SELECT k,\n  RAND() AS x FROM readings": (2, 3, "RAND", "replay"),
    "SELECT *\nFROM readings\nMATCH_RECOGNIZE (PARTITION BY k)": (3, 1, "MATCH_RECOGNIZE", "SESSION"),
    "SELECT k FROM readings\n  EXCEPT SELECT k FROM readings": (1, 8, "EXCEPT", "NOT IN"),
    "CREATE TABLE x (a INT) WITH ('connector' = 'kafka')": (1, 44, "kafka", "filesystem"),
}


@pytest.mark.parametrize("sql", REFUSED)
def test_law_12_what_is_not_supported_is_refused_when_parsed(sql: str, tmp_path: Path) -> None:
    """Place, excerpt with a caret, what was found, what to write instead; nothing runs, and nothing is written."""
    line, column, found, instead = REFUSED[sql]
    files = f"'connector' = 'filesystem', 'path' = '{tmp_path}/out', 'format' = 'csv'"
    before = f"{READINGS} CREATE TABLE out_ (k STRING) WITH ({files});\nINSERT INTO out_ SELECT k FROM readings;\n"
    with pytest.raises(UnsupportedError) as caught:
        qanat.run(before + sql, {"readings": readings(("a", 1, 1))})
    said = str(caught.value).splitlines()
    assert (caught.value.line, caught.value.column) == (line + 2, column)
    assert said[0].startswith(f"SQL:{line + 2}:{column}: ")
    assert found in said[0]
    assert said[1].strip() == sql.splitlines()[line - 1].strip()
    assert said[2].index("^") - (len(said[1]) - len(said[1].lstrip())) == column - 1 - (
        len(sql.splitlines()[line - 1]) - len(sql.splitlines()[line - 1].lstrip())
    )
    assert instead in said[3]
    assert not (tmp_path / "out").exists()
