"""One Delta table per stream: versions, positions that were committed with the rows, files. Takes no rows from a log.

Positions are application transactions: `qanat/<partition>` -> the offset behind the last row that the table has.
Whoever rewrites files commits `qanat/upkeep` with them: two who take away the same file at the same time would both
succeed otherwise, and leave its rows there twice.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from qanat.errors import ArchiveError
from qanat.lake.dates import date_text
from qanat.lake.files import GROUP, Written, stats_of, writer_of
from qanat.lake.store import Bucket, Folder, Place, delta, files_of
from qanat.log.archive import DATE

_UPKEEP = "qanat/upkeep"
_ORIGIN = "qanat log "
#: Commits between two checkpoints, which spare readers the commits before.
_CHECKPOINT = 50


@dataclass(frozen=True, slots=True)
class File:
    """A file of a version. `low` and `high`: least and greatest values by column, where the log knows them."""

    name: str
    day: int
    size: int
    rows: int
    made_ms: int
    low: Mapping[str, Any]
    high: Mapping[str, Any]


class Tables:
    """The tables of a lake."""

    def __init__(self, place: Place | str | Path) -> None:
        self.place = place if isinstance(place, Place) else Place(str(place))

    def open(self, stream: str) -> LakeTable | None:
        """The table of a stream; None where nothing was archived yet. Raises `ArchiveError`."""
        delta()
        from deltalake.exceptions import TableNotFoundError

        url = self.place.table(stream)
        with told(f"open the table {url}"):
            if self.place.is_local and not (Path(url) / "_delta_log").is_dir():
                return None
            try:
                return LakeTable(stream, self.place, delta().DeltaTable(url, storage_options=dict(self.place.options)))
            except TableNotFoundError:
                return None

    def mended(self, stream: str) -> LakeTable | None:
        """The same for the one who writes: a commit that a power cut left in pieces is put aside first."""
        log = Path(self.place.table(stream)) / "_delta_log"
        if self.place.is_local and log.is_dir():
            pieces = torn(log)
            if pieces is not None:  # the log was not told of it, and still has its rows
                pieces.rename(pieces.with_suffix(".torn"))
        return self.open(stream)

    def create(self, stream: str, schema: pa.Schema, origin: str, keep_ms: int) -> LakeTable:
        """A table without rows. `origin`: of which log its rows will be."""
        url = self.place.table(stream)
        if self.place.is_local:
            Path(url).mkdir(parents=True, exist_ok=True)
        keep = f"interval {max(keep_ms // 1000, 1)} seconds"
        with told(f"make the table {url}"):
            delta().DeltaTable.create(
                url,
                schema,
                partition_by=[DATE],
                name=stream,
                description=f"{_ORIGIN}{origin}",
                configuration={
                    "delta.checkpointInterval": str(_CHECKPOINT),
                    "delta.deletedFileRetentionDuration": keep,
                    "delta.logRetentionDuration": keep,
                    "delta.enableExpiredLogCleanup": "true",
                },
                storage_options=dict(self.place.options),
            )
        found = self.open(stream)
        if found is None:
            raise ArchiveError(f"the table {url} was made and is not there")
        return found


class LakeTable:
    """The table of one stream, at the newest version that was looked at. Not thread-safe."""

    def __init__(self, stream: str, place: Place, table: Any) -> None:
        self.stream, self.url = stream, place.table(stream)
        self._place, self._table = place, table
        self.store: Folder | Bucket = files_of(place, stream)
        self._known: tuple[int, dict[int, int]] = (self.version, {})

    @property
    def version(self) -> int:
        """The version."""
        return int(self._table.version())

    @property
    def origin(self) -> str | None:
        """Of which log the rows are; None where qanat did not make the table."""
        text = self._table.metadata().description or ""
        return text.removeprefix(_ORIGIN) if text.startswith(_ORIGIN) else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(one.name for one in self._table.schema().fields)

    def refresh(self) -> None:
        """Look at the newest version."""
        if self.store.newest() == self.version:
            return
        with told(f"read {self.url}"):
            self._table.update_incremental()

    def at(self, version: int) -> LakeTable:
        """The table as it was. Raises `ArchiveError` where that version is gone."""
        if version == self.version:
            return self
        with told(f"read version {version} of {self.url}"):
            found = delta().DeltaTable(self.url, version=version, storage_options=dict(self._place.options))
        return LakeTable(self.stream, self._place, found)

    def positions(self, partitions: Collection[int]) -> dict[int, int]:
        """Of each partition, the offset behind the last row that the table has."""
        if self._known[0] != self.version:
            self._known = self.version, {}
        known = self._known[1]
        for number in partitions:
            if number not in known:
                known[number] = int(self._table.transaction_version(f"qanat/{number}") or 0)
        return {number: known[number] for number in partitions}

    def files(self) -> list[File]:
        """The files of the version."""
        with told(f"read {self.url}"):
            found = pa.table(self._table.get_add_actions(flatten=False)).to_pylist()
        return [_file(one) for one in found]

    @property
    def is_local(self) -> bool:
        """Whether its files lie in a folder of this machine."""
        return self._place.is_local

    def dataset(self, files: Sequence[File], schema: pa.Schema) -> ds.Dataset:
        """Files as Arrow reads them, with the columns of `schema`: NULL where a file has not got one yet."""
        system, name_of = self.store.filesystem()
        with told(f"read {self.url}"):
            return ds.dataset([name_of(one.name) for one in files], schema, format="parquet", filesystem=system)

    def add_columns(self, schema: pa.Schema) -> None:
        """Let the table have the columns of `schema` that it lacks."""
        had = set(self.columns)
        added = [one for one in schema if one.name not in had]
        if added:
            with told(f"add columns to {self.url}"):
                self._table.alter.add_columns(list(delta().Schema.from_arrow(pa.schema(added)).fields))
            self._settle()

    def write(self, day: int, batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema) -> Written:
        """A new file with rows of a date, which no version names until it is committed. Raises `ArchiveError`."""
        name = f"{DATE}={date_text(day)}/part-{uuid.uuid4().hex}.parquet"
        with told(f"write {self.store.url(name)}"), self.store.written(name) as sink:
            with writer_of(sink, schema) as writer:
                for batch in batches:
                    if isinstance(batch, pa.RecordBatch):
                        writer.write_batch(batch, row_group_size=GROUP)
                    else:
                        writer.write_table(batch, row_group_size=GROUP)
            found: pq.FileMetaData = writer.writer.metadata
        return Written(name, day, self.store.size(name), found.num_rows, stats_of(found, schema))

    def append(self, written: Sequence[Written], positions: Mapping[int, int]) -> None:
        """Commit files, and with them how far the log is archived. Raises `ArchiveError`; nothing is committed then."""
        ids = {f"qanat/{number}": offset for number, offset in positions.items()}
        self._commit(written, (), ids)

    def rewrite(self, written: Sequence[Written], gone: Sequence[File]) -> None:
        """Put files in place of others that have the same rows. Raises `ArchiveError` as `append` does."""
        self._commit(written, gone, {_UPKEEP: int(self._table.transaction_version(_UPKEEP) or 0) + 1})

    def _commit(self, written: Sequence[Written], gone: Sequence[File], ids: Mapping[str, int]) -> None:
        from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

        now, grows = int(time.time() * 1000), not gone
        actions: list[Any] = [
            AddAction(one.name, one.size, {DATE: date_text(one.day)}, now, grows, one.stats) for one in written
        ]
        actions += [RemoveAction(one.name, False, now, one.size, {DATE: date_text(one.day)}) for one in gone]
        properties = CommitProperties(app_transactions=[Transaction(name, end) for name, end in ids.items()])
        with told(f"commit to {self.url}"):
            self._table.create_write_transaction(
                actions, "append", self._table.schema(), partition_by=[DATE], commit_properties=properties
            )
        self._settle()

    def _settle(self) -> None:
        self.refresh()
        with told(f"commit to {self.url}"):
            self.store.settle(self.version)

    def discard(self, written: Iterable[Written]) -> None:
        """Delete files whose commit has failed. Where that fails too, vacuum finds them."""
        for one in written:
            self.store.remove(one.name)

    def vacuum(self, keep_ms: int, *, dry_run: bool = False) -> list[str]:
        """Delete files that no version of the last `keep_ms` has; returns their names."""
        with told(f"vacuum {self.url}"):
            hours = -(-keep_ms // 3_600_000)
            found = self._table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=True)
        if not dry_run:
            self._settle()
        return sorted(set(found))


def _file(one: dict[str, Any]) -> File:
    day = one["partition"][DATE]
    low, high = (
        {name: value for name, value in (one[side] or {}).items() if value is not None} for side in ("min", "max")
    )
    since = day.toordinal() - 719_163
    return File(one["path"], since, one["size_bytes"], one["num_records"], one["modification_time"], low, high)


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """What delta-rs, Arrow and the operating system raise, as `ArchiveError`."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise ArchiveError(
            f"cannot {doing}: {error}", hint="another process writes the same table; two logs need two lakes"
        ) from error
    except (DeltaError, OSError, pa.ArrowException, ValueError) as error:
        raise ArchiveError(f"cannot {doing}: {error}", hint=_hint(error)) from error


def _hint(error: Exception) -> str | None:
    text = str(error).lower()
    if "no space left" in text or "storagefull" in text:
        return "the disk is full; nothing is lost, the log keeps what is not archived"
    return None


def torn(log: Path) -> Path | None:
    """The newest commit of a local table, if it is not whole."""
    newest = max(log.glob("*.json"), default=None)
    if newest is None:
        return None
    lines = newest.read_bytes().splitlines()
    try:
        return None if lines and all(isinstance(json.loads(line), dict) for line in lines) else newest
    except ValueError:
        return newest
