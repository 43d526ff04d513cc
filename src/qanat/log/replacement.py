"""A new version of a stream: all its rows swapped within one transaction of the SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from qanat.errors import LogError
from qanat.log import layout
from qanat.log.admission import Known, prepare
from qanat.log.base import Append, Receipt, Transaction
from qanat.log.ledger import Draft, Ledger, ends_after
from qanat.log.writer import write_rest, write_rows

#: Rows in memory before they go into the file, in bytes.
_STEP = 16 << 20


@dataclass(frozen=True, slots=True)
class Replacement:
    """The job for the log's thread. What it gives back has to be accepted by the ledger after the commit."""

    ledger: Ledger
    known: Known
    rows: Iterable[Append]
    then: Callable[[Mapping[int, int]], Transaction]
    find: Callable[[str], Known]

    def __call__(self, connection: sqlite3.Connection) -> tuple[Draft, Receipt]:
        connection.execute(layout.EMPTY_STREAM, (self.known.number,))
        connection.execute(layout.EMPTY_PARTITIONS, (self.known.number,))
        draft = Draft(self.ledger)
        offsets: list[int] = []
        size = 0
        for append in self.rows:
            if append.stream != self.known.stream.name:
                raise LogError(f"rows for {append.stream} cannot replace those of {self.known.stream.name}")
            request = prepare(Transaction([append]), self.find)
            offsets += draft.admit(request).offsets
            size += request.bytes
            if size >= _STEP:
                size = self._flush(connection, draft)
        receipt = draft.admit(prepare(self.then(ends_after(self.known, self.ledger, draft)), self.find))
        self._flush(connection, draft)
        write_rest(connection, draft)
        for partition in range(self.known.stream.partitions):
            layout.shrink(connection, self.known, partition, 0, 0)  # says where the first row is now
        return draft, Receipt((*offsets, *receipt.offsets), draft.seq)

    def _flush(self, connection: sqlite3.Connection, draft: Draft) -> int:
        write_rows(connection, draft)
        draft.appends.clear()
        return 0
