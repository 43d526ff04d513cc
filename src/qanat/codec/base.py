"""Bytes <-> Arrow rows, pure: no sockets, files or clocks. One file per format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
