"""The newest row of every key of a stream, as far as anybody has asked for it: what MQTT calls retained."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from qanat.gateway.pages import GONE, Delivery, encode_rows, key_texts
from qanat.log.base import Log
from qanat.model.streams import Stream

#: How far back it looks, in rows per partition; how much of it at a time; and how many keys are kept.
_REACH = 1_000_000
_WINDOW = 50_000
_MAX_KEYS = 200_000


class Newest:
    """Rows by key, brought up to date when somebody asks; the log is read in a thread, by one asker at a time."""

    def __init__(self, log: Log, stream: Stream) -> None:
        self._log, self._stream = log, stream
        self._positions: dict[int, int] = {}
        self._rows: dict[str | None, Delivery] = {}
        self._lock = asyncio.Lock()

    async def find(self, keys: frozenset[str] | None) -> list[Delivery]:
        """The newest rows of these keys, or of all, in the order of their partitions and offsets."""
        async with self._lock:
            await asyncio.get_running_loop().run_in_executor(None, self._update)
            if keys is None:
                found = list(self._rows.values())
            else:
                found = [self._rows[key] for key in keys if key in self._rows]
        return sorted(found, key=lambda row: (row.partition, row.offset))

    def _update(self) -> None:
        status = self._log.status()[self._stream.name]
        for partition, end in status.ends.items():
            reach = _REACH if self._stream.key else 1
            first = max(self._positions.get(partition, 0), status.starts[partition], end - reach)
            for row in self._newest(partition, first, end):
                self._take(row)
            self._positions[partition] = max(end, first)

    def _newest(self, partition: int, first: int, end: int) -> Iterator[Delivery]:
        """The last row of each key in each window from `first` to `end`."""
        while first < end:
            chunks = self._log.read((self._stream.name, partition), first, _WINDOW)
            if not chunks:
                return
            for chunk in chunks:
                last = {key: place for place, key in enumerate(key_texts(chunk.rows, self._stream.key))}
                places = sorted(last.values())
                rows = chunk.rows.take(pa.array(places, pa.int64()))
                offsets = (np.array(places, dtype=np.int64) + chunk.offset).tolist()
                yield from encode_rows(self._stream, partition, rows, offsets)
            first = chunks[-1].end

    def _take(self, row: Delivery) -> None:
        self._rows.pop(row.key, None)  # so that the order is that of the last change
        if row.payload != GONE:
            self._rows[row.key] = row
            if len(self._rows) > _MAX_KEYS:
                del self._rows[next(iter(self._rows))]
