"""One suite for all logs: `log` is an empty one of every driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from qanat.log import open_log
from qanat.log.base import Append, Log
from qanat.model.arrow import schema_of
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE, STRING

READINGS = Stream("readings", (Column("id", BIGINT), Column("v", DOUBLE)), partitions=2)
METERS = Stream("meters", (Column("meter", STRING), Column("v", BIGINT)), key=("meter",), compact=True)


@pytest.fixture(params=["sqlite", "memory"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else "memory://"
    opened = open_log(url)
    opened.create(READINGS)
    opened.create(METERS)
    yield opened
    opened.close()


@pytest.fixture
def rows() -> Callable[..., pa.RecordBatch]:
    def make(first: int, count: int) -> pa.RecordBatch:
        ids = np.arange(first, first + count)
        schema = schema_of((column.name, column.type) for column in READINGS.columns)
        return pa.record_batch([pa.array(ids), pa.array(ids * 0.5)], schema=schema)

    return make


@pytest.fixture
def append(rows: Callable[..., pa.RecordBatch]) -> Callable[..., Append]:
    """`append(7, 3)`: rows with the ids 7, 8 and 9 for readings/0."""

    def make(first: int, count: int, partition: int = 0, at: int = 1, stream: str = "readings") -> Append:
        return Append(stream, partition, rows(first, count), at, min_time=first, max_time=first + count - 1)

    return make


@pytest.fixture
def meters() -> Callable[..., Append]:
    """`meters("a", "b", at=5)`: one row per key; `v` is its number within the append."""

    def make(*keys: str | None, at: int = 1) -> Append:
        columns = {"meter": pa.array(keys, pa.string()), "v": pa.array(range(len(keys)), pa.int64())}
        return Append("meters", 0, pa.record_batch(columns), at)

    return make
