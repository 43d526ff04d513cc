"""The one input file of the window bench: JSON lines as households' meters send them, made from a seed.

Every client reports once per second of event time, at its own moment of it. The rows lie in the file in the order of
their arrival: each was on its way for 0 to `disorder_ms`, drawn anew for each, so that neighbours in time are mixed,
yet no row is late for a watermark that trails by more than the disorder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from bench.work import folder

#: 2026-01-01T00:00:00Z
FIRST_MS = 1_767_225_600_000
#: Rows are made and written this many seconds of event time at a time, so that memory does not grow with the file.
_SECONDS_AT_ONCE = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides every byte of the file."""

    rows: int = 2_000_000
    clients: int = 4_000
    disorder_ms: int = 3_000
    seed: int = 2026

    @property
    def name(self) -> str:
        """Names the cached file."""
        return f"power-{self.rows}-{self.clients}-{self.disorder_ms}-{self.seed}"


def power_file(shape: Shape) -> Path:
    """The file of this shape, written at the first call."""
    path = folder("data") / f"{shape.name}.jsonl"
    if not path.exists():
        part = path.with_suffix(".part")
        _write(shape, part)
        part.rename(path)
    return path


def prefix_file(path: Path, rows: int) -> Path:
    """The first `rows` rows of a file, for engines that would take too long over all of it."""
    prefix = path.with_name(f"{path.stem}-first-{rows}.jsonl")
    if not prefix.exists():
        part = prefix.with_suffix(".part")
        with path.open("rb") as source, part.open("wb") as target:
            target.writelines(islice(source, rows))
        part.rename(prefix)
    return prefix


def _write(shape: Shape, path: Path) -> None:
    rng = np.random.default_rng(shape.seed)
    mean_draw = rng.gamma(4.0, 75.0, shape.clients)
    step = _SECONDS_AT_ONCE * shape.clients
    on_the_way = _rows(shape, mean_draw, rng, 0, 0)
    with path.open("wb") as out:
        for first in range(0, shape.rows, step):
            last = min(first + step, shape.rows)
            rows = pl.concat([on_the_way, _rows(shape, mean_draw, rng, first, last)]).sort(
                "arrival", maintain_order=True
            )
            # what has arrived before the first row of the next stretch can have been sent
            end = FIRST_MS + last // shape.clients * 1_000 if last < shape.rows else None
            done = rows if end is None else rows.filter(pl.col("arrival") < end)
            on_the_way = rows.clear() if end is None else rows.filter(pl.col("arrival") >= end)
            out.write(_lines(done))


def _rows(shape: Shape, mean_draw: np.ndarray, rng: np.random.Generator, first: int, last: int) -> pl.DataFrame:
    number = np.arange(first, last, dtype=np.int64)
    client = number % shape.clients
    count = last - first
    timestamp = FIRST_MS + number // shape.clients * 1_000 + rng.integers(0, 1_000, count)
    return pl.DataFrame(
        {
            "client": client,
            "timestamp": timestamp,
            "arrival": timestamp + rng.integers(0, shape.disorder_ms + 1, count),
            "consumption": np.round(mean_draw[client] + rng.gamma(2.0, 60.0, count), 1),
        }
    )


def _lines(rows: pl.DataFrame) -> bytes:
    line = pl.concat_str(
        pl.lit('{"client_id": "household-'),
        pl.col("client").cast(pl.String).str.zfill(5),
        pl.lit('", "timestamp": '),
        pl.col("timestamp"),
        pl.lit(', "consumption": '),
        pl.col("consumption"),
        pl.lit("}\n"),
    )
    return "".join(rows.select(line.alias("line"))["line"]).encode()
