"""CSV fields <-> Arrow columns: the texts of one column. Rows, delimiters and lines are `csv`'s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from qanat.codec.json_encode import contains_any, scalar_text, time_texts
from qanat.codec.texts import TEXT_KINDS, Misfit
from qanat.codec.values import batch_of, converter, found
from qanat.errors import ConfigError
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

if TYPE_CHECKING:
    from qanat.codec.csv import CsvOptions

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPECIAL = frozenset({"NaN", "Infinity", "-Infinity"})
_FLOATING = (Kind.FLOAT, Kind.DOUBLE)
_AS_TEXT = frozenset({Kind.STRING, Kind.DECIMAL, *TEXT_KINDS})


def parse_columns(
    rows: Sequence[Sequence[str | None]], columns: Sequence[Column], options: CsvOptions
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """The batch, NULLs in place of what does not fit, and the reasons by row. A field of None is NULL."""
    reasons: dict[int, str] = {}
    values: list[list[Any]] = []
    for place, column in enumerate(columns):
        if column.type.kind is Kind.STRING and options.null_literal is None:  # any text is one
            values.append([row[place] for row in rows])
            continue
        out: list[Any] = []
        for number, row in enumerate(rows):
            try:
                text = row[place]
                out.append(None if text is None else value_of_field(text, column.type, options))
            except Misfit as misfit:
                out.append(None)
                reasons.setdefault(number, f"column {column.name}: {misfit}")
        values.append(out)
    if options.ignore_parse_errors:
        columns = [Column(column.name, column.type.with_nullable(True)) for column in columns]
    batch, more = batch_of(columns, values, len(rows))
    return batch, {**more, **reasons}


def value_of_field(text: str, sql_type: Type, options: CsvOptions) -> Any:
    """What JSON would have there. Raises `Misfit`."""
    if options.null_literal is not None and text == options.null_literal:
        return None
    match sql_type.kind:
        case Kind.ARRAY if sql_type.element is not None:
            parts = text.split(options.array_delimiter) if text else []
            return [value_of_field(part, sql_type.element, options) for part in parts]
        case Kind.ROW:
            parts = text.split(options.array_delimiter)
            if len(parts) != len(sql_type.fields):
                raise Misfit(f"expected {len(sql_type.fields)} fields of the ROW, found {len(parts)}")
            fields = zip(sql_type.fields, parts, strict=True)
            return {name: value_of_field(part, field, options) for (name, field), part in fields}
        case Kind.MAP:
            raise Misfit("MAP cannot be read from CSV")
        case kind if kind in _AS_TEXT:
            return _checked_text(text, sql_type)
        case _:
            return _number(text, sql_type)


def _checked_text(text: str, sql_type: Type) -> Any:
    """Checked here, since `values` would name the type's JSON form."""
    plain = text.strip() if sql_type.kind is Kind.DECIMAL else text
    if sql_type.kind is not Kind.STRING:
        try:
            converter(sql_type)(plain)
        except Misfit as misfit:
            raise Misfit(str(misfit).removeprefix(": ")) from None
    return plain


def _number(text: str, sql_type: Type) -> Any:
    plain = text.strip()
    value: Any = None
    if sql_type.kind is Kind.BOOLEAN and plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if sql_type.kind in _FLOATING and plain in _SPECIAL:
        return plain
    if sql_type.kind in _FLOATING and _NUMBER.fullmatch(plain):
        value = float(plain)
    elif sql_type.kind is not Kind.BOOLEAN and _INTEGER.fullmatch(plain) and len(plain) < 40:
        value = int(plain)
    if value is None:
        raise Misfit(f"expected {sql_type.with_nullable(True)}, found {found(text).removeprefix('string ')}")
    try:
        converter(sql_type)(value)
    except Misfit as misfit:
        raise Misfit(str(misfit).removeprefix(": ")) from None
    return value


def field_texts(name: str, column: pa.ChunkedArray, options: CsvOptions) -> pl.Series:
    """The column as CSV fields, quoted where they must be; NULL is the null literal."""
    arrow = column.type
    if pa.types.is_timestamp(arrow):
        column, value = time_texts(column, "SQL"), pl.col(name)
    else:
        value = _text(pl.col(name), arrow, options)
    texts = pl.DataFrame([pl.from_arrow(column).alias(name)]).select(value.alias(name)).to_series()  # type: ignore[union-attr]
    if _may_need_quotes(texts, options):
        texts = texts.to_frame().select(_quoted(pl.col(name), options).alias(name)).to_series()
    return texts.fill_null(options.null_literal or "") if texts.null_count() else texts


def _special(options: CsvOptions) -> str:
    comment = "#" if options.allow_comments else ""
    return options.delimiter + (options.quote or "") + (options.escape or "") + comment + "\r\n"


def _may_need_quotes(texts: pl.Series, options: CsvOptions) -> bool:
    if options.quote is None:
        return False
    return contains_any(texts, _special(options), control=False) or bool((texts == "").any())


def _text(value: pl.Expr, arrow: pa.DataType, options: CsvOptions) -> pl.Expr:
    p = pa.types
    null = options.null_literal or ""
    if p.is_map(arrow):
        raise ConfigError("MAP cannot be written as CSV", hint="'format' = 'json'")
    if p.is_list(arrow) or p.is_large_list(arrow):
        inner = value.list.eval(_text(pl.element(), arrow.value_type, options).fill_null(null))
        return inner.list.join(options.array_delimiter)
    if p.is_struct(arrow):
        fields = [arrow.field(place) for place in range(arrow.num_fields)]
        texts = [_text(value.struct.field(one.name), one.type, options).fill_null(null) for one in fields]
        return pl.when(value.is_not_null()).then(pl.concat_str(texts, separator=options.array_delimiter))
    return scalar_text(value, arrow)


def _quoted(text: pl.Expr, options: CsvOptions) -> pl.Expr:
    assert options.quote is not None
    inside = text
    if options.escape:
        inside = inside.str.replace_all(options.escape, options.escape * 2, literal=True)
    inside = inside.str.replace_all(options.quote, (options.escape or options.quote) + options.quote, literal=True)
    needed = text.str.contains_any(list(_special(options))) | (text == "")
    return pl.when(needed).then(pl.lit(options.quote) + inside + pl.lit(options.quote)).otherwise(text)
