"""A stream that lies partly in files, as SQL: archived rows and live ones as one table. Makes text; runs nothing.

Files hold what Parquet and Delta have types for; the other types are turned back here (`stored`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import pyarrow as pa

from qanat.log.archive import AT, OFFSET, PARTITION
from qanat.model.arrow import to_arrow
from qanat.model.streams import CHANGE, DELETED, Stream
from qanat.query.as_of import AsOf
from qanat.query.connections import listed, quoted


def view_of(stream: Stream, archived: str | None, live: str | None, as_of: AsOf) -> str:
    """The SELECT that gives a stream's rows. `archived`, `live`: what to select from, None where there is nothing.

    Both have `__partition`, `__offset` and, of a stream with a key, `__op` besides the columns; `archived` has `__at`.
    """
    names = [column.name for column in stream.columns]
    places = [CHANGE, PARTITION, OFFSET] if stream.upsert else []
    parts = []
    if archived is not None:
        columns = [f"{stored(to_arrow(one.type), quoted(one.name))} AS {quoted(one.name)}" for one in stream.columns]
        where = _where(stream.name, as_of)
        parts.append(f"SELECT {', '.join([*columns, *map(quoted, places)])} FROM {archived}{where}")  # noqa: S608
    if live is not None:
        parts.append(f"SELECT {', '.join(map(quoted, [*names, *places]))} FROM {live}")  # noqa: S608 - names are quoted
    rows = " UNION ALL ".join(parts)
    if not stream.upsert:
        return rows
    keys = ", ".join(map(quoted, stream.key))
    last = f"row_number() OVER (PARTITION BY {keys} ORDER BY {quoted(PARTITION)} DESC, {quoted(OFFSET)} DESC) = 1"
    kept = f"{quoted(CHANGE)} IS DISTINCT FROM {DELETED}"
    return f"SELECT {', '.join(map(quoted, names))} FROM ({rows}) QUALIFY {last} AND {kept}"  # noqa: S608 - quoted


class Reach(IntEnum):
    """How much DuckDB looks into files before it reads them, which costs more with each step: it takes the columns of
    the first one for those of all; it looks at all of them; and columns that none has are NULL."""

    FIRST = 0
    ALL = 1
    MISSING = 2


def files_of(files: Sequence[str], schema: pa.Schema, reach: Reach) -> str:
    """Parquet files as something to select from."""
    by_name = str(reach > Reach.FIRST).lower()
    read = f"read_parquet({listed(files)}, union_by_name = {by_name}, hive_partitioning = false)"
    if reach < Reach.MISSING:
        return read
    empty = ", ".join(f"CAST(NULL AS {_stored_name(one.type)}) AS {quoted(one.name)}" for one in schema)
    return f"(SELECT * FROM {read} UNION ALL BY NAME SELECT {empty} WHERE false)"  # noqa: S608 - names are quoted


def _where(stream: str, as_of: AsOf) -> str:
    terms = [] if as_of.at is None else [f"{quoted(AT)} <= {as_of.at}"]
    terms += [
        f"({quoted(PARTITION)} <> {place[1]} OR {quoted(OFFSET)} <= {last})"
        for place, last in as_of.offsets.items()
        if place[0] == stream
    ]
    return f" WHERE {' AND '.join(terms)}" if terms else ""


def stored(kind: pa.DataType, value: str, depth: int = 0) -> str:
    """SQL that turns a stored value back into one of the declared type."""
    p = pa.types
    if not _differs(kind):
        return value
    if p.is_timestamp(kind):
        return f"make_timestamp_ns({value})" if kind.tz is None else f"make_timestamptz({value} // 1000)"
    if p.is_time(kind):
        return f"(TIME '00:00:00' + to_milliseconds({value}))"
    if p.is_duration(kind):
        return f"to_milliseconds({value})"
    one = f"e{depth}"
    if p.is_list(kind):
        return f"list_transform({value}, lambda {one} : {stored(kind.value_type, one, depth + 1)})"
    if p.is_map(kind):
        items = f"list_transform(map_values({value}), lambda {one} : {stored(kind.item_type, one, depth + 1)})"
        keys = f"list_transform(map_keys({value}), lambda {one} : {stored(kind.key_type, one, depth + 1)})"
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE map({keys}, {items}) END"
    fields = [f"{quoted(f.name)} := {stored(f.type, f'{value}.{quoted(f.name)}', depth)}" for f in kind]
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({', '.join(fields)}) END"


def _differs(kind: pa.DataType) -> bool:
    """Whether DuckDB reads another type from the file than it gets from the log."""
    p = pa.types
    if p.is_list(kind):
        return _differs(kind.value_type)
    if p.is_map(kind):
        return _differs(kind.key_type) or _differs(kind.item_type)
    if p.is_struct(kind):
        return any(_differs(one.type) for one in kind)
    return bool(p.is_time(kind) or p.is_duration(kind) or (p.is_timestamp(kind) and kind.unit == "ns"))


_NAMES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
}


def _stored_name(kind: pa.DataType) -> str:
    """DuckDB's name of the type that a declared one is stored as."""
    p = pa.types
    if kind in _NAMES:
        return _NAMES[kind]
    if p.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if p.is_timestamp(kind):
        return "BIGINT" if kind.unit == "ns" else "TIMESTAMP" if kind.tz is None else "TIMESTAMPTZ"
    if p.is_time(kind):
        return "INTEGER"
    if p.is_duration(kind):
        return "BIGINT"
    if p.is_list(kind):
        return f"{_stored_name(kind.value_type)}[]"
    if p.is_map(kind):
        return f"MAP({_stored_name(kind.key_type)}, {_stored_name(kind.item_type)})"
    if p.is_struct(kind):
        return f"STRUCT({', '.join(f'{quoted(one.name)} {_stored_name(one.type)}' for one in kind)})"
    return "VARCHAR"
