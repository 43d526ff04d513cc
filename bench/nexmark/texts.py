"""Random and fixed-width texts, a whole column at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Ints = npt.NDArray[np.int64]
_ASCII_A = ord("a")
_LETTERS = 26


def letters(rng: np.random.Generator, lengths: Ints) -> pl.Series:
    """Lower case letters, each text as long as asked for."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return _texts(_ASCII_A + rng.integers(0, _LETTERS, int(offsets[-1]), dtype=np.uint8), offsets)


def words(rng: np.random.Generator, lengths: Ints) -> pl.Series:
    """As `letters`, and one character in thirteen a blank, but never the first or the last."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    characters = _ASCII_A + rng.integers(0, _LETTERS, int(offsets[-1]), dtype=np.uint8)
    blank = rng.integers(0, 13, len(characters), dtype=np.uint8) == 0
    blank[offsets[:-1]] = blank[offsets[1:] - 1] = False
    characters[blank] = ord(" ")
    return _texts(characters, offsets)


def chosen(rng: np.random.Generator, options: Sequence[str], count: int) -> pl.Series:
    """One of the options, evenly, for each row."""
    return pl.Series(list(options)).gather(rng.integers(0, len(options), count))


def timestamps(times: Ints) -> pl.Series:
    """Milliseconds since 1970 as TIMESTAMP(3) is read from JSON: yyyy-MM-dd HH:mm:ss.SSS."""
    return pl.Series(times).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S%.3f")


def _texts(characters: npt.NDArray[np.uint8], offsets: Ints) -> pl.Series:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(characters)]
    return pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)))
