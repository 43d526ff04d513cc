"""Where values stand in a block of JSON rows, and these values as Arrow columns: what `json_flat` and `json_shapes` do
once they know the places. Knows the syntax of numbers and literals, and nothing of objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.types import Kind

#: A column's Arrow type, and what the first row may hold for it: each value is looked at in full later.
SCALARS = {
    Kind.STRING: (pa.string(), re.compile(rb'"')),
    Kind.BIGINT: (pa.int64(), re.compile(rb"-?[0-9]+\Z|null\Z")),
    Kind.INT: (pa.int32(), re.compile(rb"-?[0-9]+\Z|null\Z")),
    Kind.DOUBLE: (pa.float64(), re.compile(rb"-?[0-9]|null\Z")),
    Kind.BOOLEAN: (pa.bool_(), re.compile(rb"true\Z|false\Z|null\Z")),
}
PART = 1 << 17  # bytes
LARGEST = (1 << 31) - 1  # bytes; Arrow's offsets have 32 bits
COMMA, QUOTE, _MINUS, _ZERO, _NULL, _SPACE = b',"-0n '

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cells:
    """Where one field's values are in `block`, which goes on after each."""

    block: bytes
    begins: Places
    ends: Places

    def bytes_at(self, places: Places) -> Bytes:
        """The bytes that stand in `places` of the block."""
        found: Bytes = np.frombuffer(self.block, dtype=np.uint8)[places]
        return found

    def texts(self, nulls: Mask | None = None, which: pa.Array | None = None) -> pa.Array:
        """The values as strings; None where `nulls`. `which`: these values (int32, NULL for None) instead of all."""
        offsets = np.empty(2 * len(self.begins), dtype=np.int32)
        offsets[0::2], offsets[1::2] = self.begins, self.ends  # every second one is what stands between two values
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.block)]
        both = pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
        if which is None:
            return both.take(pa.array(np.arange(0, len(offsets), 2, dtype=np.int32), mask=nulls))
        return both.take(pc.shift_left(which, 1))


def are_lines(block: bytes, starts: Places, ends: Places) -> bool:
    """Whether all control characters are between rows, one or two, or behind the last one."""
    whole = np.frombuffer(block, dtype=np.uint8)
    gaps = starts[1:] - ends[:-1]
    rest = len(block) - int(ends[-1])
    if rest > 2 or not (whole[ends[-1] :] < _SPACE).all():
        return False
    if not ((gaps <= 2).all() and (whole[ends[:-1]] < _SPACE).all() and (whole[starts[1:] - 1] < _SPACE).all()):
        return False
    parts = (whole[begin : begin + PART] for begin in range(0, len(whole), PART))
    return bool(sum(np.count_nonzero(part < _SPACE) for part in parts) == gaps.sum() + rest)


def stands(block: bytes, places: Places, piece: bytes) -> bool:
    """Whether `piece` stands in all places."""
    return all(bool(look.all()) for look in _looks(block, places, piece))


def where_stands(block: bytes, places: Places, piece: bytes) -> Mask:
    """In which of the places `piece` stands."""
    found = np.ones(len(places), dtype=np.bool_)
    for look in _looks(block, places, piece):
        found &= look.all(axis=1) if look.ndim == 2 else look
    return found


def _looks(block: bytes, places: Places, piece: bytes) -> Iterator[Mask]:
    """A long piece with one copy a place and one comparison, a short one up to eight bytes a look, of which the last
    two may overlap."""
    width = next(width for width in (17, 8, 4, 2, 1) if width <= len(piece))
    if width == 17:
        spans = np.ndarray((len(block) - len(piece) + 1,), np.dtype(("V", len(piece))), block, 0, (1,))[places]
        yield spans.view(np.uint8).reshape(len(places), len(piece)) == np.frombuffer(piece, dtype=np.uint8)
        return
    words = np.ndarray((len(block) - width + 1,), np.dtype(f"<u{width}"), block, 0, (1,))
    for at in {*range(0, len(piece) - width, width), len(piece) - width}:
        yield words[places + at] == int.from_bytes(piece[at : at + width], "little")


def bare(cells: Cells, kind: Kind | None) -> pa.Array | None:
    """Numbers or literals; of a field that is no column, what its first value is."""
    first = cells.bytes_at(cells.begins)
    nulls = first == _NULL
    some = bool(nulls.any())
    if some and not _are_null(cells, nulls):
        return None
    texts = cells.texts(nulls if some else None)
    if kind is Kind.BOOLEAN or (kind is None and first[nulls.argmin()] in b"tfn"):
        truths = pc.equal(texts, "true")
        return truths if pc.all(pc.or_(truths, pc.equal(texts, "false"))).as_py() is not False else None
    whole = kind in (Kind.INT, Kind.BIGINT)
    if not _are_numbers(cells, first, nulls, whole) or not (whole or _are_decimals(cells, texts, nulls)):
        return None
    numbers = texts.cast(SCALARS[kind or Kind.DOUBLE][0])
    return numbers if whole or _are_finite(cells, numbers) else None


def _are_null(cells: Cells, nulls: Mask) -> bool:
    begins = cells.begins[nulls]
    return bool((cells.ends[nulls] - begins == 4).all()) and stands(cells.block, begins, b"null")


def _are_numbers(cells: Cells, first: Bytes, nulls: Mask, whole: bool) -> bool:
    """Whether each begins as a number: a digit, maybe after a minus, and no zero that others follow."""
    signs = first == _MINUS
    at = cells.begins + signs if signs.any() else cells.begins
    digits = cells.bytes_at(at)
    if not (_is_digit(digits) | nulls).all():
        return False
    zeros = digits == _ZERO
    if not zeros.any():
        return True
    if whole:  # "0" alone; -0 is for `json_rows`
        return bool((cells.ends - cells.begins)[zeros].max() == 1)
    return not _is_digit(cells.bytes_at(at[zeros] + 1)).any()


def _are_decimals(cells: Cells, texts: pa.Array, nulls: Mask) -> bool:
    """Whether none is 1. or 1.e5, which Arrow would take for doubles; what else begins with a digit it knows."""
    if not (_is_digit(cells.bytes_at(cells.ends - 1)) | nulls).all():
        return False
    written = b"" if texts.null_count == len(texts) else texts.buffers()[2].to_pybytes()
    return not any(power in written and b"." + power in written for power in (b"e", b"E"))


def _are_finite(cells: Cells, numbers: pa.Array) -> bool:
    """Whether each is the right double: none is beyond DOUBLE, nor -0, which is the integer 0 and no negative zero."""
    values = numbers.to_numpy(zero_copy_only=False)
    zeros = (values == 0) & np.signbit(values)
    return not (np.isinf(values).any() or (zeros.any() and (cells.ends - cells.begins)[zeros].min() == len("-0")))


def _is_digit(array: Bytes) -> Mask:
    return array - np.uint8(_ZERO) < np.uint8(10)  # unsigned: what is below "0" is far above
