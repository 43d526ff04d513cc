"""What the two ways of keeping a Top-N share: the port and the rows they emit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from qanat.sql.embedded.flow import Ints, Kinds
from qanat.sql.plan import Rank


@dataclass(frozen=True, slots=True)
class Emitted:
    """Output rows in order: the input row that made each, its own number, its rank (1 = first), its kind."""

    row: Ints
    number: Ints
    rank: Ints
    kind: Kinds


class Top(Protocol):
    """The first rows of every partition, as numbers of rows in a `RowStore`.

    `take`, then `settle` for the same rows: row i of the batch has number base + i until `settle`, which names the rows
    to store and numbers them base, base + 1, ... Partitions have the numbers of a `Lifetimes`.
    """

    #: after `take`: rows of the batch that changed state
    written: Ints

    def grow(self, partitions: int) -> None:
        """There are so many partitions now."""
        ...

    def clear(self, partitions: Ints) -> None:
        """These have no rows (any more)."""
        ...

    def take(self, frame: pl.DataFrame, keys: Ints, seq: Ints, kinds: Kinds | None, base: int) -> Emitted:
        """Work off input rows."""
        ...

    def settle(self, frame: pl.DataFrame, base: int) -> pl.DataFrame:
        """The rows of the batch to store."""
        ...

    def numbers(self) -> Ints:
        """Numbers of all rows, partition by partition, in their order."""
        ...

    def number_afresh(self) -> None:
        """The rows are numbered 0, 1, ... in the order of `numbers`."""
        ...

    def counts(self) -> Ints:
        """Rows per partition."""
        ...

    def size(self) -> int:
        """Rows of all partitions."""
        ...

    def renumber(self, partitions: Ints) -> None:
        """Partitions have new numbers: old -> new (-1: forgotten)."""
        ...

    def restore(self, rows: pl.DataFrame, counts: Ints) -> None:
        """Take all rows, partition by partition, in their order."""
        ...

    def held(self) -> int:
        """About how many bytes."""
        ...


def shows_ranks(node: Rank) -> bool:
    """Whether a row that changes its rank is said: the number is put out, or rows before `first` are left out. The
    number of the only rank is always 1."""
    return node.last > 1 and (node.number is not None or node.first > 1)
