"""Rows as Parquet files, and what Delta's log says of each: size, rows, least and greatest values. Opens nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qanat.log.archive import AT, OFFSET, SEQ

#: Rows of a row group: readers skip whole ones.
GROUP = 131_072
#: So many columns have their least and greatest values in the log; text only where it is short.
_COLUMNS = 32
_LONGEST = 64
#: Numbers that grow from row to row are stored as differences.
_GROWING = (OFFSET, SEQ, AT)


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is there and that no version names yet. `stats` is Delta's JSON; `day`: days since 1970."""

    name: str
    day: int
    size: int
    rows: int
    stats: str


def writer_of(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Writes rows of a stored schema."""
    text = [one.name for one in schema if pa.types.is_string(one.type)]
    growing = {one.name: "DELTA_BINARY_PACKED" for one in schema if one.name in _GROWING}
    return pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=1, use_dictionary=text, column_encoding=growing or None
    )


def stats_of(found: pq.FileMetaData, schema: pa.Schema) -> str:
    """What Delta's log says of a file, out of the file's own footer."""
    low: dict[str, object] = {}
    high: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for field, leaf in _leaves(schema):
        parts = [found.row_group(n).column(leaf).statistics for n in range(found.num_row_groups)]
        if any(part is None for part in parts):
            continue
        if all(part.has_null_count for part in parts):
            nulls[field.name] = sum(part.null_count for part in parts)
        ends = [(part.min_raw, part.max_raw) for part in parts if part.has_min_max]
        full = [part for part in parts if part.has_min_max or (part.has_null_count and part.num_values == 0)]
        if not ends or len(full) != len(parts):
            continue
        least, greatest = _value(min(e[0] for e in ends), field.type), _value(max(e[1] for e in ends), field.type)
        if least is not None and greatest is not None:
            low[field.name], high[field.name] = least, greatest
    rows = found.num_rows
    return json.dumps({"numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls})


def _leaves(schema: pa.Schema) -> Iterator[tuple[pa.Field, int]]:
    """The columns that have an order that JSON can tell, and their place among the leaves of the file."""
    leaf = 0
    taken = 0
    for field in schema:
        p = pa.types
        plain = p.is_integer(field.type) or p.is_string(field.type) or p.is_date32(field.type)
        own = field.name.startswith("__")
        if (plain or p.is_timestamp(field.type)) and (own or taken < _COLUMNS):
            taken += not own
            yield field, leaf
        leaf += _width(field.type)


def _width(kind: pa.DataType) -> int:
    if pa.types.is_map(kind):
        return _width(kind.key_type) + _width(kind.item_type)
    if pa.types.is_list(kind):
        return _width(kind.value_type)
    return sum(_width(one.type) for one in kind) if pa.types.is_struct(kind) else 1


def _value(raw: Any, kind: pa.DataType) -> object:
    """A value of the footer as Delta's JSON has it; None where that cannot be written."""
    if pa.types.is_string(kind):
        text = raw.decode() if isinstance(raw, bytes) else str(raw)
        return text if len(text) <= _LONGEST else None
    if pa.types.is_timestamp(kind):
        return _text(np.datetime64(int(raw), "us"), "Z" if kind.tz else "")
    if pa.types.is_date32(kind):
        return _text(np.datetime64(int(raw), "D"), "")
    return int(raw)


def _text(value: np.datetime64, zone: str) -> str | None:
    if not np.datetime64("0001-01-01") <= value <= np.datetime64("9999-12-31T23:59:59.999999"):
        return None
    return f"{value}{zone}"
