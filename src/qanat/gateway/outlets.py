"""What goes out: the rows of streams, read from the log for subscribers of every protocol.

A subscriber's queue is its position in the log, never a copy. Those who are at the end of a stream share one reader,
which finds the subscribers of a row by its key; who is behind reads pages that all share, each encoded once. It lives
in one event loop and decides nothing about who may read what.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

from qanat.errors import UnknownStreamError
from qanat.gateway.filters import EVERYTHING, Filter
from qanat.gateway.newest import Newest
from qanat.gateway.pages import Delivery, Page, read_page
from qanat.gateway.sieves import Push, Sieve
from qanat.log.base import Log
from qanat.model.streams import Stream

__all__ = ["Delivery", "Outlet", "Outlets"]

_PAGE_ROWS = 1000
#: How much one turn of the event loop reads for those at the end, per partition; and how much is kept for those behind.
_PAGES_PER_TURN = 8
_CACHED_BYTES = 16 << 20
_ROW_BYTES = 200  # of a Delivery beside its payload

Keys = frozenset[str] | None


class Outlet:
    """One subscriber of one stream. `push` gets rows in the order of each partition, in the event loop.

    After `pause` nothing more is pushed; what was pushed before is the subscriber's. `positions`: the next offset of
    each partition.
    """

    def __init__(self, reader: _Reader, keys: Keys, positions: Mapping[int, int], push: Push) -> None:
        self._reader, self.keys, self.push = reader, keys, push
        self._own: dict[int, int] = dict(positions)
        self.is_live = self.is_closed = self.is_paused = False

    @property
    def positions(self) -> dict[int, int]:
        """The offset after the last row of each partition that was pushed or passed over."""
        return dict(self._reader.ends if self.is_live else self._own)

    def pause(self) -> None:
        """Push nothing more until `resume`."""
        if not self.is_paused and not self.is_closed:
            self.is_paused = True
            self._reader.leave(self)

    def resume(self) -> None:
        """Go on where it stopped."""
        if self.is_paused and not self.is_closed:
            self.is_paused = False
            self._reader.follow(self)

    def close(self) -> None:
        """End; `positions` stay as they are."""
        if not self.is_closed:
            self._reader.leave(self)
            self.is_closed = True

    def take(self, positions: Mapping[int, int]) -> None:
        """Where this one is from now on by itself."""
        self._own = dict(positions)


class Outlets:
    """The subscribers of all streams. Made and used in one event loop; `close` ends it."""

    def __init__(self, log: Log, streams: Mapping[str, Stream]) -> None:
        self._log, self._streams = log, streams
        self._readers: dict[str, _Reader] = {}
        self._newest: dict[str, Newest] = {}
        self._pages = _Pages(log)
        self._sieves: WeakValueDictionary[tuple[str, Filter], Sieve] = WeakValueDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unwatch: Callable[[], None] | None = None
        self._is_woken = False

    def open(
        self,
        stream: str,
        keys: Keys,
        positions: Mapping[int, int] | None,
        push: Push,
        wanted: Filter = EVERYTHING,
    ) -> Outlet:
        """Push the rows of `stream` from `positions` on, or from its end; of these `keys` only, where they are given.

        `push` is called soon, not at once, and never without a row that is `wanted`. Raises `UnknownStreamError`.
        """
        self._watch()
        reader = self._reader(stream)
        if positions is None:
            positions = reader.find_ends()
        if wanted != EVERYTHING:
            push = self._sieve(stream, wanted).before(push)
        partitions = self._streams[stream].partitions
        outlet = Outlet(reader, keys, {number: positions.get(number, 0) for number in range(partitions)}, push)
        reader.follow(outlet)
        return outlet

    async def last(self, stream: str, keys: Keys) -> list[Delivery]:
        """The newest row of each of these keys (None: of every key) that is not deleted, in the order of the log.

        A stream without a key has one newest row. It looks back a million rows per partition, in a thread, and
        remembers what it has found. Raises `UnknownStreamError`.
        """
        self._check(stream)
        newest = self._newest.setdefault(stream, Newest(self._log, self._streams[stream]))
        return await newest.find(keys)

    def find(self, stream: str, partition: int, offset: int) -> Delivery | None:
        """One row, or None where the log has it no more. Raises `UnknownStreamError`."""
        self._check(stream)
        if not 0 <= partition < self._streams[stream].partitions:
            return None
        page = read_page(self._log, self._streams[stream], partition, offset, 1)
        return page.rows[0] if page is not None and page.rows[0].offset == offset else None

    def starts(self, stream: str) -> dict[int, int]:
        """The first offset of each partition that the log still has. Raises `UnknownStreamError`."""
        self._check(stream)
        return dict(self._log.status()[stream].starts)

    def ends(self, stream: str) -> dict[int, int]:
        """The offset after the newest row of each partition. Raises `UnknownStreamError`."""
        return self._reader(stream).find_ends()

    def close(self) -> None:
        """Nothing is pushed any more."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self._readers.clear()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self, stream: str) -> None:
        if stream not in self._streams:
            raise UnknownStreamError(
                f"no stream {stream!r}", hint=f"the streams are: {', '.join(sorted(self._streams)) or 'none'}"
            )

    def _reader(self, stream: str) -> _Reader:
        reader = self._readers.get(stream)
        if reader is None:
            self._check(stream)
            reader = self._readers[stream] = _Reader(self._log, self._pages, self._streams[stream], self._wake)
        return reader

    def _sieve(self, stream: str, wanted: Filter) -> Sieve:
        name = stream, wanted
        sieve = self._sieves.get(name)
        if sieve is None:
            sieve = self._sieves[name] = Sieve(self._log, stream, wanted)
        return sieve

    def _watch(self) -> None:
        if self._unwatch is None:
            self._loop = asyncio.get_running_loop()
            self._unwatch = self._log.watch(self._on_commit)

    def _on_commit(self) -> None:
        """Called in any thread, after every commit."""
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the loop may be closed while the log still commits
                self._loop.call_soon_threadsafe(self._turn)

    def _wake(self) -> None:
        if not self._is_woken and self._loop is not None:
            self._is_woken = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_woken = False
        if self._unwatch is None:
            return
        more = [reader.turn() for reader in list(self._readers.values()) if reader.is_wanted]
        if any(more):
            self._wake()


@dataclass(slots=True)
class _Live:
    """Subscribers at the end of a stream: of all rows, and by key."""

    whole: dict[Outlet, None] = field(default_factory=dict)
    by_key: dict[str | None, dict[Outlet, None]] = field(default_factory=dict)
    count: int = 0

    def add(self, outlet: Outlet) -> None:
        for one in self._sets(outlet):
            one[outlet] = None
        self.count += 1

    def discard(self, outlet: Outlet) -> None:
        for one in self._sets(outlet):
            one.pop(outlet, None)
        for key in outlet.keys or ():
            if not self.by_key[key]:
                del self.by_key[key]
        self.count -= 1

    def _sets(self, outlet: Outlet) -> Iterable[dict[Outlet, None]]:
        if outlet.keys is None:
            return [self.whole]
        return [self.by_key.setdefault(key, {}) for key in outlet.keys]

    def share(self, page: Page) -> list[tuple[Outlet, Sequence[Delivery]]]:
        """Who gets what of a page."""
        shares: list[tuple[Outlet, Sequence[Delivery]]] = [(outlet, page.rows) for outlet in self.whole]
        if self.by_key:
            hits: dict[Outlet, list[Delivery]] = {}
            for row in page.rows:
                for outlet in self.by_key.get(row.key, ()):
                    hits.setdefault(outlet, []).append(row)
            shares.extend(hits.items())
        return shares


class _Reader:
    """One stream: those at its end, who share `ends`, and those behind."""

    def __init__(self, log: Log, pages: _Pages, stream: Stream, wake: Callable[[], None]) -> None:
        self._log, self._pages, self._stream, self._wake = log, pages, stream, wake
        self.ends: dict[int, int] = {}
        self._live = _Live()
        self._behind: dict[Outlet, None] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for rows."""
        return bool(self._live.count or self._behind)

    def find_ends(self) -> dict[int, int]:
        """The end of the stream; where somebody is there already, no question to the log."""
        if not self._live.count:
            return dict(self._log.status()[self._stream.name].ends)
        self._read_end()
        return dict(self.ends)

    def follow(self, outlet: Outlet) -> None:
        """Serve an outlet from its positions on."""
        if not self._join(outlet):
            self._behind[outlet] = None
            self._wake()

    def leave(self, outlet: Outlet) -> None:
        """Serve it no longer; it keeps its positions."""
        self._behind.pop(outlet, None)
        if outlet.is_live:
            outlet.take(self.ends)
            outlet.is_live = False
            self._live.discard(outlet)

    def turn(self) -> bool:
        """Read and push some; whether there is more."""
        more = self._read_end()
        for outlet in list(self._behind):
            if outlet in self._behind and not self._catch_up(outlet):
                self._behind.pop(outlet, None)
        return more or bool(self._behind)

    def _join(self, outlet: Outlet) -> bool:
        """Make an outlet live where it is as far as those at the end are, or the first of them."""
        positions = outlet.positions
        if not self._live.count:  # nobody has read on: the end may be elsewhere by now
            if any(self._find(number, offset) for number, offset in positions.items()):
                return False
            self.ends = positions
        elif positions != self.ends:
            return False
        outlet.is_live = True
        self._live.add(outlet)
        return True

    def _read_end(self) -> bool:
        """Push what is new to those at the end; whether there is more."""
        more = False
        for partition in range(self._stream.partitions):
            for _ in range(_PAGES_PER_TURN):
                if not self._live.count:
                    return False
                page = self._find(partition, self.ends[partition])
                if page is None:
                    break
                shares = self._live.share(page)
                self.ends[partition] = page.end
                for outlet, rows in shares:
                    if outlet.is_live:  # one that is pushed to may close another
                        outlet.push(rows)
            else:
                more = True
        return more

    def _find(self, partition: int, offset: int) -> Page | None:
        return self._pages.find(self._stream, partition, offset)

    def _catch_up(self, outlet: Outlet) -> bool:
        """Push a page of each partition; whether the outlet is still behind."""
        positions = outlet.positions
        for partition in positions:
            page = self._find(partition, positions[partition])
            if page is None:
                continue
            positions[partition] = page.end
            outlet.take(positions)
            rows = page.rows if outlet.keys is None else page.of_keys(outlet.keys)
            if rows:
                outlet.push(rows)
            if outlet.is_paused or outlet.is_closed:
                return False
        return not self._join(outlet)


class _Cached(NamedTuple):
    page: Page
    size: int


class _Pages:
    """The pages that were read last, bounded by bytes, so that readers side by side encode a row once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._held: OrderedDict[tuple[str, int, int], _Cached] = OrderedDict()
        self._bytes = 0

    def find(self, stream: Stream, partition: int, offset: int) -> Page | None:
        """The rows from `offset` on, or None at the end of the partition. Raises `LogError`."""
        name = (stream.name, partition, offset)
        held = self._held.get(name)
        if held is not None:
            self._held.move_to_end(name)
            return held.page
        page = read_page(self._log, stream, partition, offset, _PAGE_ROWS)
        if page is not None:
            size = sum(len(row.payload) for row in page.rows) + _ROW_BYTES * len(page.rows)
            self._held[name] = _Cached(page, size)
            self._bytes += size
            while self._bytes > _CACHED_BYTES and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].size
        return page
