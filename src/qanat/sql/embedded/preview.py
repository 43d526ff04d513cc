"""Pipelines over the live streams of a log that is only read: what they would write goes to the caller.

Each pipeline reads what is in the log. One that reads what another one of the script writes sees the rows that the
running project has written there, not those of the other preview.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import polars as pl
import pyarrow as pa

from qanat.clock import MIN_TIME
from qanat.errors import UnknownStreamError
from qanat.log.base import Log, Place
from qanat.model.streams import CHANGE
from qanat.sql.changelog import changes_of
from qanat.sql.embedded.connectors.sinks import CollectSink, collected_schema
from qanat.sql.embedded.feeds import Block, Feed, Preparer, Source, Token
from qanat.sql.embedded.merge import Merger
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.sources import scan_inputs
from qanat.sql.plan import Pipeline, Program

#: Seconds between two looks at the log while nothing comes.
_POLL = 0.25


class Preview:
    """Runs a program until `stop`. `starts`: where in each partition to begin; others begin at their first row.
    `emit`: called with a pipeline's name and rows (inserts, or a changelog with its `op` in front)."""

    def __init__(
        self, program: Program, log: Log, starts: Mapping[Place, int], emit: Callable[[str, pa.Table], None], rows: int
    ) -> None:
        self._log = log
        self._pipelines = [_Previewed(pipeline, log, starts, emit, rows) for pipeline in program.pipelines]
        self._wake = threading.Event()
        self._stopped = False

    def run(self) -> None:
        """Until `stop`, or the end of all inputs where these are files."""
        unwatch = self._log.watch(self._wake.set)
        try:
            while not self._stopped:
                self._wake.clear()
                worked = [pipeline.step() for pipeline in self._pipelines if not self._stopped]
                if all(pipeline.finished for pipeline in self._pipelines):
                    return
                if not any(worked) and not self._stopped:
                    self._wake.wait(_POLL)
        finally:
            unwatch()

    def stop(self) -> None:
        """End `run`. From any thread."""
        self._stopped = True
        self._wake.set()


class _Previewed:
    """One pipeline with its operators, without state or sink of the log."""

    def __init__(
        self,
        pipeline: Pipeline,
        log: Log,
        starts: Mapping[Place, int],
        emit: Callable[[str, pa.Table], None],
        rows: int,
    ) -> None:
        self._log, self._rows = log, rows
        self._flow = Flow(pipeline.root)
        self._updates = changes_of(pipeline.root).updates
        self._sink = CollectSink(collected_schema(pipeline), lambda table: emit(pipeline.name, table))
        scans = self._flow.scans
        inputs = [one for number, scan in enumerate(scans) for one in scan_inputs(log, number, scan, rows)]
        self._feeds = []
        for given in inputs:
            source = given.source if given.place is None else _Patient(given.source)
            feed = Feed(given.scan, Preparer(scans[given.scan]), source, given.name, by_clock=False)
            if given.place is not None:
                token = {"offset": starts.get(given.place, 0)}
                feed.seek({"token": token, "clock": MIN_TIME, "consumed": 0, "finished": False, "idle": False})
            self._feeds.append(feed)
        self._merger = Merger(scans, self._feeds)

    @property
    def finished(self) -> bool:
        """Whether every input has ended: files do."""
        return all(feed.finished for feed in self._feeds)

    def step(self) -> bool:
        """One micro-batch, if there is one."""
        horizon = self._log.seq()
        for feed in self._feeds:
            if not feed.finished:
                feed.load(self._rows)
        merged = self._merger.take(self._rows, horizon)
        if merged is None:
            return False
        result = self._flow.process(merged.batches, merged.arrived)
        self._flow.context.late.clear()
        for feed in self._feeds:
            feed.bad.clear()
        if result.frame.height:
            kinds = pl.Series(CHANGE, result.all_kinds)
            self._sink.write(result.frame.with_columns(kinds) if self._updates else result.frame)
            self._sink.publish()
        return True


class _Patient:
    """A stream that may not be in the log yet: nothing comes from it until it is."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """See `Source`."""
        while True:
            try:
                yield from self._source.blocks(token)
            except UnknownStreamError:
                yield None
            else:
                return
