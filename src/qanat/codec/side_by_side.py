"""Many byte strings read side by side: each step takes the next item of all of them at once, with numpy.

What binary formats share: variable-length integers, fixed bytes, lengths. It knows no schema. A row that cannot be read
is marked once, with the reason, and stays where it ends; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.codec.base import BadRow, Decoded

Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

#: So that a step may look a little beyond the last byte.
_PAD = 16
_TOO_SHORT = "it ends too soon"
_MORE, _SEVEN = np.uint64(0x80), np.uint64(0x7F)


class Cursors:
    """`pos` and `end` per row, in `data`. `bad`: row -> why it cannot be read."""

    def __init__(self, payloads: Sequence[bytes], skip: int = 0) -> None:
        self.data: Bytes = np.frombuffer(b"".join(payloads) + bytes(_PAD), dtype=np.uint8)
        self.end: Places = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
        starts = np.concatenate([np.zeros(1, dtype=np.int64), self.end[:-1]])
        self.pos: Places = np.minimum(starts + skip, self.end)
        self.bad: dict[int, str] = {}

    def inner(self, starts: Places, sizes: Places) -> Cursors:
        """Spans of these rows as rows of their own."""
        made = object.__new__(Cursors)
        made.data, made.pos, made.end, made.bad = self.data, starts.copy(), starts + sizes, {}
        return made

    def __len__(self) -> int:
        return len(self.end)

    def fail(self, rows: Places, reason: str | Callable[[int], str]) -> None:
        """Mark rows; a row keeps its first reason. `reason` may depend on the place in `rows`."""
        for place, row in enumerate(rows.tolist()):
            if row not in self.bad:
                self.bad[row] = reason if isinstance(reason, str) else reason(place)
        self.pos[rows] = self.end[rows]

    def varints(self, rows: Places) -> Words:
        """The next variable-length integer of each row, seven bits a byte and the lowest first."""
        pos = self.pos[rows]
        byte = self.data[pos].astype(np.uint64)
        value: Words = byte & _SEVEN
        pos += 1
        more, shift = np.flatnonzero(byte >= _MORE), 7
        while more.size:
            if shift > 63:
                self.pos[rows] = np.minimum(pos, self.end[rows])
                self.fail(rows[more], "a number of more than 64 bits")
                value[more] = 0
                return value
            byte = self.data[pos[more]].astype(np.uint64)
            value[more] |= (byte & _SEVEN) << np.uint64(shift)
            pos[more] += 1
            more, shift = more[byte >= _MORE], shift + 7
        short = self._advance(rows, pos)
        if short.size:
            value[short] = 0
        return value

    def zigzags(self, rows: Places) -> Places:
        """The next signed integer of each row, zigzag-coded."""
        return unzigzag(self.varints(rows))

    def fixed(self, rows: Places, size: int) -> Bytes:
        """The next `size` bytes of each row: (rows, size); zeros where a row is too short."""
        start = self.pos[rows]
        short = self._advance(rows, start + size)
        where = start[:, None] + np.arange(size)
        taken: Bytes = self.data[np.minimum(where, len(self.data) - 1) if short.size else where]
        if short.size:
            taken[short] = 0
        return taken

    def numbers(self, rows: Places, dtype: str) -> npt.NDArray[np.generic]:
        """The next number of each row in a little-endian format of numpy's."""
        raw = self.fixed(rows, np.dtype(dtype).itemsize)
        return np.ascontiguousarray(raw).view(dtype).reshape(len(rows))

    def spans(self, rows: Places, lengths: Words | Places) -> tuple[Places, Places]:
        """Pass over `lengths` bytes of each row: where they begin and how many; none of a row that is too short."""
        start = self.pos[rows].copy()
        room = self.end[rows] - start
        wrong = np.flatnonzero((lengths < 0) | (lengths > room.astype(lengths.dtype)))
        sizes = lengths.astype(np.int64)
        sizes[wrong] = 0
        self.pos[rows] += sizes
        if wrong.size:
            self.fail(rows[wrong], _TOO_SHORT)
        return start, sizes

    def blobs(self, starts: Places, sizes: Places) -> pa.Array:
        """The bytes of these spans, as an Arrow column."""
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        if offsets[-1] >= 1 << 31:
            raise pa.ArrowInvalid("more than 2 GiB of text in one batch")
        where = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        kept = np.ascontiguousarray(self.data[where])
        buffers = [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(kept.tobytes())]
        return pa.Array.from_buffers(pa.binary(), len(starts), buffers)

    def texts(self, rows: Places, starts: Places, sizes: Places) -> pa.Array:
        """The same as UTF-8 strings; what is not UTF-8 marks its row and becomes an empty string."""
        blobs = self.blobs(starts, sizes)
        try:
            return blobs.cast(pa.string())
        except pa.ArrowInvalid:
            wrong = np.array([place for place, one in enumerate(blobs.to_pylist()) if not _is_utf8(one)], np.int64)
            self.fail(rows[wrong], "a string that is not UTF-8")
            sizes = sizes.copy()
            sizes[wrong] = 0
            return self.blobs(starts, sizes).cast(pa.string())

    def finish(self) -> None:
        """Mark what has bytes left over."""
        left = np.flatnonzero(self.pos < self.end)
        if left.size:
            sizes = (self.end - self.pos)[left]
            self.fail(left, lambda place: f"{sizes[place]} bytes are left over")

    def _advance(self, rows: Places, pos: Places) -> Places:
        """Move on; gives back which of `rows` are too short."""
        short = np.flatnonzero(pos > self.end[rows])
        self.pos[rows] = pos
        if short.size:
            self.fail(rows[short], _TOO_SHORT)
        return short


def unzigzag(words: Words) -> Places:
    """0, 1, 2, 3 ... -> 0, -1, 1, -2 ..."""
    one = np.uint64(1)
    return (words >> one).view(np.int64) ^ -((words & one).view(np.int64))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def last_of_each(owners: Places, keys: pa.Array) -> Places | None:
    """Which entries of maps count where a key comes twice: the last one. None where no key does."""
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    marks = owners * (int(codes.max(initial=0)) + 1) + codes
    if len(np.unique(marks)) == len(marks):
        return None
    _, last = np.unique(marks[::-1], return_index=True)
    return np.sort(len(marks) - 1 - last)


def settled(rows: pa.RecordBatch, reasons: dict[int, str], payloads: Sequence[bytes]) -> Decoded:
    """The rows without those that have a reason against them."""
    index = np.arange(len(payloads), dtype=np.int64)
    if not reasons:
        return Decoded(rows, index)
    good = np.ones(len(payloads), dtype=bool)
    good[list(reasons)] = False
    bad = tuple(BadRow(row, bytes(payloads[row]), reasons[row]) for row in sorted(reasons))
    return Decoded(rows.filter(pa.array(good)), index[good], bad)
