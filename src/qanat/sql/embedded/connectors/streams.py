"""Streams of the log, and tables in memory, as sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa

from qanat.log.base import Log, Place
from qanat.sql.embedded.feeds import Block, Token
from qanat.sql.embedded.skipped import NOTHING, Skipped


class LogSource:
    """One partition of a stream, without the rows of `skipped`.

    Live: never ends. Bounded: ends when `finished()` held before a read found nothing.
    """

    def __init__(
        self,
        log: Log,
        place: Place,
        rows: int,
        finished: Callable[[], bool] | None = None,
        skipped: Skipped = NOTHING,
    ) -> None:
        self._log, self._place, self._rows, self._finished = log, place, rows, finished
        self._skipped = skipped

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """Chunks of the log from the token's offset on."""
        offset = offset_of(token)
        while True:
            ending = self._finished is not None and self._finished()
            chunks = self._log.read(self._place, offset, self._rows)
            for chunk in chunks:
                offset = chunk.end
                for part in self._skipped.without(chunk):
                    yield Block(frame_of(part.rows), {"offset": part.offset}, at=part.at, seq=part.seq)
            if not chunks:
                if ending:
                    return
                yield None


class TableSource:
    """An Arrow table that the caller handed over."""

    def __init__(self, table: pa.Table, rows: int) -> None:
        self._frame, self._rows = frame_of(table), rows

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """Slices of the table."""
        start = offset_of(token)
        for begin in range(start, self._frame.height, self._rows):
            yield Block(self._frame[begin : begin + self._rows], {"offset": begin})


def offset_of(token: Token | None) -> int:
    """The offset at which a token of these sources points."""
    return 0 if token is None else int(token["offset"]) + int(token.get("skip", 0))


def frame_of(rows: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    """Arrow rows as a frame, without copying where possible."""
    made = pl.from_arrow(rows)
    if not isinstance(made, pl.DataFrame):
        raise TypeError("rows expected")
    return made
