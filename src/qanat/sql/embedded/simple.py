"""Operators without state: projection, filter, union, window assignment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Batch, State, empty_frame, instants, timestamps
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.panes import expand, panes_of
from qanat.sql.embedded.zoned import zone_named
from qanat.sql.plan import Expand, Filter, Project, Session, Union, WindowAssign


class Stateless:
    """What operators without state answer."""

    def snapshot(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing to take."""

    def held(self) -> int:
        """Nothing."""
        return 0

    def largest(self, count: int) -> list[tuple[str, int]]:
        """Nothing."""
        del count
        return []


class ProjectOperator(Stateless):
    """One expression per output column."""

    def __init__(self, node: Project) -> None:
        pairs = zip(node.schema, node.expressions, strict=True)
        self._expressions = [to_polars(expression).alias(field.name) for field, expression in pairs]
        self._names = [field.name for field in node.schema]
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Evaluate; a constant comes back once per row."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, batch.seq, batch.track)
        frame = batch.frame.with_columns(self._expressions).select(self._names)
        return replace(batch, frame=frame)


class FilterOperator(Stateless):
    """Rows for which the predicate is TRUE."""

    def __init__(self, node: Filter) -> None:
        self._predicate = to_polars(node.predicate).fill_null(value=False).alias("__keep")

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Keep what fits."""
        (batch,) = batches
        if not batch.frame.height:
            return batch
        keep = batch.frame.with_columns(self._predicate)["__keep"].to_numpy()
        return batch.select(keep)


class UnionOperator(Stateless):
    """UNION ALL: rows of all inputs in the order of their events."""

    def __init__(self, node: Union) -> None:
        self._names = [field.name for field in node.schema]
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Merge rows; the watermark is the smallest of the inputs'."""
        track = np.minimum.reduce([batch.track for batch in batches])
        filled = [batch for batch in batches if batch.frame.height]
        if not filled:
            return Batch(self._empty, batches[0].seq[:0], track)
        frames = [batch.frame.rename(dict(zip(batch.frame.columns, self._names, strict=True))) for batch in filled]
        if len(filled) == 1:
            return Batch(frames[0], filled[0].seq, track, filled[0].kinds)
        seq = np.concatenate([batch.seq for batch in filled])
        order = np.argsort(seq, kind="stable")
        kinds = np.concatenate([batch.all_kinds for batch in filled])[order]
        insert_only = all(batch.kinds is None for batch in filled)
        return Batch(pl.concat(frames)[order], seq[order], track, None if insert_only else kinds)


class WindowAssignOperator(Stateless):
    """Adds window_start, window_end, window_time; a row comes once per window that covers it. Late rows are kept."""

    def __init__(self, node: WindowAssign) -> None:
        if isinstance(node.window, Session):
            raise TypeError("sessions are not assigned row by row")
        self._node = node
        self._panes = panes_of(node.window)
        self._fields = node.schema[-3:]
        self._zone = None if node.zone is None else zone_named(node.zone)
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Assign windows."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, batch.seq, batch.track)
        times = instants(batch.frame[self._node.time])
        panes = self._panes.of(times if self._zone is None else self._zone.local(times))
        index, windows = expand(self._panes.first_window(panes), self._panes.last_window(panes))
        start, end = self._panes.start(windows), self._panes.end(windows)
        last = end - 1 if self._zone is None else self._zone.instant(end - 1)
        made = zip(self._fields, (start, end, last), strict=True)
        columns = [timestamps(values, field.type).alias(field.name) for field, values in made]
        kinds = None if batch.kinds is None else batch.kinds[index]
        return Batch(batch.frame[index].with_columns(columns), batch.seq[index], batch.track, kinds)


class ExpandOperator(Stateless):
    """GROUPING SETS: each row once per set."""

    def __init__(self, node: Expand) -> None:
        self._node = node
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Repeat the rows; a key that is not in the set is NULL."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, batch.seq, batch.track)
        sets = len(self._node.sets)
        frames = []
        for number, kept in enumerate(self._node.sets):
            gone = [pl.lit(None).cast(batch.frame[key].dtype).alias(key) for key in self._node.keys if key not in kept]
            mark = pl.lit(number, dtype=pl.Int64).alias(self._node.id)
            frames.append(batch.frame.with_columns([*gone, mark]))
        # row by row, and within a row set by set
        order = np.arange(sets * batch.frame.height).reshape(sets, -1).T.ravel()
        kinds = None if batch.kinds is None else np.repeat(batch.kinds, sets)
        return Batch(pl.concat(frames)[order], np.repeat(batch.seq, sets), batch.track, kinds)
