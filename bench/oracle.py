"""The right answer to both queries, computed from the file without any streaming, and the judgement of an output.

Slow and plain on purpose: every row is copied once per window it belongs to, and the copies are grouped. A copy counts
unless its window had already closed (watermark >= window end - 1 ms) before the row was read: the rule of Flink and of
docs/semantics, which in the bench's own files never strikes, since the watermark trails by more than the disorder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bench.work import folder

#: Relative difference allowed between doubles: sums may be taken in any order.
TOLERANCE = 1e-9
WATERMARK_DELAY_MS = 5_000

KEYS = ["client_id", "window_start"]
VALUES = ["mean", "low", "high"]


@dataclass(frozen=True, slots=True)
class Query:
    """One of the two pieces of work. A tumbling window is one that slides by its size."""

    name: str
    size_ms: int
    slide_ms: int
    title: str

    @property
    def sql(self) -> Path:
        """The text that qanat and Flink run."""
        return Path(__file__).parent / "sql" / f"{self.name}.sql"


TUMBLE = Query("tumble", 60_000, 60_000, "TUMBLE 60 s")
HOP = Query("hop", 15_000, 1_000, "HOP 15 s / 1 s")
QUERIES = {query.name: query for query in (TUMBLE, HOP)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an output is the right one, and where not, what is wrong with it."""

    right: bool
    rows: int
    text: str


def expected(source: Path, query: Query) -> pl.DataFrame:
    """client_id, window_start (ms), n, mean, low, high; one row per client and non-empty window. Cached."""
    path = folder("expected") / f"{source.stem}-{query.name}.parquet"
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        part = path.with_suffix(".part")
        _compute(source, query).write_parquet(part)
        part.rename(path)
    return pl.read_parquet(path)


def late_rows(source: Path) -> int:
    """Rows that come after the watermark has passed them: 0 in a file that all engines can be compared on."""
    return _with_watermark(source).filter(pl.col("timestamp") <= pl.col("watermark")).height


def judge(output: Path, wanted: pl.DataFrame) -> Verdict:
    """Compare a folder (or file) of JSON lines with what is wanted: the same windows, counts equal, doubles within
    TOLERANCE. Rows may come in any order; a window that comes twice is wrong."""
    try:
        found = read_output(output)
    except (pl.exceptions.PolarsError, OSError) as error:
        return Verdict(False, 0, f"unreadable output: {error}")
    if found.height != found.select(KEYS).n_unique():
        return Verdict(
            False, found.height, f"{found.height - found.select(KEYS).n_unique()} windows come more than once"
        )
    both = wanted.join(found, on=KEYS, how="full", coalesce=True, suffix="_found")
    missing = both.filter(pl.col("n_found").is_null()).height
    extra = both.filter(pl.col("n").is_null()).height
    if missing or extra:
        return Verdict(False, found.height, f"{missing} windows missing, {extra} that should not be there")
    differing = both.filter((pl.col("n") != pl.col("n_found")) | ~pl.all_horizontal(map(_close, VALUES)))
    if differing.height:
        return Verdict(False, found.height, f"{differing.height} windows differ, first: {differing.row(0, named=True)}")
    return Verdict(True, found.height, "same windows, counts and values")


def read_output(output: Path) -> pl.DataFrame:
    """Rows that an engine committed, in the columns of `expected`. Hidden and unfinished files do not count."""
    files = [output] if output.is_file() else sorted(path for path in output.rglob("*") if _committed(path, output))
    frames = [pl.read_ndjson(path) for path in files if path.stat().st_size]
    if not frames:
        return pl.DataFrame(
            schema={
                "client_id": pl.String,
                "window_start": pl.Int64,
                "n": pl.Int64,
                **dict.fromkeys(VALUES, pl.Float64),
            }
        )
    columns = [
        pl.col("client_id"),
        _epoch_ms(frames[0].schema["window_start"]),
        pl.col("n").cast(pl.Int64),
        *(pl.col(name).cast(pl.Float64) for name in VALUES),
    ]
    return pl.concat([frame.select(columns) for frame in frames])


def _compute(source: Path, query: Query) -> pl.DataFrame:
    rows = _with_watermark(source)
    blocks = [_windows(block, query) for block in _by_client(rows, clients=500)]
    return pl.concat(blocks).sort(KEYS)


def _with_watermark(source: Path) -> pl.DataFrame:
    before = pl.col("timestamp").cum_max().shift(1) - WATERMARK_DELAY_MS
    return pl.read_ndjson(source).with_columns(before.fill_null(-(2**62)).alias("watermark"))


def _by_client(rows: pl.DataFrame, clients: int) -> list[pl.DataFrame]:
    # blocks of clients bound the memory that the copies take
    names = rows["client_id"].unique().sort()
    return [
        rows.filter(pl.col("client_id").is_in(names[at : at + clients].implode()))
        for at in range(0, len(names), clients)
    ]


def _windows(rows: pl.DataFrame, query: Query) -> pl.DataFrame:
    last_start = pl.col("timestamp") // query.slide_ms * query.slide_ms
    copies = pl.concat(
        [
            rows.with_columns((last_start - back).alias("window_start"))
            for back in range(0, query.size_ms, query.slide_ms)
        ]
    )
    open_ones = copies.filter(pl.col("watermark") < pl.col("window_start") + query.size_ms - 1)
    value = pl.col("consumption")
    return open_ones.group_by(KEYS).agg(
        pl.len().cast(pl.Int64).alias("n"),
        value.mean().alias("mean"),
        value.min().alias("low"),
        value.max().alias("high"),
    )


def _close(name: str) -> pl.Expr:
    wanted, found = pl.col(name), pl.col(f"{name}_found")
    return ((wanted - found).abs() <= TOLERANCE * wanted.abs()).fill_null(False)


def _committed(path: Path, output: Path) -> bool:
    return path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(output).parts)


def _epoch_ms(found: pl.DataType) -> pl.Expr:
    start = pl.col("window_start")
    if found == pl.String:  # `2026-01-01 00:00:00`, with T, Z or a fraction or without
        start = start.str.replace("T", " ", literal=True).str.strip_suffix("Z")
        start = start.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms").cast(pl.Int64)
    return start.cast(pl.Int64)
