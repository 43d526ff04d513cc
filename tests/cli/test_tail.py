"""`qanat tail`: where it begins, and the order of rows across partitions."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.conftest import Run

from qanat.cli.project import log_url
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, STRING

COLUMNS = (Column("n", BIGINT), Column("at", BIGINT), Column("text", STRING))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Ten rows of event times 0 s, 1 s, ..., one append each, taking turns in two partitions."""
    log = open_log(log_url(tmp_path / ".qanat"))
    log.create(Stream("numbers", COLUMNS, event_time=ArrivalColumn("at", 1), partitions=2))
    log.create(Stream("plain", COLUMNS))
    schema = schema_of((column.name, column.type) for column in COLUMNS)
    for n in range(10):
        rows = pa.RecordBatch.from_pylist([{"n": n, "at": n, "text": "zwölf\n" if n else None}], schema)
        appends = [Append("numbers", n % 2, rows, 1000 * n), Append("plain", 0, rows, 1000 * n)]
        log.submit(Transaction(appends)).result()
    log.close()
    return tmp_path


def tailed(qanat: Run, stream: str, begin: str) -> list[int]:
    done = qanat("tail", stream, "--no-follow", "--from", begin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["n"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        ("beginning", list(range(10))),
        ("end", []),
        ("-3", [7, 8, 9]),
        ("-1", [9]),
        ("-100", list(range(10))),
        ("4", [8, 9]),  # an offset, in each of the two partitions
        ("1970-01-01T00:00:06", [6, 7, 8, 9]),
        ("1970-01-01T01:00:08+01:00", [8, 9]),
        ("1970-01-02", []),
    ],
)
def test_where_it_begins(qanat: Run, project: Path, begin: str, expected: list[int]) -> None:
    assert tailed(qanat, "numbers", begin) == expected


def test_any_stream_goes_by_arrival(qanat: Run, project: Path) -> None:
    assert tailed(qanat, "plain", "1970-01-01T00:00:07") == [7, 8, 9]


def test_an_unknown_stream_and_an_unclear_beginning(qanat: Run, project: Path) -> None:
    done = qanat("tail", "number")
    assert (done.returncode, "the streams are: numbers, plain" in done.stderr) == (5, True)
    done = qanat("tail", "numbers", "--from", "tomorrow")
    assert (done.returncode, "'tomorrow'" in done.stderr) == (2, True)
