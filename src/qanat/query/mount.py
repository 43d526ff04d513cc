"""Tables of one query on a connection, and no others.

What is mounted is gone after it, but for views over files of the archive: a file never changes, so the next query that
wants the very same takes the view over, which spares it DuckDB's look into the first file. Others it drops.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from qanat.errors import ArchiveError, ConfigError
from qanat.log.archive import DATE, Archive, Pieces
from qanat.log.base import Log
from qanat.model.streams import CHANGE
from qanat.query.archived import Reach, files_of, view_of
from qanat.query.as_of import AsOf
from qanat.query.connections import Lent, quoted
from qanat.query.constants import Values
from qanat.query.outside import Outside
from qanat.query.outside.base import OutsideScan
from qanat.query.outside.files import FileTable
from qanat.query.reading import Reading
from qanat.query.scan import StreamScan
from qanat.query.snapshot import Moment, bounds_of, covers, scan_of

_LIVE, _FILES = "__live_", "__files_"


class FoldersError(ArchiveError):
    """Files lie in folders that the connection may not read yet."""

    def __init__(self, folders: Collection[str]) -> None:
        super().__init__("the archive has files in a folder that is new")
        self.folders = folders


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query asks, of which rows, and the call that ends it early."""

    reading: Reading
    values: Values
    as_of: AsOf
    check: Callable[[], None]


@dataclass(slots=True)
class Mount:
    """Puts tables on a connection, and takes them away. `reaches`: by stream, how different files are known to be.
    `scans`: those that Python reads, with what they raised."""

    lent: Lent
    wanted: Wanted
    reaches: dict[str, Reach]
    scans: list[StreamScan | OutsideScan] = field(default_factory=list)
    archived: bool = False
    _kept: set[str] = field(default_factory=set)
    _registered: list[str] = field(default_factory=list)
    _views: set[str] = field(default_factory=set)

    def streams(self, log: Log, archive: Archive | None, moment: Moment) -> None:
        """The streams that the statement names."""
        for name, status in moment.statuses.items():
            reading = self.wanted.reading
            if not (reading.lists or reading.names(name)):
                continue
            stream, cut = status.stream, moment.cuts.get(name)
            bounds = bounds_of(reading, stream, self.wanted.values)
            pieces = archive.pieces(cut, bounds) if archive is not None and cut is not None else None
            columns = frozenset(reading.wanted([column.name for column in stream.columns]))
            if stream.upsert:  # which row is the latest of its key does not depend on what is asked
                columns |= {*stream.key, CHANGE}
            options = {"as_of": self.wanted.as_of, "wanted": columns, "check": self.wanted.check}
            scan = scan_of(log, status, cut, bounds, options)
            self.scans.append(scan)
            if cut is None or pieces is None:
                self._register(name, scan)
            else:
                self._archived(scan, pieces)

    def _archived(self, scan: StreamScan, pieces: Pieces) -> None:
        self.archived = True
        stream = scan.status.stream
        live: str | None = None
        if covers(scan, self.wanted.as_of) or not pieces.files:
            live = quoted(f"{_LIVE}{stream.name}")
            self._register(f"{_LIVE}{stream.name}", scan)
        if not pieces.files:
            self._keep(stream.name, view_of(stream, None, live, self.wanted.as_of))
            return
        for reach in list(Reach)[self.reaches.get(stream.name, Reach.FIRST) :]:
            try:
                files = self._source(stream.name, pieces, reach)
                self._keep(stream.name, view_of(stream, files, live, self.wanted.as_of))
                return
            except duckdb.BinderException:  # a column that the first file, or none of them, has yet
                if reach is Reach.MISSING:
                    raise
                self.reaches[stream.name] = Reach.ALL

    def _source(self, stream: str, pieces: Pieces, reach: Reach) -> str:
        if pieces.remote is not None:  # DuckDB would need an extension for buckets that has to be downloaded
            name = f"{_FILES}{stream}"
            self._register(name, pieces.remote)
            return quoted(name)
        files = [one.removeprefix("file://") for one in pieces.files]
        self._check_folders(files)
        return files_of(files, pieces.schema, reach)

    def _check_folders(self, files: Sequence[str]) -> None:
        """A table's files lie in one folder; the connection must have been told of it."""
        folders = {file.partition(f"/{DATE}=")[0] if f"/{DATE}=" in file else str(Path(file).parent) for file in files}
        if not folders <= self.lent.folders:
            raise FoldersError(folders)

    def widen(self) -> bool:
        """Files turned out to have different columns: look at all of them the next time. Whether that is new."""
        archived = [scan.status.stream.name for scan in self.scans if isinstance(scan, StreamScan)]
        found = [name for name in archived if self.reaches.get(name, Reach.FIRST) is Reach.FIRST]
        self.reaches.update(dict.fromkeys(found, Reach.ALL))
        return bool(found)

    @staticmethod
    def read_by_arrow(text: str) -> bool:
        """Whether DuckDB says that Arrow could not read files of the archive."""
        return f"'{_FILES}" in text and "IOError" in text

    def tables(self, tables: Mapping[str, Outside], streams: Mapping[str, object]) -> None:
        """The outside tables that the statement names."""
        reading = self.wanted.reading
        for name, table in tables.items():
            if not reading.names(name):
                continue
            if name in streams:
                raise ConfigError(f"tables.{name} has the name of a stream", hint="rename it in qanat.yaml")
            if isinstance(table, FileTable):
                self._view(name, table.select)
                continue
            columns = table.columns()
            domains = {one.name.casefold(): one.domain for one in columns if one.domain is not None}
            conditions = reading.conditions(name, domains, self.wanted.values)
            chosen = frozenset(reading.wanted([one.name for one in columns]))
            scan = OutsideScan(table, chosen, conditions, self.wanted.check)
            self.scans.append(scan)
            self._register(name, scan)

    def _register(self, name: str, source: Any) -> None:
        self._drop(name)
        self.lent.connection.register(name, source)
        self._registered.append(name)

    def _view(self, name: str, select: str) -> None:
        """A view of this query only: what it reads may have other columns the next time."""
        self._drop(name)
        self._create(name, select)
        self._views.add(name)

    def _keep(self, name: str, select: str) -> None:
        """A view that stays, if it is not there already."""
        if self.lent.views.get(name) != select:
            self._create(name, select)
            self.lent.views[name] = select
        self._kept.add(name)

    def _create(self, name: str, select: str) -> None:
        self.lent.connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {select}").fetchall()

    def _drop(self, name: str) -> None:
        if name in self.lent.views:
            self.lent.connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}").fetchall()
            del self.lent.views[name]

    def settle(self) -> None:
        """Everything is mounted: drop what an earlier query has left and this one does not want."""
        for name in [name for name in self.lent.views if name not in self._kept]:
            self._drop(name)

    def failure(self) -> Exception | None:
        """What a scan raised while DuckDB was reading."""
        return next((failure for scan in self.scans for failure in scan.failures), None)

    def clear(self) -> None:
        """Take everything away but the views that stay."""
        for name in self._views:
            self.lent.connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}").fetchall()
        for name in self._registered:
            self.lent.connection.unregister(name)


@contextmanager
def mounted(lent: Lent, wanted: Wanted, reaches: dict[str, Reach]) -> Iterator[Mount]:
    """A mount that is cleared in the end. What clearing raises on a connection that was interrupted does not matter."""
    mount = Mount(lent, wanted, reaches)
    try:
        yield mount
    except BaseException:
        with suppress(duckdb.Error):
            mount.clear()
        raise
    mount.clear()
