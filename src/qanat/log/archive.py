"""The Archive port: what of a stream lies outside of the log, in files that are kept for years.

The log's own rows and the archive's meet at a cut: below it the archive has every row, from it on the log has. Who
reads both takes the cut first, then the log from the cut on; so no row is missing or there twice, however far the
archive has come in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from qanat.log.base import Chunk, Place

#: What archived rows have besides the stream's own columns: where they stood in the log, when they came (ms since
#: 1970), and the UTC date of their event time, by which files are kept apart.
PARTITION, OFFSET, SEQ, AT, DATE = "__partition", "__offset", "__seq", "__at", "__date"


@dataclass(frozen=True, slots=True)
class Cut:
    """How far one stream is archived: of partition n, everything below the offset `ends[n]`.

    `version`: which state of the archive says so; it stays readable for as long as old states are kept.
    """

    stream: str
    version: int
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a reader wants of a stream. What lies outside may be left out and need not be: the reader filters, too.

    `since` and `until`: event times (ms), both inclusive; None is open. `equal`: column -> the values asked for.
    """

    since: int | None = None
    until: int | None = None
    equal: Mapping[str, frozenset[object]] = field(default_factory=dict)


EVERYTHING = Bounds()


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parquet files, by URL or path, that hold at least the rows asked for. `rows`: how many they hold in all.

    `schema`: the stream's columns as declared, `__op` where it has a key, and `PARTITION` to `DATE`. A file may lack
    columns that came later, and `DATE` stands in no file but in its path (`/__date=2026-11-21/`).

    Some types are others in the files, from where a cast leads back: TIMESTAMP and TIMESTAMP_LTZ are microseconds there
    (BIGINT nanoseconds with 7 to 9 digits), TIME is INT milliseconds of the day, INTERVAL DAY is BIGINT milliseconds.

    `remote`: the same files, of a place that only the archive knows how to reach (a bucket and its keys), to read
    through. It has the types of the files, every column of the stream, and not `DATE`. None: the files are local.
    """

    files: Sequence[str]
    schema: pa.Schema
    rows: int
    remote: ds.Dataset | None = None


class Archive(Protocol):
    """Ordering: `read` gives rows in the order of their offsets, `pieces` in none. Idempotency: reading changes
    nothing. Durability: a cut only names what is durable. Thread-safe.

    Errors: `ArchiveError` where files of a version are gone or cannot be read (take a new cut), `UnknownStreamError`.
    """

    def streams(self) -> Sequence[str]:
        """The streams that are archived."""
        ...

    def cut(self, stream: str) -> Cut | None:
        """How far a stream is archived now; None where it is not."""
        ...

    def pieces(self, cut: Cut, bounds: Bounds = EVERYTHING) -> Pieces:
        """The files to look into."""
        ...

    def read(self, cut: Cut, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """As `Log.read`, for offsets below the cut: appends as they once stood in the log, with `seq` and `at`."""
        ...
