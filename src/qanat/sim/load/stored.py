"""What of a load lies in the log: rows and checksum, read from it and not from anybody's counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from qanat.log.base import Log
from qanat.sim.load.terms import LoadResult

_PAGE_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows of a load and the sum of their checked column."""

    rows: int
    checksum: float

    def matches(self, result: LoadResult, *, checked: bool = True) -> bool:
        """Whether this is just what was acknowledged; `checked`: whether the payloads had a number to add up."""
        return self.rows == result.acknowledged and (not checked or self.checksum == result.checksum)


def read_stored(
    log: Log, stream: str, checked: str | None, since: Mapping[int, int], marked: tuple[str, str] | None = None
) -> Stored:
    """Rows from the offsets `since` on, and the sum of the column `checked`.

    `marked`: (column, prefix): only rows whose text begins so, where others feed the stream as well. The sums are
    exact: values have one decimal, which is 5.
    """
    rows, total = 0, 0.0
    for partition, first in since.items():
        offset = first
        while chunks := log.read((stream, partition), offset, _PAGE_ROWS):
            for chunk in chunks:
                part = _mine(chunk.rows, marked)
                rows += part.num_rows
                total += float(pc.sum(part.column(checked)).as_py() or 0) if checked is not None else 0.0
            offset = chunks[-1].end
    return Stored(rows, total)


def _mine(rows: pa.RecordBatch, marked: tuple[str, str] | None) -> pa.RecordBatch:
    return rows if marked is None else rows.filter(pc.starts_with(rows.column(marked[0]), pattern=marked[1]))
