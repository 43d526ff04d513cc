"""A small log, in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.streams import Column, Stream, dead_letter_stream
from qanat.model.types import DOUBLE, STRING

from .farm import Farm

READINGS = Stream("readings", (Column("client_id", STRING), Column("v", DOUBLE)), partitions=2)


def append(log: Log, number: int, rows: int = 2) -> None:
    """Rows `number`, `number` + 0.1, ... into partition `number` % 2, arrived at the second `number`."""
    values = [number + 0.1 * row for row in range(rows)]
    batch = pa.record_batch({"client_id": [f"c{number % 3}"] * rows, "v": values})
    log.submit(Transaction([Append("readings", number % 2, batch, at=1000 * number)])).result()


def fill(log: Log) -> None:
    log.create(READINGS)
    log.create(dead_letter_stream())
    for number in range(6):
        append(log, number)


@pytest.fixture
def log() -> Iterator[Log]:
    log = open_log("memory://")
    fill(log)
    yield log
    log.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A log in a file, that nobody has open."""
    url = f"sqlite:///{tmp_path}/qanat.log"
    log = open_log(url)
    fill(log)
    log.close()
    return url


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A log and its lake, both empty."""
    made = Farm(tmp_path)
    yield made
    made.close()
