"""Checksums of what lies in the file: SQLite notices a broken page, but not another value in a whole one. CRC-32."""

from __future__ import annotations

import struct
from zlib import crc32

import pyarrow as pa

from qanat.errors import LogCorruptError

_HINT = "restore the log from a backup, or move it away and save what is left: sqlite3 LOG .recover | sqlite3 NEW"


def of_batch(
    seq: int, stream: int, partition: int, offset: int, span: int, at: int, kept: bytes | None, data: bytes | pa.Buffer
) -> int:
    """Of one append: where it stands, and its bytes."""
    place = crc32(struct.pack("<6q", seq, stream, partition, offset, span, at))
    return crc32(data, crc32(kept or b"", place))


def of_state(key: str, value: bytes) -> int:
    """Of a state and its key."""
    return crc32(value, crc32(key.encode()))


def of_position(consumer: str, stream: str, partition: int, offset: int) -> int:
    """Of a consumer's position."""
    return crc32(f"{consumer}\0{stream}\0{partition}\0{offset}".encode())


def check(found: int, stored: int | None, what: str) -> None:
    """Raise `LogCorruptError` where a value is not what was stored. `stored` None: written before there were any."""
    if stored is not None and stored != found:
        raise LogCorruptError(f"the checksum of {what} does not fit: the log is damaged", hint=_HINT)


def missing(what: str) -> LogCorruptError:
    """The error for rows that are not where they have to be."""
    return LogCorruptError(f"{what} is missing from the log", hint=_HINT)
