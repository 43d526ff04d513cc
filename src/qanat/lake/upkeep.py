"""Many small files made few, sorted ones, and files that nobody reads any more deleted. First the choice, then the act.

A date that still grows is rewritten when it has many small files; one that no longer grows as soon as it has two.
Files that are large already are left alone, so that a row is rewritten a few times and not with every new file.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from qanat.errors import ArchiveError
from qanat.lake.files import GROUP, Written
from qanat.lake.rows import sort_names
from qanat.lake.table import File, LakeTable, told
from qanat.lake.types import stored_schema
from qanat.log.archive import OFFSET, PARTITION
from qanat.model.streams import Stream

#: So many small files of a date that grows are made one.
MANY = 32
#: A date that got nothing for so long no longer grows.
SETTLED_MS = 3_600_000
#: Memory of a rewrite; what does not fit goes to a temporary folder.
_MEMORY = "256MB"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Files of one date that become fewer."""

    day: int
    files: tuple[File, ...]

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return sum(one.rows for one in self.files)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(one.size for one in self.files)


def rewrites(files: Iterable[File], file_size: int, now_ms: int, *, all_dates: bool = False) -> list[Rewrite]:
    """What is to be rewritten now, oldest date first. `all_dates`: also where a date still grows."""
    dates: dict[int, list[File]] = defaultdict(list)
    for one in files:
        dates[one.day].append(one)
    found = []
    for day, held in sorted(dates.items()):
        small = [one for one in held if one.size * 2 < file_size]
        grows = max(one.made_ms for one in held) > now_ms - SETTLED_MS
        if len(small) >= (MANY if grows and not all_dates else 2):
            found.append(Rewrite(day, tuple(small)))
    return found


def rewrite(table: LakeTable, stream: Stream, chosen: Rewrite, file_size: int) -> list[Written]:
    """Write the rows of the files anew, sorted, and put the new files in place of the old ones in one commit.

    Raises `ArchiveError`; the old files stay then.
    """
    schema = stored_schema(stream)
    per_file = max(GROUP, chosen.rows * file_size // max(chosen.size, 1))
    written: list[Written] = []
    try:
        for batches in _cut(_sorted(table, stream, chosen.files, schema), per_file):
            written.append(table.write(chosen.day, batches, schema))  # noqa: PERF401 - those that are there, if one fails
    except BaseException:
        table.discard(written)
        raise
    if sum(one.rows for one in written) != chosen.rows:
        table.discard(written)
        raise ArchiveError(f"{table.url}: files do not have the {chosen.rows} rows that the table says they have")
    table.rewrite(written, chosen.files)
    return written


def _sorted(table: LakeTable, stream: Stream, files: Sequence[File], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows of the files, in order. DuckDB sorts, and what is too much for memory it puts on the disk."""
    names = [name.replace('"', '""') for name in [*sort_names(stream), PARTITION, OFFSET]]
    order = ", ".join(f'"{name}" NULLS LAST' for name in names)
    with tempfile.TemporaryDirectory(prefix="qanat-lake-") as spill, told(f"rewrite files of {table.url}"):
        found = table.dataset(files, schema)
        try:
            with duckdb.connect(config=_settings(spill)) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.register("rows", _read(found))
                rows = connection.sql("FROM rows").order(order)
                for batch in cast(pa.RecordBatchReader, rows.to_arrow_reader(GROUP)):
                    yield _as_stored(batch, schema)
        except duckdb.Error as error:
            raise ArchiveError(f"cannot rewrite files of {table.url}: {error}") from error


def _read(found: ds.Dataset) -> pa.RecordBatchReader:
    """File after file: Arrow would read many of them ahead, which takes more memory than the sort."""
    return found.scanner(batch_size=GROUP // 4, batch_readahead=1, fragment_readahead=1).to_reader()


def _settings(spill: str) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": _MEMORY,
        "temp_directory": str(Path(spill)),
        "threads": 1,
        "preserve_insertion_order": False,
    }


def _as_stored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [batch.column(one.name) for one in schema]
    fitting = [
        column if column.type.equals(one.type) else column.cast(one.type)
        for column, one in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(fitting, schema=schema)


def _cut(batches: Iterator[pa.RecordBatch], per_file: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of one file after the other, each at least `per_file` rows but for the last."""
    ahead = next(batches, None)

    def some() -> Iterator[pa.RecordBatch]:
        nonlocal ahead
        rows = 0
        while ahead is not None and rows < per_file:
            rows += ahead.num_rows
            yield ahead
            ahead = next(batches, None)

    while ahead is not None:
        yield some()
