"""What is run and killed: streams full of disorder, pipelines of every operator kind, and their outputs as values.

Each scenario is one script over the same three streams. A run goes over all of a log that lies ready, so that it can be
killed, started again and compared with one that nobody disturbed.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.plan import Program

_START = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS, _CHUNK = 1_200, 12

TABLES = """
CREATE TABLE readings (k STRING, n BIGINT, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND);
CREATE TABLE states (k STRING, s STRING, at_ TIMESTAMP(3), WATERMARK FOR at_ AS at_ - INTERVAL '3' SECOND);
CREATE TABLE sites (k STRING, site STRING, valid TIMESTAMP(3), PRIMARY KEY (k) NOT ENFORCED,
  WATERMARK FOR valid AS valid - INTERVAL '3' SECOND);
"""

WINDOWS = """
CREATE TABLE tumbled (k STRING, w TIMESTAMP(3), c BIGINT, s DOUBLE);
INSERT INTO tumbled SELECT k, window_start, COUNT(*), SUM(v)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY k, window_start, window_end;
CREATE TABLE hopped (k STRING, w TIMESTAMP(3), a DOUBLE, vs ARRAY<DOUBLE>, d BIGINT);
INSERT INTO hopped SELECT k, window_start, AVG(v), ARRAY_AGG(v), COUNT(DISTINCT n)
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY k, window_start, window_end;
CREATE TABLE cumulated (k STRING, g BIGINT, w TIMESTAMP(3), m DOUBLE);
INSERT INTO cumulated SELECT k, GROUPING(k), window_end, MAX(v)
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end, ROLLUP (k);
CREATE TABLE sessions (k STRING, w TIMESTAMP(3), e TIMESTAMP(3), c BIGINT);
INSERT INTO sessions SELECT k, window_start, window_end, COUNT(*)
FROM TABLE(SESSION(TABLE readings PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' SECOND))
GROUP BY k, window_start, window_end;
CREATE TABLE best (k STRING, w TIMESTAMP(3), v DOUBLE, r BIGINT);
INSERT INTO best SELECT k, window_start, v, r FROM (SELECT *, ROW_NUMBER() OVER (
    PARTITION BY window_start, window_end, k ORDER BY v DESC) AS r
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))) WHERE r <= 2;
CREATE TABLE paired (k STRING, w TIMESTAMP(3), c BIGINT, s BIGINT);
INSERT INTO paired SELECT a.k, a.window_start, a.c, b.c
FROM (SELECT k, window_start, window_end, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
      GROUP BY k, window_start, window_end) AS a
LEFT JOIN (SELECT k, window_start, window_end, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE states, DESCRIPTOR(at_), INTERVAL '5' SECOND))
      GROUP BY k, window_start, window_end) AS b
ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end;
CREATE TABLE hourly (w TIMESTAMP(3), c BIGINT);
INSERT INTO hourly SELECT window_start, SUM(c) FROM (
  SELECT window_start, window_end, window_time, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
  GROUP BY window_start, window_end, window_time) GROUP BY window_start, window_end;
CREATE TABLE files (k STRING, w TIMESTAMP(3), c BIGINT) PARTITIONED BY (k)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/files', 'format' = 'json');
INSERT INTO files SELECT k, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY k, window_start, window_end;
"""

UPDATES = """
CREATE TABLE totals (k STRING, c BIGINT, s DOUBLE, d BIGINT, m DOUBLE, PRIMARY KEY (k) NOT ENFORCED);
INSERT INTO totals SELECT k, COUNT(*), SUM(v), COUNT(DISTINCT n), MIN(v) FROM readings GROUP BY k;
CREATE TABLE sizes (c BIGINT, n BIGINT, PRIMARY KEY (c) NOT ENFORCED);
INSERT INTO sizes SELECT c, COUNT(*) FROM (SELECT k, COUNT(*) AS c FROM readings GROUP BY k) GROUP BY c;
CREATE TABLE seen (k STRING, n BIGINT, PRIMARY KEY (k, n) NOT ENFORCED);
INSERT INTO seen SELECT DISTINCT k, n FROM readings;
CREATE TABLE newest (k STRING, n BIGINT, v DOUBLE, PRIMARY KEY (k) NOT ENFORCED);
INSERT INTO newest SELECT k, n, v
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS r FROM readings) WHERE r = 1;
CREATE TABLE top (k STRING, n BIGINT, v DOUBLE, r BIGINT, PRIMARY KEY (k, r) NOT ENFORCED);
INSERT INTO top SELECT k, n, v, r
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM readings) WHERE r <= 3;
CREATE TABLE by_size (c BIGINT, k STRING, PRIMARY KEY (c) NOT ENFORCED);
INSERT INTO by_size SELECT COUNT(*), k FROM readings GROUP BY k;
CREATE TABLE forgetful (k STRING, c BIGINT, PRIMARY KEY (k) NOT ENFORCED);
INSERT INTO forgetful SELECT /*+ STATE_TTL('readings' = '4 s') */ k, COUNT(*) FROM readings GROUP BY k;
CREATE TABLE changes (k STRING, c BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/changes', 'format' = 'debezium-json');
INSERT INTO changes SELECT site, COUNT(*) FROM sites GROUP BY site;
"""

JOINS = """
CREATE TABLE close_by (k STRING, n BIGINT, s STRING);
INSERT INTO close_by SELECT r.k, r.n, s.s FROM readings AS r LEFT JOIN states AS s
ON r.k = s.k AND r.ts BETWEEN s.at_ - INTERVAL '1' SECOND AND s.at_ + INTERVAL '1' SECOND;
CREATE TABLE matched (k STRING, n BIGINT, s STRING, at_ TIMESTAMP(3));
INSERT INTO matched SELECT r.k, r.n, s.s, s.at_
FROM readings AS r JOIN states AS s ON r.k = s.k AND r.n = CHAR_LENGTH(s.s);
CREATE TABLE outer_ (k STRING, n BIGINT, site STRING) WITH (
  'connector' = 'filesystem', 'path' = '${OUT}/outer', 'format' = 'debezium-json');
INSERT INTO outer_ SELECT r.k, r.n, s.site FROM readings AS r LEFT JOIN sites AS s ON r.k = s.k;
CREATE TABLE at_the_time (k STRING, n BIGINT, site STRING);
INSERT INTO at_the_time SELECT r.k, r.n, s.site
FROM readings AS r LEFT JOIN sites FOR SYSTEM_TIME AS OF r.ts AS s ON r.k = s.k;
CREATE TABLE with_state (k STRING, n BIGINT);
INSERT INTO with_state SELECT k, n FROM readings WHERE k IN (SELECT k FROM states);
CREATE TABLE running (k STRING, n BIGINT, s DOUBLE, c BIGINT);
INSERT INTO running SELECT k, n, SUM(v) OVER w, COUNT(*) OVER w FROM readings
WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW);
CREATE TABLE lagged (k STRING, n BIGINT, before_ BIGINT);
INSERT INTO lagged SELECT k, n, LAG(n) OVER (PARTITION BY k ORDER BY ts) FROM readings;
CREATE TABLE letters (k STRING, n BIGINT, letter STRING);
INSERT INTO letters SELECT k, n, letter FROM readings CROSS JOIN UNNEST(ARRAY[k, CAST(n AS STRING)]) AS u (letter);
"""

SCENARIOS = {"windows": WINDOWS, "updates": UPDATES, "joins": JOINS}


def compiled(name: str, folder: Path) -> Program:
    """The program of a scenario whose files go into `folder`."""
    return compile_script(TABLES + SCENARIOS[name], {"OUT": str(folder / "out")}, name)


def prepare(folder: Path, program: Program) -> None:
    """A log with all inputs in it."""
    folder.mkdir()
    log = open_log(_url(folder))
    for table in ("readings", "states", "sites"):
        stream = program.tables[table].stream
        assert stream is not None
        log.create(stream)
    drawn = random.Random(7)
    for first in range(0, _ROWS, _CHUNK):
        at = int(_START.timestamp() * 1000) + first * 20
        log.submit(Transaction([Append("readings", 0, _readings(drawn, first), at)])).result()
        if first % 5 == 0:
            log.submit(Transaction([Append("states", 0, _states(drawn, first), at)])).result()
        if first % 7 == 0:
            log.submit(Transaction([Append("sites", 0, _sites(drawn, first), at)])).result()
    log.close()


def _times(drawn: random.Random, first: int, count: int) -> pa.Array:
    """20 ms a row, most a little out of order, some far too late."""
    late = [drawn.choice([0, 0, 0, 500, 2_500, 12_000]) for _ in range(count)]
    plain = _START.replace(tzinfo=None)
    return pa.array(
        [plain + timedelta(milliseconds=(first + i) * 40 - late[i]) for i in range(count)], pa.timestamp("ms")
    )


def _readings(drawn: random.Random, first: int) -> pa.RecordBatch:
    count = range(_CHUNK)
    columns = {
        "k": pa.array([drawn.choice(["a", "b", "c", "d", "f"]) for _ in count]),
        "n": pa.array([first + i if drawn.random() < 0.8 else drawn.randrange(9) for i in count], pa.int64()),
        "v": pa.array([round(drawn.gauss(20, 5), 3) if drawn.random() < 0.95 else None for _ in count]),
        "ts": _times(drawn, first, _CHUNK),
    }
    return pa.RecordBatch.from_pydict(columns)


def _states(drawn: random.Random, first: int) -> pa.RecordBatch:
    keys = [drawn.choice("abce") for _ in range(4)]
    states = ["x" * drawn.randrange(9) for _ in range(4)]
    return pa.RecordBatch.from_pydict({"k": keys, "s": states, "at_": _times(drawn, first, 4)})


def _sites(drawn: random.Random, first: int) -> pa.RecordBatch:
    keys = [drawn.choice("abcde") for _ in range(2)]
    sites = [drawn.choice(["north", "south", "west"]) for _ in range(2)]
    gone = pa.array([3 if drawn.random() < 0.2 else None for _ in range(2)], pa.int8())
    return pa.RecordBatch.from_pydict({"k": keys, "site": sites, "valid": _times(drawn, first, 2), "__op": gone})


def run(folder: Path, program: Program) -> None:
    """From where the last run ended to the end of the inputs."""
    log = open_log(_url(folder))
    options = EngineOptions(batch_rows=61, commit_interval_ms=0, snapshot_interval_ms=15)
    try:
        Engine(program, log, options).run()
    finally:
        log.close()


def outputs(folder: Path, program: Program) -> dict[str, Any]:
    """Rows of each stream that the program writes, in order, late rows by pipeline, lines of its files by folder."""
    log = open_log(_url(folder), read_only=True)
    found: dict[str, Any] = {}
    for pipeline in program.pipelines:
        table = pipeline.sink
        assert table is not None
        if table.stream is not None:
            found[table.name] = _rows(log, table.name)
    late: dict[str, list[Any]] = defaultdict(list)
    for row in _rows(log, "late"):
        late[row["pipeline"]].append((row["operator"], row["event_time"], row["watermark"], row["row"]))
    log.close()
    return found | {"late": dict(late)} | _files(folder / "out")


def _rows(log: Log, stream: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    offset = 0
    while chunks := log.read((stream, 0), offset, 100_000):
        for chunk in chunks:
            found += chunk.rows.to_pylist()
        offset = chunks[-1].end
    return found


def _files(out: Path) -> dict[str, list[Any]]:
    """Lines by folder, in the order of the files' numbers. Nothing unfinished may be left."""
    found: dict[str, list[Any]] = defaultdict(list)
    paths = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert not [path for path in paths if path.name.startswith(".")]
    for path in sorted(paths, key=lambda path: int(path.name.rsplit("-", 1)[1])):
        found[str(path.parent.relative_to(out))] += [json.loads(line) for line in path.read_text().splitlines()]
    return dict(found)


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}"
