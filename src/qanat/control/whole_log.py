"""A log that still has what retention has deleted from it: below the cut it reads the archive. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from qanat.errors import LogError
from qanat.log.archive import Archive, Cut
from qanat.log.base import Chunk, Log, Place, Receipt, StreamStatus, Transaction
from qanat.model.streams import Stream


class WholeLog:
    """A `Log` of all history, as it was when this was made; what comes later may be there or not. Thread-safe."""

    def __init__(self, log: Log, archive: Archive | None) -> None:
        self._log, self._archive = log, archive
        self._cuts: dict[str, Cut] = {}
        for name in archive.streams() if archive is not None else ():
            cut = archive.cut(name) if archive is not None else None
            if cut is not None:
                self._cuts[name] = cut
        self._status = {name: self._whole(status) for name, status in log.status().items()}

    def _whole(self, status: StreamStatus) -> StreamStatus:
        cut = self._cuts.get(status.stream.name)
        if cut is None:
            return status
        starts = {}
        for partition, start in status.starts.items():
            place = status.stream.name, partition
            old = self._archived(cut, place, 0, 1)
            starts[partition] = old[0].offset if old else start
        return replace(status, starts=starts)

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """See `Log`."""
        known = self._status.get(place[0])
        offset = max(offset, known.starts.get(place[1], 0)) if known is not None else offset
        cut = self._cuts.get(place[0])
        old = self._archived(cut, place, offset, max_rows) if cut is not None else []
        if old or cut is None:
            return old or self._log.read(place, offset, max_rows)
        found = self._log.read(place, max(offset, cut.ends.get(place[1], 0)), max_rows)
        compacted = known is not None and known.stream.compact
        if found and found[0].offset > offset and not compacted:
            raise LogError(f"rows of {place[0]} were deleted from the log while history was read", hint="run it again")
        return found

    def _archived(self, cut: Cut, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        if self._archive is None or offset >= cut.ends.get(place[1], 0):
            return []
        return self._archive.read(cut, place, offset, max_rows)

    def status(self) -> dict[str, StreamStatus]:
        """See `Log`; each stream from the first row that is left anywhere."""
        return dict(self._status)

    def offset_at(self, place: Place, time_ms: int) -> int:
        """See `Listed`: what is archived may have any event time."""
        cut, status = self._cuts.get(place[0]), self._status[place[0]]
        if cut is not None and cut.ends.get(place[1], 0) > status.starts.get(place[1], 0):
            return status.starts.get(place[1], 0)
        ask = getattr(self._log, "offset_at", None)
        return int(ask(place, time_ms)) if ask is not None else status.starts.get(place[1], 0)

    def seq(self) -> int:
        """See `Log`."""
        return self._log.seq()

    def positions(self, consumer: str) -> dict[Place, int]:
        """See `Log`."""
        return self._log.positions(consumer)

    def consumers(self) -> list[str]:
        """See `Listed`."""
        ask = getattr(self._log, "consumers", None)
        return list(ask()) if ask is not None else []

    def state(self, key: str) -> bytes | None:
        """See `Log`."""
        return self._log.state(key)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See `Log`."""
        return self._log.watch(callback)

    def create(self, stream: Stream) -> None:
        """Not here."""
        raise self._refusal(f"declare {stream.name}")

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """Not here."""
        raise self._refusal(f"store {len(transaction.appends)} appends")

    def _refusal(self, doing: str) -> LogError:
        return LogError(f"cannot {doing}: history is only read")

    def close(self) -> None:
        """Nothing: the log belongs to who opened it."""
