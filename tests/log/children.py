"""What the tests of this folder run in processes of their own: `python children.py WHAT LOG ...`."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import pyarrow as pa

from qanat.errors import LogError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE

PAIRS = Stream("pairs", (Column("id", BIGINT), Column("v", DOUBLE)), partitions=2)
PLACE = ("pairs", 0)


def step(first: int, count: int) -> Transaction:
    """Rows for both partitions, the position after them, and the same number as state."""
    ids = np.arange(first, first + count)
    rows = pa.record_batch({"id": ids, "v": ids * 0.5})
    end = first + count
    return Transaction(
        [Append("pairs", 0, rows, first), Append("pairs", 1, rows, first)],
        positions={"c": {PLACE: end}},
        state={"end": str(end).encode()},
        expect={"c": {PLACE: first}},
    )


def check(log) -> int:
    """How many rows there are; fails unless everything is whole."""
    end = log.positions("c").get(PLACE, 0)
    assert log.state("end") == (str(end).encode() if end else None)
    for partition in (0, 1):
        found = [i for chunk in log.read(("pairs", partition), 0, 10**9) for i in chunk.rows.column("id").to_pylist()]
        assert found == list(range(end))
    assert log.status()["pairs"].ends == {0: end, 1: end}
    assert log.status()["pairs"].rows == 2 * end
    return end


def write_until_killed(url: str) -> None:
    """Several transactions are always under way; prints each end that is durable."""
    log = open_log(url)
    log.create(PAIRS)
    end = log.positions("c").get(PLACE, 0)
    waiting = deque()
    while True:
        count = 1 + end % 700
        waiting.append((end + count, log.submit(step(end, count))))
        end += count
        while len(waiting) > 20 or (waiting and waiting[0][1].done()):
            durable, future = waiting.popleft()
            future.result()
            print(durable, flush=True)


def read_while_written(url: str, until: str) -> None:
    """Follow the log to a number of rows; everything that is seen has to be whole and in order."""
    log = open_log(url, read_only=True)
    end, looks, seq = 0, 0, 0
    while end < int(until):
        position = log.positions("c").get(PLACE, 0)
        seen = log.seq()
        assert seen >= seq
        seq = seen
        for chunk in log.read(PLACE, end, 5000):
            assert chunk.rows.column("id").to_pylist() == list(range(end, chunk.end))
            end = chunk.end
            looks += 1
        if position > end:
            rest = sum(chunk.rows.num_rows for chunk in log.read(PLACE, end, 10**9))
            assert end + rest >= position
    print(looks, flush=True)


def fill_limited(url: str, limit: str) -> None:
    """Write until files may not grow, then lift the limit and go on."""
    log = open_log(url)
    log.create(PAIRS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    print(type(fill(log)).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    go_on(log)


def fill_disk(url: str, ballast: str) -> None:
    """Write until the disk is full, then delete what fills it and go on."""
    log = open_log(url)
    log.create(PAIRS)
    print(type(fill(log)).__name__)
    Path(ballast).unlink()
    go_on(log)


def fill(log) -> LogError:
    """Append until it fails, several at a time; what failed is not there."""
    failures: list[LogError] = []
    end = 0
    while not failures:
        futures = [log.submit(step(end + 2000 * n, 2000)) for n in range(5)]
        for n, future in enumerate(futures):
            failure = future.exception(30)
            if failure is None:
                assert not failures, "a transaction went through that builds on one that failed"
                durable = end + 2000 * (n + 1)
            else:
                assert isinstance(failure, LogError)
                failures.append(failure)
        end = durable
    assert check(log) == end
    for _ in range(3):  # it stays full, and says so again
        assert isinstance(log.submit(step(end, 100_000)).exception(30), LogError)
    assert check(log) == end
    print(failures[0], file=sys.stderr)
    return failures[0]


def go_on(log) -> None:
    """There is room again."""
    before = check(log)
    for n in range(3):
        log.submit(step(before + 2000 * n, 2000)).result(30)
    assert check(log) == before + 6000
    log.close()
    print(before + 6000, flush=True)


def hold(url: str) -> None:
    """Open the log and keep it."""
    open_log(url)
    print("open", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    what = {f.__name__: f for f in (write_until_killed, read_while_written, fill_limited, fill_disk, hold)}
    what[sys.argv[1]](*sys.argv[2:])
