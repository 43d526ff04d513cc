"""Rows that are added in batches and read by their place. Few large frames instead of many small ones."""

from __future__ import annotations

import polars as pl

from qanat.sql.embedded.flow import Ints, State


class RowStore:
    """Numbered rows: the first one added is 0. Adding costs O(log rows) copies of a row over its life."""

    def __init__(self, empty: pl.DataFrame) -> None:
        """`empty`: a frame without rows that has the columns."""
        self._empty = empty
        self._parts: list[pl.DataFrame] = []
        self._whole: pl.DataFrame | None = empty
        self.height = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        if not frame.height:
            return
        if frame.schema != self._empty.schema:
            frame = frame.cast(dict(self._empty.schema))  # type: ignore[arg-type]
        self.height += frame.height
        self._whole = None
        parts = self._parts
        parts.append(frame)
        while len(parts) > 1 and parts[-2].height <= 2 * parts[-1].height:
            last = parts.pop()
            parts[-1] = pl.concat([parts[-1], last]).rechunk()

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The rows of these numbers."""
        if self._whole is None:
            self._whole = pl.concat(self._parts)
        return self._whole[numbers]

    def all(self) -> pl.DataFrame:
        """Every row."""
        return pl.concat(self._parts) if self._parts else self._empty

    def held(self) -> int:
        """About how many bytes."""
        return sum(int(part.estimated_size()) for part in self._parts)

    def snapshot(self) -> State:
        """Every row."""
        return {"rows": self.all()}

    def restore(self, state: State) -> None:
        """Take the rows of a snapshot."""
        self._whole = state["rows"]
        self._parts = [state["rows"]] if state["rows"].height else []
        self.height = state["rows"].height
