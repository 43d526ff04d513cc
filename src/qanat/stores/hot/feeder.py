"""Brings one stream of the log into one hot store, batch by batch. Has no thread and no clock; see `service`.

The store has a batch before the log is told. A crash at any point in between repeats the last batch, which changes
nothing. Where to go on is what the store says, so that one that was emptied is filled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qanat.errors import StoreError
from qanat.stores.hot.base import HotStore
from qanat.stores.hot.rows import Piece, make_batch
from qanat.stores.hot.source import Source
from qanat.stores.hot.table import Table

#: Rows that are written at a time.
BATCH_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Lag:
    """Rows that the store has not got, and when the oldest of them came (ms); None where there is none."""

    rows: int
    since: int | None


class Feeder:
    """One stream into one store. Used by one thread."""

    def __init__(self, store: HotStore, table: Table, source: Source, rows: int = BATCH_ROWS) -> None:
        self._store, self._table, self._source, self._rows = store, table, source, rows
        self._position: dict[int, int] | None = None

    def step(self) -> int:
        """Write a batch of each partition that has rows; how many rows that were. Raises `StoreError`, `LogError`."""
        if self._position is None:
            self._position = self._begin()
        return sum(self._move(partition) for partition in sorted(self._position))

    def begin_anew(self) -> None:
        """Ask the store where it stands before the next step: it failed, or is another connection."""
        self._position = None

    def _begin(self) -> dict[int, int]:
        self._store.prepare(self._table)
        there = self._store.position(self._table.name)
        position = {partition: there.get(partition, 0) for partition in self._source.ends()}
        for partition, end in self._source.ends().items():
            place, has = f"{self._table.name}/{partition}", position[partition]
            if has > end:
                raise StoreError(
                    f"the store has {place} up to row {has}, the log up to {end}",
                    hint="put log.db back from the same time as the store, or name another database",
                )
        self._tell(position)  # a crash may have come between the store and the log
        return position

    def _move(self, partition: int) -> int:
        assert self._position is not None
        pieces = self._source.read(partition, self._position[partition], self._rows)
        if not pieces:
            return 0
        batch = make_batch(self._table, partition, pieces)
        self._store.write(self._table.name, batch)
        self._position[partition] = batch.end
        self._tell({partition: batch.end})
        return _count(pieces)

    def _tell(self, position: dict[int, int]) -> None:
        told = self._source.position()
        ahead = {partition: end for partition, end in position.items() if end > told.get(partition, 0)}
        if ahead:
            self._source.advance(ahead)


def lag_of(source: Source) -> Lag:
    """How far a consumer is behind."""
    position, starts = source.position(), source.starts()
    rows, since = 0, []
    for partition, end in source.ends().items():
        begin = max(position.get(partition, 0), starts.get(partition, 0))
        if begin < end:
            rows += end - begin
            since += [piece.at for piece in source.read(partition, begin, 1)[:1]]
    return Lag(rows, min(since, default=None))


def _count(pieces: Sequence[Piece]) -> int:
    return sum(int(piece.rows.num_rows) for piece in pieces)
