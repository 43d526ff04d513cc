"""The engine over a log: files in, files out, chains, late rows and dead letters, resuming after a stop."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from qanat.errors import ConfigError, LogError
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.embedded.connectors.filesystem_source import FileSource

SOURCE = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '{folder}/in', 'format' = 'json');
CREATE TABLE totals (k STRING, window_start TIMESTAMP(3), n BIGINT, s DOUBLE)
  WITH ('connector' = 'filesystem', 'path' = '{folder}/out', 'format' = 'json');
"""
TOTALS = """INSERT INTO totals SELECT k, window_start, COUNT(*), SUM(v)
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;"""
STREAM = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, window_start TIMESTAMP(3), n BIGINT, s DOUBLE);
"""


def line(key: str, value: object, second: float) -> str:
    whole, part = divmod(round(second * 1000), 1000)
    stamp = f"2026-01-01 00:{whole // 60:02d}:{whole % 60:02d}.{part:03d}"
    return json.dumps({"k": key, "v": value, "ts": stamp}) + "\n"


def write_input(folder: Path, lines: list[str], name: str = "a.jsonl") -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_text("".join(lines))


def output(folder: Path) -> list[dict[str, object]]:
    parts = sorted((folder / "out").glob("part-*"))
    return [json.loads(text) for part in parts for text in part.read_text().splitlines()]


def log_rows(log: Log, stream: str) -> list[dict[str, object]]:
    places = [(stream, partition) for partition in log.status()[stream].ends]
    return [row for place in places for chunk in log.read(place, 0, 10**6) for row in chunk.rows.to_pylist()]


@pytest.fixture
def log(tmp_path: Path):
    opened = open_log(f"sqlite:///{tmp_path}/log.db")
    yield opened
    opened.close()


def run(sql: str, log: Log, **options: int) -> Engine:
    engine = Engine(compile_script(sql), log, EngineOptions(**options))
    engine.run()
    return engine


@pytest.mark.parametrize("batch_rows", [1, 7, 100_000])
def test_files_in_files_out(tmp_path: Path, log: Log, batch_rows: int) -> None:
    write_input(tmp_path, [line("a" if i % 2 else "ü", i, i) for i in range(25)])
    engine = run(SOURCE.format(folder=tmp_path) + TOTALS, log, batch_rows=batch_rows)
    assert output(tmp_path) == [
        {"k": key, "window_start": f"2026-01-01 00:00:{start:02d}", "n": n, "s": float(total)}
        for start, rows in ((0, range(10)), (10, range(10, 20)), (20, range(20, 25)))
        for key, n, total in (
            ("a", len([i for i in rows if i % 2]), sum(i for i in rows if i % 2)),
            ("ü", len([i for i in rows if not i % 2]), sum(i for i in rows if not i % 2)),
        )
    ]
    status = engine.status()[0]
    assert (status.state, status.rows_in, status.rows_out) == ("finished", 25, 6)


def test_several_files_in_order_of_name_and_hidden_ones_left_alone(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, 30)], "b.jsonl")
    write_input(tmp_path, [line("a", 1, 1)], "a.jsonl")
    write_input(tmp_path, ["nonsense"], ".hidden")
    write_input(tmp_path, ["nonsense"], "_also")
    run(SOURCE.format(folder=tmp_path) + TOTALS, log)
    assert [row["window_start"] for row in output(tmp_path)] == ["2026-01-01 00:00:00", "2026-01-01 00:00:30"]


def test_broken_lines_of_a_file_become_dead_letters(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, 1), "{broken\n", line("a", "x", 2), line("a", 2, 3)])
    engine = run(SOURCE.format(folder=tmp_path) + TOTALS, log, batch_rows=1)
    assert [row["n"] for row in output(tmp_path)] == [2]
    dead = log_rows(log, "dead_letters")
    assert [row["data"] for row in dead] == [b"{broken", line("a", "x", 2).strip().encode()]
    assert all(row["stream"] == "readings" and row["source"] == "file" for row in dead)
    assert "a.jsonl" in str(dead[0]["origin"])
    assert engine.status()[0].dead_letters == 2


def test_law_4_late_rows_go_to_the_late_stream_with_their_watermark(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, 1), line("a", 1, 13), line("b", 7, 2), line("a", 1, 14)])
    engine = run(SOURCE.format(folder=tmp_path) + TOTALS, log)
    (late,) = log_rows(log, "late")
    assert json.loads(str(late["row"]))["k"] == "b"
    assert str(late["watermark"])[:19] == "2026-01-01 00:00:11"
    assert str(late["event_time"])[:19] == "2026-01-01 00:00:02"
    assert (late["pipeline"], engine.status()[0].late) == ("totals", 1)


def test_a_pipeline_reads_what_another_one_writes(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, i / 2) for i in range(60)])
    sql = f"""{SOURCE.format(folder=tmp_path)}
    CREATE TABLE seconds (k STRING, at_ TIMESTAMP(3), n BIGINT, WATERMARK FOR at_ AS at_ - INTERVAL '1' SECOND);
    INSERT INTO seconds SELECT k, window_start, COUNT(*)
      FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
    INSERT INTO totals SELECT k, window_start, SUM(n), 0.0
      FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(at_), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;"""
    run(sql, log, batch_rows=7)
    assert [row["n"] for row in output(tmp_path)] == [20, 20, 20]


def test_a_finished_run_does_nothing_when_it_is_run_again(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, i) for i in range(25)])
    run(SOURCE.format(folder=tmp_path) + TOTALS, log)
    first = output(tmp_path)
    run(SOURCE.format(folder=tmp_path) + TOTALS, log)
    assert output(tmp_path) == first


@pytest.mark.parametrize("snapshot_interval_ms", [0, 10**9])
def test_law_8_a_run_cut_at_every_commit_ends_like_one_that_was_not(tmp_path: Path, snapshot_interval_ms: int) -> None:
    lines = [line("ab"[i % 2], i / 7, 5 + i * 0.7 - (3 if i % 5 == 0 else 0)) for i in range(60)]
    write_input(tmp_path, [*lines, "{broken\n"])
    sql = SOURCE.format(folder=tmp_path) + TOTALS
    whole = open_log("memory://")
    run(sql, whole)
    expected, late = output(tmp_path), log_rows(whole, "late")
    for part in (tmp_path / "out").iterdir():
        part.unlink()
    url, rounds, state = f"sqlite:///{tmp_path}/cut.db", 0, ""
    while state != "finished":
        cut = open_log(url)
        engine = Engine(
            compile_script(sql),
            _Stopping(cut, after=2),
            EngineOptions(batch_rows=5, commit_interval_ms=0, snapshot_interval_ms=snapshot_interval_ms),
        )
        with contextlib.suppress(_KilledError):
            engine.run()
        state = engine.status()[0].state
        if state == "finished":
            assert log_rows(cut, "late") == late
            assert len(log_rows(cut, "dead_letters")) == 1
        cut.close()
        rounds += 1
    assert rounds >= 3
    assert output(tmp_path) == expected
    assert not list((tmp_path / "out").glob(".*"))


class _KilledError(Exception):
    """The end of a process, as far as the engine can tell."""


class _Stopping:
    """A log that dies after so many commits: the last one is stored, but nobody hears of it."""

    def __init__(self, log: Log, after: int) -> None:
        self._log, self._left = log, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def submit(self, transaction: Transaction):
        done = self._log.submit(transaction)
        if transaction.positions or transaction.state:
            self._left -= 1
        if self._left < 0:
            done.result()
            raise _KilledError
        return done


def rows(keys: list[str], values: list[float], seconds: list[float]) -> pa.RecordBatch:
    program = compile_script(STREAM)
    stream = program.tables["readings"].stream
    assert stream is not None
    times = pa.array([int(s * 1000) + 1_767_225_600_000 for s in seconds]).cast(pa.timestamp("ms"))
    schema = schema_of((c.name, c.type) for c in stream.columns)
    return pa.RecordBatch.from_arrays([pa.array(keys), pa.array(values), times], schema=schema)


def append(log: Log, batch: pa.RecordBatch, partition: int = 0) -> None:
    log.submit(Transaction([Append("readings", partition, batch, at=0)])).result()


def until(check: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_live_streams_are_followed_until_stop(log: Log) -> None:
    engine = Engine(compile_script(STREAM + TOTALS), log, EngineOptions(live=True))
    thread = threading.Thread(target=engine.run)
    thread.start()
    append(log, rows(["a", "a"], [1.0, 2.0], [1, 2]))
    append(log, rows(["a"], [4.0], [12]))
    until(lambda: len(log_rows(log, "totals")) == 1)
    engine.stop()
    thread.join()
    assert log_rows(log, "totals")[0]["s"] == 3.0
    assert engine.status()[0].state == "stopped"
    resumed = Engine(compile_script(STREAM + TOTALS), log, EngineOptions(live=True))
    thread = threading.Thread(target=resumed.run)
    thread.start()
    append(log, rows(["a"], [8.0], [30]))
    until(lambda: len(log_rows(log, "totals")) == 2)
    resumed.stop()
    thread.join()
    assert [row["s"] for row in log_rows(log, "totals")] == [3.0, 4.0]


def test_law_3_a_silent_partition_holds_the_watermark_until_it_is_idle(log: Log) -> None:
    sql = STREAM.replace(
        "INTERVAL '2' SECOND)", "INTERVAL '2' SECOND) WITH ('partitions' = '2', 'scan.watermark.idle-timeout' = '1 s')"
    )
    engine = Engine(compile_script(sql + TOTALS), log, EngineOptions(live=True))
    thread = threading.Thread(target=engine.run)
    thread.start()
    started = time.monotonic()
    append(log, rows(["a"], [1.0], [1]))
    append(log, rows(["a"], [1.0], [20]))
    until(lambda: len(log_rows(log, "totals")) == 1)
    assert time.monotonic() - started > 0.9
    append(log, rows(["b"], [1.0], [3]), partition=1)  # comes back behind the watermark: late, which stays where it is
    until(lambda: len(log_rows(log, "late")) == 1)
    engine.stop()
    thread.join()


def test_law_3_a_row_after_all_partitions_were_silent_is_judged_as_any_other(log: Log) -> None:
    idle = "INTERVAL '2' SECOND) WITH ('partitions' = '2', 'scan.watermark.idle-timeout' = '20 ms')"
    sql = STREAM.replace("INTERVAL '2' SECOND)", idle)
    engine = Engine(compile_script(sql + TOTALS), log, EngineOptions(live=True))
    thread = threading.Thread(target=engine.run)
    thread.start()
    append(log, rows(["a"], [1.0], [20]))
    until(lambda: engine.status()[0].watermark == 1_767_225_618_000)  # both are left out
    append(log, rows(["a"], [2.0], [25]))
    append(log, rows(["a"], [4.0], [40]))
    until(lambda: len(log_rows(log, "totals")) == 1)
    engine.stop()
    thread.join()
    assert [row["s"] for row in log_rows(log, "totals")] == [3.0]
    assert log_rows(log, "late") == []


def test_one_failed_pipeline_leaves_the_others_alive(tmp_path: Path, log: Log) -> None:
    (tmp_path / "out").write_text("a file stands where the folder should be")
    sql = f"""{STREAM}
    CREATE TABLE broken (k STRING) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/none', 'format' = 'json');
    CREATE TABLE copy_ (k STRING);
    INSERT INTO copy_ SELECT k FROM broken;
    {TOTALS}"""
    engine = Engine(compile_script(sql), log, EngineOptions(live=True))
    thread = threading.Thread(target=engine.run)
    thread.start()
    until(lambda: engine.status()[0].state == "failed")
    append(log, rows(["a"], [1.0], [1]))
    append(log, rows(["a"], [1.0], [20]))
    until(lambda: len(log_rows(log, "totals")) == 1)
    assert "no file or folder" in str(engine.status()[0].error)
    assert engine.status()[1].state == "running"
    engine.stop()
    thread.join()


def test_a_bounded_run_raises_what_made_a_pipeline_fail(tmp_path: Path, log: Log) -> None:
    with pytest.raises(ConfigError, match="no file or folder"):
        run(SOURCE.format(folder=tmp_path) + TOTALS, log)


class _Counted:
    """Metrics that remember the last call."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[object, ...]] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.last.update({name: values})


def test_a_live_pipeline_reports_lag_watermark_and_latency(log: Log) -> None:
    metrics = _Counted()
    engine = Engine(compile_script(STREAM + TOTALS), log, EngineOptions(live=True), metrics=metrics)
    thread = threading.Thread(target=engine.run)
    thread.start()
    now = int(time.time() * 1000)
    for second in (1, 13):
        log.submit(Transaction([Append("readings", 0, rows(["a"], [1.0], [second]), at=now)])).result()
    until(lambda: "pipeline_latency" in metrics.last and metrics.last["pipeline_lag"] == ("totals", 0))
    engine.stop()
    thread.join()
    name, seconds = metrics.last["pipeline_latency"]
    assert name == "totals"
    assert isinstance(seconds, list)
    assert all(0 <= s < 20 for s in seconds)
    assert metrics.last["pipeline_watermark"] == ("totals", 1_767_225_611_000)


def test_csv_and_parquet_come_in_and_go_out(tmp_path: Path, log: Log) -> None:
    (tmp_path / "in.csv").write_text('k,v,ts\na,1.5,2026-01-01 00:00:01\n"b,c",,2026-01-01 00:00:02\nbroken\n')
    columns = "k STRING, v DOUBLE, ts TIMESTAMP(3)"
    sql = f"""
    CREATE TABLE source ({columns})
      WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/in.csv', 'format' = 'csv', 'csv.header' = 'true',
            'csv.null-literal' = '');
    CREATE TABLE middle ({columns}) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/mid', 'format' = 'parquet');
    INSERT INTO middle SELECT * FROM source;"""
    run(sql, log)
    assert len(log_rows(log, "dead_letters")) == 1
    again = f"""
    CREATE TABLE middle ({columns}) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/mid', 'format' = 'parquet');
    CREATE TABLE target ({columns}) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/out', 'format' = 'csv');
    INSERT INTO target SELECT k, v * 2 AS v, ts FROM middle;"""
    run(again, open_log("memory://"))
    (part,) = (tmp_path / "out").glob("part-*")
    assert part.read_text().splitlines() == ["a,3.0,2026-01-01 00:00:01", '"b,c",,2026-01-01 00:00:02']


def test_names_that_stay_do_not_hide_what_is_computed(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 2, 1)])
    sql = SOURCE.format(folder=tmp_path) + "CREATE TABLE same (k STRING, v DOUBLE, ts TIMESTAMP(3));"
    run(sql + "INSERT INTO same SELECT k, v * 10 AS v, ts FROM readings;", log)
    assert [row["v"] for row in log_rows(log, "same")] == [20.0]


def test_print_and_blackhole(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    write_input(tmp_path, [line("a\u2028b", 2, 1)])
    sql = f"""{SOURCE.format(folder=tmp_path)}
    CREATE TABLE shown (k STRING, v DOUBLE) WITH ('connector' = 'print', 'print-identifier' = 'p');
    CREATE TABLE gone (k STRING) WITH ('connector' = 'blackhole');
    INSERT INTO shown SELECT k, v FROM readings; INSERT INTO gone SELECT k FROM readings;"""
    engine = run(sql, log)
    assert capsys.readouterr().out == 'p> {"k":"a\u2028b","v":2.0}\n'
    assert [status.rows_out for status in engine.status()] == [1, 1]


def test_how_far_a_run_is_through_its_files(tmp_path: Path, log: Log) -> None:
    write_input(tmp_path, [line("a", 1, i) for i in range(30)], "a.jsonl")
    write_input(tmp_path, [line("a", 1, i + 30) for i in range(10)], "b.jsonl")
    program = compile_script(SOURCE.format(folder=tmp_path) + TOTALS)
    source = FileSource(program.tables["readings"], [], block_bytes=500)
    found = [source.fraction(None), source.fraction({"file": f"{tmp_path}/in/b.jsonl", "offset": 0})]
    assert found == [0.0, pytest.approx(0.75, abs=0.01)]
    engine = Engine(program, log)
    engine.run()
    assert engine.status()[0].fraction == 1.0


def test_a_second_engine_on_the_same_pipeline_cannot_write(log: Log) -> None:
    program = compile_script(STREAM + TOTALS)
    runners = [Engine(program, log, EngineOptions(live=True)).open(program.pipelines[0]) for _ in range(2)]
    append(log, rows(["a", "a"], [1.0, 2.0], [1, 20]))
    runners[0].step()
    runners[0].flush()
    runners[1].step()
    with pytest.raises(LogError):
        runners[1].flush()
    for runner in runners:
        runner.close()
    assert len(log_rows(log, "totals")) == 1
