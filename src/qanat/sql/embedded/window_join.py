"""Joins of two inputs that carry windows, on the window: INNER, LEFT, RIGHT, FULL, SEMI, ANTI."""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_frame, fired_at, instants, no_rows
from qanat.sql.embedded.pairs import Residual, compile_keys
from qanat.sql.plan import Schema, WindowJoin

_ARRIVALS = ("__arrival0", "__arrival1")


class WindowJoinOperator:
    """Runs one `WindowJoin`: both sides wait until their window closes."""

    def __init__(self, node: WindowJoin, context: Context) -> None:
        self._node = node
        self._context = context
        self._windows = (node.left_window, node.right_window)
        self._key_expressions = (compile_keys(node.left_keys), compile_keys(node.right_keys))
        self._waiting = [self._blank(node.left.schema, 0), self._blank(node.right.schema, 1)]
        self._arrived = [0, 0]
        self._joined = node.joined or node.schema
        self._residual = Residual(node.residual, self._joined)
        self._empty = empty_frame(node.schema)

    @property
    def _key_names(self) -> list[str]:
        return [f"__k{i}" for i in range(len(self._node.left_keys))]

    def _blank(self, schema: Schema, side: int) -> pl.DataFrame:
        frame = empty_frame(schema)
        return self._marked(frame, side, no_rows(), no_rows(), no_rows())

    def _marked(self, frame: pl.DataFrame, side: int, start: Ints, end: Ints, arrival: Ints) -> pl.DataFrame:
        keys = frame.with_columns(self._key_expressions[side]).select(
            [f"k{i}" for i in range(len(self._node.left_keys))]
        )
        marks = [pl.Series("__start", start), pl.Series("__end", end), pl.Series(f"__arrival{side}", arrival)]
        return frame.with_columns([c.alias(f"__{c.name}") for c in keys.get_columns()] + marks)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Rows of windows that the batch closed."""
        track = np.minimum(batches[0].track, batches[1].track)
        for side, batch in enumerate(batches):
            if batch.frame.height:
                self._take(side, Batch(batch.frame, batch.seq, track))
        watermark = int(track[-1])
        due = [frame.filter(pl.col("__end") - 1 <= watermark) for frame in self._waiting]
        if not any(frame.height for frame in due):
            return Batch(self._empty, no_rows(), track)
        self._waiting = [frame.filter(pl.col("__end") - 1 > watermark) for frame in self._waiting]
        return self._join(due[0], due[1], track)

    def _take(self, side: int, batch: Batch) -> None:
        start, end, time = (instants(batch.frame[name]) for name in self._windows[side])
        late = end - 1 <= batch.before
        self._context.reject("window join", batch, late, time, "the window of the row is closed")
        good = ~late
        arrival = self._arrived[side] + np.arange(int(good.sum()))
        self._arrived[side] += len(arrival)
        rows = self._marked(batch.select(good).frame, side, start[good], end[good], arrival)
        self._waiting[side] = pl.concat([self._waiting[side], rows])

    def _join(self, left: pl.DataFrame, right: pl.DataFrame, track: Ints) -> Batch:
        node, pairs = self._node, self._pairs(left, right)
        half = node.kind in ("SEMI", "ANTI")
        if half:
            found = left.join(pairs, on=_ARRIVALS[0], how="semi" if node.kind == "SEMI" else "anti")
        else:
            parts = [pairs]
            if node.kind in ("LEFT", "FULL"):
                parts.append(self._named(left.join(pairs, on=_ARRIVALS[0], how="anti"), 0))
            if node.kind in ("RIGHT", "FULL"):
                parts.append(self._named(right.join(pairs, on=_ARRIVALS[1], how="anti"), 1))
            found = pl.concat(parts, how="diagonal") if len(parts) > 1 else pairs
        arrivals = _ARRIVALS[:1] if half else _ARRIVALS
        last = [False] * (1 + len(self._key_names)) + [True] * len(arrivals)  # rows of the right side alone come last
        found = found.sort(["__end", *self._key_names, *arrivals], nulls_last=last)
        names = [one.name for one in (node.left.schema if half else node.schema)]
        frame = found.select(pl.col(old).alias(new.name) for old, new in zip(names, node.schema, strict=True))
        return Batch(frame, fired_at(track, found["__end"].to_numpy()), track)

    def _pairs(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Rows of both sides that match, side by side."""
        on = ["__start", "__end", *self._key_names]
        joined = self._named(left, 0).join(self._named(right, 1), on=on, how="inner", nulls_equal=False)
        return joined.filter(pl.Series(self._residual.of(joined)))

    def _named(self, frame: pl.DataFrame, side: int) -> pl.DataFrame:
        """Columns called as in the joined row."""
        width = len(self._node.left.schema)
        own = self._node.left.schema if side == 0 else self._node.right.schema
        names = self._joined[:width] if side == 0 else self._joined[width:]
        return frame.rename({one.name: new.name for one, new in zip(own, names, strict=True)})

    def snapshot(self) -> State:
        """Waiting rows of both sides."""
        return {"waiting": self._waiting, "arrived": self._arrived}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._waiting, self._arrived = list(state["waiting"]), list(state["arrived"])

    def held(self) -> int:
        """About how many bytes of rows wait."""
        return sum(int(frame.estimated_size()) for frame in self._waiting)

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most waiting rows."""
        names = self._key_names
        sizes = [
            frame.select([*names, pl.lit(int(frame.estimated_size()) // frame.height).alias("__size")])
            for frame in self._waiting
            if frame.height
        ]
        if not sizes:
            return []
        by_key = pl.concat(sizes).group_by(names or pl.lit("(no key)"), maintain_order=True).agg(pl.col("__size").sum())
        top = by_key.sort("__size", descending=True, maintain_order=True).head(count).rows()
        return [(", ".join("NULL" if one is None else str(one) for one in key), size) for *key, size in top]
