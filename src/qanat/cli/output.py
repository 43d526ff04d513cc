"""Rows and messages on the terminal: aligned columns for people, JSON lines or CSV for programs. Reads nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
import typer

from qanat.clock import MIN_TIME, instant_text

if TYPE_CHECKING:
    import pyarrow as pa

#: A cell of a table for people is cut after so many characters.
_WIDEST = 48
#: 9999-12-31T23:59:59.999Z: what lies beyond is the end of time.
_LAST = 253_402_300_799_999


def for_people() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def say_json(value: Mapping[str, object]) -> None:
    """One JSON object on a line, at once."""
    typer.echo(orjson.dumps(value).decode())
    sys.stdout.flush()


def write_json(rows: pa.Table | pa.RecordBatch) -> None:
    """One JSON object a row."""
    from qanat.codec.json import encode_lines

    if rows.num_rows:
        _write(encode_lines(rows))


def write_csv(rows: pa.Table | pa.RecordBatch, *, header: bool) -> None:
    """Comma-separated values; a header with the names of the columns first."""
    from qanat.codec.csv import CsvOptions, encode_lines

    if header:
        _write((",".join(_quoted(name) for name in rows.schema.names) + "\n").encode())
    if rows.num_rows:
        _write(encode_lines(rows, CsvOptions()))


class Grid:
    """Aligned columns for a person. Widths come from the first rows, so that later ones can follow as they arrive."""

    def __init__(self) -> None:
        self._shape: list[tuple[int, bool]] = []  # of each column: width, whether it is aligned to the right

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Print rows, with a header before the first ones."""
        columns = [[_cell(value) for value in column.to_pylist()] for column in rows.columns]
        if not self._shape:
            names = rows.schema.names
            widths = [max(map(len, [name, *cells])) for name, cells in zip(names, columns, strict=True)]
            self._shape = list(zip(widths, map(_is_number, rows.schema), strict=True))
            typer.echo(typer.style(self._line(names), bold=True))
        for cells in zip(*columns, strict=True):
            typer.echo(self._line(cells))
        sys.stdout.flush()

    def _line(self, cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, (width, right) in zip(cells, self._shape, strict=True)
        ]
        return "  ".join(padded).rstrip()


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n') else name


def _is_number(field: pa.Field) -> bool:
    import pyarrow.types as kinds

    kind = field.type
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _cell(value: Any) -> str:
    match value:
        case None:
            text = "NULL"
        case float():
            text = f"{value:.10g}"
        case datetime():
            text = value.strftime("%Y-%m-%d %H:%M:%S") + (
                f".{value.microsecond // 1000:03d}" if value.microsecond else ""
            )
        case bytes():
            text = value.decode(errors="replace")
        case list():
            text = "[" + ", ".join(_cell(item) for item in value[:12]) + (", ..." if len(value) > 12 else "") + "]"
        case _:
            text = str(value)
    text = text.replace("\n", " ")
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def watermark_text(watermark: int) -> str | None:
    """A watermark as an instant; None before the first row, `end` after the last one of inputs that end."""
    if watermark <= MIN_TIME:
        return None
    return "end" if watermark >= _LAST else instant_text(watermark)
