"""What a hot store is told of a stream, and which changes of it a store can follow. Pure; drivers make it so.

A store keeps the text of `describe` beside the rows, so what was declared is known whatever the product calls it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from qanat.errors import ConfigError, StoreError
from qanat.model.streams import Column, Stream
from qanat.model.types import Kind

#: Columns that stored rows have besides their own: the key as JSON, event time (ms), and the place in the log.
KEY, TIME, PARTITION, OFFSET, DELETED = "__key", "__time", "__partition", "__offset", "__deleted"

_UNFIT_KEYS = frozenset({Kind.FLOAT, Kind.DOUBLE, Kind.ARRAY, Kind.MAP, Kind.ROW, Kind.NULL})


@dataclass(frozen=True, slots=True)
class Table:
    """A stream in a store. `key`: the columns by which its rows are looked up; of an upsert stream its PRIMARY KEY.

    `retention_ms`: rows with an older event time may go; None keeps them. `source`: which log the rows come from; a
    store that has rows of another refuses them, since the places of both would be taken for the same.
    """

    stream: Stream
    key: tuple[str, ...]
    retention_ms: int | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """The stream's."""
        return self.stream.name

    @property
    def columns(self) -> tuple[Column, ...]:
        """The stream's."""
        return self.stream.columns

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key, in its order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)


def open_table(stream: Stream, key: tuple[str, ...] = (), retention_ms: int | None = None, source: str = "") -> Table:
    """The table of a stream. Without a `key` it is the PRIMARY KEY, which an upsert stream always has.

    Raises `ConfigError`, which names the column, where no store can hold it.
    """
    table = Table(stream, key or stream.key, None if stream.upsert else retention_ms, source)
    if stream.upsert and set(table.key) != set(stream.key):
        raise ConfigError(
            f"stream {stream.name}: it holds the latest row of each {', '.join(stream.key)}, "
            f"and cannot be kept by {', '.join(key)}",
            hint="leave the key out",
        )
    known = {column.name: column for column in stream.columns}
    for name in table.key:
        if name not in known:
            raise ConfigError(f"stream {stream.name} has no column {name}", hint=f"it has: {', '.join(known)}")
        if known[name].type.kind in _UNFIT_KEYS:
            raise ConfigError(
                f"stream {stream.name}: column {name} is {known[name].type}, which no key can be made of",
                hint="take a column of text, whole numbers, DECIMAL, BOOLEAN, BYTES or time",
            )
    for name in known:
        if name in (KEY, TIME, PARTITION, OFFSET, DELETED):
            raise ConfigError(f"stream {stream.name}: stores keep a column {name} of their own", hint="rename it")
    return table


def describe(table: Table) -> str:
    """What of a table may only change as `added` allows, as text."""
    columns = [[column.name, str(column.type.with_nullable(True))] for column in table.columns]
    what = {"columns": columns, "key": list(table.key), "upsert": table.stream.upsert, "source": table.source}
    event_time = table.stream.event_time
    what["event_time"] = None if event_time is None else [event_time.name, event_time.per_second]
    return json.dumps(what)


def added(table: Table, described: str) -> tuple[Column, ...]:
    """The columns that `table` has and the store was not told of. Raises `StoreError` that says what else differs."""
    before, now = json.loads(described), json.loads(describe(table))
    if before["source"] != now["source"]:
        raise _differs(table, "the store has rows of it from another log (was the data folder made anew?)")
    for what, name in (("upsert", "the kind of stream"), ("key", "the key"), ("event_time", "the event time")):
        if before[what] != now[what]:
            raise _differs(table, f"{name} was {before[what]}, and is {now[what]}")
    old = dict(before["columns"])
    types = dict(now["columns"])
    for name, kind in old.items():
        if name not in types:
            raise _differs(table, f"column {name} is there no more")
        if types[name] != kind:
            raise _differs(table, f"column {name} was {kind}, and is {types[name]}")
    return tuple(column for column in table.columns if column.name not in old)


def _differs(table: Table, how: str) -> StoreError:
    return StoreError(
        f"stream {table.name} does not fit the table in the store: {how}",
        hint=f"a store follows added columns only: name another database, or drop the table {table.name} "
        "and its rows in qanat_streams and qanat_positions; it is then filled with what the log still has",
    )
