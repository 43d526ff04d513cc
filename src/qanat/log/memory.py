"""The log in this process's memory, for tests and one-off runs: `memory://`. Nothing survives `close`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from threading import RLock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.errors import LogError
from qanat.log.admission import Known, Request, check_partition, find_stream, prepare
from qanat.log.base import Append, Chunk, Log, Place, Receipt, StreamStatus, Transaction
from qanat.log.chunks import Stored, decode_rows, take_chunks
from qanat.log.declarations import evolve
from qanat.log.ledger import Draft, Ledger, ends_after
from qanat.log.retention import Held, doomed, superseded
from qanat.log.watchers import Watchers
from qanat.model.streams import Stream


def open_memory(rest: str, *, read_only: bool = False) -> Log:
    """A new, empty log."""
    if rest or read_only:
        raise LogError("a log in memory is new and belongs to who opens it", hint="write memory://, or sqlite:///path")
    return MemoryLog()


class MemoryLog:
    """Transactions are stored in the thread that submits them; futures come back complete."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._streams: dict[str, Known] = {}
        self._batches: dict[Place, list[Stored]] = {}
        self._times: dict[str, int] = {}
        self._state: dict[str, bytes] = {}
        self._ledger = Ledger()
        self._watchers = Watchers()
        self._closed = False

    def create(self, stream: Stream) -> None:
        """See `Log`."""
        with self._lock:
            self._check_open()
            known = self._streams.get(stream.name)
            if known is not None:
                evolve(known.stream, stream)
            self._streams[stream.name] = Known.of(stream, 0, 0)
            for partition in range(stream.partitions):
                self._batches.setdefault((stream.name, partition), [])
        self._watchers.call()

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """See `Log`."""
        self._check_open()
        future: Future[Receipt] = Future()
        try:
            request = prepare(transaction, lambda name: find_stream(self._streams, name))
            with self._lock:
                self._check_open()
                receipt = self._store(request)
        except LogError as error:
            future.set_exception(error)
            return future
        future.set_result(receipt)
        self._watchers.call()
        return future

    def _store(self, request: Request) -> Receipt:
        draft = Draft(self._ledger)
        receipt = draft.admit(request)
        self._keep(draft)
        return receipt

    def _keep(self, draft: Draft) -> None:
        for entry, seq, offset in draft.appends:
            rows = decode_rows(entry.data, entry.known.schema)
            stored = Stored(entry.place, seq, offset, entry.count, entry.append.at, None, rows)
            self._batches[entry.place].append(stored)
            name, newest = entry.append.stream, entry.append.max_time
            if newest is not None:
                self._times[name] = max(self._times.get(name, newest), newest)
        for key, value in draft.state.items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = bytes(value)
        self._ledger.accept(draft)

    def replace(self, stream: str, rows: Iterable[Append], then: Callable[[Mapping[int, int]], Transaction]) -> Receipt:
        """See `Replaceable`."""
        with self._lock:
            self._check_open()
            known = find_stream(self._streams, stream)
            draft = Draft(self._ledger)
            offsets: list[int] = []
            for append in rows:
                if append.stream != stream:
                    raise LogError(f"rows for {append.stream} cannot replace those of {stream}")
                offsets += draft.admit(prepare(Transaction([append]), self._find)).offsets
            receipt = draft.admit(prepare(then(ends_after(known, self._ledger, draft)), self._find))
            for partition in range(known.stream.partitions):
                self._batches[stream, partition] = []
            self._times.pop(stream, None)
            self._keep(draft)
        self._watchers.call()
        return Receipt((*offsets, *receipt.offsets), draft.seq)

    def _find(self, name: str) -> Known:
        return find_stream(self._streams, name)

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Log`."""
        with self._lock:
            self._check_open()
            check_partition(find_stream(self._streams, place[0]), place[1])
            batches = self._batches[place]
            first = max(bisect_right(batches, offset, key=lambda stored: stored.offset) - 1, 0)
            return take_chunks((batches[n] for n in range(first, len(batches))), offset, max_rows)

    def seq(self) -> int:
        """See `Log`."""
        with self._lock:
            self._check_open()
            return self._ledger.seq

    def status(self) -> dict[str, StreamStatus]:
        """See `Log`."""
        with self._lock:
            self._check_open()
            return {name: self._status(known.stream) for name, known in self._streams.items()}

    def _status(self, stream: Stream) -> StreamStatus:
        places = [(stream.name, partition) for partition in range(stream.partitions)]
        batches = [stored for place in places for stored in self._batches[place]]
        ends = {partition: self._ledger.ends.get((name, partition), 0) for name, partition in places}
        starts = {place[1]: self._start(place) for place in places}
        rows, size = sum(stored.rows.num_rows for stored in batches), sum(stored.rows.nbytes for stored in batches)
        return StreamStatus(stream, starts, ends, rows, size, self._times.get(stream.name))

    def _start(self, place: Place) -> int:
        batches = self._batches[place]
        return batches[0].start if batches else self._ledger.ends.get(place, 0)

    def maintain(self, now_ms: int) -> Mapping[str, int]:
        """See `Maintained`."""
        with self._lock:
            self._check_open()
            streams = [known.stream for known in self._streams.values()]
            gone = {stream.name: self._expire(stream, now_ms) + self._compact(stream) for stream in streams}
        return {name: rows for name, rows in gone.items() if rows}

    def _expire(self, stream: Stream, now_ms: int) -> int:
        places = [(stream.name, partition) for partition in range(stream.partitions)]
        held = [[_held(stored) for stored in self._batches[place]] for place in places]
        floors = {place[1]: self._ledger.floor(place) for place in places}
        size = sum(batch.bytes for batches in held for batch in batches)
        victims = list(doomed(stream, held, floors, size, now_ms))
        for victim in victims:
            del self._batches[stream.name, victim.partition][0]
        return sum(victim.rows for victim in victims)

    def _compact(self, stream: Stream) -> int:
        if not (stream.compact and stream.key):
            return 0
        total = 0
        for place in [(stream.name, partition) for partition in range(stream.partitions)]:
            losing = superseded(self._batches[place], stream.key, self._ledger.floor(place))
            left = [_without(stored, losing.get(stored.seq)) for stored in self._batches[place]]
            total += sum(stored.rows.num_rows for stored in self._batches[place])
            self._batches[place] = [stored for stored in left if stored.rows.num_rows]
            total -= sum(stored.rows.num_rows for stored in self._batches[place])
        return total

    def positions(self, consumer: str) -> dict[Place, int]:
        """See `Log`."""
        with self._lock:
            self._check_open()
            return dict(self._ledger.positions.get(consumer, {}))

    def consumers(self) -> list[str]:
        """See `Listed`."""
        with self._lock:
            self._check_open()
            return sorted(self._ledger.positions)

    def offset_at(self, place: Place, time_ms: int) -> int:
        """See `Listed`: no index of times is kept here, so any row may have any."""
        del time_ms
        with self._lock:
            self._check_open()
            return self._start(place)

    def state(self, key: str) -> bytes | None:
        """See `Log`."""
        with self._lock:
            self._check_open()
            return self._state.get(key)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See `Log`."""
        self._check_open()
        return self._watchers.add(callback)

    def close(self) -> None:
        """See `Log`. A second call does nothing."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log in memory is closed")


def _held(stored: Stored) -> Held:
    rows = stored.rows
    return Held(stored.seq, stored.place[1], stored.offset, stored.span, rows.num_rows, stored.at, rows.nbytes)


def _without(stored: Stored, places: npt.NDArray[np.int32] | None) -> Stored:
    """The append with only the rows at `places` left."""
    if places is None:
        return stored
    rows = stored.rows.take(pa.array(np.searchsorted(stored.places(), places)))
    return replace(stored, kept=places.tobytes(), rows=rows)
