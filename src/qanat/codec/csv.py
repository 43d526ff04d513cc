"""CSV <-> Arrow rows as Flink's csv format reads and writes them: by position, no header line, RFC 4180 quotes.

Lines go through Arrow's parser where that is safe, else one by one. Differences from Flink: docs/design/codec.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.codec.base import BadRow, Decoded
from qanat.codec.csv_bulk import read_lines
from qanat.codec.csv_fields import field_texts, parse_columns
from qanat.codec.json_encode import Part, joined_lines
from qanat.errors import ConfigError
from qanat.model.streams import Column

_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """Flink's options of the csv format; `header` is qanat's own ('csv.header' = 'true': the first line is names).

    `quote` None: quotes mean nothing. `null_literal` None: no text is NULL. `escape` None: only "" inside of quotes.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    null_literal: str | None = None
    array_delimiter: str = ";"
    ignore_parse_errors: bool = False
    allow_comments: bool = False
    header: bool = False

    @classmethod
    def of(cls, options: Mapping[str, str]) -> CsvOptions:
        """From the options of a WITH clause; others than csv.* are passed over. Raises `ConfigError`."""

        def character(name: str, default: str | None) -> str | None:
            text = options.get(name)
            if text is None:
                return default
            one = text.encode().decode("unicode_escape") if text.startswith("\\") else text
            if len(one) != 1:
                raise ConfigError(f"'{name}' = '{text}': expected one character")
            return one

        def flag(name: str) -> bool:
            text = options.get(name, "false").lower()
            if text not in ("true", "false"):
                raise ConfigError(f"'{name}' = '{text}': expected 'true' or 'false'")
            return text == "true"

        return cls(
            delimiter=character("csv.field-delimiter", ",") or ",",
            quote=None if flag("csv.disable-quote-character") else character("csv.quote-character", '"'),
            escape=character("csv.escape-character", None),
            null_literal=options.get("csv.null-literal"),
            array_delimiter=options.get("csv.array-element-delimiter", ";"),
            ignore_parse_errors=flag("csv.ignore-parse-errors"),
            allow_comments=flag("csv.allow-comments"),
            header=flag("csv.header"),
        )


def decode_lines(data: bytes, columns: Sequence[Column], options: CsvOptions | None = None) -> Decoded:
    """Rows of CSV text; `index` is the line that the row begins on, from 0. Blank lines are passed over."""
    options = options or CsvOptions()
    quick = read_lines(data, columns, options.delimiter) if _is_simple(data, options) else None
    if quick is not None:
        return quick
    records, bad = _records(data, len(columns), options)
    batch, reasons = parse_columns([one.fields for one in records], columns, options)
    index = np.array([one.line for one in records], dtype=np.int64)
    if reasons and not options.ignore_parse_errors:
        bad += [BadRow(records[row].line, records[row].data, reason) for row, reason in reasons.items()]
        keep = np.ones(len(records), dtype=bool)
        keep[list(reasons)] = False
        batch, index = batch.filter(pa.array(keep)), index[keep]
    return Decoded(batch, index, tuple(sorted(bad, key=lambda one: one.index)))


@dataclass(frozen=True, slots=True)
class _Record:
    """The line that it begins on, its bytes, its fields."""

    line: int
    data: bytes
    fields: list[str]


def _is_simple(data: bytes, options: CsvOptions) -> bool:
    """Whether Arrow's parser may be asked: nothing that it reads in another way than Flink."""
    quote = options.quote is not None and options.quote.encode() in data
    special = options.escape or options.header or options.allow_comments or options.ignore_parse_errors
    return not (quote or special) and options.null_literal is None and len(options.delimiter.encode()) == 1


def _records(data: bytes, width: int, options: CsvOptions) -> tuple[list[_Record], list[BadRow]]:
    """The rows, and what is no CSV or has another number of fields."""
    records: list[_Record] = []
    bad: list[BadRow] = []
    header = options.header
    for line, raw in _split(data, options):
        if header:
            header = False
            continue
        fields = _fields(raw, options)
        if isinstance(fields, str):
            bad.append(BadRow(line, raw, fields))
        elif len(fields) == width:
            records.append(_Record(line, raw, fields))
        elif options.ignore_parse_errors:
            records.append(_Record(line, raw, (fields + [""] * width)[:width]))
        else:
            bad.append(BadRow(line, raw, f"expected {width} fields, found {len(fields)}"))
    return records, bad


def _split(data: bytes, options: CsvOptions) -> Iterator[tuple[int, bytes]]:
    """Line number and bytes of each record; one with line breaks inside quotes is one, if its quotes are closed."""
    lines = data.split(b"\n")
    line = 0
    while line < len(lines):
        raw = lines[line]
        if raw.strip() and not (options.allow_comments and raw.startswith(b"#")):
            end = _closing_line(lines, line, options)
            raw = b"\n".join(lines[line : end + 1])
            yield line, raw.removesuffix(b"\r")
            line = end
        line += 1


def _closing_line(lines: Sequence[bytes], first: int, options: CsvOptions) -> int:
    """The line that ends the record that begins on `first`: `first` itself where a quote is never closed."""
    if not options.quote or not _is_open(lines[first], options):
        return first
    for line in range(first + 1, len(lines)):
        if _is_open(lines[line], options):
            return line
    return first


def _is_open(raw: bytes, options: CsvOptions) -> bool:
    quote = (options.quote or "").encode()
    if options.escape:
        raw = raw.replace((options.escape * 2).encode(), b"").replace(options.escape.encode() + quote, b"")
    return raw.count(quote) % 2 == 1


def _fields(raw: bytes, options: CsvOptions) -> list[str] | str:
    try:
        reader = csv.reader(
            io.StringIO(raw.decode(), newline=""),
            delimiter=options.delimiter,
            quotechar=options.quote,
            escapechar=options.escape,
            quoting=csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
            strict=True,
        )
        return next(reader)
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start}"
    except (csv.Error, StopIteration) as error:
        return f"not CSV: {error}"


def encode_lines(rows: pa.RecordBatch | pa.Table, options: CsvOptions | None = None) -> bytes:
    """One line a row. Texts that are empty or hold the delimiter, a quote or a line break are quoted.

    NULL is the null literal (nothing without one); times as in JSON's SQL form, BYTES as base64, ARRAY joined by the
    array delimiter, ROW as an array of its fields. Raises `ConfigError` for MAP.
    """
    options = options or CsvOptions()
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    parts = [_header(table.column_names, options)] if options.header else []
    parts += [_encode(table.slice(first, _BLOCK), options) for first in range(0, table.num_rows, _BLOCK)]
    return b"".join(parts)


def _encode(table: pa.Table, options: CsvOptions) -> memoryview:
    names = [str(place) for place in range(table.num_columns)]
    frame = pl.DataFrame([field_texts(name, table.column(place), options) for place, name in enumerate(names)])
    parts: list[Part] = []
    for name in names:
        parts += [pl.col(name), options.delimiter]
    return joined_lines(frame, [*parts[:-1], "\n"])


def _header(names: Sequence[str], options: CsvOptions) -> memoryview:
    out = io.StringIO()
    csv.writer(out, delimiter=options.delimiter, quotechar=options.quote or '"', lineterminator="\n").writerow(names)
    return memoryview(out.getvalue().encode())
