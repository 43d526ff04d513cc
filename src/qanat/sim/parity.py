"""Parity: everything that was sent and acknowledged, beside what the log and its output streams hold.

    fleet.Account ───────── match ──► Delivery: lost, foreign, repeated
                              ▲
    power, device_state ──────┤ as stored
              └─ oracle ── compare ──► Outcome: missing, wrong, extra ◄── predictions, dataset2train

The way in is judged by what the clients know, the outputs by what is stored: so a fault shows in the stage that made
it. It reads no clock, and the log only in `read_stored`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from qanat.clock import MAX_TIME
from qanat.errors import ConfigError
from qanat.log.base import Log
from qanat.model.arrow import schema_of
from qanat.model.streams import DEAD_LETTERS, LATE
from qanat.sim.fleet import Account
from qanat.sim.households import DEVICE_STATE, POWER
from qanat.sim.oracle import (
    LIVE,
    Flow,
    bits,
    expected_sessions,
    expected_windows,
    final_watermark,
    fused_pairs,
    tardy_clients,
    timed,
)

PREDICTIONS = "predictions"
TRAINING = "dataset2train"
#: Clients whose windows are compared at a time: bounds the memory, not the result.
_AT_A_TIME = 250


@dataclass(frozen=True, slots=True)
class Stored:
    """What the log (or a run over files) holds, in the order of the log.

    `power`: client_id, timestamp (s), consumption. `device_state`: client_id, timestamp, state_bitmap. `predictions`:
    client_id, window_start, window_end (ms), values. `training`: client_id, window_start, window_end, consumption,
    state_bitmap. `dead`: the bytes of each dead letter. `late`: rows of the late stream. `ended`: the input has
    ended, so that every window is due.
    """

    power: pl.DataFrame
    device_state: pl.DataFrame
    predictions: pl.DataFrame
    training: pl.DataFrame
    dead: tuple[bytes, ...] = ()
    late: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """From the clients to the log, in messages.

    `lost`: acknowledged and not stored. `foreign`: stored and never sent, or more often than sent. `repeated`: stored
    again because it was sent again. `unstored`: sent, neither acknowledged nor stored (what QoS 0 does not promise).
    """

    sent: int
    acknowledged: int
    again: int
    refused: int
    stored: int
    lost: int
    foreign: int
    repeated: int
    unstored: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One output stream. `produced`: distinct rows; `wrong`: with other contents than expected; `extra`: not expected
    at all; `repeated`: rows beyond the first of one client and window."""

    expected: int = 0
    produced: int = 0
    missing: int = 0
    wrong: int = 0
    extra: int = 0
    repeated: int = 0

    @property
    def ok(self) -> bool:
        """Whether exactly the expected rows are there, once each."""
        return not (self.missing or self.wrong or self.extra or self.repeated)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo ends with; `ok` decides its exit code.

    `fusable`, `fused`: seconds with power and state of the expected training sets, and those found in the produced
    ones. `waiting`: fusable seconds of stretches that are too short or not closed yet. `rows`, `in_order`: output
    rows, and those that come after all earlier windows of their client. `unjudged`: clients with late rows, whose
    training sets are not compared (whether a late row still finds its partner depends on the order of arrival across
    the two streams).
    """

    delivery: Delivery | None
    windows: Outcome
    sets: Outcome
    fusable: int
    fused: int
    waiting: int
    rows: int
    in_order: int
    late: int
    dead: int
    unjudged: int

    @property
    def ok(self) -> bool:
        """Nothing acknowledged is missing, and the outputs are what the stored input makes them."""
        delivered = self.delivery is None or not (self.delivery.lost or self.delivery.foreign)
        complete = self.windows.ok and self.sets.ok and self.fused == self.fusable
        return delivered and complete and self.in_order == self.rows


def judge(stored: Stored, flow: Flow = LIVE, account: Account | None = None) -> Report:
    """Compare everything. Without an account (files) the way from the clients to the log is left out."""
    power, states = timed(stored.power, flow), timed(stored.device_state, flow)
    ends = [MAX_TIME if stored.ended else final_watermark(rows, flow) for rows in (power, states)]
    tardy = tardy_clients(power, states)
    pairs = fused_pairs(power, states)
    sets, fusable, fused = _sets(pairs, stored.training, tardy, flow, ends)
    outputs = (stored.predictions, stored.training)
    return Report(
        delivery=None if account is None else match(account, stored),
        windows=_windows(power, stored.predictions, flow, ends[0]),
        sets=sets,
        fusable=fusable,
        fused=fused,
        waiting=pairs.height - fusable,
        rows=sum(rows.height for rows in outputs),
        in_order=sum(_in_order(rows) for rows in outputs),
        late=stored.late,
        dead=len(stored.dead),
        unjudged=len(tardy),
    )


# --- the outputs


def _windows(power: pl.DataFrame, produced: pl.DataFrame, flow: Flow, final: int) -> Outcome:
    total = Outcome()
    clients = pl.concat([power["client_id"], produced["client_id"]]).unique().sort()
    for part in clients.to_frame().iter_slices(_AT_A_TIME):
        mine = pl.col("client_id").is_in(part["client_id"].implode())
        due = expected_windows(power.filter(mine), flow, final)
        total += _compared(due, due, produced.filter(mine), ("values",))[0]
    return total


def _sets(
    pairs: pl.DataFrame, training: pl.DataFrame, tardy: pl.Series, flow: Flow, ends: list[int]
) -> tuple[Outcome, int, int]:
    """Outcome, fusable and fused seconds. A set is due when both inputs' watermarks have passed it; it may be there
    when one of them has, since an idle input is left out of the minimum."""
    judged = ~pl.col("client_id").is_in(tardy.implode())
    sessions = expected_sessions(pairs.filter(judged), flow)
    due, possible = (sessions.filter(pl.col("window_end") - 1 <= end) for end in (min(ends), max(ends)))
    nested = pl.col("state_bitmap").list.eval(bits(pl.element()))
    produced = training.filter(judged).with_columns(bits=nested)
    outcome, both = _compared(due, possible, produced, ("consumption", "bits"))
    length = pl.col("consumption").list.len()
    found = both.join(due, on=["client_id", "window_end"], how="semi")
    fused = found.select(pl.min_horizontal(length, pl.col("consumption_out").list.len()).sum()).item()
    return outcome, int(due.select(length.sum()).item()), int(fused)


def _compared(
    due: pl.DataFrame, possible: pl.DataFrame, produced: pl.DataFrame, contents: tuple[str, ...]
) -> tuple[Outcome, pl.DataFrame]:
    """The outcome, and the rows that are both possible and produced (produced columns end in `_out`)."""
    same = ["client_id", "window_end"]
    once = produced.unique(same, keep="first", maintain_order=True)
    both = possible.join(once, on=same, suffix="_out")
    differs = [pl.col(name).ne_missing(pl.col(f"{name}_out")) for name in ("window_start", *contents)]
    outcome = Outcome(
        expected=due.height,
        produced=once.height,
        missing=due.join(once, on=same, how="anti").height,
        wrong=both.filter(pl.any_horizontal(differs)).height,
        extra=once.join(possible, on=same, how="anti").height,
        repeated=produced.height - once.height,
    )
    return outcome, both


def _in_order(rows: pl.DataFrame) -> int:
    newest = pl.col("window_end").cum_max().shift().over("client_id")
    return rows.select((newest.is_null() | (pl.col("window_end") > newest)).sum()).item() if rows.height else 0


# --- from the clients to the log

_SAME = ["stream", "client_id", "timestamp", "watts", "bits"]
_SENT = {
    "stream": pl.String,
    "client_id": pl.String,
    "timestamp": pl.Int64,
    "watts": pl.Float64,
    "bits": pl.String,
    "sends": pl.Int64,
    "acked": pl.Int64,
}


def match(account: Account, stored: Stored) -> Delivery:
    """Every acknowledged message has to be in its stream, or, where it could not be taken, among the dead letters.

    A message is known by client, timestamp and contents; where a client sends no timestamp, by client and contents.
    """
    dead = Counter(stored.dead)
    sent = _sent(account, dead)
    kept = _kept(stored, sent.filter(pl.col("timestamp").is_null())["client_id"].unique())
    both = (
        sent.group_by(_SAME)
        .agg(messages=pl.len(), acked=pl.col("acked").sum(), sends=pl.col("sends").sum())
        .join(kept.group_by(_SAME).agg(stored=pl.len()), on=_SAME, how="full", coalesce=True, nulls_equal=True)
        .with_columns(pl.col("messages", "acked", "sends", "stored").fill_null(0).cast(pl.Int64))
    )
    count = both.select(
        lost=(pl.col("acked") - pl.col("stored")).clip(0).sum(),
        foreign=(pl.col("stored") - pl.col("sends")).clip(0).sum(),
        repeated=(pl.min_horizontal("stored", "sends") - pl.col("messages")).clip(0).sum(),
        unstored=(pl.col("messages") - pl.max_horizontal("stored", "acked")).clip(0).sum(),
    ).row(0, named=True)
    return Delivery(
        sent=account.sent,
        acknowledged=account.acknowledged,
        again=account.again,
        refused=sum(account.refused),
        stored=kept.height + len(stored.dead),
        lost=count["lost"] + _unreadable_lost(account, dead),
        foreign=count["foreign"],
        repeated=count["repeated"],
        unstored=count["unstored"],
    )


def _sent(account: Account, dead: Counter[bytes]) -> pl.DataFrame:
    """The messages that went out, can be rows, and are not among the dead letters."""
    rows = []
    for message, sends, acked in zip(account.messages, account.sends, account.acked, strict=True):
        row = None if not sends or message.payload in dead else _parsed(message.payload)
        if row is not None:
            stream = message.topic.partition("/")[0]
            states = row.get("state_bitmap")
            text = None if states is None else "".join("1" if on else "0" for on in states)
            rows.append((stream, row["client_id"], row.get("timestamp"), row.get("consumption"), text, sends, acked))
    return pl.DataFrame(rows, schema=_SENT, orient="row")


def _kept(stored: Stored, clockless: pl.Series) -> pl.DataFrame:
    """The stored inputs in the same form; the timestamps that the gateway made up count for nothing."""
    known = pl.when(~pl.col("client_id").is_in(clockless.implode())).then(pl.col("timestamp"))
    power = stored.power.select(
        pl.lit(POWER).alias("stream"), "client_id", known.alias("timestamp"), watts="consumption"
    )
    states = stored.device_state.select(
        pl.lit(DEVICE_STATE).alias("stream"), "client_id", known.alias("timestamp"), bits=bits(pl.col("state_bitmap"))
    )
    return pl.concat([power, states], how="diagonal")


def _unreadable_lost(account: Account, dead: Counter[bytes]) -> int:
    pairs = zip(account.messages, account.acked, strict=True)
    unreadable = Counter(message.payload for message, acked in pairs if acked and _parsed(message.payload) is None)
    return (unreadable - dead).total()


def _parsed(payload: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


# --- reading the log

_COLUMNS = {
    POWER: ("client_id", "timestamp", "consumption"),
    DEVICE_STATE: ("client_id", "timestamp", "state_bitmap"),
    PREDICTIONS: ("client_id", "window_start", "window_end", "values"),
    TRAINING: ("client_id", "window_start", "window_end", "consumption", "state_bitmap"),
    DEAD_LETTERS: ("data",),
    LATE: ("event_time",),
}


def read_stored(log: Log) -> Stored:
    """The streams of `examples/nilm` as they are now. Raises `ConfigError` where they have several partitions."""
    frames = {stream: _frame(log, stream, columns) for stream, columns in _COLUMNS.items()}
    return Stored(
        power=frames[POWER],
        device_state=frames[DEVICE_STATE],
        predictions=frames[PREDICTIONS],
        training=frames[TRAINING],
        dead=tuple(frames[DEAD_LETTERS]["data"]),
        late=frames[LATE].height,
    )


def _frame(log: Log, name: str, columns: tuple[str, ...]) -> pl.DataFrame:
    status = log.status().get(name)
    if status is None:
        raise ConfigError(f"the log has no stream {name}", hint="the parity report is for the project examples/nilm")
    if len(status.ends) > 1:
        raise ConfigError(f"the parity report reads one partition; {name} has {len(status.ends)}")
    schema = schema_of((column.name, column.type) for column in status.stream.columns if column.name in columns)
    parts = [pl.DataFrame(schema.empty_table())]
    parts += [
        pl.DataFrame(batch.select(list(columns))) for batch in _batches(log, name, max(status.ends.values(), default=0))
    ]
    return milliseconds(pl.concat(parts, how="vertical_relaxed").select(columns))


def _batches(log: Log, stream: str, end: int) -> Iterator[pa.RecordBatch]:
    offset = 0
    while offset < end:
        chunks = log.read((stream, 0), offset, 200_000)
        if not chunks:
            return
        yield from (chunk.rows for chunk in chunks)
        offset = chunks[-1].end


def milliseconds(rows: pl.DataFrame) -> pl.DataFrame:
    """Time stamps as ms since the epoch."""
    return rows.with_columns(pl.col(pl.Datetime, pl.Datetime("ms", "UTC")).dt.epoch("ms"))


# --- showing it


def summary(report: Report) -> list[tuple[str, str, bool | None]]:
    """What was looked at, what was found, and whether that is as it should be (None: nothing to judge)."""
    rows: list[tuple[str, str, bool | None]] = []
    if (d := report.delivery) is not None:
        again = f", {d.again:,} of them again" if d.again else ""
        stored = f"{d.stored:,}" + "".join(
            f", {count:,} {what}" for what, count in (("repeated", d.repeated), ("never sent", d.foreign)) if count
        )
        refused = f", {d.refused:,} refused" if d.refused else ""
        rows.append(("messages sent", f"{d.sent:,}{again}", None))
        rows.append(("acknowledged", f"{d.acknowledged:,}{refused}", None))
        rows.append(("stored", stored, not d.foreign))
        rows.append(("acknowledged, not stored", f"{d.lost:,}", not d.lost))
        if d.unstored:
            rows.append(("sent, not acknowledged, not stored", f"{d.unstored:,}", None))
    rows.append(("prediction windows", _outcome(report.windows), report.windows.ok))
    fusable = f"{report.fused:,} of {report.fusable:,} that can be fused"
    rows.append(("states fused in training sets", fusable, report.fused == report.fusable))
    rows.append(("fusable, too short or still open", f"{report.waiting:,}", None))
    rows.append(("training sets", _outcome(report.sets), report.sets.ok))
    order = f"{report.in_order:,} of {report.rows:,}"
    rows.append(("output rows in time order", order, report.in_order == report.rows))
    rows.append(("late rows", f"{report.late:,}", None))
    rows.append(("dead letters", f"{report.dead:,}", None))
    if report.unjudged:
        rows.append(("clients with late rows, sets not compared", f"{report.unjudged:,}", None))
    return rows


def _outcome(outcome: Outcome) -> str:
    faults = ("missing", "wrong", "extra", "repeated")
    told = [f"{getattr(outcome, name):,} {name}" for name in faults if getattr(outcome, name)]
    return ", ".join([f"{outcome.produced:,} produced, {outcome.expected:,} expected", *told])


def text(report: Report) -> str:
    """The summary as plain lines."""
    mark = {True: "ok  ", False: "FAIL", None: "    "}
    lines = [f"{mark[ok]}  {what:<42} {found}" for what, found, ok in summary(report)]
    return "\n".join([*lines, "parity: everything that was acknowledged is there" if report.ok else "parity: FAILED"])
