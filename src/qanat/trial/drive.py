"""Runs the pipelines of a stage by hand: one step after the other in one order, on a clock that only rows move.

Judges nothing; `look` says what is there. See docs/design/testing.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from qanat.errors import QanatError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED
from qanat.trial.stage import Stage, Target
from qanat.trial.worker import DELETE, INSERT, StillClock, Worker

#: Rows of a micro-batch where nothing is cut.
WHOLE = 1 << 20
#: A pipeline that is still moving after so many steps feeds itself.
_ENDLESS = 200_000


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


class Drive:
    """One run of one case. `batch_rows`: at most so many rows in a micro-batch."""

    def __init__(self, stage: Stage, batch_rows: int) -> None:
        self._stage = stage
        self._clock = StillClock()
        self._log = open_log("memory://")
        for stream in stage.streams.values():
            self._log.create(stream)
        self._ending = False
        self._workers: list[Worker] = []
        for pipeline in stage.pipelines:
            self._workers.append(Worker(pipeline, stage, self._log, self._clock, batch_rows, self._ended))

    def _ended(self, name: str) -> bool:
        """A stream ends when the case has, and every pipeline that writes it."""
        writers = [one for one in self._workers if one.pipeline.sink and one.pipeline.sink.name == name]
        return self._ending and all(one.finished for one in writers)

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
                while worker.step():
                    moved, steps = True, steps + 1
                    if steps > _ENDLESS:
                        raise QanatError(
                            f"pipeline {worker.pipeline.name} does not come to an end",
                            hint="does it read, by way of others, what it writes?",
                        )

    def crash(self) -> None:
        """The power goes off while about half of what waits is committed and one micro-batch is not."""
        for worker in self._workers:
            worker.work_half()
        for worker in self._workers:
            worker.lose_power()

    def restart(self) -> None:
        """Everything is committed and closed, and opened again."""
        self.settle()
        for worker in self._workers:
            worker.reopen()

    def leave_out(self, stream: str, partition: int | None) -> None:
        """A stream, or one partition of it, is silent for its idle timeout."""
        self.settle()
        partitions = range(self._stage.streams[stream].partitions) if partition is None else (partition,)
        for worker in self._workers:
            worker.leave_out(stream, partitions)
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

    def counted(self) -> dict[str, tuple[int, int]]:
        """Rows in and out so far, by pipeline."""
        return {one.pipeline.name: (one.progress.rows_in, one.progress.rows_out) for one in self._workers}

    def failures(self) -> dict[str, Exception]:
        """Pipelines that failed, and why."""
        return {one.pipeline.name: one.failure for one in self._workers if one.failure is not None}

    def close(self) -> None:
        """Let go of everything."""
        for worker in self._workers:
            worker.close()
        self._log.close()

    # -- contents -----------------------------------------------------------------------------------------------------

    def _contents(self, target: Target) -> Contents:
        if target.captured:
            return self._captured(target)
        ends = self._log.status()[target.name].ends
        chunks = [chunk for part, end in ends.items() for chunk in self._log.read((target.name, part), 0, max(end, 1))]
        chunks.sort(key=lambda chunk: (chunk.seq, chunk.row))
        schema = schema_of((column.name, column.type) for column in target.columns)
        rows = pa.Table.from_batches([chunk.rows.select(schema.names) for chunk in chunks], schema)
        if not (self._stage.streams[target.name].upsert and chunks):
            return Contents(rows)
        gone = [one == DELETED for chunk in chunks for one in chunk.rows.column(CHANGE).to_pylist()]
        return Contents(rows, tuple(DELETE if one else INSERT for one in gone))

    def _captured(self, target: Target) -> Contents:
        mine = [worker for worker in self._workers if self._stage.sink_of(worker.pipeline) is target]
        kept = [one for worker in mine for one in worker.kept]
        schema = schema_of((column.name, column.type) for column in target.columns)
        rows = pa.concat_tables([schema.empty_table(), *(table for table, _ in kept)])
        if all(kinds is None for _, kinds in kept):
            return Contents(rows)
        return Contents(rows, tuple(kind for table, some in kept for kind in some or [INSERT] * table.num_rows))
