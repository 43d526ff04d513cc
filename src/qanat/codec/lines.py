"""Payloads of several lines: NDJSON and CSV. A payload is taken whole or not at all: one bad line refuses it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.codec.csv import CsvOptions, decode_lines
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import STRING

_NOTHING = np.empty(0, dtype=np.int64)


def lines_of(decode: Decode) -> Decode:
    """A payload is as many payloads for `decode` as it has lines that are not blank."""

    def decode_lines_of(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        lines: list[bytes] = []
        owners: list[int] = []
        empty: list[BadRow] = []
        for place, payload in enumerate(payloads):
            mine = [payload] if b"\n" not in payload else [one for one in payload.split(b"\n") if one.strip()]
            if not mine:
                empty.append(BadRow(place, bytes(payload), "there is no line in it"))
            lines += mine
            owners += [place] * len(mine)
        decoded = decode(lines, columns)
        if not empty and len(lines) == len(payloads):
            whole = tuple(replace(bad, data=bytes(payloads[bad.index])) for bad in decoded.bad)
            return replace(decoded, bad=whole)  # with the line break at its end, if there was one
        return gathered(decoded, owners, payloads, empty)

    return decode_lines_of


def gathered(decoded: Decoded, owners: Sequence[int], payloads: Sequence[bytes], bad: Sequence[BadRow]) -> Decoded:
    """What was decoded of the parts of payloads (`owners`: whose part it is), as of the payloads; `bad` are others."""
    owner = np.array(owners, dtype=np.int64) if owners else _NOTHING
    reasons: dict[int, str] = {}
    for one in decoded.bad:
        first, end = np.searchsorted(owner, [owner[one.index], owner[one.index] + 1]).tolist()
        where = f"line {one.index - first + 1}: " if end - first > 1 else ""
        reasons.setdefault(owners[one.index], where + one.reason)
    rows, index = decoded.rows, owner[decoded.index]
    if reasons:
        keep = ~np.isin(index, list(reasons))
        rows, index = rows.filter(pa.array(keep)), index[keep]
    also = [BadRow(place, bytes(payloads[place]), reason) for place, reason in reasons.items()]
    return Decoded(rows, index, tuple(sorted([*bad, *also], key=lambda one: one.index)))


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_decoder(header: Sequence[str], delimiter: str) -> Decode:
    """CSV by name: `header` names the fields, "" those that are passed over; without it a payload's first line does.

    An empty field is NULL, as a missing name is. Texts are those of the csv format: `codec.csv`.
    """
    names = tuple(header)

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        if names and not any(b'"' in payload for payload in payloads):
            whole = _together(payloads, names, delimiter, columns)
            if whole is not None:
                return whole
        return _joined([_alone(one, names, delimiter, columns) for one in payloads], payloads, columns)

    return decode


def _together(
    payloads: Sequence[bytes], names: Sequence[str], delimiter: str, columns: Sequence[Column]
) -> Decoded | None:
    """All payloads as one text; None where one of them has no line, or a blank one, which would shift the others."""
    bodies = [payload.removesuffix(b"\n").removesuffix(b"\r") for payload in payloads]
    if not all(all(map(bytes.strip, body.split(b"\n"))) for body in bodies):
        return None
    counts = [body.count(b"\n") + 1 for body in bodies]
    decoded = _by_name(b"\n".join(bodies), names, delimiter, columns)
    return gathered(decoded, np.repeat(np.arange(len(bodies)), counts).tolist(), payloads, ())


def _alone(payload: bytes, names: Sequence[str], delimiter: str, columns: Sequence[Column]) -> Decoded | str:
    """The rows of one payload, or why it is refused."""
    body = payload
    if not names:
        first, _, body = payload.lstrip(b"\r\n").partition(b"\n")
        try:
            names = next(
                csv.reader(io.StringIO(first.decode("utf-8-sig").strip()), delimiter=delimiter, strict=True), ()
            )
        except (UnicodeDecodeError, csv.Error) as error:
            return f"not CSV: the first line: {error}"
        if len(set(names)) < len(names) or not any(names):
            return "not CSV: the first line must name the fields, each once"
        if not {column.name for column in columns} & set(names):
            return f"no column is called {' or '.join(map(repr, names[:5]))}"
    decoded = _by_name(body, names, delimiter, columns)
    if decoded.bad:
        first_bad = decoded.bad[0]
        return f"line {first_bad.index + 1 + (body is not payload)}: {first_bad.reason}"
    return decoded if decoded.rows.num_rows else "there is no line in it"


def _by_name(data: bytes, names: Sequence[str], delimiter: str, columns: Sequence[Column]) -> Decoded:
    """Rows of CSV text whose fields have these names; columns that are not among them are NULL."""
    known = {column.name: column for column in columns}
    fields = [known.get(name, Column(f"\0{place}", STRING)) for place, name in enumerate(names)]
    options = CsvOptions(delimiter=delimiter, null_literal="" if _has_gaps(data, delimiter) else None)
    decoded = decode_lines(data, fields, options)
    rows = {name: array for name, array in zip(names, decoded.rows.columns, strict=True) if name in known}
    count, bad = decoded.rows.num_rows, decoded.bad
    arrays = [rows.get(column.name, pa.nulls(count, to_arrow(column.type))) for column in columns]
    missing = [column.name for column in columns if column.name not in rows and not column.type.nullable]
    schema = schema_of((column.name, column.type) for column in columns)
    if missing and count:
        reason = f"column {missing[0]}: the CSV has no such field"
        lines = dict.fromkeys(decoded.index.tolist(), reason) | {one.index: one.reason for one in bad}
        bad = tuple(BadRow(line, b"", lines[line]) for line in sorted(lines))
        return Decoded(_empty(schema), _NOTHING, bad)
    return replace(decoded, rows=pa.RecordBatch.from_arrays(arrays, schema=schema))


def _has_gaps(data: bytes, delimiter: str) -> bool:
    mark = delimiter.encode()
    if b'""' in data or data.startswith(mark) or data.endswith(mark) or mark * 2 in data:
        return True
    return b"\n" + mark in data or mark + b"\n" in data or mark + b"\r" in data


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _joined(parts: Sequence[Decoded | str], payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    """The rows of payloads that were decoded one by one."""
    good = [(place, part) for place, part in enumerate(parts) if isinstance(part, Decoded)]
    bad = [BadRow(place, bytes(payloads[place]), part) for place, part in enumerate(parts) if isinstance(part, str)]
    schema = schema_of((column.name, column.type) for column in columns)
    rows = pa.concat_batches([part.rows for _, part in good]) if good else _empty(schema)
    index = np.repeat(np.array([place for place, _ in good], dtype=np.int64), [part.rows.num_rows for _, part in good])
    return Decoded(rows, index, tuple(bad))
