"""One pipeline in a case: the runner of the runtime, with a plug that can be pulled and sinks that only remember.

A pipeline that fails stays as it is and is not stepped again; the others go on, as in `qanat up`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from qanat.clock import MIN_TIME
from qanat.log.base import Append, Chunk, Log, Place, Receipt, StreamStatus, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, Stream
from qanat.sql.embedded.connectors.streams import LogSource
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.outputs import StreamOutput
from qanat.sql.embedded.runner import EngineOptions, Input, Progress, Runner, scan_name
from qanat.sql.plan import Pipeline
from qanat.trial.stage import Stage, Target

#: Kinds of rows of a changelog, numbered as Flink's RowKind.
INSERT, DELETE = 0, 3
#: Seconds that pass with a step: so few that no idle timeout ever runs out by itself. Snapshots are taken at every
#: third step, so that a recovery has both a snapshot and rows to replay.
_TICK, _SNAPSHOT_MS = 1e-9, 2.5e-6
#: Whether a stream has ended.
Ended = Callable[[str], bool]


class PowerCut(Exception):  # noqa: N818  not an error: it is what the case asked for
    """Raised in place of a commit that a crash prevents."""


@dataclass(slots=True)
class StillClock:
    """A clock that stands still: `ms` is the newest arrival, `elapsed` next to nothing."""

    ms: int = 0
    elapsed: float = 0.0

    def now_ms(self) -> int:
        """The arrival time of the newest row."""
        return self.ms

    def seconds(self) -> float:
        """What the steps have taken."""
        return self.elapsed


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


#: Rows that a sink was given, and what kind each is (None: all are inserts).
Kept = tuple[pa.Table, "list[int] | None"]


class Retracts(StreamOutput):
    """The stream that stands for a file of changes: as in `debezium-json`, an update is a delete and an insert."""

    def appends(self, frames: Sequence[pl.DataFrame], at: int) -> list[Append]:
        """See `StreamOutput`."""
        halves = {0: INSERT, 1: DELETE, 2: INSERT, 3: DELETE}
        plain = [frame for frame in frames if CHANGE not in frame.columns]
        changed = [
            frame.with_columns(pl.col(CHANGE).replace_strict(halves, return_dtype=pl.Int8))
            for frame in frames
            if CHANGE in frame.columns
        ]
        return super().appends([*plain, *changed], at)


class Capture:
    """A sink that keeps rows, once they are committed, in place of the files or the terminal they were meant for."""

    def __init__(self, target: Target, kept: list[Kept]) -> None:
        self._columns = [column.name for column in target.columns]
        self._schema = schema_of((column.name, column.type) for column in target.columns)
        self._kept = kept
        self._waiting: list[Kept] = []

    def write(self, frame: pl.DataFrame) -> None:
        """Keep rows until they are committed; the kinds of a changelog are its last column."""
        kinds = frame[CHANGE].to_list() if CHANGE in frame.columns else None
        rows = frame if kinds is None else frame.drop(CHANGE)
        if rows.height:
            named = rows.rename(dict(zip(rows.columns, self._columns, strict=True)))
            self._waiting.append((named.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._schema), kinds))

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


class Worker:
    """One pipeline. `ended`: says whether a stream gets no row any more."""

    def __init__(  # a pipeline, what it stands on, and what time it is
        self, pipeline: Pipeline, stage: Stage, log: Log, clock: StillClock, batch_rows: int, ended: Ended
    ) -> None:
        self.pipeline = pipeline
        self.failure: Exception | None = None
        self.watermark = MIN_TIME
        self.progress = Progress()
        self.kept: list[Kept] = []
        self._stage, self._log, self._clock, self._ended = stage, log, clock, ended
        self._options = EngineOptions(live=True, batch_rows=batch_rows, snapshot_interval_ms=_SNAPSHOT_MS, clock=clock)
        self._plug = Plug(log)
        self._runner: Runner | None = None
        self._guard(self._open)

    def _open(self) -> bool:
        self._plug = Plug(self._log)
        self._runner = Runner(self.pipeline, self._plug, self._inputs, self._sink(), self._options)
        self._runner.recover()
        self.progress = self._runner.progress
        return True

    def _sink(self) -> Capture | StreamOutput:
        target = self._stage.sink_of(self.pipeline)
        if target.captured:
            return Capture(target, self.kept)
        stream = self._stage.streams[target.name]
        return Retracts(stream) if target.retracts else StreamOutput(stream)

    def _inputs(self, flow: Flow) -> list[Input]:
        return [given for number in range(len(flow.scans)) for given in self._scan_inputs(flow, number)]

    def _scan_inputs(self, flow: Flow, number: int) -> list[Input]:
        scan = flow.scans[number]
        stream = self._stage.streams[scan.table.name]
        found = []
        for partition in range(stream.partitions):
            place = (stream.name, partition)
            source = LogSource(self._log, place, self._options.batch_rows, lambda: self._ended(stream.name))
            found.append(Input(number, scan_name(scan, number, partition), source, place))
        return found

    def _guard(self, work: Callable[[], bool]) -> bool:
        """Do it, unless the pipeline has failed; remember why it does."""
        if self.failure is not None:
            return False
        try:
            return work()
        except PowerCut:
            raise
        except Exception as error:  # noqa: BLE001  told by the case that it failed
            self.failure = error
            return False

    @property
    def finished(self) -> bool:
        """Whether it will never write again."""
        return self.failure is not None or self._runner is None or self._runner.finished

    def step(self) -> bool:
        """One micro-batch and its commit. Whether anything was done."""
        return self._guard(self._step)

    def _step(self) -> bool:
        if self._runner is None:
            return False
        worked = self._runner.step()
        self._runner.flush()
        self._clock.elapsed += _TICK
        self.watermark = max(self.watermark, self._runner.progress.watermark)
        return worked

    def work_half(self) -> None:
        """Commit about half of what waits, as far as micro-batches allow."""
        waiting = self._lag()
        while self._lag() - self._options.batch_rows >= waiting // 2 and self.step():
            pass

    def _lag(self) -> int:
        return 0 if self._runner is None or self.failure is not None else self._runner.lag()

    def lose_power(self) -> None:
        """Compute one more micro-batch, of which nothing is committed, and forget everything."""
        self._plug.pulled = True
        with suppress(PowerCut):
            self.step()
        self.reopen()

    def reopen(self) -> None:
        """Start again from what is committed."""
        self.close()
        self._guard(self._open)

    def leave_out(self, stream: str, partitions: Sequence[int]) -> None:
        """These partitions of a stream are silent."""
        self._guard(lambda: self._leave_out(stream, partitions))

    def _leave_out(self, stream: str, partitions: Sequence[int]) -> bool:
        names = [
            scan_name(scan, number, partition)
            for number, scan in enumerate(Flow(self.pipeline.root).scans)
            if scan.table.name == stream
            for partition in partitions
        ]
        return self._runner is not None and self._runner.leave_out(names)

    def close(self) -> None:
        """Let go of threads."""
        if self._runner is not None:
            self._runner.close()
