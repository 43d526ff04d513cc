"""Rows of the log as subscribers get them: JSON, with the text of their key and their place. Reads, keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.json import encode_lines
from qanat.log.base import Chunk, Log
from qanat.model.streams import CHANGE, DELETED, Stream

#: The payload of a row that says that its key is gone.
GONE = b"null"


class Delivery(NamedTuple):
    """One row of a stream; a tuple, since there are a hundred thousand a second.

    `key`: the text of the PRIMARY KEY columns joined with "/"; None where the stream has no key. `payload`: the row as
    a JSON object; `GONE` where an upsert stream says that the key is deleted.
    """

    stream: str
    key: str | None
    payload: bytes
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive rows of one partition; `end` is the offset after the last one."""

    rows: Sequence[Delivery]
    end: int

    def of_keys(self, keys: frozenset[str]) -> list[Delivery]:
        """The rows of these keys."""
        return [row for row in self.rows if row.key in keys]


def read_page(log: Log, stream: Stream, partition: int, offset: int, max_rows: int) -> Page | None:
    """Up to `max_rows` rows from `offset` on; None at the end of the partition. Raises `LogError`."""
    rows: list[Delivery] = []
    end = offset
    for chunk in log.read((stream.name, partition), offset, max_rows):
        part = cut(chunk, max_rows - len(rows))
        rows += encode_chunk(stream, part)
        end = part.end
        if len(rows) >= max_rows:
            break
    return Page(rows, end) if rows else None


def cut(chunk: Chunk, count: int) -> Chunk:
    """The first `count` rows of a chunk."""
    if chunk.rows.num_rows <= count:
        return chunk
    rows = chunk.rows.slice(0, count)
    return Chunk(chunk.stream, chunk.partition, chunk.offset, chunk.seq, chunk.row, chunk.at, rows)


def encode_chunk(stream: Stream, chunk: Chunk) -> Iterator[Delivery]:
    """The rows of a chunk, in their order."""
    offsets = range(chunk.offset, chunk.end)
    return encode_rows(stream, chunk.partition, chunk.rows, offsets)


def encode_rows(stream: Stream, partition: int, rows: pa.RecordBatch, offsets: Sequence[int]) -> Iterator[Delivery]:
    """These rows with their offsets."""
    shown = rows.drop_columns([CHANGE]) if CHANGE in rows.schema.names else rows
    payloads = bytes(encode_lines(shown)).split(b"\n")
    for place in gone_places(rows):
        payloads[place] = GONE
    keys = key_texts(rows, stream.key)
    for key, payload, offset in zip(keys, payloads, offsets, strict=False):  # after the last line break is nothing
        yield Delivery(stream.name, key, payload, partition, offset)


def gone_places(rows: pa.RecordBatch) -> list[int]:
    """The places of the rows that delete their key."""
    if CHANGE not in rows.schema.names:
        return []
    gone = pc.fill_null(pc.equal(rows.column(CHANGE), DELETED), False)
    places: list[int] = pc.indices_nonzero(gone).to_pylist()
    return places


def key_texts(rows: pa.RecordBatch, key: Sequence[str]) -> list[str | None]:
    """The text of each row's key; a NULL in it is empty."""
    if not key:
        return [None] * int(rows.num_rows)
    texts = [rows.column(name).cast(pa.string()) for name in key]
    joined = pc.binary_join_element_wise(*texts, "/", null_handling="replace", null_replacement="")
    found: list[str | None] = joined.to_pylist()
    return found
