"""Sinks outside the log. A sink takes frames, and makes them last in two steps around the log's transaction.

Guarantees: filesystem exactly once (files are named in the transaction, then renamed), print and collect at least once
after a crash, blackhole nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from qanat.codec.csv import CsvOptions
from qanat.codec.csv import encode_lines as encode_csv
from qanat.codec.debezium import encode_lines as encode_debezium
from qanat.codec.json import encode_lines as encode_json
from qanat.errors import ConfigError, LogFullError
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE
from qanat.model.types import STRING
from qanat.sql.changelog import changes_of
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


class FileSink:
    """A folder of part files, one per commit that has rows, as Flink's filesystem connector leaves them.

    Files are written as `.NAME.inprogress` and renamed after the commit. `run` is unique to a state of the log, so that
    a second run into the same folder adds files and never touches those of the first.
    """

    def __init__(self, table: Table, run: str) -> None:
        self._folder = Path(table.options["path"].removeprefix("file://"))
        self._run = run
        self._number = 0
        self._file: BinaryIO | None = None
        self._prepared: list[str] = []
        self._format = _FORMATS[_format(table)](table)

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows to the file of the next commit."""
        if not frame.height:
            return
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = self._hidden(self._name()).open("wb")
            self._format.write(self._file, frame)
        except OSError as error:
            raise self._full(error) from error

    def prepare(self) -> dict[str, object]:
        """Close the file, with fsync of it and its folder. A commit without rows still says which number comes next."""
        if self._file is not None:
            try:
                self._finish(self._file)
            except OSError as error:
                raise self._full(error) from error
            self._file = None
            self._prepared.append(self._name())
            self._number += 1
        return {"files": list(self._prepared), "next": self._number}

    def _finish(self, file: BinaryIO) -> None:
        self._format.finish(file)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        _sync(self._folder)

    def _full(self, error: OSError) -> LogFullError:
        return LogFullError(f"cannot write to {self._folder}: {error.strerror}", hint="make room and start again")

    def publish(self) -> None:
        """Rename what was prepared."""
        for name in self._prepared:
            self._hidden(name).rename(self._folder / name)
        if self._prepared:
            _sync(self._folder)
        self._prepared = []

    def recover(self, prepared: dict[str, object] | None) -> None:
        """Rename files that were committed but not yet renamed, delete unfinished ones of this run."""
        files = prepared["files"] if prepared else []
        self._number = int(str(prepared["next"])) if prepared else 0
        for name in files if isinstance(files, list) else []:
            if self._hidden(name).exists():
                self._hidden(name).rename(self._folder / name)
        if self._folder.is_dir():
            for left in self._folder.glob(f".part-{self._run}-*.inprogress"):
                left.unlink()

    def _name(self) -> str:
        return f"part-{self._run}-{self._number}{self._format.suffix}"

    def _hidden(self, name: str) -> Path:
        return self._folder / f".{name}.inprogress"


class _Files(Protocol):
    """Writes frames of one format into one file after another."""

    suffix: str

    def write(self, file: BinaryIO, frame: pl.DataFrame) -> None:
        """Append rows."""
        ...

    def finish(self, file: BinaryIO) -> None:
        """Write what ends a file."""
        ...


class _JsonFiles:
    suffix = ""

    def __init__(self, table: Table) -> None:
        self._timestamps = table.options.get("json.timestamp-format.standard", "SQL")

    def write(self, file: BinaryIO, frame: pl.DataFrame) -> None:
        file.write(encode_json(frame.to_arrow(), "ISO-8601" if self._timestamps == "ISO-8601" else "SQL"))

    def finish(self, file: BinaryIO) -> None:
        """Lines need no end."""


class _DebeziumFiles:
    suffix = ""

    def __init__(self, table: Table) -> None:
        del table

    def write(self, file: BinaryIO, frame: pl.DataFrame) -> None:
        plain = CHANGE not in frame.columns
        kinds = np.zeros(frame.height, dtype=np.int8) if plain else frame[CHANGE].to_numpy()
        file.write(encode_debezium((frame if plain else frame.drop(CHANGE)).to_arrow(), kinds))

    def finish(self, file: BinaryIO) -> None:
        """Lines need no end."""


class _CsvFiles:
    suffix = ""

    def __init__(self, table: Table) -> None:
        self._options = CsvOptions.of(table.options)

    def write(self, file: BinaryIO, frame: pl.DataFrame) -> None:
        file.write(encode_csv(frame.to_arrow(), self._options))

    def finish(self, file: BinaryIO) -> None:
        """Lines need no end."""


class _ParquetFiles:
    suffix = ".parquet"

    def __init__(self, table: Table) -> None:
        self._schema = schema_of((field.name, field.type) for field in table.physical)
        self._writer: pq.ParquetWriter | None = None

    def write(self, file: BinaryIO, frame: pl.DataFrame) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._writer.write_table(frame.to_arrow().cast(self._schema))

    def finish(self, file: BinaryIO) -> None:
        del file
        if self._writer is not None:
            self._writer.close()
        self._writer = None


_FORMATS: dict[str, Callable[[Table], _Files]] = {
    "json": _JsonFiles,
    "debezium-json": _DebeziumFiles,
    "csv": _CsvFiles,
    "parquet": _ParquetFiles,
}


def _format(table: Table) -> str:
    name = table.options.get("format", "")
    if name not in _FORMATS:
        raise ConfigError(
            f"table {table.name}: unknown format {name!r}", hint=f"'format' = one of {', '.join(_FORMATS)}"
        )
    return name


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
