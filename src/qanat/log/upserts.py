"""Rows of a stream that holds the latest row per key, as they are now: superseded and deleted ones left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED, Stream


def shown_schema(stream: Stream) -> pa.Schema:
    """The declared columns."""
    return schema_of((column.name, column.type) for column in stream.columns)


def latest_rows(rows: pa.Table, stream: Stream) -> pa.Table:
    """The last row of each key that is not deleted, in the order of `rows` (which is that of the log)."""
    if not stream.upsert or not rows.num_rows:
        return rows.select([column.name for column in stream.columns])
    place = pa.array(np.arange(rows.num_rows))
    keys = rows.select(list(stream.key)).append_column("$place", place)
    last = keys.group_by(list(stream.key)).aggregate([("$place", "max")])["$place_max"]
    kept = rows.take(pa.array(np.sort(last.to_numpy())))
    if CHANGE in kept.column_names:
        gone = pc.fill_null(pc.equal(kept[CHANGE], DELETED), False)
        kept = kept.filter(pc.invert(gone))
    return kept.select([column.name for column in stream.columns])
