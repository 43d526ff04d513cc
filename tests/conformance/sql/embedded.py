"""Runs cases in the one-process runtime: in micro-batches of any size, with crashes, and over a log of its own.

`run` drives the operators as the engine does and keeps the kind of every row. With `crashes`, after each micro-batch
all that the pipeline knows goes through bytes into a new one. `run_with_restarts` is the engine's own runner over a
log in SQLite: it is dropped in the middle of its work and opened again, and its rows live where its commits do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qanat.log import open_log
from qanat.model.streams import CHANGE, dead_letter_stream, late_stream
from qanat.sql import compile_script
from qanat.sql.embedded.feeds import Feed, Preparer
from qanat.sql.embedded.flow import Kinds
from qanat.sql.embedded.merge import Merger
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.runner import EngineOptions, Input, Runner
from qanat.sql.embedded.sources import scan_inputs
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.plan import Pipeline, Schema
from tests.conformance.sql.cases import Change, Result
from tests.conformance.sql.values import canonical, type_name

#: Rows that a source reads ahead.
_READ_ROWS = 1_000
_NAMES = ("+I", "-U", "+U", "-D")


def compiled(sql: str) -> Pipeline:
    """The plan of the script's SELECT. Raises `SqlError`."""
    (pipeline,) = compile_script(sql).pipelines
    return pipeline


def run(pipeline: Pipeline, batch_rows: int, *, crashes: bool = False) -> Result:
    """All changes, in order."""
    work = _Work(pipeline, None)
    changes: list[Change] = []
    while not work.finished:
        changes += work.step(batch_rows)
        if crashes:
            work = _Work(pipeline, unpack(pack(work.state())))
    return Result(_columns(pipeline.root.schema), tuple(changes))


class _Work:
    """A pipeline at work, from the beginning or from a state."""

    def __init__(self, pipeline: Pipeline, state: dict[str, Any] | None) -> None:
        self._schema = pipeline.root.schema
        self._flow = Flow(pipeline.root)
        self._feeds = [
            Feed(one.scan, Preparer(self._flow.scans[one.scan]), one.source, one.name, by_clock=True)
            for one in _inputs(self._flow)
        ]
        self._merger = Merger(self._flow.scans, self._feeds)
        if state is not None:
            self._flow.restore(state["operators"])
            self._merger.watermarks = list(state["watermarks"])
            for feed, position in zip(self._feeds, state["feeds"], strict=True):
                feed.seek(position)

    @property
    def finished(self) -> bool:
        return all(feed.finished for feed in self._feeds)

    def step(self, rows: int) -> list[Change]:
        for feed in self._feeds:
            if not feed.finished:
                feed.load(rows)
        merged = self._merger.take(rows, None)
        if merged is None:
            return []
        batch = self._flow.process(merged.batches, merged.arrived)
        self._flow.context.late.clear()
        assert batch.frame.height == len(batch.seq)
        assert bool((np.diff(batch.seq) >= 0).all()), "rows come in the order of their events"
        return rows_of(batch.frame, batch.kinds, self._schema)

    def state(self) -> dict[str, Any]:
        return {
            "operators": self._flow.snapshot(),
            "watermarks": self._merger.watermarks,
            "feeds": [feed.position() for feed in self._feeds],
        }


def rows_of(frame: pl.DataFrame, kinds: Kinds | None, schema: Schema) -> list[Change]:
    """The rows of a batch as changes."""
    names = ["+I"] * frame.height if kinds is None else [_NAMES[kind] for kind in kinds]
    types = [field.type for field in schema]
    return [
        (name, tuple(canonical(value, t) for value, t in zip(row, types, strict=True)))
        for name, row in zip(names, frame.iter_rows(), strict=True)
    ]


def _columns(schema: Schema) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, type_name(field.type)) for field in schema)


# --- the engine's runner over a log --------------------------------------------------------------------------


class _KeptRows:
    """A sink whose rows are part of what is committed: after a crash it has those of the last commit."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.changes: list[Change] = []

    def write(self, frame: pl.DataFrame) -> None:
        kinds = None
        if CHANGE in frame.columns:
            kinds, frame = frame[CHANGE].to_numpy(), frame.drop(CHANGE)
        self.changes += rows_of(frame, kinds, self._schema)

    def prepare(self) -> dict[str, object]:
        return {"changes": [[kind, list(values)] for kind, values in self.changes]}

    def publish(self) -> None:
        """They are."""

    def recover(self, prepared: dict[str, object] | None) -> None:
        kept: Any = prepared["changes"] if prepared else []
        self.changes = [(kind, tuple(values)) for kind, values in kept]


def run_with_restarts(pipeline: Pipeline, folder: Path, batch_rows: int = 5, steps: int = 3) -> Result:
    """All changes of a runner that is dropped and opened again after every few steps. `steps` 3 with snapshots at
    every other life: so that what lies between snapshot and commit is replayed, too."""
    sink = _KeptRows(pipeline.root.schema)
    for life in range(1_000):
        snapshots = 0 if life % 2 else 10**9
        if _live(
            pipeline,
            folder,
            sink,
            EngineOptions(batch_rows=batch_rows, commit_interval_ms=0, snapshot_interval_ms=snapshots),
            steps,
        ):
            return Result(_columns(pipeline.root.schema), tuple(sink.changes))
        sink.changes = [("+I", ("lost in the crash",))]
    raise AssertionError("no end")


def _live(pipeline: Pipeline, folder: Path, sink: _KeptRows, options: EngineOptions, steps: int) -> bool:
    log = open_log(f"sqlite:///{folder}/log.db")
    try:
        for stream in (dead_letter_stream(), late_stream()):
            log.create(stream)
        runner = Runner(pipeline, log, _inputs, sink, options)
        try:
            runner.recover()
            for _ in range(steps):
                if runner.finished:
                    break
                runner.step()
            if runner.finished:
                runner.flush()
            return runner.finished
        finally:
            runner.close()
    finally:
        log.close()


def _inputs(flow: Flow) -> list[Input]:
    """All inputs are files: the log is not read."""
    log = open_log("memory://")
    try:
        return [one for number, scan in enumerate(flow.scans) for one in scan_inputs(log, number, scan, _READ_ROWS)]
    finally:
        log.close()
