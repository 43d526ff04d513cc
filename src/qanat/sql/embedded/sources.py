"""Which sources a scan reads: the partitions of a stream of the log, or files."""

from __future__ import annotations

from collections.abc import Callable

from qanat.errors import ConfigError
from qanat.log.base import Log
from qanat.model.streams import CHANGE, Column
from qanat.sql.embedded.connectors.filesystem_source import FileSource
from qanat.sql.embedded.connectors.streams import LogSource
from qanat.sql.embedded.feeds import Preparer
from qanat.sql.embedded.runner import Input, scan_name
from qanat.sql.embedded.skipped import NOTHING, Skipped
from qanat.sql.plan import Scan


def scan_inputs(
    log: Log,
    number: int,
    scan: Scan,
    rows: int,
    finished: Callable[[], bool] | None = None,
    skipped: Skipped = NOTHING,
) -> list[Input]:
    """The inputs of a pipeline's scan `number`. `finished`: says when a stream has ended (None: it never does);
    `skipped`: rows that the pipeline passes over."""
    table = scan.table
    if table.stream is not None:
        places = [(table.stream.name, partition) for partition in range(table.stream.partitions)]
        return [
            Input(number, scan_name(scan, number, place[1]), LogSource(log, place, rows, finished, skipped), place)
            for place in places
        ]
    if table.connector != "filesystem":
        raise ConfigError(f"table {table.name}: connector {table.connector} cannot be read")
    # a changelog's kind is no field of its format: the decoder adds it
    preparer = Preparer(scan)
    fields = preparer.needed if table.options.get("format") == "json" else preparer.physical
    columns = [Column(f.name, f.type) for f in fields if f.name != CHANGE]
    return [Input(number, scan_name(scan, number, 0), FileSource(table, columns), None)]
