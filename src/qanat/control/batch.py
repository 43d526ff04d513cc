"""Pipelines computed over all that their streams ever had, log and archive together. Writes nothing.

The rows are those that the pipeline wrote when the rows of its inputs came, up to where it stands; a pipeline that has
not run yet is computed up to the ends of its streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa

from qanat.control.actual import Actual, read_actual
from qanat.control.apply import before
from qanat.control.pipelines import pipeline_of
from qanat.control.spans import Reach, reach_of
from qanat.control.whole_log import WholeLog
from qanat.errors import ChangedPipelineError, ConfigError
from qanat.log.archive import Archive
from qanat.log.base import Log
from qanat.model.streams import CHANGE
from qanat.sql.changelog import changes_of
from qanat.sql.embedded import collected_schema
from qanat.sql.embedded.outputs import StreamOutput
from qanat.sql.embedded.rebuild import Before, Output, Rebuild, Span
from qanat.sql.embedded.runner import scan_name
from qanat.sql.plan import Pipeline, Program, Scan
from qanat.sql.tree import walk


class Batch:
    """One pipeline over history. `live`: its inputs are merged as `qanat up` does it."""

    def __init__(
        self, program: Program, name: str, log: Log, archive: Archive | None, *, live: bool, rows: int
    ) -> None:
        self._pipeline = pipeline_of(program, name)
        self._log = WholeLog(log, archive)
        self._live, self._rows = live, rows
        self._actual = read_actual(self._log, [one.name for one in program.pipelines])
        self.rows_read = 0

    def missing(self) -> str:
        """What of the history is gone, in words; empty where all of it is there."""
        return self._reach().missing

    def run(self, *, allow_loss: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows as the stream stores them: of a stream that holds the latest row per key, its changes.

        Raises `ChangedPipelineError` where rows that are needed are gone, unless `allow_loss`.
        """
        reach = self._reach()
        if reach.span is None or (reach.missing and not allow_loss):
            raise ChangedPipelineError(
                f"{self._pipeline.name} cannot be computed over all history: {reach.missing}",
                hint="archive the stream ('archive' = 'true') before retention deletes from it; --allow-loss goes on",
            )
        commit = self._actual.commits.get(self._pipeline.name)
        past = Before() if commit is None else before(self._pipeline, self._actual, commit)
        run = Rebuild(self._pipeline, self._log, reach.span, past, live=self._live, rows=self._rows)
        rows_of = self._rows_of()
        for output in run.run():
            self.rows_read = run.rows_read
            yield from rows_of(output)

    def _reach(self) -> Reach:
        commit = self._actual.commits.get(self._pipeline.name)
        if commit is not None:
            return reach_of(self._pipeline, commit, self._actual, None)
        return _whole(self._pipeline, self._actual)

    def _rows_of(self) -> Callable[[Output], Iterator[pa.RecordBatch]]:
        sink, updates = self._pipeline.sink, changes_of(self._pipeline.root).updates
        if sink is None or sink.stream is None:
            schema = collected_schema(self._pipeline)
            return lambda output: _collected(output, schema, updates)
        made, names = StreamOutput(sink.stream), [column.name for column in sink.stream.columns]

        def stored(output: Output) -> Iterator[pa.RecordBatch]:
            frame = output.batch.frame
            frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
            if updates:
                frame = frame.with_columns(pl.Series(CHANGE, output.batch.all_kinds))
            if frame.height:
                for append in made.appends([frame], 0):
                    yield append.rows

        return stored


def _collected(output: Output, schema: pa.Schema, updates: bool) -> Iterator[pa.RecordBatch]:
    if updates:
        raise ConfigError(
            "a SELECT that changes its results has no rows to list", hint="INSERT INTO a table with a key"
        )
    if output.batch.frame.height:
        yield from output.batch.frame.to_arrow().cast(schema).to_batches()


def _whole(pipeline: Pipeline, actual: Actual) -> Reach:
    """Of a pipeline that has not run yet: its streams from the first row to the last."""
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    gone: set[str] = set()
    for number, scan in enumerate(node for node in walk(pipeline.root) if isinstance(node, Scan)):
        stream = scan.table.stream
        if stream is None:
            return Reach(None, missing=f"{scan.table.name} lies outside the log and was not read before")
        status = actual.streams.get(stream.name)
        for partition in range(stream.partitions):
            name = scan_name(scan, number, partition)
            starts[name] = 0 if status is None else status.starts.get(partition, 0)
            ends[name] = 0 if status is None else status.ends.get(partition, 0)
            version = actual.versions.get(stream.name)
            if starts[name] > (0 if version is None else version.starts.get(partition, 0)):
                gone.add(stream.name)
    missing = f"retention has deleted rows of {', '.join(sorted(gone))}" if gone else ""
    return Reach(Span(starts, ends), sum(ends[name] - starts[name] for name in ends), missing)
