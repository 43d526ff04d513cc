"""One watched folder: looks, takes the files that have settled, one after the other, and does with them what is wanted.

A piece of a file is one offer, and its end is committed with its rows; there is one piece on its way at a time, and
the next one is read meanwhile. So after a crash the next start goes on with the row after the last one stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.errors import DataError
from qanat.gateway.folder.config import DELETE, KEEP, FolderSource
from qanat.gateway.folder.ledger import Ledger, Place, State, Taken
from qanat.gateway.folder.pieces import Piece, digest_of, head_of, read_pieces
from qanat.gateway.folder.watch import Seen, Watch, list_files
from qanat.gateway.intakes import IntakeContext
from qanat.gateway.offers import Verdict
from qanat.gateway.routes import Sender
from qanat.model.arrow import schema_of
from qanat.model.streams import Column

_PROTOCOL = "folder"
_RETRY_S = (1.0, 30.0)
#: The waits between two looks are so many times as long as a look takes, where that is more than is wanted.
_PATIENCE = 10
_LONGEST_STOP_S = 2


class FolderIntake:
    """See `Intake`."""

    def __init__(self, source: FolderSource, context: IntakeContext) -> None:
        self._source, self._context = source, context
        self._watch = Watch(source.settle_ms)
        self._ledger = Ledger(source.name, context.log.state)
        self._known: set[Seen] = set()
        self._there: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._room = asyncio.Event()
        self._faults: dict[str, str] = {}
        self._on_full(context.ingest.is_full)
        context.ingest.watch(self._on_full)

    @property
    def name(self) -> str:
        """See `Intake`."""
        return self._source.name

    @property
    def fault(self) -> str | None:
        """See `Intake`."""
        return next(iter(self._faults.values()), None)

    def start(self) -> None:
        """See `Intake`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def quiesce(self) -> None:
        """See `Intake`."""
        self._stopping = True

    async def stop(self) -> None:
        """See `Intake`."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_LONGEST_STOP_S)

    def _on_full(self, full: bool) -> None:
        if full:
            self._room.clear()
        else:
            self._room.set()

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        is_first = True
        while not self._stopping:
            began, spent = loop.time(), 0.0
            try:
                settled = await asyncio.to_thread(self._look, self._context.clock())
            except OSError as error:
                self._faults[""] = f"cannot read the folder {self._source.path}: {error.strerror or error}"
            else:
                spent = loop.time() - began
                self._faults = {name: text for name, text in self._faults.items() if name in self._there}
                if is_first and self._source.after != KEEP:
                    await self._forget_moved()
                is_first = False
                for seen in settled:
                    if self._stopping:
                        return
                    await self._take_file(seen)
            await asyncio.sleep(max(self._source.poll_ms / 1000, _PATIENCE * spent))

    def _look(self, now: int) -> list[Seen]:
        """The files to look at now, the one under way first. In a thread: there may be a hundred thousand."""
        files = list_files(self._source.path, self._source.pattern, self._source.done)
        self._there = frozenset(one.name for one in files)
        settled = [one for one in self._watch.look(files, now) if one not in self._known]
        under_way = None if self._ledger.place is None else self._ledger.place.name
        return sorted(settled, key=lambda one: (one.name != under_way, one))

    async def _forget_moved(self) -> None:
        """Files that were moved or deleted just before the end: the next ones of their names are new."""
        for name in self._ledger.names:
            if name not in self._there:
                await self._store((), self._source.path / name, self._ledger.gone(name))

    async def _take_file(self, seen: Seen) -> None:
        path = self._source.path / seen.name
        try:
            await self._take(seen, path)
            self._faults.pop(seen.name, None)
        except FileNotFoundError:
            return  # somebody took it away before us; the next look will not see it
        except OSError as error:
            self._faults[seen.name] = f"cannot take {path}: {error.strerror or error}"
        except Exception as error:  # noqa: BLE001  whatever a file does must not stop the others; it is tried again
            self._faults[seen.name] = f"cannot take {path}: {type(error).__name__}: {error}"

    async def _take(self, seen: Seen, path: Path) -> None:
        taken = self._ledger.find(seen.name)
        if taken is None:
            await self._read(seen, path)
            return
        unchanged = (taken.size, taken.mtime_ns) == (seen.size, seen.mtime_ns)
        if unchanged or await asyncio.to_thread(digest_of, path) == taken.digest:
            await self._finish(seen, path)
        elif self._source.after == KEEP:
            await self._report(seen, path, "the file was changed after it was taken; what is in it now is not read")
        else:
            await self._read(seen, path)

    # --- one file ----------------------------------------------------------------------------------------------------

    async def _read(self, seen: Seen, path: Path) -> None:
        place = await self._begin(seen, path)
        if place is None:
            return
        route = self._context.resolve(seen.name)
        columns = [] if route.stream is None else [column.name for column in route.stream.columns]
        try:
            pieces = await asyncio.to_thread(read_pieces, path, self._source, place, columns)
            try:
                if await self._store_pieces(seen, path, pieces):
                    await self._finish(seen, path)
            finally:
                await asyncio.to_thread(_close, pieces)
        except DataError as error:
            await self._report(seen, path, error.message)

    async def _begin(self, seen: Seen, path: Path) -> Place | None:
        """Where to read on; None where the file under way is no longer what it was."""
        head, place = await asyncio.to_thread(head_of, path), self._ledger.place
        if place is not None and place.name != seen.name:
            await self._abandon(place)
        elif place is not None and (place.size, place.head) != (seen.size, head):
            await self._report(seen, path, f"the file was changed while it was read; {_stored(place)}")
            return None
        elif place is not None:
            return place
        return Place(seen.name, seen.size, head)

    async def _store_pieces(self, seen: Seen, path: Path, pieces: Iterator[Piece]) -> bool:
        """One after the other, while the next one is read; whether it was the last."""
        piece = await asyncio.to_thread(next, pieces)
        while not self._stopping:
            following = None if piece.last else asyncio.create_task(asyncio.to_thread(next, pieces))
            try:
                await self._store_piece(seen, path, piece)
            finally:
                if following is not None:
                    await asyncio.wait([following])  # before anybody closes the file
            if following is None:
                return True
            piece = following.result()
        return False

    async def _store_piece(self, seen: Seen, path: Path, piece: Piece) -> None:
        state = self._ledger.at(piece.end)
        if piece.last:
            if await asyncio.to_thread(_stat, path) != (seen.size, seen.mtime_ns):
                place = self._ledger.place
                raise DataError(f"the file was changed while it was read; {_stored(place or piece.end)}")
            state = await self._ended(seen, path)
        await self._store(piece.payloads, path, state, piece.decode, piece.where)

    async def _ended(self, seen: Seen, path: Path) -> State:
        digest = await asyncio.to_thread(digest_of, path)
        taken = Taken(seen.name, seen.size, seen.mtime_ns, digest, self._context.clock())
        return self._ledger.end(taken, self._there.__contains__)

    async def _report(self, seen: Seen, path: Path, text: str) -> None:
        """A dead letter about a file; the file counts as taken as it is now."""
        await self._store([b""], path, await self._ended(seen, path), partial(_refuse, text))
        await self._finish(seen, path)

    async def _abandon(self, place: Place) -> None:
        """The file under way is gone, and another one is to be read."""
        taken = Taken(place.name, place.size, 0, b"", self._context.clock())
        state = self._ledger.end(taken, self._there.__contains__)
        text = f"the file went away while it was read; {_stored(place)}"
        await self._store([b""], self._source.path / place.name, state, partial(_refuse, text))

    async def _finish(self, seen: Seen, path: Path) -> None:
        """Move or delete a file that was taken, and forget it, so that the next file of its name is a new one."""
        if self._source.after == KEEP:
            self._known.add(seen)
        else:
            await asyncio.to_thread(_remove, path, self._source, seen.name)
            await self._store((), path, self._ledger.gone(seen.name))

    # --- into the log ------------------------------------------------------------------------------------------------

    async def _store(
        self,
        payloads: Sequence[bytes],
        path: Path,
        state: State,
        decode: Decode | None = None,
        where: Callable[[int], str] | None = None,
    ) -> None:
        """Rows and state in one transaction; what the log refuses is offered again until it does not."""
        name = path.relative_to(self._source.path).as_posix()
        route = self._context.resolve(name)
        sender = Sender(_PROTOCOL, str(path), self.name)
        wait, longest = _RETRY_S
        while True:
            await self._room.wait()
            done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            offer = route.offer(
                payloads, sender, self._context.clock(), partial(_settle, done), lambda _: state, decode
            )
            offer.place = where
            self._context.ingest.put(offer)
            error = (await done).error
            if error is None:
                break
            self._faults[name] = f"the log did not take a piece of {path}: {error.message}"
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)
        self._faults.pop(name, None)
        self._ledger.accept(state)


def _settle(done: asyncio.Future[Verdict], verdict: Verdict) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the source has stopped
        done.set_result(verdict)


def _refuse(reason: str, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    """Every payload is a dead letter, with this reason."""
    rows = pa.RecordBatch.from_pylist([], schema=schema_of((column.name, column.type) for column in columns))
    bad = tuple(BadRow(place, one, reason) for place, one in enumerate(payloads))
    return Decoded(rows, np.empty(0, dtype=np.int64), bad)


def _stored(place: Place) -> str:
    where = f"up to line {place.line}" if place.line else f"of its first {place.offset} bytes"
    return f"the rows {where} are stored, the rest is not" if place.offset else "nothing of it is stored"


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _close(pieces: Iterator[Piece]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _remove(path: Path, source: FolderSource, name: str) -> None:
    """Delete, or move without writing over a file that is there already."""
    if source.after == DELETE:
        path.unlink(missing_ok=True)
        return
    assert source.done is not None
    target = source.done / name
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while target.exists():
        number += 1
        target = (source.done / name).with_stem(f"{Path(name).stem}-{number}")
    shutil.move(path, target)
