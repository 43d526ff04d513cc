"""What is kept under a key: the answer, when it was made, how long it is good, and what it depends on. Pure.

    magic "QC" | version 1 | CRC-32 4 | made at, ms 8 | ttl, ms 4 | stale, ms 4 | stamps 2 | 8 for each | answer

Sizes in bytes, big-endian. The checksum covers the key and everything behind it, so that an answer under another's key
is noticed, too. It guards against accidents, not against somebody who may write into the cache.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from dataclasses import dataclass

_HEAD = struct.Struct(">2sBIqIIH")
_MAGIC = b"QC"
_VERSION = 1
#: Where what the checksum covers begins.
_COVERED = 7
#: What a stamp is: bytes that never come twice. See `tags`.
STAMP_SIZE = 8
_LONGEST_MS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer. `stamps`: those of its tags, in their order, as they were before it was made."""

    payload: bytes
    made_ms: int
    ttl_ms: int
    stale_ms: int = 0
    stamps: tuple[bytes, ...] = ()

    def fresh(self, now_ms: int) -> bool:
        """Whether it may be given as it is."""
        return now_ms < self.made_ms + self.ttl_ms

    def usable(self, now_ms: int) -> bool:
        """Whether it may be given at all: fresh, or stale while a new one is made."""
        return now_ms < self.made_ms + self.ttl_ms + self.stale_ms


def new_stamp() -> bytes:
    """Eight bytes that were never there before."""
    return secrets.token_bytes(STAMP_SIZE)


def pack(key: str, entry: Entry) -> bytes:
    """The bytes to keep under the key."""
    ttl, stale = min(entry.ttl_ms, _LONGEST_MS), min(entry.stale_ms, _LONGEST_MS)
    head = _HEAD.pack(_MAGIC, _VERSION, 0, entry.made_ms, ttl, stale, len(entry.stamps))
    covered = head[_COVERED:] + b"".join(entry.stamps)
    check = zlib.crc32(entry.payload, zlib.crc32(covered, zlib.crc32(key.encode())))
    return b"".join((head[:3], check.to_bytes(4, "big"), covered, entry.payload))


def unpack(key: str, data: bytes) -> Entry | None:
    """What `pack` made for this key; None for anything else."""
    if len(data) < _HEAD.size:
        return None
    magic, version, check, made, ttl, stale, count = _HEAD.unpack_from(data)
    begin = _HEAD.size + count * STAMP_SIZE
    if magic != _MAGIC or version != _VERSION or begin > len(data):
        return None
    if zlib.crc32(memoryview(data)[_COVERED:], zlib.crc32(key.encode())) != check:
        return None
    stamps = tuple(data[at : at + STAMP_SIZE] for at in range(_HEAD.size, begin, STAMP_SIZE))
    return Entry(data[begin:], made, ttl, stale, stamps)
