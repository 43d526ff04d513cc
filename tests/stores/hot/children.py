"""What is killed: a process that has a log and feeds a store from it, `python children.py LOG URL STREAM MOMENT`.

MOMENT: at which call of which kind it kills itself, such as `wrote:3` (just after the third write) or `never`. Prints
the rows that the log was told of, as it goes on.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pyarrow as pa

from qanat.cli.storing import LogSource
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.model.stores import consumer_of
from qanat.model.streams import CHANGE, DELETED, ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, STRING
from qanat.stores.hot import open_store
from qanat.stores.hot.feeder import Feeder
from qanat.stores.hot.table import Table, open_table

ROWS, BATCH = 3000, 70
KEYS = 5
MOMENTS = ("prepared:1", "write:2", "half:3", "wrote:1", "tell:4", "told:2")


def table_of(name: str) -> Table:
    """Readings in two partitions; where the name begins with u, the latest of each key."""
    if name.startswith("u"):
        stream = Stream(name, (Column("k", STRING), Column("id", BIGINT)), key=("k",), upsert=True)
        return open_table(stream, source="one log")
    columns = (Column("k", STRING), Column("id", BIGINT))
    stream = Stream(name, columns, event_time=ArrivalColumn("id", 1000), partitions=2)
    return open_table(stream, ("k",), source="one log")


def fill(log: Log, table: Table) -> None:
    """The rows, if they are not there yet; of an upsert stream every seventh deletes."""
    log.create(table.stream)
    if log.status()[table.name].rows:
        return
    schema = schema_of((column.name, column.type) for column in table.columns)
    for first in range(0, ROWS, 50):
        for partition in range(table.stream.partitions):
            ids = np.arange(first + partition, first + 50, table.stream.partitions)
            rows = pa.record_batch([pa.array([f"k{i % KEYS}" for i in ids]), pa.array(ids)], schema=schema)
            if table.stream.upsert:
                gone = pa.array([DELETED if i % 7 == 0 else None for i in ids], pa.int8())
                rows = rows.append_column(CHANGE, gone)
            log.submit(Transaction([Append(table.name, partition, rows, first)])).result()
    places = {(table.name, partition): 0 for partition in range(table.stream.partitions)}
    log.submit(Transaction(positions={consumer_of("hot", table.name): places})).result()


class Dying:
    """Calls go through, and are counted; at the one that was named the process kills itself."""

    def __init__(self, moment: str) -> None:
        self._name, _, number = moment.partition(":")
        self._left = int(number or 1)

    def pass_by(self, name: str) -> None:
        """Such a call begins or has ended."""
        if name == self._name:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, before: str, after: str, call):
        """The same call, with a moment on both sides."""

        def called(*args):
            self.pass_by(before)
            answer = call(*args)
            self.pass_by(after)
            return answer

        return called


def halve(store, dying: Dying) -> None:
    """The moment at which a store has the rows of a batch, and not yet its number."""
    inner, name = {
        "DuckStore": (store, "_insert"),
        "ClickHouseStore": (getattr(store, "_transport", None), "insert"),
        "CassandraStore": (store, "_run"),
    }[type(store).__name__]
    through = getattr(inner, name)

    def called(*args):
        answer = through(*args)
        if args[0] not in ("qanat_positions", "qanat_streams"):
            dying.pass_by("half")
        return answer

    setattr(inner, name, called)


def main(log_url: str, store_url: str, name: str, moment: str) -> None:
    """Feed to the end, or die on the way."""
    log, table, dying = open_log(log_url), table_of(name), Dying(moment)
    fill(log, table)
    store = open_store(store_url)
    source = LogSource(log, name, consumer_of("hot", name))
    store.prepare = dying.around("prepare", "prepared", store.prepare)  # type: ignore[method-assign]
    store.write = dying.around("write", "wrote", store.write)  # type: ignore[method-assign]
    source.advance = dying.around("tell", "told", source.advance)  # type: ignore[method-assign]
    halve(store, dying)
    feeder = Feeder(store, table, source, rows=BATCH)
    while feeder.step():
        print(sum(source.position().values()), flush=True)
    print("end", flush=True)
    store.close()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
