"""Which partition a row goes to. Pure, and the same in every process, version and machine.

The rule: CRC-32 of the key columns' values as UTF-8 text, joined by 0x1F, NULL as nothing, modulo the number of
partitions. A stream without a key is spread by the client, so that each client's rows keep their order.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def partition_rows(rows: pa.RecordBatch, key: Sequence[str], partitions: int) -> npt.NDArray[np.int64]:
    """The partition of every row, by its key columns."""
    texts = [pc.fill_null(pc.cast(rows.column(name), pa.string()), "") for name in key]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "\x1f")
    encoded = joined.dictionary_encode()
    targets = np.array([partition_of(text, partitions) for text in encoded.dictionary.to_pylist()], dtype=np.int64)
    found: npt.NDArray[np.int64] = targets[encoded.indices.to_numpy(zero_copy_only=False)]
    return found


def partition_of(text: str, partitions: int) -> int:
    """The partition of one key as text."""
    return zlib.crc32(text.encode()) % partitions
