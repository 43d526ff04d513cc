"""The filesystem connector as a source: JSON lines, CSV and Parquet, one file or all files of a folder by name.

Files are read in blocks on a thread of their own, a few blocks ahead. A position is (file, byte or row offset). Files
whose names begin with a dot or an underscore are not read, as in Flink. `.gz` files are read through gzip.
"""

from __future__ import annotations

import gzip
import io
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from qanat.codec.base import Decoded
from qanat.codec.csv import CsvOptions
from qanat.codec.csv import decode_lines as decode_csv
from qanat.codec.debezium import decode_lines as decode_debezium
from qanat.codec.json import decode_lines as decode_json
from qanat.errors import ConfigError, DataError
from qanat.model.arrow import schema_of
from qanat.model.streams import Column
from qanat.sql.embedded.connectors.filesystem_sink import NO_VALUE
from qanat.sql.embedded.connectors.streams import frame_of
from qanat.sql.embedded.feeds import Block, Token
from qanat.sql.embedded.flow import polars_type
from qanat.sql.plan import Table

_BLOCK = 8 << 20
_AHEAD = 3
_DECODERS = 2


class FileSource:
    """All rows of a filesystem table, in order of file name and place in the file."""

    def __init__(self, table: Table, columns: Sequence[Column], block_bytes: int = _BLOCK) -> None:
        inside = [column for column in columns if column.name not in table.partition_by]
        self._table, self._columns, self._block = table, inside, block_bytes
        self._of_folder = [column for column in columns if column.name in table.partition_by]
        self._format = table.options.get("format", "")
        self._decode = _decoder(table, inside)
        self._decode_rest = _decoder(table, inside, begun=True)
        self._path = Path(table.options["path"].removeprefix("file://"))

    def fraction(self, token: Token | None) -> float | None:
        """How much of all bytes lies before the token (0-1); None where bytes do not tell (gzip, Parquet)."""
        sizes = self._sizes
        if self._format == "parquet" or any(name.endswith(".gz") for name in sizes):
            return None
        if token is None or not sum(sizes.values()):
            return 0.0
        before = sum(size for name, size in sizes.items() if name < token["file"])
        return min((before + int(token["offset"])) / sum(sizes.values()), 1.0)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {str(path): path.stat().st_size for path in self.files()}

    def files(self) -> list[Path]:
        """The files to read. Raises `ConfigError` where the path does not exist."""
        if self._path.is_file():
            return [self._path]
        if not self._path.is_dir():
            raise ConfigError(
                f"table {self._table.name}: no file or folder {self._path}", hint="set 'path' in its WITH clause"
            )
        found = (path for path in self._path.rglob("*") if path.is_file())
        return sorted(p for p in found if not any(part[0] in "._" for part in p.relative_to(self._path).parts))

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """Blocks from the token on, decoded ahead by a thread."""
        return _ahead(lambda: self._read(token))

    def _read(self, token: Token | None) -> Iterator[Block]:
        files = self.files()
        if token is not None:
            files = [path for path in files if str(path) >= token["file"]]
        for path in files:
            begin = token if token is not None and token["file"] == str(path) else None
            offset = int(begin["offset"]) if begin else 0
            skip = int(begin.get("skip", 0)) if begin else 0
            reader = self._read_parquet if self._format == "parquet" else self._read_text
            for read in reader(path, offset):
                block = self._with_folder(read, path) if self._of_folder else read
                yield replace(block, token={**block.token, "skip": skip}) if skip else block
                skip = 0

    def _with_folder(self, block: Block, path: Path) -> Block:
        """The rows with the columns that stand in the names of their file's folders."""
        pairs = dict(part.split("=", 1) for part in path.relative_to(self._path).parts[:-1] if "=" in part)
        made = []
        for column in self._of_folder:
            if column.name not in pairs:
                raise DataError(f"{path} is in no folder {column.name}=...", hint="PARTITIONED BY names folders")
            text = unquote(pairs[column.name])
            value = None if text == NO_VALUE else text
            made.append(pl.lit(value, dtype=pl.String).cast(polars_type(column.type)).alias(column.name))
        return replace(block, frame=block.frame.with_columns(made))

    def _read_text(self, path: Path, offset: int) -> Iterator[Block]:
        """Two pieces are decoded at a time, and come out in order: most of the work does not hold the interpreter."""
        waiting: deque[Future[Block]] = deque()
        with ThreadPoolExecutor(_DECODERS, thread_name_prefix="qanat-decode") as pool:
            for data, at in self._pieces(path, offset):
                waiting.append(pool.submit(self._decoded, data, path, at))
                if len(waiting) > _DECODERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _pieces(self, path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
        """Whole lines, and where they begin."""
        with _opened(path) as file:
            file.seek(offset)
            rest = b""
            while data := file.read(self._block):
                cut = data.rfind(b"\n") + 1
                if not cut:
                    rest += data
                    continue
                whole, rest_next = rest + data[:cut], data[cut:]
                yield whole, offset
                offset += len(whole)
                rest = rest_next
            if rest.strip():
                yield rest, offset

    def _decoded(self, data: bytes, path: Path, offset: int) -> Block:
        decoded = self._decode_rest(data) if offset else self._decode(data)
        bad = [(row, f"{path} (block at byte {offset}, line {row.index + 1} of it)") for row in decoded.bad]
        return Block(frame_of(decoded.rows), {"file": str(path), "offset": offset}, bad=bad)

    def _read_parquet(self, path: Path, offset: int) -> Iterator[Block]:
        names = [column.name for column in self._columns]
        target = schema_of((c.name, c.type) for c in self._columns)
        try:
            file = pq.ParquetFile(path)
            missing = [name for name in names if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path}: no column {missing[0]}", hint=f"it has {', '.join(file.schema_arrow.names)}")
            start = 0
            for batch in file.iter_batches(batch_size=131_072, columns=names):
                end = start + batch.num_rows
                if end > offset:
                    rows = pa.Table.from_batches([batch]).cast(target)
                    cut = rows[max(offset - start, 0) :]
                    yield Block(frame_of(cut), {"file": str(path), "offset": max(start, offset)})
                start = end
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not readable as parquet: {error}") from error


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException


def _ahead(read: Callable[[], Iterator[Block]]) -> Iterator[Block]:
    """Run an iterator on a thread, a few items ahead; its errors come out here."""
    items: queue.Queue[Block | _Failure | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: Block | _Failure | None) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for block in read():
                if not put(block):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            put(_Failure(error))

    thread = threading.Thread(target=work, name="qanat-read", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stopped.set()
        thread.join()


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, io.BufferedReader(gzip.open(path, "rb")))
    return path.open("rb")


def _decoder(table: Table, columns: Sequence[Column], *, begun: bool = False) -> Callable[[bytes], Decoded]:
    match table.options.get("format"):
        case "json":
            return lambda data: decode_json(data, columns)
        case "debezium-json":
            return lambda data: decode_debezium(data, columns)
        case "csv":
            options = CsvOptions.of(table.options)
            options = replace(options, header=options.header and not begun)
            return lambda data: decode_csv(data, columns, options)
        case "parquet":
            return lambda _: (_ for _ in ()).throw(TypeError("parquet is read by columns"))
        case other:
            raise ConfigError(
                f"table {table.name}: unknown format {other}",
                hint="'format' = 'json', 'debezium-json', 'csv' or 'parquet'",
            )
