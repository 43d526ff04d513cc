"""A case and a stage -> a script: rows that fit their streams, expectations whose columns exist and have types.

Everything that is wrong in a case is found here, before anything runs. Raises `ConfigError` with file and line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.codec.base import Decode, Decoded
from qanat.codec.json import decode_payloads, encode_lines
from qanat.codec.texts import Misfit
from qanat.codec.values import converter
from qanat.errors import ConfigError
from qanat.gateway.admit import admit, open_inlet
from qanat.gateway.offers import Offer
from qanat.log.base import Append
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED, LATE, Column, Stream
from qanat.sql.embedded.connectors.streams import frame_of
from qanat.sql.embedded.feeds import Preparer
from qanat.sql.embedded.flow import NULL_TIME, advance
from qanat.sql.plan import Scan, Table
from qanat.trial.cases import (
    ARRIVED,
    END,
    NO_WATERMARK,
    OP,
    OPS,
    PARTITION,
    Case,
    Check,
    Crash,
    Expectation,
    Given,
    Idle,
    Payloads,
    Restart,
    Row,
    Rows,
    WatermarkExpectation,
)
from qanat.trial.cells import arrow_of, looks_like_time, loose, read_cell, time_ms, values_of
from qanat.trial.stage import Stage, Target

Times = npt.NDArray[np.int64]
#: Floats that differ by no more than that, relative or absolute, are the same unless a case says otherwise.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Put:
    """Rows as they come into the log."""

    appends: tuple[Append, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What one stream should hold. `columns`: those that are compared; `values`: rows of values as `values_of` gives
    them (for columns without a type: as written); `ops`: with `changes`, one per row."""

    source: Expectation
    target: Target
    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    ops: tuple[str, ...]
    changes: bool
    tolerance: float


@dataclass(frozen=True, slots=True)
class ExpectedWatermark:
    """What the watermark of a pipeline should be: ms, or `none` or `end`."""

    source: WatermarkExpectation
    value: int | str


@dataclass(frozen=True, slots=True)
class Judge:
    """A point at which what is there is compared with what is expected. `line` of the file; `last`: after the end."""

    line: int
    streams: tuple[Expected, ...]
    watermarks: tuple[ExpectedWatermark, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """The inputs end."""


Action = Put | Crash | Restart | Idle | Judge | Finish


@dataclass(frozen=True, slots=True)
class Script:
    """A case that can run. `fed`: the tables that it gives rows to."""

    case: Case
    file: str
    actions: tuple[Action, ...]
    fed: frozenset[str]


def bind(case: Case, file: str, stage: Stage, max_future_skew_ms: int) -> Script:
    """The script of a case."""
    binder = _Binder(case, file, stage, max_future_skew_ms)
    actions: list[Action] = []
    for step in case.steps:
        match step:
            case Given():
                actions.append(Put(tuple(binder.given(step))))
            case Payloads():
                actions.append(Put(tuple(binder.payloads(step))))
            case Idle():
                actions.append(binder.idle(step))
            case Check():
                actions.append(binder.check(step, last=False))
            case Crash() | Restart():
                actions.append(step)
    if case.ends:
        actions.append(Finish())
    final = case.final or Check(case.line, ())
    actions.append(binder.check(final, last=True))
    return Script(case, file, tuple(actions), frozenset(binder.fed))


@dataclass(slots=True)
class _Fed:
    """Rows of one stream that fit. `order`: the watermark of the stream before each row; `times`: ms or `NULL_TIME`."""

    table: Table
    stream: Stream
    rows: pa.RecordBatch
    source: tuple[Row, ...]
    times: Times
    order: Times


class _Binder:
    """One case. `clock`: the newest arrival so far (ms)."""

    def __init__(self, case: Case, file: str, stage: Stage, skew: int) -> None:
        self._case, self._file, self._stage, self._skew = case, file, stage, skew
        self._clock = 0
        self.fed: set[str] = set()

    def _fail(self, line: int, message: str, hint: str | None = None) -> NoReturn:
        raise ConfigError(f"{self._file}:{line}: {message}", hint=hint)

    def _unknown(self, line: int, what: str, name: str, known: Iterable[str]) -> NoReturn:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        self._fail(line, f"there is no {what} {name!r}", hint)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def given(self, step: Given) -> list[Append]:
        """Rows of several streams in one order: the one whose watermark is furthest behind goes next."""
        fed = [self._fit(name, rows) for name, rows in step.streams]
        whose = np.repeat(np.arange(len(fed)), [one.rows.num_rows for one in fed])
        order = np.concatenate([one.order for one in fed]) if fed else np.empty(0, dtype=np.int64)
        following = [0] * len(fed)
        appends: list[Append] = []
        for number in whose[np.lexsort((whose, order))].tolist():
            appends += self._arrive(fed[number], following[number], step)
            following[number] += 1
        return appends

    def _table(self, name: str, line: int) -> Table:
        known = {one: table for one, table in self._stage.tables.items() if self._stage.is_read(one)}
        if name not in known and name in self._stage.targets:
            self._fail(line, f"no pipeline reads {name}", f"give rows to {', '.join(sorted(known))}")
        if name not in known:
            self._unknown(line, "stream", name, known)
        return known[name]

    def _fit(self, name: str, rows: Rows) -> _Fed:
        table = self._table(name, rows.line)
        stream = self._stage.streams[name]
        self.fed.add(name)
        columns = open_inlet(stream, decode_payloads).columns
        names = [column.name for column in columns]
        for column in rows.columns:
            if column not in (*names, ARRIVED, PARTITION) and not (column == OP and stream.upsert):
                self._unknown(rows.line, f"column of {name}", column, names)
        cells = [[self._cell(row, column, stream) for row in rows.rows] for column in columns]
        arrays = [pa.array(one, field.type) for one, field in zip(cells, _schema(columns), strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=_schema(columns))
        times, order = self._times(table, batch)
        return _Fed(table, stream, batch, rows.rows, times, order)

    def _cell(self, row: Row, column: Column, stream: Stream) -> Any:
        """One cell as what Arrow takes; times stand for the numbers of a column that holds the event time as one."""
        value = row.cells.get(column.name)
        arrival = stream.arrival
        try:
            if arrival and arrival.name == column.name and arrival.per_second and looks_like_time(value):
                value = time_ms(str(value), self._case.date) * arrival.per_second // 1000
            return converter(column.type)(read_cell(value, column.type, self._case.date))
        except Misfit as misfit:
            self._misfit(row.line, column.name, misfit)

    def _misfit(self, line: int, column: str, misfit: Misfit) -> NoReturn:
        text = str(misfit)
        self._fail(line, f"column {column}{text if text[:1] in ':.[' else f': {text}'}")

    def _times(self, table: Table, batch: pa.RecordBatch) -> tuple[Times, Times]:
        preparer = Preparer(Scan(table, table.schema))
        _, times = preparer.prepare(frame_of(batch))
        lowest = np.iinfo(np.int64).min // 2
        if not preparer.timed:
            return np.full(batch.num_rows, NULL_TIME), np.full(batch.num_rows, lowest)
        return times, advance(lowest, np.where(times == NULL_TIME, lowest, times), preparer.delay)[:-1]

    def _arrive(self, fed: _Fed, number: int, step: Given) -> list[Append]:
        """One row on its way into the log, as the gateway would have taken it; rows of files have no arrival time."""
        row, time = fed.source[number], int(fed.times[number])
        batch = fed.rows.slice(number, 1)
        partition = self._partition(row.cells.get(PARTITION, step.partition), fed.stream, row.line)
        gone = self._is_gone(row, fed)
        said = row.cells.get(ARRIVED)
        arrived = self._arrival(said if said not in (None, "") else step.arrived, row.line)
        if arrived is None:
            self._clock = max(self._clock, time)
            arrived = self._clock
            if time == NULL_TIME and fed.stream.arrival is not None and arrived == 0:
                hint = f"give {fed.stream.arrival.name} a value, or say `arrived: 2026-01-31 10:00:00`"
                self._fail(row.line, "a row without its event time takes the time of arrival, which is not known", hint)
        if fed.table.stream is None:
            return [_marked(Append(fed.stream.name, partition or 0, batch, 0), gone)]

        def decode(_payloads: Sequence[bytes], _columns: Sequence[Column]) -> Decoded:
            return Decoded(batch, np.zeros(1, dtype=np.int64))

        appends = self._admit(fed.stream, encode_lines(batch).rstrip(b"\n"), decode, arrived, partition)
        return [_marked(one, gone) if one.stream == fed.stream.name else one for one in appends]

    def _is_gone(self, row: Row, fed: _Fed) -> bool:
        """Whether a row of a changelog takes one away."""
        op = str(row.cells.get(OP, "") or "") if OP not in fed.rows.schema.names else ""
        allowed = OPS if fed.table.changes == "retract" else ("+I", "+U", "-D")
        if op and op not in allowed:
            self._fail(row.line, f"{OP} is one of {', '.join(allowed)}; found {op!r}")
        return op.startswith("-")

    def payloads(self, step: Payloads) -> list[Append]:
        """Messages, decoded by the gateway; what does not fit becomes a dead letter."""
        table = self._table(step.stream, step.line)
        if table.stream is None:
            hint = f"give it rows (given: {{{step.stream}: ...}})"
            self._fail(
                step.line, f"{step.stream} has the connector {table.connector}; only streams take payloads", hint
            )
        stream = self._stage.streams[step.stream]
        self.fed.add(step.stream)
        partition = self._partition(step.partition, stream, step.line)
        found = self._arrival(step.arrived, step.line)
        arrived = self._clock if found is None else found
        appends: list[Append] = []
        for _, payload in step.payloads:
            appends += self._admit(stream, payload, decode_payloads, arrived, partition)
        return appends

    def _admit(
        self, stream: Stream, payload: bytes, decode: Decode, arrived: int, partition: int | None
    ) -> list[Append]:
        offer = Offer(stream.name, [payload], "test", stream.name, "test", arrived, lambda _verdict: None)
        appends = admit([offer], {stream.name: open_inlet(stream, decode)}, self._skew).appends
        if partition is None:
            return appends
        return [_moved(one, partition) if one.stream == stream.name else one for one in appends]

    def _arrival(self, said: object, line: int) -> int | None:
        if said is None:
            return None
        try:
            arrived = time_ms(str(said), self._case.date)
        except Misfit as misfit:
            self._misfit(line, ARRIVED, misfit)
        self._clock = max(self._clock, arrived)
        return arrived

    def _partition(self, said: object, stream: Stream, line: int) -> int | None:
        if said is None or said == "":
            return None
        if not str(said).isdecimal() or int(str(said)) >= stream.partitions:
            self._fail(line, f"partitions of {stream.name} are 0 to {stream.partitions - 1}, found {said}")
        return int(str(said))

    def idle(self, step: Idle) -> Idle:
        """A stream that may be idle."""
        table = self._table(step.stream, step.line)
        self._partition(step.partition, self._stage.streams[step.stream], step.line)
        if table.watermark is None or table.watermark.idle_timeout_ms is None:
            message = f"{step.stream} has no idle timeout, so its silence holds the watermark back for ever"
            self._fail(step.line, message, "WITH ('scan.watermark.idle-timeout' = '30 s') in its CREATE TABLE")
        return step

    # -- expectations -------------------------------------------------------------------------------------------------

    def check(self, step: Check, *, last: bool) -> Judge:
        """Expectations with types."""
        streams = tuple(self._expected(one) for one in step.streams)
        return Judge(step.line, streams, tuple(self._watermark(one) for one in step.watermarks), last)

    def _watermark(self, one: WatermarkExpectation) -> ExpectedWatermark:
        names = [pipeline.name for pipeline in self._stage.pipelines]
        if one.pipeline not in names:
            self._unknown(one.line, "pipeline", one.pipeline, names)
        if one.text in (NO_WATERMARK, END):
            return ExpectedWatermark(one, one.text)
        try:
            return ExpectedWatermark(one, time_ms(one.text, self._case.date))
        except Misfit as misfit:
            self._misfit(one.line, "watermark", misfit)

    def _expected(self, one: Expectation) -> Expected:
        target = self._stage.targets.get(one.stream)
        if target is None:
            self._unknown(one.line, "stream", one.stream, self._stage.targets)
        changes = one.changes or (one.rows is not None and OP in one.rows.columns and OP not in target.types)
        tolerance = next(t for t in (one.tolerance, self._case.tolerance, TOLERANCE) if t is not None)
        if one.rows is None:
            return Expected(one, target, tuple(target.types), (), (), changes, tolerance)
        named = tuple(name for name in one.rows.columns if not (changes and name == OP))
        columns = named or tuple(target.types)
        for name in columns:
            if name not in target.types and target.name != LATE:
                self._unknown(one.line, f"column of {target.name}", name, target.types)
        by_column = [self._column(one.rows, name, target) for name in columns]
        ops = tuple(self._op(row) for row in one.rows.rows) if changes else ()
        rows = tuple(zip(*by_column, strict=True)) if one.rows.rows else ()
        return Expected(one, target, columns, rows, ops, changes, tolerance)

    def _op(self, row: Row) -> str:
        op = str(row.cells.get(OP, ""))
        if op not in OPS:
            self._fail(row.line, f"{OP} is one of {', '.join(OPS)}; found {op!r}")
        return op

    def _column(self, rows: Rows, name: str, target: Target) -> list[Any]:
        kind = target.types.get(name)
        if kind is None:  # a column of the row that was late: it has no type there
            return [loose(row.cells.get(name)) for row in rows.rows]
        cells = []
        for row in rows.rows:
            value = row.cells.get(name)
            try:
                cells.append(read_cell(value, kind, self._case.date))
                arrow_of(cells[-1:], kind)
            except Misfit as misfit:
                self._misfit(row.line, name, misfit)
        return values_of(arrow_of(cells, kind), kind)


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return schema_of((column.name, column.type) for column in columns)


def _marked(append: Append, gone: bool) -> Append:
    """The row, marked where it takes one away."""
    if not gone:
        return append
    rows = append.rows.append_column(CHANGE, pa.array([DELETED], pa.int8()))
    return Append(append.stream, append.partition, rows, append.at, append.min_time, append.max_time)


def _moved(append: Append, partition: int) -> Append:
    return Append(append.stream, partition, append.rows, append.at, append.min_time, append.max_time)
