"""The one thread that writes the SQLite file: it takes what is queued and makes it durable with one fsync.

It checks each transaction of a group before it writes any, so a bad one fails alone; an error of the disk fails the
group. Futures complete after COMMIT, then watchers are called, both on this thread.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread, current_thread
from time import perf_counter
from typing import TypeVar

from qanat.errors import BackpressureError, LogError
from qanat.log import checksums, layout
from qanat.log.admission import Entry, Request
from qanat.log.base import Place, Receipt
from qanat.log.cache import TailCache
from qanat.log.layout import Settings
from qanat.log.ledger import Draft, Ledger

T = TypeVar("T")
_LONGEST_RETRY_S = 5.0
_PAGES_PER_COMMIT = 8  # that a commit writes besides its rows; an estimate for when to checkpoint
#: The types by which Python reports a full disk, an I/O error or a damaged file: nobody's transaction is to blame.
_FAULTS_OF_THE_FILE = (sqlite3.OperationalError, sqlite3.DatabaseError, MemoryError)


@dataclass(frozen=True, slots=True)
class _Pending:
    request: Request
    future: Future[Receipt]


@dataclass(frozen=True, slots=True)
class _Job:
    """Something else to be done on the connection, in a transaction of its own."""

    run: Callable[[], None]
    future: Future[None]


class Writer:
    """Owns the writing connection, the ledger and the queue. Ordering: first come, first stored.

    `resources` are closed when the thread ends, also where it ends itself from a callback.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        ledger: Ledger,
        cache: TailCache,
        settings: Settings,
        on_commit: Callable[[], None],
        resources: ExitStack,
    ) -> None:
        self._path, self._connection, self._settings = path, connection, settings
        self.ledger, self._cache, self._on_commit = ledger, cache, on_commit
        self._resources = resources
        self._changed = Condition()
        self._queue: deque[_Pending | _Job] = deque()
        self._queued_bytes = self._queued_count = 0
        self._closed = False
        self._bytes_per_second = 50e6
        self._wal_estimate = settings.wal_bytes  # what an earlier process left is moved at the first chance
        self._thread = Thread(target=self._run, name="qanat-log", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Receipt]:
        """Queue a transaction. Raises `BackpressureError` where the queue is full, `LogError` after `close`."""
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()  # what is queued will be stored; a cancelled future must not hide that
        with self._changed:
            self._check_open()
            self._check_room(request.bytes)
            self._queue.append(_Pending(request, future))
            self._queued_bytes += request.bytes
            self._queued_count += 1
            self._changed.notify()
        return future

    def call(
        self, job: Callable[[sqlite3.Connection], T], after: Callable[[T], None] = lambda _: None, size: int = 0
    ) -> T:
        """Run `job` in its turn, in a transaction of its own; `after` on the same thread, once it is durable.

        `size`: bytes that the job writes, about.
        """
        if current_thread() is self._thread:  # from a callback: there is no transaction open now
            return self._do(job, after, size)
        future: Future[None] = Future()
        found: list[T] = []
        with self._changed:
            self._check_open()
            self._queue.append(_Job(lambda: found.append(self._do(job, after, size)), future))
            self._changed.notify()
        future.result()
        return found[0]

    def close(self) -> None:
        """Store what is queued, then close what the log holds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if current_thread() is not self._thread:
            self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise LogError(f"the log {self._path} is closed")

    def _check_room(self, size: int) -> None:
        limits = self._settings
        full = self._queued_bytes + size > limits.queue_bytes or self._queued_count >= limits.queue_count
        if full and self._queue:
            retry = min(max(self._queued_bytes / self._bytes_per_second, 0.01), _LONGEST_RETRY_S)
            raise BackpressureError(
                f"{self._queued_count} transactions with {self._queued_bytes} bytes wait for the log {self._path}",
                retry_after=retry,
            )

    # ---- the thread

    def _run(self) -> None:
        try:
            while work := self._next():
                self._work(work)
                self._checkpoint()
        finally:
            with self._changed:
                self._closed = True
                left = list(self._queue)
                self._queue.clear()
            for item in left:
                item.future.set_exception(LogError(f"the log {self._path} was closed by an error"))
            self._resources.close()

    def _work(self, work: list[_Pending | _Job]) -> None:
        try:
            if isinstance(work[0], _Job):
                self._run_job(work[0])
            else:
                self._store([item for item in work if isinstance(item, _Pending)])
        except BaseException:  # a fault of ours: nobody may wait for ever
            for item in work:
                if not item.future.done():
                    item.future.set_exception(LogError(f"the thread of the log {self._path} failed"))
            raise

    def _next(self) -> list[_Pending | _Job]:
        """One job, or the transactions up to the next job; nothing at the end."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            taken: list[_Pending | _Job] = []
            size = 0
            while self._queue and size < self._settings.group_bytes:
                item = self._queue[0]
                if isinstance(item, _Job):
                    return taken or [self._queue.popleft()]
                taken.append(item)
                size += item.request.bytes
                self._queue.popleft()
            self._queued_bytes -= size
            self._queued_count -= len(taken)
            return taken

    def _run_job(self, job: _Job) -> None:
        try:
            job.run()
        except Exception as error:  # noqa: BLE001 -- it belongs to the caller, who gets it from the future
            job.future.set_exception(error)
        else:
            job.future.set_result(None)

    def _do(self, job: Callable[[sqlite3.Connection], T], after: Callable[[T], None], size: int) -> T:
        with layout.translated(self._path, "write"), layout.transaction(self._connection):
            found = job(self._connection)
        after(found)
        self._wal_estimate += size + _PAGES_PER_COMMIT * self._settings.page_size
        self._on_commit()
        return found

    def _store(self, group: list[_Pending]) -> None:
        """Admit, write, publish, answer."""
        draft = Draft(self.ledger)
        receipts: list[tuple[Future[Receipt], Receipt]] = []
        refused: list[tuple[Future[Receipt], LogError]] = []
        for pending in group:
            try:
                receipts.append((pending.future, draft.admit(pending.request)))
            except LogError as error:
                refused.append((pending.future, error))
        try:
            if receipts:
                self._write(draft)
        except (sqlite3.Error, MemoryError, ValueError, OverflowError, TypeError) as error:
            if len(group) > 1 and type(error) not in _FAULTS_OF_THE_FILE:
                for pending in group:  # a value that SQLite cannot take: find out whose it is
                    self._store([pending])
                return
            refused += [(future, self._failure(error)) for future, _ in receipts]
            receipts = []
        for future, receipt in receipts:
            future.set_result(receipt)
        for future, problem in refused:
            future.set_exception(problem)
        if receipts:
            self._on_commit()

    def _failure(self, error: Exception) -> LogError:
        if isinstance(error, sqlite3.Error):
            found = layout.translate(error, self._path, "write")
        else:
            found = LogError(f"cannot be stored in {self._path}: {error}")
        found.__cause__ = error
        return found

    def _write(self, draft: Draft) -> None:
        """Make the draft durable, then visible: what fails leaves cache and ledger as they were."""
        began = perf_counter()
        with layout.transaction(self._connection):
            write_rows(self._connection, draft)
            write_rest(self._connection, draft)
        size = sum(entry.data.size for entry, _, _ in draft.appends)
        size += sum(len(value) for value in draft.state.values() if value is not None)
        self._wal_estimate += size + _PAGES_PER_COMMIT * self._settings.page_size
        self._bytes_per_second += 0.2 * (size / max(perf_counter() - began, 1e-4) - self._bytes_per_second)
        self._cache.add(draft.appends)
        self.ledger.accept(draft)

    def _checkpoint(self) -> None:
        """Keep the write-ahead log near its bound; where readers or the disk forbid it, the next commit tries again."""
        if self._wal_estimate < self._settings.wal_bytes:
            return
        with suppress(sqlite3.Error):
            _, pages, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages * self._settings.page_size > 4 * self._settings.wal_bytes:  # readers never let go of it: wait
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._wal_estimate = 0 if pages == moved else self._settings.wal_bytes // 2


def write_rows(connection: sqlite3.Connection, draft: Draft) -> None:
    """The appends of a draft, within a transaction."""
    connection.executemany(layout.INSERT_BATCH, (_batch_row(*append) for append in draft.appends))
    connection.executemany(layout.GROW_PARTITION, _growth(draft))


def write_rest(connection: sqlite3.Connection, draft: Draft) -> None:
    """Positions and state of a draft, within a transaction."""
    run = connection.executemany
    run(layout.DROP_POSITIONS, ((consumer,) for consumer in draft.forgotten))
    run(layout.SET_POSITION, (_position_row(who, place, to) for (who, place), to in draft.positions.items()))
    states = ((key, value) for key, value in draft.state.items() if value is not None)
    run(layout.SET_STATE, ((key, value, checksums.of_state(key, value)) for key, value in states))
    run(layout.DELETE_STATE, ((key,) for key, value in draft.state.items() if value is None))


def _batch_row(entry: Entry, seq: int, offset: int) -> tuple[object, ...]:
    append, known = entry.append, entry.known
    place = (known.number, append.partition, offset, entry.count, entry.count)
    checksum = checksums.of_batch(seq, known.number, append.partition, offset, entry.count, append.at, None, entry.data)
    times = (append.min_time, append.max_time, append.at)
    return (seq, *place, *times, known.version, entry.data.size, entry.data, checksum)


def _position_row(consumer: str, place: Place, offset: int) -> tuple[object, ...]:
    return (consumer, *place, offset, checksums.of_position(consumer, *place, offset))


def _growth(draft: Draft) -> list[tuple[object, ...]]:
    """Per place: rows, bytes, end, newest time (twice), stream, partition."""
    grown: dict[tuple[int, int], tuple[int, int, int | None, int]] = {}
    for entry, _, offset in draft.appends:
        key = entry.known.number, entry.append.partition
        rows, size, newest, _ = grown.get(key, (0, 0, None, 0))
        times = [time for time in (newest, entry.append.max_time) if time is not None]
        grown[key] = rows + entry.count, size + entry.data.size, max(times, default=None), offset + entry.count
    return [(rows, size, end, newest, newest, *key) for key, (rows, size, newest, end) in grown.items()]
