"""A file in pieces of bounded size, from any place on: lines, CSV with its header, Parquet, or one document.

Blocking: it reads files, and runs in a thread. It knows no log; what fits a stream is the decoder's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from qanat.codec.arrow_body import Limits, read_arrow
from qanat.codec.base import Decode, Rows, split_lines
from qanat.codec.csv_header import read_csv
from qanat.codec.lines import csv_decoder
from qanat.errors import DataError
from qanat.gateway.folder.config import CSV, LINES, PARQUET, FolderSource
from qanat.gateway.folder.ledger import Place

#: Bytes of a piece of lines, rows of a piece of Parquet.
_PIECE = 1 << 20
_PIECE_ROWS = 20_000
#: A line, a record or a document is not longer than this.
_LONGEST = 16 << 20
_HEAD = 1 << 16
_BOM = b"\xef\xbb\xbf"
_DOCUMENT = 64 << 10
#: Of a piece of Parquet; its dictionaries count as rows, too.
_LIMITS = Limits(1 << 31, 1 << 30)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file, and where the next piece begins. `last`: there is none.

    `decode`: how they are read; None is as the source says. `where`: place of a payload -> what follows the file's name
    to tell where it stands.
    """

    payloads: Sequence[bytes]
    end: Place
    last: bool
    decode: Decode | None = None
    where: Callable[[int], str] = field(default=lambda _: "")


def head_of(path: Path) -> bytes:
    """A digest of the first bytes of a file."""
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(_HEAD), digest_size=16).digest()


def digest_of(path: Path) -> bytes:
    """A digest of all bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def read_pieces(path: Path, source: FolderSource, place: Place, columns: Collection[str]) -> Iterator[Piece]:
    """The pieces from `place` on; at least one, the last one perhaps without rows. `columns`: of the stream.

    Raises `DataError` for files that are not what they should be, and OSError.
    """
    form = source.format_of(place.name)
    if form == PARQUET:
        return _parquet(path, source, place)
    if form == CSV:
        return _csv(path, source, place, columns)
    if form in LINES and not (form == "json" and _is_document(path, place)):
        return _lines(path, place)
    return _document(path, source, place, split=form == "json")


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(path: Path, place: Place) -> Iterator[Piece]:
    with path.open("rb") as file:
        file.seek(place.offset)
        for data, end in _cut(file, place, _last_break):
            rows = split_lines(data.removeprefix(_BOM) if not place.offset else data)[0]
            yield Piece(rows, end, end.offset >= place.size, None, _numbers(rows, place.line))
            place = end


def _cut(file: BinaryIO, place: Place, find_end: Callable[[bytes], int]) -> Iterator[tuple[bytes, Place]]:
    """Whole lines of about a piece's size, up to the size that the file had; the rest of the file at last.

    What has no end for too long is cut where the buffer ends: its parts are bad rows, not a file that stands still.
    """
    held, offset, line = b"", place.offset, place.line
    while True:
        left = place.size - offset - len(held)
        more = file.read(min(_PIECE, left)) if left else b""
        held += more
        if len(more) < min(_PIECE, left):
            raise DataError(f"the file ends at byte {offset + len(held)}, before its size of {place.size}")
        done = offset + len(held) >= place.size
        size = len(held) if done or len(held) >= _LONGEST else find_end(held)
        if not size and not done:
            continue
        data, held = held[:size], held[size:]
        offset, line = offset + size, line + data.count(b"\n")
        yield data, msgspec.structs.replace(place, offset=offset, line=line)
        if offset >= place.size:
            return


def _last_break(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _last_record(data: bytes) -> int:
    """The end of the last line that is not inside of quotes."""
    if b'"' not in data:
        return _last_break(data)
    whole = np.frombuffer(data, dtype=np.uint8)
    breaks, quotes = np.flatnonzero(whole == 10), np.flatnonzero(whole == ord('"'))
    outside = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _numbers(rows: Rows, first: int) -> Callable[[int], str]:
    """Line numbers, counted when the first one is asked for."""
    known: list[npt.NDArray[np.int64]] = []

    def number(place: int) -> str:
        if not known:
            known.append(np.flatnonzero(np.frombuffer(rows.data, dtype=np.uint8) == 10))
        return f":{first + 1 + int(np.searchsorted(known[0], rows.starts[place]))}"

    return number


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv(path: Path, source: FolderSource, place: Place, columns: Collection[str]) -> Iterator[Piece]:
    """The header line is read anew with every start, since the rows after it mean nothing without."""
    with path.open("rb") as file:
        names = list(source.header)
        if not names:
            line = file.readline(_LONGEST)
            names = _names(line, source.delimiter)
            place = place if place.offset else msgspec.structs.replace(place, offset=len(line), line=1)
        names = [source.rename.get(name, name) for name in names]
        if not set(names) & set(columns):
            found, wanted = ", ".join(map(repr, names[:5])), ", ".join(columns)
            raise DataError(f"the first line names none of the columns {wanted}; it has {found}")
        file.seek(place.offset)
        for data, end in _cut(file, place, _last_record):
            body = read_csv(data, names)
            by_comma = source.delimiter == "," and all(names)
            decode = body.decode if by_comma else csv_decoder(names, source.delimiter)
            payloads = body if by_comma else body.rows
            yield Piece(payloads, end, end.offset >= place.size, decode, _numbers(body.rows, place.line))
            place = end


def _names(line: bytes, delimiter: str) -> list[str]:
    if not line.strip():
        raise DataError("the first line is empty", hint="it names the columns; or name them by `header` of the source")
    text = line.removeprefix(_BOM).strip(b"\r\n")
    if delimiter != "," and b'"' not in text:
        text = b",".join(b'"' + name.strip() + b'"' for name in text.split(delimiter.encode()))
    return list(read_csv(text).names)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet(path: Path, source: FolderSource, place: Place) -> Iterator[Piece]:
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_HEAD) as file:
            total = file.metadata.num_rows
            if place.offset >= total:
                yield Piece((), place, True)
                return
            yield from _batches(file, source.rename, place, total)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise DataError(f"not Parquet: {error}".splitlines()[0]) from error


def _batches(file: pq.ParquetFile, rename: Mapping[str, str], place: Place, total: int) -> Iterator[Piece]:
    offset = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if offset + rows <= place.offset:
            offset += rows
            continue
        for batch in file.iter_batches(_PIECE_ROWS, row_groups=[group], use_threads=False):
            skipped = min(max(place.offset - offset, 0), batch.num_rows)
            offset += batch.num_rows
            if skipped < batch.num_rows:
                part = batch.slice(skipped)
                body = read_arrow(_ipc(part, rename), _LIMITS)
                end = msgspec.structs.replace(place, offset=offset)
                yield Piece(body, end, offset >= total, body.decode, partial(_row, offset - part.num_rows))


def _row(first: int, place: int) -> str:
    return f":{first + place + 1}"


def _ipc(batch: pa.RecordBatch, rename: Mapping[str, str]) -> bytes:
    """As bytes, for the reader that brings every Arrow type to a plain one."""
    batch = batch.rename_columns([rename.get(name, name) for name in batch.schema.names])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


# --- documents -------------------------------------------------------------------------------------------------------


def _is_document(path: Path, place: Place) -> bool:
    """A JSON file that begins with [, or whose first line is a lone {, is one document."""
    if place.offset:
        return False
    with path.open("rb") as file:
        start = file.read(_DOCUMENT).removeprefix(_BOM).lstrip()
    return start.startswith(b"[") or start.partition(b"\n")[0].strip() == b"{"


def _document(path: Path, source: FolderSource, place: Place, *, split: bool) -> Iterator[Piece]:
    if place.size > _LONGEST:
        raise DataError(f"one document of {place.size} bytes", hint="up to 16 MiB; or write one row a line")
    data = path.read_bytes()[: place.size].removeprefix(_BOM)
    end = msgspec.structs.replace(place, offset=place.size)
    if split and not source.nested and data.lstrip().startswith(b"["):
        try:
            rows = [bytes(one) for one in _ELEMENTS.decode(data)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"not JSON: {error}") from error
        yield Piece(rows, end, True, None, lambda element: f"[{element}]")
    else:
        yield Piece([data] if data.strip() else [], end, True)
