"""Rows as a client asks for them: JSON, lines of JSON, CSV, Arrow. Chooses by Accept, or by `format=`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from qanat.codec.csv import CsvOptions
from qanat.codec.csv import encode_lines as encode_csv
from qanat.codec.json import encode_lines
from qanat.errors import DataError, QanatError
from qanat.gateway.http.problems import RefusedError


class Form(Enum):
    """The value is the media type."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    CSV = "text/csv"
    ARROW = "application/vnd.apache.arrow.stream"


_NAMES = {"json": Form.JSON, "ndjson": Form.NDJSON, "csv": Form.CSV, "arrow": Form.ARROW}
_TYPES = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.NDJSON,
    "application/ndjson": Form.NDJSON,
    "application/jsonl": Form.NDJSON,
    "text/csv": Form.CSV,
    "application/vnd.apache.arrow.stream": Form.ARROW,
    "application/*": Form.JSON,
    "text/*": Form.CSV,
    "*/*": Form.JSON,
}
_HINT = ", ".join(form.value for form in Form)


def choose_form(accept: str, asked: str | None = None) -> Form:
    """The form that is wanted most. Raises `RefusedError` 406, or 400 for an unknown `format=`."""
    if asked is not None:
        if asked not in _NAMES:
            raise RefusedError(400, f"format={asked!r}", hint=f"format={'|'.join(_NAMES)}, or Accept: {_HINT}")
        return _NAMES[asked]
    if not accept.strip():
        return Form.JSON
    wanted = sorted(map(_weighed, accept.split(",")), key=lambda one: -one[0])  # stable: the first of equals
    for weight, kind in wanted:
        if weight > 0 and kind in _TYPES:
            return _TYPES[kind]
    raise RefusedError(406, f"no answer in {accept}", hint=f"Accept: {_HINT}")


def _weighed(part: str) -> tuple[float, str]:
    kind, *parameters = (one.strip().lower() for one in part.split(";"))
    for one in parameters:
        if one.startswith("q="):
            try:
                return float(one[2:]), kind
            except ValueError:
                return 0.0, kind
    return 1.0, kind


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, and as what."""

    content: bytes
    media_type: str


def write_rows(rows: pa.Table, form: Form, around: Mapping[str, Any]) -> Body:
    """The rows; in JSON with `around` beside them. Raises `DataError` for a type that the form cannot hold."""
    try:
        return Body(_written(rows, form, around), f"{form.value}; charset=utf-8" if form is Form.CSV else form.value)
    except (pa.ArrowException, pl.exceptions.PolarsError, QanatError, ValueError, TypeError) as error:
        raise DataError(
            f"the rows cannot be written as {form.value}: {str(error).splitlines()[0]}",
            hint="ask for application/vnd.apache.arrow.stream, or cast the column: x::VARCHAR",
        ) from error


def _written(rows: pa.Table, form: Form, around: Mapping[str, Any]) -> bytes:
    match form:
        case Form.JSON:
            lines = json_lines(rows).rstrip(b"\n").replace(b"\n", b",\n")
            rest = orjson.dumps(around)
            return b'{"rows":[' + lines + b"]" + (b"," + rest[1:] if len(rest) > 2 else b"}")
        case Form.NDJSON:
            return json_lines(rows)
        case Form.CSV:
            return csv_lines(rows)
        case Form.ARROW:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            return bytes(sink.getvalue())


def json_lines(rows: pa.Table) -> bytes:
    """One object a line; the types of a query's answer that streams do not have are cast before."""
    return bytes(encode_lines(plain(rows))) if rows.num_rows else b""


def csv_lines(rows: pa.Table) -> bytes:
    """A line with the names first."""
    head = ",".join(_quoted(name) for name in rows.schema.names) + "\n"
    return head.encode() + (bytes(encode_csv(plain(rows), CsvOptions())) if rows.num_rows else b"")


def plain(rows: pa.Table) -> pa.Table:
    """The rows with types that the codecs know."""
    fields = [field.with_type(_plain_type(field.type)) for field in rows.schema]
    schema = pa.schema(fields)
    return rows if schema.equals(rows.schema) else rows.cast(schema)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if types.is_unsigned_integer(kind):
        return pa.int64()
    if types.is_time64(kind):
        return pa.time32("ms")
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    return kind


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n\r') else name
