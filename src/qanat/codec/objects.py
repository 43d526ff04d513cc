"""Objects that some parser made of payloads -> Arrow rows by column name, strictly; a payload is taken whole or not.

What reads the bytes is its caller's business; the values are those of JSON, and `values` says what fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decoded
from qanat.codec.values import batch_of
from qanat.model.streams import Column


@dataclass(slots=True)
class Parsed:
    """`owners[i]` is the payload that `objects[i]` came from; `bad` says why payloads were refused, by number."""

    objects: list[Mapping[str, Any]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def add(self, payload: int, objects: Sequence[Mapping[str, Any]]) -> None:
        """What one payload holds."""
        self.objects.extend(objects)
        self.owners.extend([payload] * len(objects))


def rows_of_columns(
    values: Sequence[list[Any]],
    owners: Sequence[int],
    bad: Mapping[int, str],
    payloads: Sequence[bytes],
    columns: Sequence[Column],
) -> Decoded:
    """Rows of values that are in the order of `columns`; a missing name is NULL there."""
    batch, misfits = batch_of(columns, values, len(owners))
    return settle(batch, misfits, owners, bad, payloads)


def settle(
    batch: pa.RecordBatch,
    misfits: Mapping[int, str],
    owners: Sequence[int],
    bad: Mapping[int, str],
    payloads: Sequence[bytes],
) -> Decoded:
    """The rows without those of payloads that have a misfit (by row), or are bad anyway (by payload)."""
    reasons = dict(bad)
    for row in sorted(misfits):
        reasons.setdefault(owners[row], misfits[row])
    owner = np.array(owners, dtype=np.int64)
    if reasons:
        keep = ~np.isin(owner, np.array(list(reasons), dtype=np.int64))
        batch, owner = batch.filter(pa.array(keep)), owner[keep]
    return Decoded(batch, owner, tuple(BadRow(one, bytes(payloads[one]), reasons[one]) for one in sorted(reasons)))
