"""A project with a log: rows go in, pipelines run live until they have read them, then the SQL changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from qanat.control import Changes, Stage, apply, diff, read_actual
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import Stream
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.embedded.stored_plans import stored_plan
from qanat.sql.plan import Program

TABLES = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, window_start TIMESTAMP(3), n BIGINT, s DOUBLE,
  WATERMARK FOR window_start AS window_start - INTERVAL '0' SECOND);
"""
TOTALS = """INSERT INTO totals SELECT k, window_start, COUNT(*), SUM(v)
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;"""


class Project:
    """One log and whatever is declared over it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.next = 0

    def feed(self, rows: Sequence[tuple[str, float, int]], stream: Stream | None = None, at: int = 0) -> None:
        """Rows (k, v, second) for `readings`, in appends of five."""
        declared = stream or compile_script(TABLES).tables["readings"].stream
        assert declared is not None
        self.log.create(declared)
        schema = schema_of((c.name, c.type) for c in declared.columns)
        for start in range(0, len(rows), 5):
            part = rows[start : start + 5]
            k, v, seconds = zip(*part, strict=True)
            times = [second * 1000 for second in seconds]
            batch = pa.record_batch(
                [pa.array(k), pa.array(v), pa.array(times).cast(schema.field(2).type)], schema=schema
            )
            append = Append(declared.name, 0, batch, at or 1000 + max(times), min(times), max(times))
            self.log.submit(Transaction([append])).result()

    def run(self, sql: str, until: Callable[[], bool] = lambda: True, **options: Any) -> Engine:
        """Run live until every pipeline has read everything there is, and `until` holds."""
        program = compile_script(sql)
        options = {"interval_ms": 0, "snapshot_interval_ms": 10**9, "batch_rows": 7} | options
        engine = Engine(program, self.log, EngineOptions(live=True, **options))
        thread = threading.Thread(target=engine.run)
        thread.start()
        deadline = time.monotonic() + 60
        while not (self._done(program, engine) and until()) and time.monotonic() < deadline:
            time.sleep(0.002)
        engine.stop()
        thread.join()
        return engine

    def _done(self, program: Program, engine: Engine) -> bool:
        if any(status.state == "failed" for status in engine.status()):
            return True
        # positions first: what one of them writes meanwhile is not yet read by the others
        held = {pipeline.name: self.log.positions(pipeline.name) for pipeline in program.pipelines}
        status = self.log.status()
        return all(
            held[pipeline.name].get((name, part), 0) >= end
            for pipeline in program.pipelines
            for name in stored_plan(pipeline).reads
            for part, end in status[name].ends.items()
        )

    def stages(self, sql: str) -> dict[str, Stage]:
        """What `qanat plan` says, by name."""
        return {stage.name: stage for stage in self.plan(sql)}

    def plan(self, sql: str) -> tuple[Stage, ...]:
        """The plan."""
        program = compile_script(sql)
        return diff(program, read_actual(self.log, (p.name for p in program.pipelines)))

    def apply(self, sql: str, **changes: Any) -> None:
        """What `qanat apply` does."""
        apply(compile_script(sql), self.log, self.plan(sql), Changes(rows=7, **changes))

    def rows(
        self, stream: str = "totals", columns: Sequence[str] = ("k", "window_start", "n", "s")
    ) -> list[tuple[Any, ...]]:
        """All rows of a stream; times as seconds."""
        places = [(stream, part) for part in self.log.status()[stream].ends]
        found = [row for place in places for c in self.log.read(place, 0, 10**9) for row in c.rows.to_pylist()]
        return [tuple(_plain(row[name]) for name in columns) for row in found]


def _plain(value: Any) -> Any:
    return int((value - value.__class__(1970, 1, 1)).total_seconds()) if hasattr(value, "year") else value


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    yield Project(log)
    log.close()


def readings(first: int, last: int) -> list[tuple[str, float, int]]:
    """One row a second, two keys in turn."""
    return [("ab"[i % 2], float(i), i) for i in range(first, last)]


Make = Callable[..., Project]
