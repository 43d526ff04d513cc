"""Bytes <-> Arrow rows, pure: no sockets, files or clocks. One file per format."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.model.streams import Column


@dataclass(frozen=True, slots=True)
class BadRow:
    """What could not be taken: `index` of its payload (or line) in the input, the bytes, and why, in one line."""

    index: int
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """`rows` has one row per good row, in input order; `index` (int64, same length) is the payload each came from."""

    rows: pa.RecordBatch
    index: npt.NDArray[np.int64]
    bad: tuple[BadRow, ...] = ()


#: (payloads, columns) -> rows and what did not fit. A payload may hold several rows; it is taken whole or not at all.
Decode = Callable[[Sequence[bytes], Sequence[Column]], Decoded]


@runtime_checkable
class RelativeTimes(Protocol):
    """A decoder whose event times may count from the arrival: those less than `relative_below` ms away from 1970."""

    @property
    def relative_below(self) -> int:
        """In milliseconds."""


class Block(Sequence[bytes]):
    """Payloads that lie together and become Python objects only when somebody asks for one. A slice is a block, too."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of all payloads, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Block):
    """Payloads as spans of `data`; between two of them stand only white space bytes."""

    data: bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> Rows: ...

    def __getitem__(self, place: int | slice) -> bytes | Rows:
        if isinstance(place, slice):
            return Rows(self.data, self.starts[place], self.ends[place])
        return self.data[int(self.starts[place]) : int(self.ends[place])]

    @property
    def size(self) -> int:
        """Bytes, with what stands between the payloads."""
        return int(self.ends[-1] - self.starts[0]) if len(self.starts) else 0

    def part(self, first: int, last: int) -> Rows:
        """Rows `first` up to before `last`."""
        return Rows(self.data, self.starts[first:last], self.ends[first:last])

    def documents(self) -> list[bytes]:
        """Each row's bytes."""
        data = self.data
        return [data[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


def split_lines(data: bytes, breaks: npt.NDArray[np.int64] | None = None) -> tuple[Rows, npt.NDArray[np.int64]]:
    """The lines that are not blank, without their line ends, and their numbers from 0.

    `breaks`: the line feeds that end a line; None: all of them.
    """
    if not data:
        nothing = np.empty(0, dtype=np.int64)
        return Rows(data, nothing, nothing), nothing
    whole = np.frombuffer(data, dtype=np.uint8)
    if breaks is None:
        breaks = np.flatnonzero(whole == 10)
    starts = np.empty(len(breaks) + 1, dtype=np.int64)
    starts[0] = 0
    np.add(breaks, 1, out=starts[1:])
    ends = np.append(breaks, len(data))
    if starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    if b"\r" not in data and whole[starts].min() > 32:  # as programs write it: nothing is blank
        return Rows(data, starts, ends), np.arange(len(starts), dtype=np.int64)
    ends = ends - ((ends > starts) & (whole[ends - 1] == 13))
    filled = ends > starts
    for place in np.flatnonzero(filled & (whole[np.minimum(starts, len(data) - 1)] <= 32)).tolist():
        filled[place] = bool(data[starts[place] : ends[place]].strip())
    numbers = np.flatnonzero(filled)
    return Rows(data, starts[numbers], ends[numbers]), numbers


def join_payloads(parts: Sequence[Sequence[bytes]]) -> Sequence[bytes]:
    """The payloads of all parts, one after the other: one block where all are `Rows`, without looking at them."""
    if len(parts) == 1:
        return parts[0]
    blocks = [part for part in parts if type(part) is Rows]  # isinstance of an ABC is dear, parts are many
    if len(blocks) < len(parts):
        return [payload for part in parts for payload in part]
    shifts = np.cumsum([0, *(len(block.data) + 1 for block in blocks[:-1])])
    return Rows(
        b"\n".join(block.data for block in blocks),
        np.concatenate([block.starts + shift for block, shift in zip(blocks, shifts.tolist(), strict=True)]),
        np.concatenate([block.ends + shift for block, shift in zip(blocks, shifts.tolist(), strict=True)]),
    )
