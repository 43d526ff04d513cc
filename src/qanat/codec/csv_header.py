"""CSV with a header line, by name: RFC 4180 as programs export it, where `csv` is Flink's form by position.

Columns are found by their names in the first line; an empty field is NULL, `""` is an empty text. Everything is read
by Arrow as text and cast by the column; only fields that do not fit, or may not, are looked at one by one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from qanat.codec.base import BadRow, Block, Decoded, Rows, split_lines
from qanat.codec.csv import CsvOptions
from qanat.codec.csv_fields import value_of_field
from qanat.codec.fit import fit
from qanat.codec.json_bulk import is_utf8
from qanat.codec.texts import TEXT_KINDS, Misfit
from qanat.codec.values import batch_of
from qanat.errors import DataError
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_OPTIONS = CsvOptions()
_PIECES = 8
_BOM = b"\xef\xbb\xbf"
_NUMBERS: dict[Kind, pl.DataType] = {
    Kind.TINYINT: pl.Int8(),
    Kind.SMALLINT: pl.Int16(),
    Kind.INT: pl.Int32(),
    Kind.BIGINT: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
}

Reasons = dict[int, str]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CsvBody(Block):
    """The records of one body. Each shows itself with the header line before it: so it can be read and sent again."""

    header: bytes
    names: tuple[str, ...]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> CsvBody: ...

    def __getitem__(self, place: int | slice) -> bytes | CsvBody:
        if isinstance(place, slice):
            return CsvBody(self.header, self.names, self.rows[place])
        return self.header + b"\n" + self.rows[place]

    @property
    def size(self) -> int:
        """Bytes of the records."""
        return self.rows.size

    def decode(self, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        """Rows of this body or a slice of it, and what is no record, has too few fields or one that does not fit."""
        assert isinstance(payloads, CsvBody)
        bad: Reasons = {}
        texts, index = _texts(payloads.rows, self.names, columns, bad)
        batch, misfits = _typed(texts, columns, len(index))
        if misfits:
            bad.update({int(index[row]): reason for row, reason in misfits.items()})
            keep = np.ones(len(index), dtype=np.bool_)
            keep[list(misfits)] = False
            batch, index = batch.filter(pa.array(keep)), index[keep]
        return Decoded(batch, index, tuple(BadRow(place, payloads[place], bad[place]) for place in sorted(bad)))


def read_csv(data: bytes, names: Sequence[str] | None = None) -> CsvBody:
    """The records of a body whose first one names the columns, unless `names` are given.

    Lines end with LF or CRLF; blank ones are passed over. Raises `DataError` for a
    header line that is none.
    """
    data = data.removeprefix(_BOM)
    whole = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(whole == ord('"')) if b'"' in data else np.empty(0, dtype=np.int64)
    if len(quotes) % 2:
        rows = _split_open(data)
    else:
        breaks = np.flatnonzero(whole == ord("\n"))
        rows = split_lines(data, breaks[np.searchsorted(quotes, breaks) % 2 == 0])[0]
    if names is not None:
        return CsvBody(",".join(map(_quoted, names)).encode(), tuple(names), rows)
    if not len(rows):
        raise DataError("the body is empty", hint="the first line of CSV names the columns")
    return CsvBody(rows[0], _names(rows[0]), rows.part(1, len(rows)))


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _split_open(data: bytes) -> Rows:
    """As many records as possible where a quote is never closed: a line with an odd one goes on to the next odd one."""
    lines = split_lines(data)[0]
    starts, ends = lines.starts.tolist(), lines.ends.tolist()
    odd = [place for place, line in enumerate(lines.documents()) if line.count(b'"') % 2]
    first = dict(zip(odd[0 : len(odd) - 1 : 2], odd[1::2], strict=False))
    spans: list[tuple[int, int]] = []
    line = 0
    while line < len(starts):
        last = first.get(line, line)
        spans.append((starts[line], ends[last]))
        line = last + 1
    places = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return Rows(data, places[:, 0], places[:, 1])


def _names(record: bytes) -> tuple[str, ...]:
    try:
        names = next(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise DataError(f"the header line is not CSV: {error}", hint="the first line names the columns") from error
    plain = tuple(name.strip() for name in names)
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        raise DataError(f"the header line has {', '.join(map(repr, twice))} more than once", hint="name columns once")
    return plain


# --- records -> texts ------------------------------------------------------------------------------------------------


def _texts(
    rows: Rows, names: tuple[str, ...], columns: Sequence[Column], bad: Reasons
) -> tuple[dict[str, pa.Array], Places]:
    """The fields of each wanted column, and which record each comes from; why the others have none goes to `bad`."""
    wanted = {column.name for column in columns}
    places = [place for place, name in enumerate(names) if name in wanted]
    index = np.arange(len(rows), dtype=np.int64)
    if not is_utf8(rows.data):
        documents = rows.documents()
        index = np.array([place for place in index.tolist() if is_utf8(documents[place])], dtype=np.int64)
        bad.update(dict.fromkeys(set(range(len(rows))) - set(index.tolist()), "not UTF-8"))
        rows = Rows(rows.data, rows.starts[index], rows.ends[index])
    parts = list(_attempt(rows, index, _Reader(len(names), tuple(places)), bad)) if len(rows) else []
    if not parts:
        return {names[place]: pa.array([], pa.string()) for place in places}, np.empty(0, dtype=np.int64)
    table = pa.concat_tables([table for table, _ in parts]).combine_chunks()
    texts = {names[place]: _whole(table.column(str(place))) for place in places}
    return texts, np.concatenate([kept for _, kept in parts])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], pa.string())])


def _attempt(rows: Rows, index: Places, read: _Reader, bad: Reasons) -> Iterator[tuple[pa.Table, Places]]:
    """All records at once; or, where the parser sees other records than we do, in pieces, down to each alone."""
    try:
        table, misfits = read(rows)
    except (pa.ArrowInvalid, Misfit) as error:
        if len(rows) == 1:
            bad[int(index[0])] = f"not CSV: {error}".splitlines()[0]
            return
    else:
        if table.num_rows + len(misfits) == len(rows):
            for place, reason in misfits.items():
                bad[int(index[place])] = reason
            yield table, np.delete(index, list(misfits))
            return
        if len(rows) == 1:
            bad[int(index[0])] = "not CSV: quotes or line ends out of place"
            return
    size = -(-len(rows) // _PIECES)
    for first in range(0, len(rows), size):
        yield from _attempt(rows.part(first, first + size), index[first : first + size], read, bad)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Arrow's parser for records of `width` fields, of which those at `places` are kept, all as text."""

    width: int
    places: tuple[int, ...]

    def __call__(self, rows: Rows) -> tuple[pa.Table, Reasons]:
        """The fields of the records that have `width` of them, and why the others have not, by place.

        Raises `pa.ArrowInvalid` and `Misfit` for what is no CSV.
        """
        block = _block(rows)
        quotes = block.count(b'"')
        if quotes % 2:  # Arrow lets it go on to the end
            raise Misfit("a quote is never closed")
        misfits: Reasons = {}

        def on_misfit(row: pcsv.InvalidRow) -> str:
            misfits[row.number - 1] = f"expected {self.width} fields, found {row.actual_columns}"
            return "skip"

        kept = [str(place) for place in self.places] or ["0"]
        table = pcsv.read_csv(
            pa.BufferReader(block),
            read_options=pcsv.ReadOptions(
                column_names=[str(place) for place in range(self.width)], use_threads=False, block_size=len(block) + 1
            ),
            parse_options=pcsv.ParseOptions(newlines_in_values=quotes > 0, invalid_row_handler=on_misfit),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys(kept, pa.string()),
                include_columns=kept,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        return table, misfits


def _block(rows: Rows) -> bytes:
    """The records with nothing but their line ends between them."""
    gaps = rows.starts[1:] - rows.ends[:-1]
    if len(gaps) and gaps.max() > 2:
        return b"\n".join(rows.documents())
    return rows.data[int(rows.starts[0]) : int(rows.ends[-1])]


# --- texts -> columns ------------------------------------------------------------------------------------------------


def _typed(texts: dict[str, pa.Array], columns: Sequence[Column], count: int) -> tuple[pa.RecordBatch, Reasons]:
    """The batch, NULLs in place of what does not fit, and the reasons by row."""
    reasons: Reasons = {}
    arrays: list[pa.Array] = []
    for column in columns:
        given = texts.get(column.name)
        array, misfits = (pa.nulls(count, to_arrow(column.type)), {}) if given is None else _cast(given, column.type)
        for row, reason in misfits.items():
            reasons.setdefault(row, f"column {column.name}: {reason}")
        if not column.type.nullable and array.null_count:
            missing = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
            for row in missing:
                reasons.setdefault(row, f"column {column.name}: expected {column.type}, found null")
        arrays.append(array)
    schema = schema_of((column.name, column.type) for column in columns)
    return pa.RecordBatch.from_arrays(arrays, schema=schema), reasons


def _cast(texts: pa.Array, sql_type: Type) -> tuple[pa.Array, Reasons]:
    kind = sql_type.kind
    if kind is Kind.STRING:
        return texts, {}
    if kind in _NUMBERS:
        return _patched(texts, sql_type, _as_number)
    if kind is Kind.BOOLEAN:
        return _patched(texts, sql_type, _as_truth)
    if kind in TEXT_KINDS - {Kind.BYTES} or kind is Kind.DECIMAL:
        array, reasons = fit(texts, sql_type.with_nullable(True))
        return array, {row: reason.removeprefix(": ") for row, reason in reasons.items()}
    return _patched(texts, sql_type, lambda given, wanted: pa.nulls(len(given), to_arrow(wanted)))


def _patched(texts: pa.Array, sql_type: Type, cast: Callable[[pa.Array, Type], pa.Array]) -> tuple[pa.Array, Reasons]:
    """What `cast` makes of all texts; those of which it made NULL are looked at one by one."""
    made = cast(texts, sql_type)
    doubtful = np.flatnonzero((made.is_null().to_numpy(zero_copy_only=False)) & texts.is_valid().to_numpy(False))
    if not len(doubtful):
        return made, {}
    reasons: Reasons = {}
    patches: dict[int, object] = {}
    for row, text in zip(doubtful.tolist(), texts.take(pa.array(doubtful)).to_pylist(), strict=True):
        try:
            patches[row] = value_of_field(text, sql_type, _OPTIONS)
        except Misfit as misfit:
            reasons[row] = str(misfit)
    if patches:
        mask = np.zeros(len(made), dtype=np.bool_)
        mask[list(patches)] = True
        made = pc.replace_with_mask(made, pa.array(mask), _values(list(patches.values()), sql_type))
    return made, reasons


def _values(values: list[object], sql_type: Type) -> pa.Array:
    batch, _ = batch_of([Column("v", sql_type)], [values], len(values))
    return batch.column(0)


def _as_number(texts: pa.Array, sql_type: Type) -> pa.Array:
    """NULL for what is no number, and for what is none to Flink, or beyond the type."""
    wanted = _NUMBERS[sql_type.kind]
    given = pl.Series("v", pl.from_arrow(texts)).str.strip_chars(" ")
    if sql_type.kind in (Kind.FLOAT, Kind.DOUBLE):
        real = given.cast(pl.Float64, strict=False).cast(wanted)
        return pl.select(pl.when(real.is_finite()).then(real)).to_series().to_arrow().cast(to_arrow(sql_type))
    return given.cast(wanted, strict=False).to_arrow().cast(to_arrow(sql_type))


def _as_truth(texts: pa.Array, _: Type) -> pa.Array:
    lower = pc.utf8_lower(texts)
    truths = pc.equal(lower, "true")
    return pc.if_else(pc.or_(truths, pc.equal(lower, "false")), truths, None)
