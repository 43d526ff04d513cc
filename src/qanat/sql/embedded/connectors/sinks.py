"""Sinks outside the log. A sink takes frames, and makes them last in two steps around the log's transaction.

Guarantees: filesystem exactly once (files are named in the transaction, then renamed), print and collect at least once
after a crash, blackhole nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

import polars as pl
import pyarrow as pa

from qanat.codec.json import encode_lines as encode_json
from qanat.errors import ConfigError
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE
from qanat.model.types import STRING
from qanat.sql.changelog import changes_of
from qanat.sql.embedded.connectors.filesystem_sink import FileSink
from qanat.sql.plan import Pipeline, Table


class Sink(Protocol):
    """`write` frames, then `prepare` (durable, not yet visible; what it returns is stored with the positions), then,
    after the transaction, `publish`. `recover` gets what was last stored, at start, and undoes the rest."""

    def write(self, frame: pl.DataFrame) -> None:
        """Take rows."""
        ...

    def prepare(self) -> dict[str, object] | None:
        """Make what was written durable; what comes back is all that `recover` needs."""
        ...

    def publish(self) -> None:
        """Make visible what was prepared."""
        ...

    def recover(self, prepared: dict[str, object] | None) -> None:
        """Finish what was committed, remove the rest."""
        ...


def shown(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a changelog with the kind of each as text (`op`: +I, -U, +U, -D) in front; other rows as they are."""
    if CHANGE not in frame.columns:
        return frame
    op = pl.col(CHANGE).cast(pl.Int64).replace_strict(list(range(4)), ["+I", "-U", "+U", "-D"], return_dtype=pl.String)
    rest = frame.columns[:-1]
    return frame.select(op.alias(_free("op", rest)), *rest)


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def collected_schema(pipeline: Pipeline) -> pa.Schema:
    """What the caller of a bare SELECT gets: its columns, with `op` in front where the result changes."""
    fields = [(field.name, field.type) for field in pipeline.root.schema]
    if changes_of(pipeline.root).updates:
        fields = [(_free("op", [name for name, _ in fields]), STRING), *fields]
    return schema_of(fields)


class BlackholeSink:
    """Takes rows and forgets them."""

    def write(self, frame: pl.DataFrame) -> None:
        """Nothing."""

    def prepare(self) -> None:
        """Nothing."""

    def publish(self) -> None:
        """Nothing."""

    def recover(self, prepared: dict[str, object] | None) -> None:
        """Nothing."""


class PrintSink(BlackholeSink):
    """JSON lines to a text stream when the batch is committed."""

    def __init__(self, table: Table, out: TextIO | None = None) -> None:
        self._out = out
        self._prefix = table.options.get("print-identifier", "")
        self._rows: list[pl.DataFrame] = []

    def write(self, frame: pl.DataFrame) -> None:
        """Keep rows until they are committed."""
        if frame.height:
            self._rows.append(frame)

    def publish(self) -> None:
        """Print."""
        rows, self._rows = self._rows, []
        out = self._out or sys.stdout
        prefix = f"{self._prefix}> " if self._prefix else ""
        for frame in rows:
            lines = encode_json(shown(frame).to_arrow()).decode()
            out.write("".join(prefix + line + "\n" for line in lines.split("\n")[:-1]) if prefix else lines)
        out.flush()


class CollectSink(BlackholeSink):
    """Hands committed rows to a callback as Arrow tables."""

    def __init__(self, table_schema: pa.Schema, callback: Callable[[pa.Table], None]) -> None:
        self._schema, self._callback = table_schema, callback
        self._rows: list[pl.DataFrame] = []

    def write(self, frame: pl.DataFrame) -> None:
        """Keep rows until they are committed."""
        if frame.height:
            self._rows.append(frame)

    def publish(self) -> None:
        """Hand over."""
        rows, self._rows = self._rows, []
        for frame in rows:
            self._callback(shown(frame).to_arrow().cast(self._schema))


def open_sink(table: Table, run: str) -> Sink:
    """The sink of a table with a connector."""
    match table.connector:
        case "filesystem":
            return FileSink(table, run)
        case "print":
            return PrintSink(table)
        case "blackhole":
            return BlackholeSink()
        case other:
            raise ConfigError(
                f"table {table.name}: no sink for connector {other!r}", hint="filesystem, print or blackhole"
            )
