"""The driver of the port `Archive` over Delta tables: cuts, files that may hold what is asked for, rows in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import RLock

from qanat.errors import ArchiveError, UnknownStreamError
from qanat.lake.archiver import ORIGIN
from qanat.lake.history import History
from qanat.lake.prune import pruned
from qanat.lake.table import File, LakeTable, Tables
from qanat.lake.types import archived_schema, stored_schema
from qanat.log.archive import EVERYTHING, Bounds, Cut, Pieces
from qanat.log.base import Chunk, Log, Place
from qanat.model.lake import is_archived
from qanat.model.streams import Stream

#: Versions whose files are remembered.
_REMEMBERED = 16


class DeltaArchive:
    """The archive of a log: what `Archiver` has written, in this process or another. Only reads."""

    def __init__(self, tables: Tables, log: Log) -> None:
        self._tables, self._log = tables, log
        self._lock = RLock()
        self._open: dict[str, LakeTable] = {}
        self._files: OrderedDict[tuple[str, int], list[File]] = OrderedDict()
        self._history = History()

    def streams(self) -> Sequence[str]:
        """See `Archive`."""
        return [name for name, one in self._log.status().items() if is_archived(one.stream)]

    def cut(self, stream: str) -> Cut | None:
        """See `Archive`."""
        declared = self._stream(stream)
        if not is_archived(declared):
            return None
        with self._lock:
            table = self._open.get(stream)
            if table is None:
                table = self._own(stream)
            else:
                self._refresh(table)
            if table is None:
                return None
            self._open[stream] = table
            cut = Cut(stream, table.version, table.positions(range(declared.partitions)))
            self._remember(cut, table)
            return cut

    def _own(self, stream: str) -> LakeTable | None:
        """The table of the stream, if its rows are of this log."""
        table = self._tables.open(stream)
        origin = (self._log.state(ORIGIN) or b"").decode()
        return table if table is not None and table.origin == origin else None

    def _refresh(self, table: LakeTable) -> None:
        try:
            table.refresh()
        except ArchiveError:
            self._open.pop(table.stream, None)  # the next cut opens it anew
            raise

    def pieces(self, cut: Cut, bounds: Bounds = EVERYTHING) -> Pieces:
        """See `Archive`."""
        declared = self._stream(cut.stream)
        table, files = self._at(cut)
        found = pruned(files, declared, bounds)
        urls = [table.store.url(one.name) for one in found]
        remote = None if table.is_local or not found else table.dataset(found, stored_schema(declared))
        return Pieces(urls, archived_schema(declared), sum(one.rows for one in found), remote)

    def read(self, cut: Cut, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Archive`."""
        declared = self._stream(place[0])
        table, files = self._at(cut)
        with self._lock:
            return self._history.read(table, files, declared, place[1], (offset, cut.ends.get(place[1], 0)), max_rows)

    def _at(self, cut: Cut) -> tuple[LakeTable, list[File]]:
        """The table and its files in the version of a cut."""
        with self._lock:
            table = self._open.get(cut.stream) or self._own(cut.stream)
            if table is None:
                raise ArchiveError(f"the table of {cut.stream} is gone", hint="ask again")
            self._open[cut.stream] = table
            if (cut.stream, cut.version) not in self._files:
                self._remember(cut, table.at(cut.version))
            return table, self._files[cut.stream, cut.version]

    def _remember(self, cut: Cut, table: LakeTable) -> None:
        key = cut.stream, cut.version
        if key not in self._files:
            self._files[key] = table.files()
        self._files.move_to_end(key)
        while len(self._files) > _REMEMBERED:
            self._files.popitem(last=False)

    def _stream(self, name: str) -> Stream:
        status = self._log.status()
        if name not in status:
            raise UnknownStreamError(
                f"no stream {name}", hint=f"the streams are: {', '.join(sorted(status)) or 'none'}"
            )
        return status[name].stream
