"""Many CSV lines at once, through Arrow's parser: what `csv_fields` accepts, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from qanat.codec.base import Decoded
from qanat.model.arrow import schema_of
from qanat.model.streams import Column
from qanat.model.types import Kind

_NUMBERS = {
    Kind.TINYINT: pa.int8(),
    Kind.SMALLINT: pa.int16(),
    Kind.INT: pa.int32(),
    Kind.BIGINT: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.STRING: pa.string(),
}
_LEAST = 1 << 14  # bytes; below, the start of the parser costs more than the rows


def read_lines(data: bytes, columns: Sequence[Column], delimiter: str) -> Decoded | None:
    """All lines, or None. The data holds no quotes."""
    if len(data) < _LEAST or any(column.type.kind not in _NUMBERS for column in columns):
        return None
    if b"\n\n" in data or data.startswith(b"\n") or b"\r" in data or b"x" in data or b"X" in data or b" " in data:
        return None
    names = [str(place) for place in range(len(columns))]
    try:
        table = pc.read_csv(
            pa.BufferReader(data),
            read_options=pc.ReadOptions(column_names=names, use_threads=len(data) > 4 << 20),
            parse_options=pc.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pc.ConvertOptions(
                column_types={name: _NUMBERS[column.type.kind] for name, column in zip(names, columns, strict=True)},
                null_values=[],
                strings_can_be_null=False,
                check_utf8=True,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if table.num_rows != data.count(b"\n") + (not data.endswith(b"\n")):
        return None
    batch = table.combine_chunks().to_batches()[0]
    if not _is_finite(batch):
        return None
    schema = schema_of((column.name, column.type) for column in columns)
    return Decoded(pa.RecordBatch.from_arrays(batch.columns, schema=schema), np.arange(table.num_rows, dtype=np.int64))


def _is_finite(batch: pa.RecordBatch) -> bool:
    floats = [one for one in batch.columns if pa.types.is_floating(one.type)]
    return all(np.isfinite(one.to_numpy(zero_copy_only=False)).all() for one in floats)
