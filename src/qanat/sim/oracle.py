"""The flows of `examples/nilm` a second time, from the whole input at once: what should come out of it.

An oracle is worth something only if it goes another way than what it judges. Here the input is sorted once and every
window is a range of it that binary search finds; there are no panes, no state, no increments and no SQL. Input frames
are in the order of the log (one partition), since that order decides what is late (laws 1 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.clock import MIN_TIME
from qanat.errors import ConfigError
from qanat.sim.households import Ints


@dataclass(frozen=True, slots=True)
class Flow:
    """The times in the SQL; the defaults are those of examples/nilm/nilm.sql.

    Windows of `size_ms` every `step_ms`; sessions that close after `gap_ms` and are kept where first and last second
    are more than `shortest_s` apart; watermark `delay_ms`.
    """

    size_ms: int = 15_000
    step_ms: int = 1_000
    gap_ms: int = 5_000
    shortest_s: int = 30
    delay_ms: int = 5_000

    def __post_init__(self) -> None:
        if self.size_ms % self.step_ms:
            raise ConfigError(f"windows of {self.size_ms} ms are no multiple of {self.step_ms} ms")


#: The times of examples/nilm/nilm.sql and of examples/nilm/refit/refit.sql.
LIVE, RECORDED = Flow(), Flow(120_000, 30_000, 60_000, 600, 60_000)


def timed(rows: pl.DataFrame, flow: Flow) -> pl.DataFrame:
    """The input with `place` (its row number in the log), `ts` (ms), `before` (the watermark that the rows before it
    established) and `prompt` (whether every window of the row was still open, so that it is nowhere late)."""
    ts = pl.col("timestamp") * 1000
    return (
        rows.with_row_index("place")
        .with_columns(ts=ts, before=(ts.cum_max().shift() - flow.delay_ms).fill_null(MIN_TIME))
        .with_columns(prompt=pl.col("ts") > pl.col("before"))
    )


def final_watermark(rows: pl.DataFrame, flow: Flow) -> int:
    """The watermark after all these rows."""
    newest = rows["timestamp"].cast(pl.Int64).to_list()
    return max(newest) * 1000 - flow.delay_ms if newest else MIN_TIME


def tardy_clients(*inputs: pl.DataFrame) -> pl.Series:
    """Clients with a row that came behind the watermark, in any of these `timed` inputs."""
    return pl.concat([rows.filter(~pl.col("prompt")).select("client_id") for rows in inputs])["client_id"].unique()


# --- prediction windows


def expected_windows(power: pl.DataFrame, flow: Flow, final: int) -> pl.DataFrame:
    """client_id, window_start, window_end (ms), values: every window that is not empty and closed by the watermark
    `final`. `power` is `timed`. Rows behind the watermark count in those of their windows that were still open."""
    step = flow.step_ms
    rows = power.with_columns(
        first=pl.col("ts") // step * step + step,
        last=(pl.col("ts") + flow.size_ms) // step * step,
        opens=pl.max_horizontal(pl.col("before") + 2, pl.lit(-(2**62))),  # the least end that is still open
    ).with_columns(tardy=(pl.col("first") < pl.col("opens")).any().over("client_id"))
    windows = [_ranges(rows.filter(~pl.col("tardy")), flow, final), _one_by_one(rows.filter("tardy"), flow, final)]
    return pl.concat(windows).with_columns(window_start=pl.col("window_end") - flow.size_ms)


_WINDOW = pl.Schema([("client_id", pl.String()), ("window_end", pl.Int64()), ("values", pl.List(pl.Float64))])


def _ranges(rows: pl.DataFrame, flow: Flow, final: int) -> pl.DataFrame:
    """Windows of clients that are never late: ranges of the rows sorted by client and time."""
    if rows.is_empty():
        return pl.DataFrame(schema=_WINDOW)
    rows = rows.sort("client_id", "ts", "place")
    code = rows["client_id"].rle_id().cast(pl.Int64).to_numpy()
    ts, first, last = (rows[name].to_numpy() for name in ("ts", "first", "last"))
    new = np.r_[True, code[1:] != code[:-1]]
    start = np.where(new, first, np.maximum(first, np.r_[0, last[:-1]] + flow.step_ms))
    count = np.maximum(0, (last - start) // flow.step_ms + 1)  # the ends that this row is the first to bring
    ends = _runs(start // flow.step_ms, count) * flow.step_ms
    owner = np.repeat(code, count)
    ends, owner = ends[closed := ends - 1 <= final], owner[closed]
    base = ts.min() - flow.size_ms
    span = ts.max() - base + 2 * flow.size_ms
    key = code * span + (ts - base)
    low = np.searchsorted(key, owner * span + (ends - flow.size_ms - base))
    high = np.searchsorted(key, owner * span + (ends - base))
    values = rows["consumption"].to_numpy()[_runs(low, high - low)]
    offsets = np.r_[0, np.cumsum(high - low)]
    return pl.DataFrame(
        {
            "client_id": rows["client_id"].gather(low),
            "window_end": ends,
            "values": pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))),
        }
    )


def _runs(start: Ints, count: Ints) -> Ints:
    """start[0], start[0] + 1, ... (count[0] numbers), start[1], ..."""
    before = np.cumsum(count) - count
    return np.repeat(start - before, count) + np.arange(int(count.sum()))


def _one_by_one(rows: pl.DataFrame, flow: Flow, final: int) -> pl.DataFrame:
    """Windows of clients with late rows: each row put into each of its open windows."""
    windows: dict[tuple[str, int], list[float]] = {}
    for row in rows.sort("client_id", "ts", "place").iter_rows(named=True):
        earliest = max(row["first"], -(-row["opens"] // flow.step_ms) * flow.step_ms)
        for end in range(earliest, min(row["last"], final + 1) + 1, flow.step_ms):
            windows.setdefault((row["client_id"], end), []).append(row["consumption"])
    rowwise = [(client, end, values) for (client, end), values in windows.items()]
    return pl.DataFrame(rowwise, schema=_WINDOW, orient="row")


# --- training sets


def fused_pairs(power: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """client_id, ts, consumption, bits: power and state of one client in the same second, both `timed` and in time."""
    left = power.filter("prompt").select("client_id", "ts", "consumption", "place")
    right = states.filter("prompt").select("client_id", "ts", bits=bits(pl.col("state_bitmap")), place_2="place")
    pairs = left.join(right, on=["client_id", "ts"])
    return pairs.sort("client_id", "ts", "place", "place_2").drop("place", "place_2")


def expected_sessions(pairs: pl.DataFrame, flow: Flow) -> pl.DataFrame:
    """client_id, window_start, window_end (ms), consumption, bits: the stretches long enough, closed or not."""
    pause = pl.col("ts").diff().over("client_id")
    return (
        pairs.sort("client_id", "ts", maintain_order=True)
        .with_columns(session=(pause.is_null() | (pause > flow.gap_ms)).cum_sum())
        .group_by("client_id", "session", maintain_order=True)
        .agg(window_start=pl.col("ts").min(), last=pl.col("ts").max(), consumption="consumption", bits="bits")
        .filter((pl.col("last") - pl.col("window_start")) // 1000 > flow.shortest_s)
        .select("client_id", "window_start", pl.col("last") + flow.gap_ms, "consumption", "bits")
        .rename({"last": "window_end"})
    )


def bits(states: pl.Expr) -> pl.Expr:
    """A list of booleans as text, such as `1001`: quicker to compare."""
    return states.list.eval(pl.element().cast(pl.Int8).cast(pl.String)).list.join("")
