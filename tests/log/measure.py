"""Rows per second of the SQLite log: `python tests/log/measure.py [FOLDER]`. Not a test."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from qanat.errors import BackpressureError
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE, TIMESTAMP_LTZ

STREAM = Stream("readings", (Column("id", BIGINT), Column("ts", TIMESTAMP_LTZ), Column("v", DOUBLE)))
PLACE = ("readings", 0)


def append_all(log: Log, size: int, total: int) -> float:
    """Append `total` rows in batches of `size`, and wait for the last fsync."""
    schema = schema_of((column.name, column.type) for column in STREAM.columns)
    ids = np.arange(size)
    rows = pa.record_batch([pa.array(ids), pa.array(ids).cast(schema.types[1]), pa.array(ids * 0.5)], schema=schema)
    began = time.perf_counter()
    futures = []
    while len(futures) < total // size:
        try:
            futures.append(log.submit(Transaction([Append("readings", 0, rows, 1)])))
        except BackpressureError as full:
            time.sleep(min(full.retry_after, 0.02))
    for future in futures:
        future.result()
    return total / (time.perf_counter() - began)


def latency(log: Log, count: int) -> list[float]:
    """Milliseconds from submit to durable, one at a time."""
    rows = pa.record_batch({"id": pa.array([1], pa.int64()), "v": [0.5]})
    found = []
    for _ in range(count):
        began = time.perf_counter()
        log.submit(Transaction([Append("readings", 0, rows, 1)])).result()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


def read_all(log: Log) -> float:
    """Read every value of the log once."""
    began, rows, offset = time.perf_counter(), 0, 0
    while chunks := log.read(PLACE, offset, 100_000):
        offset = chunks[-1].end
        for chunk in chunks:
            np.add.reduce(chunk.rows.column("v").to_numpy(zero_copy_only=False))
            rows += chunk.rows.num_rows
    return rows / (time.perf_counter() - began)


def main(folder: Path) -> None:
    """Print the figures."""
    for size, total in ((20_000, 20_000_000), (1000, 5_000_000), (100, 1_000_000)):
        url = f"sqlite:///{folder}/{size}.db"
        log = open_log(url)
        log.create(STREAM)
        print(f"batches of {size:6}: append {append_all(log, size, total) / 1e6:5.2f} M rows/s", end="")
        log.close()
        reader = open_log(url, read_only=True)
        print(f", read and sum {read_all(reader) / 1e6:5.1f} M rows/s")
        reader.close()
    log = open_log(f"sqlite:///{folder}/single.db")
    log.create(STREAM)
    times = latency(log, 1000)
    log.close()
    print(f"one row, one fsync: median {times[500]:.2f} ms, 99 % {times[990]:.2f} ms")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
