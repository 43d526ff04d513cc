"""Runs the pipelines of a stage by hand: one step after the other in one order, on a clock that only rows move.

Judges nothing; `look` says what is there. See docs/design/testing.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from qanat.clock import MIN_TIME
from qanat.errors import QanatError
from qanat.log import open_log
from qanat.log.base import Append, Chunk, Log, Place, Receipt, StreamStatus, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import Stream
from qanat.sql.embedded.connectors.streams import LogSource
from qanat.sql.embedded.flow import Kinds
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.outputs import StreamOutput, to_rows
from qanat.sql.embedded.runner import EngineOptions, Input, Runner, scan_name
from qanat.sql.plan import Pipeline
from qanat.trial.stage import Stage, Target

#: Kinds of rows of a changelog, numbered as Flink's RowKind.
INSERT, DELETE = 0, 3
#: The column of a stream with a key that says what a row does to the one before it; only where a row was deleted.
_OP = "__op"
#: Rows of a micro-batch where nothing is cut.
WHOLE = 1 << 20
#: A pipeline that is still moving after so many steps feeds itself.
_ENDLESS = 200_000
#: Snapshots are taken at every third commit, so that a recovery has both a snapshot and rows to replay.
_TICK, _SNAPSHOT_MS = 1.0, 3_000


class PowerCut(Exception):  # noqa: N818  not an error: it is what the case asked for
    """Raised in place of a commit that a crash prevents."""


@dataclass(slots=True)
class StillClock:
    """A clock that stands still: `ms` is the newest arrival, `ticks` the steps so far."""

    ms: int = 0
    ticks: float = 0.0

    def now_ms(self) -> int:
        """The arrival time of the newest row."""
        return self.ms

    def seconds(self) -> float:
        """One second per step."""
        return self.ticks


class Plug:
    """A log whose commits can be prevented: the rest is that of the log behind it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.pulled = False

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """See `Log`; raises `PowerCut` while the plug is pulled."""
        if self.pulled:
            raise PowerCut
        return self._log.submit(transaction)

    def create(self, stream: Stream) -> None:
        """See `Log`."""
        self._log.create(stream)

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Log`."""
        return self._log.read(place, offset, max_rows)

    def seq(self) -> int:
        """See `Log`."""
        return self._log.seq()

    def status(self) -> dict[str, StreamStatus]:
        """See `Log`."""
        return self._log.status()

    def positions(self, consumer: str) -> dict[Place, int]:
        """See `Log`."""
        return self._log.positions(consumer)

    def state(self, key: str) -> bytes | None:
        """See `Log`."""
        return self._log.state(key)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See `Log`."""
        return self._log.watch(callback)

    def close(self) -> None:
        """See `Log`."""
        self._log.close()


class Capture:
    """A sink that keeps rows, once they are committed, in place of the files or the terminal they were meant for."""

    def __init__(self, target: Target, kept: list[tuple[pa.RecordBatch, Kinds | None]]) -> None:
        self._columns = [column.name for column in target.columns]
        self._schema = schema_of((column.name, column.type) for column in target.columns)
        self._kept = kept
        self._waiting: list[tuple[pa.RecordBatch, Kinds | None]] = []

    def write(self, frame: pl.DataFrame, kinds: Kinds | None = None) -> None:
        """Keep rows until they are committed."""
        if frame.height:
            named = frame.rename(dict(zip(frame.columns, self._columns, strict=True)))
            self._waiting.append((to_rows(named, self._schema), kinds))

    def prepare(self) -> None:
        """Nothing is needed."""

    def publish(self) -> None:
        """Hand over."""
        self._kept += self._waiting
        self._waiting = []

    def recover(self, prepared: dict[str, object] | None) -> None:
        """What was not committed is gone."""
        del prepared
        self._waiting = []


@dataclass(frozen=True, slots=True)
class Contents:
    """What a target holds, in order. `kinds`: one per row (numbers of Flink's RowKind), None where all are inserts."""

    rows: pa.Table
    kinds: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Everything at one point. `watermarks`: of pipelines, ms."""

    contents: Mapping[str, Contents]
    watermarks: Mapping[str, int]


@dataclass(slots=True)
class Counted:
    """Rows in and out of one pipeline."""

    rows_in: int = 0
    rows_out: int = 0


@dataclass(slots=True)
class _Worker:
    pipeline: Pipeline
    plug: Plug
    runner: Runner
    watermark: int = MIN_TIME
    kept: list[tuple[pa.RecordBatch, Kinds | None]] = field(default_factory=list)


class Drive:
    """One run of one case. `batch_rows`: at most so many rows in a micro-batch."""

    def __init__(self, stage: Stage, batch_rows: int) -> None:
        self._stage, self._batch_rows = stage, batch_rows
        self._clock = StillClock()
        self._log = open_log("memory://")
        for stream in stage.streams.values():
            self._log.create(stream)
        self._ending = False
        self._workers: list[_Worker] = []
        for pipeline in stage.pipelines:
            kept: list[tuple[pa.RecordBatch, Kinds | None]] = []
            plug, runner = self._open(pipeline, kept)
            self._workers.append(_Worker(pipeline, plug, runner, kept=kept))

    def _open(self, pipeline: Pipeline, kept: list[tuple[pa.RecordBatch, Kinds | None]]) -> tuple[Plug, Runner]:
        target, plug = self._stage.sink_of(pipeline), Plug(self._log)
        sink = Capture(target, kept) if target.captured else StreamOutput(self._stage.streams[target.name])
        options = EngineOptions(
            live=True, batch_rows=self._batch_rows, snapshot_interval_ms=_SNAPSHOT_MS, clock=self._clock
        )
        runner = Runner(pipeline, plug, self._inputs, sink, options)
        runner.recover()
        return plug, runner

    def _inputs(self, flow: Flow) -> list[Input]:
        found = []
        for number, scan in enumerate(flow.scans):
            stream = self._stage.streams[scan.table.name]
            finished = self._finished_test(stream.name)
            for partition in range(stream.partitions):
                place = (stream.name, partition)
                source = LogSource(self._log, place, self._batch_rows, finished)
                found.append(Input(number, scan_name(scan, number, partition), source, place))
        return found

    def _finished_test(self, name: str) -> Callable[[], bool]:
        """A stream ends when the case has, and every pipeline that writes it."""

        def finished() -> bool:
            writers = [one for one in self._workers if one.pipeline.sink and one.pipeline.sink.name == name]
            return self._ending and all(one.runner.finished for one in writers)

        return finished

    # -- what a case does ---------------------------------------------------------------------------------------------

    def put(self, appends: Sequence[Append]) -> None:
        """Rows arrive; nothing is computed yet."""
        for append in appends:
            self._clock.ms = max(self._clock.ms, append.at)
            self._log.submit(Transaction([append])).result()

    def settle(self) -> None:
        """Let every pipeline work until nothing moves."""
        steps, moved = 0, True
        while moved:
            moved = False
            for worker in self._workers:
                while self._step(worker):
                    moved, steps = True, steps + 1
                    if steps > _ENDLESS:
                        raise QanatError(
                            f"pipeline {worker.pipeline.name} does not come to an end",
                            hint="does it read, by way of others, what it writes?",
                        )

    def _step(self, worker: _Worker) -> bool:
        """One micro-batch and its commit."""
        worked = worker.runner.step()
        worker.runner.flush()
        self._clock.ticks += _TICK
        worker.watermark = max(worker.watermark, worker.runner.progress.watermark)
        return worked

    def crash(self) -> None:
        """The power goes off while about half of what waits is committed and one micro-batch is not."""
        for worker in self._workers:
            waiting = worker.runner.lag()
            while worker.runner.lag() - self._batch_rows >= waiting // 2 and self._step(worker):
                pass
        for worker in self._workers:
            worker.plug.pulled = True
            try:
                worker.runner.step()
                worker.runner.flush()
            except PowerCut:
                pass
            self._reopen(worker)

    def restart(self) -> None:
        """Everything is committed and closed, and opened again."""
        self.settle()
        for worker in self._workers:
            self._reopen(worker)

    def _reopen(self, worker: _Worker) -> None:
        worker.runner.close()
        worker.plug, worker.runner = self._open(worker.pipeline, worker.kept)

    def leave_out(self, stream: str, partition: int | None) -> None:
        """A stream, or one partition of it, is silent for its idle timeout."""
        self.settle()
        partitions = range(self._stage.streams[stream].partitions) if partition is None else (partition,)
        for worker in self._workers:
            names = [
                scan_name(scan, number, one)
                for number, scan in enumerate(Flow(worker.pipeline.root).scans)
                if scan.table.name == stream
                for one in partitions
            ]
            worker.runner.leave_out(names)
        self.settle()

    def end(self) -> None:
        """No row will come any more: watermarks go to the end of time."""
        self.settle()
        self._ending = True
        self.settle()

    def look(self) -> Look:
        """What is there, after all that could be computed has been."""
        self.settle()
        contents = {name: self._contents(target) for name, target in self._stage.targets.items()}
        return Look(contents, {one.pipeline.name: one.watermark for one in self._workers})

    def counted(self) -> dict[str, Counted]:
        """Rows in and out so far, by pipeline."""
        found = {one.pipeline.name: one.runner.progress for one in self._workers}
        return {name: Counted(progress.rows_in, progress.rows_out) for name, progress in found.items()}

    def close(self) -> None:
        """Let go of everything."""
        for worker in self._workers:
            worker.runner.close()
        self._log.close()

    # -- contents -----------------------------------------------------------------------------------------------------

    def _contents(self, target: Target) -> Contents:
        if target.captured:
            return self._captured(target)
        ends = self._log.status()[target.name].ends
        chunks = [chunk for part, end in ends.items() for chunk in self._log.read((target.name, part), 0, max(end, 1))]
        chunks.sort(key=lambda chunk: (chunk.seq, chunk.row))
        schema = schema_of((column.name, column.type) for column in target.columns)
        return Contents(pa.Table.from_batches([chunk.rows for chunk in chunks], schema))

    def _captured(self, target: Target) -> Contents:
        mine = [worker for worker in self._workers if self._stage.sink_of(worker.pipeline) is target]
        kept = [one for worker in mine for one in worker.kept]
        schema = schema_of((column.name, column.type) for column in target.columns)
        rows = pa.Table.from_batches([batch for batch, _ in kept], schema)
        if all(kinds is None for _, kinds in kept):
            return Contents(rows)
        kinds = [kind for batch, some in kept for kind in ([0] * batch.num_rows if some is None else some.tolist())]
        return Contents(rows, tuple(kinds))
