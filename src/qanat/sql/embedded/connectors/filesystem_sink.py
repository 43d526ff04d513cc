"""The filesystem connector as a sink: part files of JSON, debezium-json, CSV or Parquet, in folders by partition.

Exactly once: files are written hidden, named in the log's transaction, and renamed after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from qanat.codec.csv import CsvOptions
from qanat.codec.csv import encode_lines as encode_csv
from qanat.codec.debezium import encode_lines as encode_debezium
from qanat.codec.json import encode_lines as encode_json
from qanat.errors import ConfigError, LogFullError
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE
from qanat.sql.plan import Table

#: The folder of rows whose partition column is NULL or empty, as Flink calls it.
NO_VALUE = "__DEFAULT_PARTITION__"


@dataclass(slots=True)
class _Open:
    """A file that is being written. `name`: where it will be, below the table's folder."""

    name: str
    file: BinaryIO
    format: _Files


class FileSink:
    """A folder of part files, one per commit (and partition) with rows, as Flink's filesystem connector leaves them.

    Files are written as `.NAME.inprogress` and renamed after the commit. `run` is unique to a state of the log, so that
    a second run into the same folder adds files and never touches those of the first. Columns of PARTITIONED BY are in
    the names of folders (`day=2026-01-31/hour=7`) and not in the files.
    """

    def __init__(self, table: Table, run: str) -> None:
        self._folder = Path(table.options["path"].removeprefix("file://"))
        self._run = run
        self._number = 0
        self._open: dict[str, _Open] = {}
        self._prepared: list[str] = []
        self._by = list(table.partition_by)
        inside = tuple(field for field in table.physical if field.name not in table.partition_by)
        self._table = replace(table, physical=inside)
        self._names = [field.name for field in table.physical]
        self._make = _FORMATS[_format(table)]

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows to the files of the next commit."""
        if not frame.height:
            return
        try:
            for folder, rows in self._parts(frame):
                target = self._open.get(folder) or self._begin(folder)
                target.format.write(target.file, rows)
        except OSError as error:
            raise self._full(error) from error

    def _parts(self, frame: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """Rows by the folder they belong to, in the order of its first row."""
        if not self._by:
            yield "", frame
            return
        own = [name for name in frame.columns if name != CHANGE]
        frame = frame.rename(dict(zip(own, self._names, strict=True)))
        for values, rows in frame.partition_by(self._by, as_dict=True, maintain_order=True).items():
            pairs = zip(self._by, values, strict=True)
            yield "/".join(f"{name}={_value_text(value)}" for name, value in pairs), rows.drop(self._by)

    def _begin(self, folder: str) -> _Open:
        format_ = self._make(self._table)
        name = f"part-{self._run}-{self._number}{format_.suffix}"
        (self._folder / folder).mkdir(parents=True, exist_ok=True)
        path = f"{folder}/{name}" if folder else name
        opened = _Open(path, self._hidden(path).open("wb"), format_)
        self._open[folder] = opened
        return opened

    def prepare(self) -> dict[str, object]:
        """Close the files, with fsync of them and their folders. A commit without rows still says which number comes
        next."""
        for opened in self._open.values():
            try:
                self._finish(opened)
            except OSError as error:
                raise self._full(error) from error
            self._prepared.append(opened.name)
        self._number += bool(self._open)
        self._open = {}
        return {"files": list(self._prepared), "next": self._number}

    def _finish(self, opened: _Open) -> None:
        opened.format.finish(opened.file)
        opened.file.flush()
        os.fsync(opened.file.fileno())
        opened.file.close()
        folder = (self._folder / opened.name).parent
        _sync(folder)
        if folder != self._folder:
            _sync(folder.parent)

    def _full(self, error: OSError) -> LogFullError:
        return LogFullError(f"cannot write to {self._folder}: {error.strerror}", hint="make room and start again")

    def publish(self) -> None:
        """Rename what was prepared."""
        for name in self._prepared:
            self._hidden(name).rename(self._folder / name)
        for folder in {(self._folder / name).parent for name in self._prepared}:
            _sync(folder)
        self._prepared = []

    def recover(self, prepared: dict[str, object] | None) -> None:
        """Rename files that were committed but not yet renamed, delete unfinished ones of this run."""
        files = prepared["files"] if prepared else []
        self._number = int(str(prepared["next"])) if prepared else 0
        for name in files if isinstance(files, list) else []:
            if self._hidden(name).exists():
                self._hidden(name).rename(self._folder / name)
        if self._folder.is_dir():
            for left in self._folder.rglob(f".part-{self._run}-*.inprogress"):
                left.unlink()

    def _hidden(self, name: str) -> Path:
        path = self._folder / name
        return path.with_name(f".{path.name}.inprogress")


def _value_text(value: object) -> str:
    """A partition's value as the name of a folder."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe=" -_.+,@!()&;~$^[]{}") if text else NO_VALUE


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
