"""The CQL of a hot store: its own tables, and those of streams. Text only.

Tables are named with their keyspace (`space`, quoted), since a prepared statement outlives what `USE` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from qanat.errors import ConfigError
from qanat.stores.hot.base import Order
from qanat.stores.hot.table import KEY, OFFSET, PARTITION, TIME, Table

DAY: Final = "__day"
ORDERS: Final[tuple[Order, ...]] = ("newest", "oldest")

#: `qanat_days`: the days on which a key has rows, so that a reader need not try them all.
OWN_TABLES = (
    "CREATE TABLE IF NOT EXISTS {space}.qanat_streams (name text PRIMARY KEY, declared text)",
    "CREATE TABLE IF NOT EXISTS {space}.qanat_positions "
    "(stream text, partition int, upto bigint, PRIMARY KEY (stream, partition))",
    "CREATE TABLE IF NOT EXISTS {space}.qanat_days "
    "(stream text, key text, day bigint, PRIMARY KEY ((stream, key), day))",
)
TOLD = "SELECT declared FROM {space}.qanat_streams WHERE name = ?"
TELL = "INSERT INTO {space}.qanat_streams (name, declared) VALUES (?, ?)"
POSITIONS = "SELECT partition, upto FROM {space}.qanat_positions WHERE stream = ?"
#: A lower number that comes later changes nothing.
ADVANCE = "INSERT INTO {space}.qanat_positions (stream, partition, upto) VALUES (?, ?, ?) USING TIMESTAMP ?"
ADD_DAY = "INSERT INTO {space}.qanat_days (stream, key, day) VALUES (?, ?, ?) USING TTL ?"
_DAYS_OF = "stream = ? AND key = ? AND day >= ? AND day <= ?"
DAYS: Final[Mapping[Order, str]] = {
    order: f"SELECT day FROM {{space}}.qanat_days WHERE {_DAYS_OF} ORDER BY day {way}"  # noqa: S608 - constants
    for order, way in zip(ORDERS, ("DESC", "ASC"), strict=True)
}
COLUMNS = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"

_PLACE = (TIME, PARTITION, OFFSET)


def check_table(table: Table) -> None:
    """Raises `ConfigError` for a name that Cassandra has no table for."""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,48}", table.name):
        raise ConfigError(
            f"stream {table.name}: a table of Cassandra has up to 48 letters, digits and _ in its name",
            hint="rename the stream, or keep it in another store",
        )
    if DAY in {column.name for column in table.columns}:
        raise ConfigError(f"stream {table.name}: Cassandra's tables have a column {DAY} of their own", hint="rename it")


def check_replication(text: str) -> None:
    """Raises `ConfigError` unless it is a number of nodes."""
    if not text.isdigit():
        raise ConfigError(f"cassandra:// has the replication {text!r}", hint="write a number of nodes")


def create_keyspace(name: str, replication: str) -> str:
    """A keyspace whose rows are on so many nodes."""
    how = f"{{'class': 'SimpleStrategy', 'replication_factor': {replication}}}"
    return f"CREATE KEYSPACE IF NOT EXISTS {quoted(name)} WITH replication = {how}"


def create(space: str, table: Table, types: Mapping[str, str]) -> str:
    """The table of a stream."""
    listed = [f"{quoted(name)} {kind}" for name, kind in types.items()]
    own = [f'"{KEY}" text', f'"{TIME}" bigint', f'"{PARTITION}" int', f'"{OFFSET}" bigint']
    if table.stream.upsert:
        return _table(space, table, [*own, *listed, f'PRIMARY KEY ("{KEY}")'])
    key = f'PRIMARY KEY (("{KEY}", "{DAY}"), {", ".join(map(quoted, _PLACE))})'
    order = ", ".join(f"{quoted(name)} DESC" for name in _PLACE)
    # one run of files per day: with a TTL, whole files are dropped
    compaction = (
        "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': 1}"
    )
    options = f" WITH CLUSTERING ORDER BY ({order})"
    if table.retention_ms is not None:
        options += f" AND compaction = {compaction}"
    return _table(space, table, [*own, f'"{DAY}" bigint', *listed, key]) + options


def _table(space: str, table: Table, parts: Sequence[str]) -> str:
    return f"CREATE TABLE IF NOT EXISTS {space}.{quoted(table.name)} ({', '.join(parts)})"


def add_column(space: str, table: Table, name: str, kind: str) -> str:
    """One more column."""
    return f"ALTER TABLE {space}.{quoted(table.name)} ADD {quoted(name)} {kind}"


def insert(space: str, table: Table) -> str:
    """A row: key, (day,) place, columns, and then its timestamp (upsert) or TTL."""
    own = [KEY, *_PLACE] if table.stream.upsert else [KEY, DAY, *_PLACE]
    all_names = [*own, *(column.name for column in table.columns)]
    marks = ", ".join("?" * len(all_names))
    using = "TIMESTAMP" if table.stream.upsert else "TTL"
    listed = ", ".join(map(quoted, all_names))
    return f"INSERT INTO {space}.{quoted(table.name)} ({listed}) VALUES ({marks}) USING {using} ?"  # noqa: S608 - quoted


def delete(space: str, table: Table) -> str:
    """A row of an upsert stream: timestamp, key."""
    return f'DELETE FROM {space}.{quoted(table.name)} USING TIMESTAMP ? WHERE "{KEY}" = ?'  # noqa: S608 - quoted


def select(space: str, table: Table, expressions: Sequence[str], order: Order) -> str:
    """The rows of a key and day between two times, with a limit; of an upsert stream its time and the row of a key."""
    if table.stream.upsert:
        listed = ", ".join([quoted(TIME), *expressions])
        return f'SELECT {listed} FROM {space}.{quoted(table.name)} WHERE "{KEY}" = ?'  # noqa: S608 - quoted
    way = "DESC" if order == "newest" else "ASC"
    by = ", ".join(f"{quoted(name)} {way}" for name in _PLACE)
    where = f'"{KEY}" = ? AND "{DAY}" = ? AND "{TIME}" >= ? AND "{TIME}" <= ?'
    return f"SELECT {', '.join(expressions)} FROM {space}.{quoted(table.name)} WHERE {where} ORDER BY {by} LIMIT ?"  # noqa: S608 - quoted


def quoted(name: str) -> str:
    """An identifier as it is written."""
    return '"' + name.replace('"', '""') + '"'
