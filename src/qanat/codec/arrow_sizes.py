"""How large an Arrow IPC stream or file is before anything of it is decoded: rows, and bytes without its compression.

Arrow's reader allocates what a message claims. So the claims are read here first, from the flatbuffers of each message
(format/Message.fbs of Apache Arrow), and nothing else of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from qanat.errors import DataError

_DICTIONARY, _RECORDS = 2, 3
_BUFFER = struct.Struct("<qq")  # offset, length
_NODE = struct.Struct("<qq")  # length, null count
_BLOCK = struct.Struct("<qi4xq")  # offset, length of the metadata, length of the body
_MAGIC = b"ARROW1"
_MOST_MESSAGES = 10_000


@dataclass(frozen=True, slots=True)
class Claims:
    """What the messages of a stream claim, together."""

    rows: int
    bytes: int


def is_file(data: bytes) -> bool:
    """Whether it begins as the file format does; else it should be the stream format."""
    return data.startswith(_MAGIC)


def claims_of(data: bytes, most_rows: int, most_bytes: int) -> Claims:
    """The claims. Raises `DataError` for what is neither stream nor file; `TooLargeError` beyond the limits."""
    rows = size = 0
    try:
        for number, message in enumerate(_filed(data) if is_file(data) else _streamed(data)):
            batch = _batch_of(_Table.root(message.metadata))
            if batch is not None:
                length, expanded = _claims(batch, message.body)
                rows, size = rows + length, size + expanded
            if rows > most_rows or size > most_bytes or number >= _MOST_MESSAGES:
                raise TooLargeError(f"more than {most_rows} rows, or {most_bytes} bytes without compression")
    except (pa.ArrowException, OSError, EOFError, struct.error, IndexError, OverflowError) as error:
        raise broken(f"not Arrow IPC: {error}") from error
    return Claims(rows, size)


def _streamed(data: bytes) -> Iterator[pa.Message]:
    yield from pa.ipc.MessageReader.open_stream(pa.BufferReader(data))


def _filed(data: bytes) -> Iterator[pa.Message]:
    """The messages that the footer names: some writers put no stream into the frame."""
    length = int.from_bytes(data[-10:-6], "little", signed=True)
    if not data.endswith(_MAGIC) or not 0 < length <= len(data) - 18:
        raise broken("not an Arrow IPC file: it has no footer")
    footer = _Table.root(pa.py_buffer(data[len(data) - 10 - length : len(data) - 10]))
    for number in (2, 3):
        for at in footer.vector(number, _BLOCK.size):
            offset, meta, body = _BLOCK.unpack_from(footer.data, at)
            if offset < 0 or meta < 0 or body < 0 or offset + meta + body > len(data):
                raise broken("not an Arrow IPC file: a message lies outside of it")
            yield pa.ipc.read_message(pa.py_buffer(memoryview(data)[offset : offset + meta + body]))


def broken(text: str) -> DataError:
    """The error for bytes that are not what they should be."""
    return DataError(text.splitlines()[0], hint="send what pyarrow.ipc.new_stream or new_file writes")


class TooLargeError(DataError):
    """More than was allowed."""


def _batch_of(message: _Table) -> _Table | None:
    """The record batch of a message, also that of a dictionary."""
    kind = message.scalar(1, "<B", 0)
    header = message.table(2)
    if header is None or kind not in (_DICTIONARY, _RECORDS):
        return None
    return header if kind == _RECORDS else header.table(1)


def _claims(batch: _Table, body: pa.Buffer | None) -> tuple[int, int]:
    """Rows of a batch (or of the longest of its children), and the bytes that its buffers need."""
    nodes = [_NODE.unpack_from(batch.data, at)[0] for at in batch.vector(1, _NODE.size)]
    rows = max([batch.scalar(0, "<q", 0), *nodes])
    size = 0
    there = memoryview(b"" if body is None else body)
    is_compressed = batch.table(3) is not None
    for at in batch.vector(2, _BUFFER.size):
        offset, length = _BUFFER.unpack_from(batch.data, at)
        if offset < 0 or length < 0 or offset + length > len(there):
            raise broken("not Arrow IPC: a buffer lies outside of its message")
        size += length
        if is_compressed and length >= 8:
            size += max(int.from_bytes(there[offset : offset + 8], "little", signed=True), 0)
    if rows < 0:
        raise broken("not Arrow IPC: a negative number of rows")
    return rows, size


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer, at `place`. Every read is checked by `struct` and memoryview."""

    data: memoryview
    place: int

    @classmethod
    def root(cls, data: pa.Buffer) -> _Table:
        view = memoryview(data)
        return cls(view, _at(view, "<I", 0))

    def _field(self, number: int) -> int:
        """Where a field is, 0 where it is not."""
        fields = self.place - _at(self.data, "<i", self.place)
        if 4 + 2 * number >= _at(self.data, "<H", fields):
            return 0
        offset = _at(self.data, "<H", fields + 4 + 2 * number)
        return self.place + offset if offset else 0

    def scalar(self, number: int, form: str, default: int) -> int:
        place = self._field(number)
        return _at(self.data, form, place) if place else default

    def table(self, number: int) -> _Table | None:
        place = self._field(number)
        return _Table(self.data, place + _at(self.data, "<I", place)) if place else None

    def vector(self, number: int, size: int) -> range:
        """Where the elements of a vector of structs begin."""
        place = self._field(number)
        if not place:
            return range(0)
        start = place + _at(self.data, "<I", place)
        count = _at(self.data, "<I", start)
        if start + 4 + count * size > len(self.data):
            raise broken("not Arrow IPC: a vector lies outside of its message")
        return range(start + 4, start + 4 + count * size, size)


def _at(data: memoryview, form: str, place: int) -> int:
    if place < 0:
        raise broken("not Arrow IPC: an offset before the message")
    return int(struct.unpack_from(form, data, place)[0])
