"""A pipeline over all history gives the rows that it wrote when they came, wherever its inputs lie now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.conftest import TOTALS, Project, readings

from qanat.control.batch import Batch
from qanat.control.whole_log import WholeLog
from qanat.errors import ChangedPipelineError, ConfigError, LogError
from qanat.lake import Archiver, DeltaArchive, Tables
from qanat.log import open_log
from qanat.log.base import Transaction
from qanat.model.lake import Lake
from qanat.sql import compile_script

TABLES = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
  WITH ('archive' = 'true', 'retention' = '1 s', 'partitions' = '2');
CREATE TABLE totals (k STRING, window_start TIMESTAMP(3), n BIGINT, s DOUBLE,
  WATERMARK FOR window_start AS window_start - INTERVAL '0' SECOND);
"""
SQL = TABLES + TOTALS
LATEST = TABLES.replace("window_start TIMESTAMP(3), n BIGINT, s DOUBLE", "n BIGINT, PRIMARY KEY (k) NOT ENFORCED")
UPDATING = (
    LATEST.replace("  WATERMARK FOR window_start AS window_start - INTERVAL '0' SECOND", "").replace(
        "ENFORCED,\n", "ENFORCED"
    )
    + "INSERT INTO totals SELECT k, COUNT(*) FROM readings GROUP BY k;"
)


class Farm:
    """A project whose readings are archived and expire."""

    def __init__(self, folder: Path, sql: str = SQL) -> None:
        self.sql, self.folder = sql, folder
        self.project = Project(open_log(f"sqlite:///{folder}/log.db"))
        self.log = self.project.log
        self.stream = compile_script(sql).tables["readings"].stream
        assert self.stream is not None
        self.log.create(self.stream)
        self.archiver = Archiver(self.log, Tables(folder / "lake"), Lake())
        self.archiver.prepare()
        self.archive = DeltaArchive(Tables(folder / "lake"), self.log)

    def feed(self, first: int, last: int) -> None:
        """A row a second, late and disordered ones among them, in two partitions in turn."""
        import pyarrow as pa

        from qanat.log.base import Append
        from qanat.model.arrow import schema_of

        assert self.stream is not None
        schema = schema_of((c.name, c.type) for c in self.stream.columns)
        for start in range(first, last, 4):
            rows = [(k, v, max(0, t - (9 if t % 11 == 0 else 0))) for k, v, t in readings(start, min(start + 4, last))]
            k, v, seconds = zip(*rows, strict=True)
            times = [second * 1000 for second in seconds]
            columns = [pa.array(k), pa.array(v), pa.array(times).cast(schema.field(2).type)]
            batch = pa.record_batch(columns, schema=schema)
            append = Append("readings", start // 4 % 2, batch, 1000 + start * 1000, min(times), max(times))
            self.log.submit(Transaction([append])).result()

    def expired(self) -> None:
        """Archive everything, and let retention delete what pipelines have read."""
        while self.archiver.archive("readings").rows:
            pass
        log: Any = self.log
        log.maintain(10**13)

    def batch(self, sql: str | None = None, name: str = "totals", rows: int = 7) -> Batch:
        return Batch(compile_script(sql or self.sql), name, self.log, self.archive, live=True, rows=rows)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path)
    yield made
    made.log.close()


def rows_of(batch: Batch, **options: Any) -> list[dict[str, Any]]:
    return [row for rows in batch.run(**options) for row in rows.to_pylist()]


def stored(farm: Farm, stream: str = "totals") -> list[dict[str, Any]]:
    return [row for chunk in farm.log.read((stream, 0), 0, 10**9) for row in chunk.rows.to_pylist()]


@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_all_history_gives_what_the_live_pipeline_wrote(farm: Farm, rows: int) -> None:
    for start in range(0, 300, 100):
        farm.feed(start, start + 100)
        farm.project.run(farm.sql, snapshot_interval_ms=0)
        if start < 200:
            farm.expired()
    status = farm.log.status()["readings"]
    assert sum(status.starts.values()) == 200
    written = stored(farm)
    assert len(written) > 40
    assert rows_of(farm.batch(rows=rows)) == written


def test_rows_that_only_the_archive_has(farm: Farm) -> None:
    farm.feed(0, 100)
    farm.project.run(farm.sql, snapshot_interval_ms=0)
    farm.expired()
    assert farm.log.status()["readings"].rows == 0
    assert rows_of(farm.batch()) == stored(farm)
    changed = farm.sql.replace("SUM(v)", "SUM(v * 2)")
    assert [row["s"] for row in rows_of(farm.batch(changed))] == [2 * row["s"] for row in stored(farm)]


def test_a_pipeline_that_has_not_run_yet(farm: Farm) -> None:
    farm.feed(0, 100)
    farm.expired()
    farm.feed(100, 140)
    computed = rows_of(farm.batch())
    farm.project.run(farm.sql)
    assert len(computed) > 15
    assert farm.batch().missing() == ""
    assert rows_of(farm.batch()) == computed


def test_a_stream_with_a_key_gives_its_changes(tmp_path: Path) -> None:
    farm = Farm(tmp_path, UPDATING)
    farm.feed(0, 60)
    farm.project.run(farm.sql, snapshot_interval_ms=0)
    farm.expired()
    last = {row["k"]: row["n"] for row in rows_of(farm.batch())}
    assert last == {row["k"]: row["n"] for row in stored(farm)}
    farm.log.close()


def test_rows_that_are_gone_are_told(tmp_path: Path) -> None:
    farm = Farm(tmp_path, SQL.replace("'archive' = 'true', ", ""))
    farm.feed(0, 100)
    farm.project.run(farm.sql, snapshot_interval_ms=0)
    log: Any = farm.log
    assert log.maintain(10**13)["readings"] > 0
    batch = farm.batch()
    assert "retention has deleted rows of readings" in batch.missing()
    with pytest.raises(ChangedPipelineError, match="over all history"):
        rows_of(batch)
    rows_of(farm.batch(), allow_loss=True)
    farm.log.close()


def test_history_is_only_read(farm: Farm) -> None:
    whole = WholeLog(farm.log, farm.archive)
    with pytest.raises(LogError, match="only read"):
        whole.submit(Transaction())
    with pytest.raises(ConfigError, match="the pipelines are: totals"):
        farm.batch(name="nothing")
    assert json.dumps(whole.positions("nobody")) == "{}"
