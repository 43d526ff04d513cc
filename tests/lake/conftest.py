"""A log with a stream that is archived, and its archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from qanat.cli.archiving import s3_options
from qanat.lake import Archiver, DeltaArchive, Tables
from qanat.lake.store import Place as Where
from qanat.log import open_log
from qanat.log.admission import declared_schema
from qanat.log.base import Append, Chunk, Log, Place, Transaction
from qanat.model.lake import S3, Lake
from qanat.model.streams import Stream
from qanat.sql import compile_script

READINGS = """CREATE TABLE readings (
  sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('archive' = 'true', 'archive.sort' = 'sensor')"""
#: 2026-01-01T00:00:00Z.
DAY_ONE = 1_767_225_600_000
DAY = 86_400_000


def stream_of(sql: str) -> Stream:
    """The stream of the only table."""
    (table,) = compile_script(sql).tables.values()
    assert table.stream is not None
    return table.stream


class Station:
    """A log, and the lake beside it. Another archiver is what comes after a restart."""

    def __init__(
        self, folder: Path, sql: str = READINGS, settings: Lake | None = None, stream: Stream | None = None
    ) -> None:
        self.folder, self.settings = folder, settings or Lake()
        self.log: Log = open_log(f"sqlite:///{folder}/log.db")
        self.stream = stream or stream_of(sql)
        self.log.create(self.stream)
        self.tables = Tables(folder / "lake")
        self.archiver = self.restarted()
        self.archive = DeltaArchive(self.tables, self.log)

    def restarted(self) -> Archiver:
        """A new archiver over the same log and lake."""
        self.archiver = Archiver(self.log, self.tables, self.settings)
        self.archiver.prepare()
        return self.archiver

    def redeclare(self, sql: str) -> None:
        """Change the stream."""
        self.stream = stream_of(sql)
        self.log.create(self.stream)

    def feed(self, rows: Sequence[Mapping[str, Any]], partition: int = 0, at: int = DAY_ONE) -> None:
        """One append; times are ms since 1970."""
        schema = declared_schema(self.stream)
        columns = [_column([row.get(one.name) for row in rows], one.type) for one in schema]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        self.log.submit(Transaction([Append(self.stream.name, partition, batch, at)])).result()

    def readings(self, first: int, count: int, *, partition: int = 0, day: int = 0, appends: int = 1) -> None:
        """Numbered rows of three sensors, a second apart."""
        for start in range(first, first + count, max(count // appends, 1)):
            numbers = range(start, min(start + max(count // appends, 1), first + count))
            rows = [{"sensor": f"s{n % 3}", "v": float(n), "ts": DAY_ONE + day * DAY + n * 1000} for n in numbers]
            self.feed(rows, partition, DAY_ONE + day * DAY + start * 1000)

    def archived(self) -> int:
        """Archive until there is nothing new; returns how many rows that were."""
        total = 0
        while True:
            done = self.archiver.archive(self.stream.name)
            total += done.rows
            if not done.more:
                return total

    def read(self, place: Place, step: int = 10**6) -> list[Chunk]:
        """Everything that the archive has of a partition, by its port."""
        cut = self.archive.cut(place[0])
        assert cut is not None
        found: list[Chunk] = []
        offset = 0
        while chunks := self.archive.read(cut, place, offset, step):
            found += chunks
            offset = chunks[-1].end
        return found


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) and any(isinstance(value, int) for value in values):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def logged(log: Log, place: Place) -> list[Chunk]:
    """Everything that the log has of a partition."""
    return log.read(place, 0, 10**9)


def same(found: Sequence[Chunk], expected: Sequence[Chunk]) -> None:
    """Both have the same appends."""
    assert [_plain(chunk) for chunk in found] == [_plain(chunk) for chunk in expected]


def _plain(chunk: Chunk) -> tuple[Any, ...]:
    rows = chunk.rows
    return (chunk.partition, chunk.offset, chunk.seq, chunk.row, chunk.at, rows.schema.names, rows.to_pylist())


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path)
    yield made
    made.log.close()


#: The keys of the bucket, as the environment has them.
KEYS = {"LAKE_KEY": "testing", "LAKE_SECRET": "testing"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server in this process that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    yield url
    server.stop()


@pytest.fixture
def place(endpoint: str) -> Where:
    """An empty bucket there."""
    httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
    httpx.put(f"{endpoint}/farm").raise_for_status()
    settings = S3(endpoint=endpoint, access_key_env="LAKE_KEY", secret_key_env="LAKE_SECRET")
    return Where("s3://farm/lake", s3_options(settings, KEYS))
