"""The log in one SQLite file: `sqlite:///path`. docs/design/log.md says how and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

from qanat.errors import LogError
from qanat.log import layout
from qanat.log.admission import Known, check_partition, find_stream, prepare
from qanat.log.base import Append, Chunk, Log, Place, Receipt, StreamStatus, Transaction
from qanat.log.cache import TailCache
from qanat.log.chunks import take_chunks
from qanat.log.declarations import evolve
from qanat.log.keeper import Keeper
from qanat.log.layout import Settings
from qanat.log.ledger import Draft, Ledger
from qanat.log.lock import FileLock
from qanat.log.reader import Reader
from qanat.log.replacement import Replacement
from qanat.log.watchers import Poller, Watchers
from qanat.log.writer import Writer
from qanat.model.streams import Stream


def open_sqlite(rest: str, *, read_only: bool = False, settings: Settings | None = None) -> Log:
    """The log at the path after `sqlite:///`."""
    if not rest.startswith("/") or rest == "/":
        raise LogError(
            f"sqlite://{rest} names no file", hint="write sqlite:///relative/path or sqlite:////absolute/path"
        )
    path = Path(rest[1:]).resolve()  # one lock whatever the name, and the same file after a chdir
    settings = settings or Settings()
    return SqliteReader(path, settings) if read_only else SqliteLog(path, settings)


class SqliteReader:
    """The log as other processes see it while it is written: no lock, no writing."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._reader = Reader(path)
        self._streams = self._reader.streams()
        self._watchers = Watchers()
        self._poller = Poller(self._watchers, self._reader.data_version, settings.poll_seconds)

    def create(self, stream: Stream) -> None:
        """Not here."""
        raise self._refusal(f"declare {stream.name}")

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """Not here."""
        raise self._refusal(f"store {len(transaction.appends)} appends")

    def _refusal(self, doing: str) -> LogError:
        return LogError(f"cannot {doing}: {self._path} was opened to read", hint="open it with read_only=False")

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Log`."""
        known = self._known(place)
        return self._reader.read(known, place[1], offset, max_rows)

    def _known(self, place: Place) -> Known:
        if place[0] not in self._streams:  # declared since then
            self._streams = self._reader.streams()
        known = find_stream(self._streams, place[0])
        check_partition(known, place[1])
        return known

    def seq(self) -> int:
        """See `Log`."""
        return self._reader.seq()

    def status(self) -> dict[str, StreamStatus]:
        """See `Log`."""
        return self._reader.status()

    def positions(self, consumer: str) -> dict[Place, int]:
        """See `Log`."""
        return self._reader.positions(consumer)

    def state(self, key: str) -> bytes | None:
        """See `Log`."""
        return self._reader.state(key)

    def consumers(self) -> list[str]:
        """See `Listed`."""
        return sorted(self._reader.all_positions())

    def offset_at(self, place: Place, time_ms: int) -> int:
        """See `Listed`."""
        return self._reader.offset_at(self._known(place), place[1], time_ms)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Commits of the writing process are noticed by looking, 20 times a second."""
        self._reader.check_open()
        remove = self._watchers.add(callback)
        self._poller.start()
        return remove

    def close(self) -> None:
        """See `Log`."""
        self._poller.close()
        self._reader.close()


class SqliteLog:
    """The log of the process that writes it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        with ExitStack() as undo:
            undo.callback(FileLock(path).release)
            connection = layout.connect_writer(path, settings)
            undo.callback(connection.close)
            self._reader = Reader(path)
            undo.callback(self._reader.close)  # before the writer: whoever closes last empties the write-ahead log
            self._streams = self._reader.streams()
            self._reader.check_ends()
            ledger = Ledger(self._reader.seq(), self._reader.ends(), self._reader.all_positions())
            resources = undo.pop_all()
        self._watchers = Watchers()
        self._cache = TailCache(settings.cache_bytes)
        self._writer = Writer(path, connection, ledger, self._cache, settings, self._watchers.call, resources)
        self._keeper = Keeper(self._reader, self._writer, self._cache)
        self._declaring, self._maintaining = Lock(), Lock()
        self._closed = False

    def create(self, stream: Stream) -> None:
        """See `Log`."""
        with self._declaring:
            known = self._streams.get(stream.name)
            if known is None:
                added = self._writer.call(lambda connection: layout.add_stream(connection, stream))
            elif evolve(known.stream, stream) == known.stream:
                return
            else:
                added = self._writer.call(lambda connection: layout.change_stream(connection, known, stream))
            self._streams = {**self._streams, stream.name: added}

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """See `Log`."""
        if self._closed:
            raise LogError(f"the log {self._path} is closed")
        try:
            request = prepare(transaction, lambda name: find_stream(self._streams, name))
        except LogError as error:
            failed: Future[Receipt] = Future()
            failed.set_exception(error)
            return failed
        return self._writer.submit(request)

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Log`."""
        self._check_open()
        known = find_stream(self._streams, place[0])
        check_partition(known, place[1])
        if offset >= self._writer.ledger.ends.get(place, 0):
            return []
        cached = self._cache.find(place, offset, max_rows)
        if cached is not None:
            return take_chunks(iter(cached), offset, max_rows)
        return self._reader.read(known, place[1], offset, max_rows)

    def seq(self) -> int:
        """See `Log`."""
        self._check_open()
        return self._writer.ledger.seq

    def status(self) -> dict[str, StreamStatus]:
        """See `Log`."""
        return self._reader.status()

    def positions(self, consumer: str) -> dict[Place, int]:
        """See `Log`."""
        return self._reader.positions(consumer)

    def state(self, key: str) -> bytes | None:
        """See `Log`."""
        return self._reader.state(key)

    def consumers(self) -> list[str]:
        """See `Listed`."""
        return sorted(self._reader.all_positions())

    def offset_at(self, place: Place, time_ms: int) -> int:
        """See `Listed`."""
        return self._reader.offset_at(find_stream(self._streams, place[0]), place[1], time_ms)

    def replace(self, stream: str, rows: Iterable[Append], then: Callable[[Mapping[int, int]], Transaction]) -> Receipt:
        """See `Replaceable`."""
        self._check_open()
        known = find_stream(self._streams, stream)
        job = Replacement(self._writer.ledger, known, rows, then, lambda name: find_stream(self._streams, name))

        def accept(found: tuple[Draft, Receipt]) -> None:
            self._writer.ledger.accept(found[0])
            for partition in range(known.stream.partitions):
                self._cache.drop((stream, partition))

        return self._writer.call(job, accept)[1]

    def maintain(self, now_ms: int) -> Mapping[str, int]:
        """See `Maintained`."""
        self._check_open()
        with self._maintaining:
            known = list(self._streams.values())
            gone = {
                found.stream.name: self._keeper.expire(found, now_ms) + self._keeper.compact(found) for found in known
            }
        return {name: rows for name, rows in gone.items() if rows}

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See `Log`."""
        self._check_open()
        return self._watchers.add(callback)

    def close(self) -> None:
        """See `Log`. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise LogError(f"the log {self._path} is closed")
