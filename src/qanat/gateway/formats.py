"""Which decoder reads a payload: by the name of a format in qanat.yaml, or by a content type. One explicit table.

Pure; what a decoder does is `codec`'s business. A new format is a factory in `FORMATS` and its content types in
`CONTENT_TYPES`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.codec.cbor import decode_payloads as decode_cbor
from qanat.codec.cbor import decoder_at as cbor_at
from qanat.codec.framed import Schemas, framed_decoder
from qanat.codec.json import decode_payloads as decode_json
from qanat.codec.lines import csv_decoder, lines_of
from qanat.codec.scalars import (
    BOOLEAN_KINDS,
    BYTES_KINDS,
    NUMBER_KINDS,
    TEXT_LIKE,
    boolean_decoder,
    bytes_decoder,
    number_decoder,
    text_decoder,
)
from qanat.codec.senml import FIELDS, SenmlDecoder
from qanat.codec.vendors import json_inside, renamed
from qanat.errors import ConfigError
from qanat.model.arrow import schema_of
from qanat.model.streams import Column, Stream
from qanat.model.types import Kind


@dataclass(frozen=True, slots=True)
class Layout:
    """What a decoder is told: the stream, and the settings of a source (`model.sources.Source`) by the same names.

    `whose` names the source in errors; `filled` are columns that no payload gives.
    """

    stream: Stream
    whose: str
    path: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    value: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    header: Sequence[str] = ()
    delimiter: str = ","
    filled: frozenset[str] = frozenset()
    schemas: Schemas | None = None


#: The format of payloads whose source names none and whose content type says nothing.
DEFAULT = "json"

#: None stands for the decoder that the stream has anyway: JSON.
Factory = Callable[[Layout], Decode | None]


FORMATS: dict[str, Factory] = {
    "json": lambda layout: _vendor(layout, decode_json, None),
    "ndjson": lambda layout: lines_of(_vendor(layout, decode_json, None) or decode_json),
    "csv": lambda layout: _csv(layout),
    "number": lambda layout: number_decoder(_home(layout, NUMBER_KINDS)),
    "boolean": lambda layout: boolean_decoder(_home(layout, BOOLEAN_KINDS)),
    "text": lambda layout: text_decoder(_home(layout, TEXT_LIKE)),
    "bytes": lambda layout: bytes_decoder(_home(layout, BYTES_KINDS)),
    "cbor": lambda layout: _vendor(layout, decode_cbor, decode_cbor),
    "senml": lambda layout: _senml(layout),
    "avro": lambda layout: _framed(layout),
    "avro-plain": lambda layout: _bound(layout, "avro-plain"),
    "protobuf": lambda layout: _framed(layout, "protobuf"),
    "json-schema": lambda layout: _framed(layout, "json-schema"),
}

#: Formats of whole files, which only a folder can read.
FILE_FORMATS = frozenset({"parquet"})

#: Which settings of a source each format takes beside `columns`.
_TAKES: dict[str, tuple[str, ...]] = {
    "json": ("path", "rename"),
    "ndjson": ("path", "rename"),
    "csv": ("header", "delimiter", "rename"),
    "number": ("value",),
    "boolean": ("value",),
    "text": ("value",),
    "bytes": ("value",),
    "cbor": ("path", "rename"),
    "senml": ("fields",),
    "avro": (),
    "avro-plain": (),
    "protobuf": (),
    "json-schema": (),
}
_SETTINGS = ("path", "rename", "value", "fields", "header", "delimiter")
_BY_CONTENT = ("path", "rename", "fields", "header", "delimiter")

#: Content types and numbers of CoAP content formats -> format. What says nothing is not in it.
CONTENT_TYPES: dict[str, str] = {
    "application/json": "json",
    "50": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "text/csv": "csv",
    "application/cbor": "cbor",
    "60": "cbor",
    "application/senml+json": "senml",
    "110": "senml",
    "application/sensml+json": "senml",
    "111": "senml",
    "application/senml+cbor": "senml",
    "112": "senml",
    "application/sensml+cbor": "senml",
    "113": "senml",
    "application/vnd.apache.avro": "avro",
    "application/avro": "avro",
    "avro/binary": "avro",
    "application/x-protobuf": "protobuf",
    "application/protobuf": "protobuf",
    "application/vnd.google.protobuf": "protobuf",
    "application/schema-instance+json": "json-schema",
}
_SUFFIXES = {"+json": "json", "+cbor": "cbor"}
#: Content types of bodies that are one payload, which nobody cuts before it is decoded.
WHOLE = frozenset(kind for kind, name in CONTENT_TYPES.items() if "/" in kind and name not in ("json", "ndjson", "csv"))
#: Content types that say nothing about what is inside.
_UNSAID = {"", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded", "0", "42"}


class Reader:
    """The decoders of one source by content type, each opened when the first payload of its kind comes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: dict[str, Decode | None] = {}

    def decoder(self, content_type: str) -> Decode | None:
        """None is the stream's own. What cannot be read gives a decoder that says so of every payload."""
        name = format_of(content_type)
        if name is None:
            return partial(_refuse, f"no format reads the content type {content_type[:80]!r}")
        if name not in self._open:
            try:
                self._open[name] = open_format(name, self._layout)
            except ConfigError as error:
                self._open[name] = partial(_refuse, error.message)
        return self._open[name]


def format_of(content_type: str) -> str | None:
    """The format that a content type or the number of a CoAP content format names; None where none reads it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _UNSAID:
        return DEFAULT
    if kind in CONTENT_TYPES:
        return CONTENT_TYPES[kind]
    return next((name for suffix, name in _SUFFIXES.items() if kind.endswith(suffix)), None)


def _refuse(reason: str, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    bad = tuple(BadRow(place, bytes(one), reason) for place, one in enumerate(payloads))
    schema = schema_of((column.name, column.type) for column in columns)
    return Decoded(pa.RecordBatch.from_pylist([], schema=schema), np.empty(0, dtype=np.int64), bad)


def open_format(name: str, layout: Layout) -> Decode | None:
    """The decoder of a format. Raises `ConfigError` for names and settings that there are not."""
    factory, close = FORMATS.get(name), difflib.get_close_matches(name, FORMATS, 1, 0.5)
    if factory is None:
        meant = f"did you mean {close[0]}?" if close else f"the formats are: {', '.join(FORMATS)}"
        raise ConfigError(f"{layout.whose}: no format {name!r}", hint=meant)
    return factory(layout)


def check_settings(name: str | None, layout: Layout) -> None:
    """Raises `ConfigError` for settings that mean nothing to the format; None is by content type."""
    plain = Layout(layout.stream, layout.whose)
    takes = _BY_CONTENT if name is None else _TAKES.get(name, _SETTINGS)
    for setting in _SETTINGS:
        if setting not in takes and getattr(layout, setting) != getattr(plain, setting):
            formats = [one for one, its in _TAKES.items() if setting in its]
            raise ConfigError(
                f"{layout.whose}: `{setting}` means nothing {'without a format' if name is None else f'to {name}'}",
                hint=f"it belongs to format: {' or '.join(formats)}",
            )


# --- factories -------------------------------------------------------------------------------------------------------


def _schemas(layout: Layout) -> Schemas:
    if layout.schemas is None:
        raise ConfigError(f"{layout.whose}: there is no schema registry here", hint="qanat up keeps one for a project")
    return layout.schemas


def _framed(layout: Layout, plain: str | None = None) -> Decode:
    """Payloads that say which schema they have; `plain`: the format of those that do not, read as the contract says."""
    schemas, stream = _schemas(layout), layout.stream.name
    fallback = None if plain is None else lambda payloads, columns: schemas.bound(stream, plain)(payloads, columns)
    return framed_decoder(partial(schemas.framed, stream), fallback)


def _bound(layout: Layout, name: str) -> Decode:
    return _schemas(layout).bound(layout.stream.name, name)


def _vendor(layout: Layout, decode: Decode, plain: Decode | None) -> Decode | None:
    """JSON or CBOR with what a source may say about other people's payloads; `plain` where it says nothing."""
    path = tuple(layout.path.split(".")) if layout.path is not None else ()
    if not all(path):
        raise ConfigError(f"{layout.whose}: path {layout.path!r} has an empty name", hint="path: data.readings")
    if not path and not layout.rename:
        return plain
    inner = cbor_at(path) if decode is decode_cbor and path else decode
    if layout.rename:
        _check_rename(layout)
        inner = renamed(inner, layout.rename)
    return json_inside(inner, path) if path and decode is not decode_cbor else inner


def _check_rename(layout: Layout) -> None:
    for their, ours in layout.rename.items():
        _check_column(layout, ours, f"rename.{their}")
    twice = [ours for ours, count in Counter(layout.rename.values()).items() if count > 1]
    if twice:
        raise ConfigError(f"{layout.whose}: two names of `rename` feed the column {twice[0]}")
    for column in layout.stream.columns:
        if column.name in layout.rename and column.name not in layout.rename.values() and _is_needed(layout, column):
            raise ConfigError(
                f"{layout.whose}: `rename` leaves nothing to feed the column {column.name}, which is NOT NULL"
            )


def _csv(layout: Layout) -> Decode:
    if len(layout.delimiter.encode()) != 1 or layout.delimiter in '"\r\n':
        raise ConfigError(f"{layout.whose}: delimiter {layout.delimiter!r}: expected one ASCII character")
    names = [layout.rename.get(name, name) for name in layout.header]
    for name, theirs in zip(names, layout.header, strict=True):
        if name:
            _check_column(layout, name, f"header {theirs!r}", more='; a field that is not wanted is ""')
    if len({name for name in names if name}) < len([name for name in names if name]):
        raise ConfigError(f"{layout.whose}: `header` names a column twice")
    if names:
        _check_needed(layout, set(names))
        return csv_decoder(names, layout.delimiter)
    decode = csv_decoder((), layout.delimiter)
    return renamed(decode, layout.rename) if layout.rename else decode


def _home(layout: Layout, kinds: Set[Kind]) -> str:
    """The column of a bare value."""
    if layout.value is None:
        raise ConfigError(f"{layout.whose}: a bare value needs a column", hint="value: COLUMN")
    column = _check_column(layout, layout.value, "value")
    if column.type.kind not in kinds:
        wanted = ", ".join(sorted(kind.value for kind in kinds))
        raise ConfigError(
            f"{layout.whose}: the column {column.name} is {column.type}; the format goes into {wanted}",
            hint="text is for STRING, number for numbers, boolean for BOOLEAN, bytes for BYTES",
        )
    _check_needed(layout, {layout.value})
    return layout.value


def _senml(layout: Layout) -> Decode:
    stream = layout.stream
    names = {column.name for column in stream.columns} - layout.filled
    places: dict[str, int] = {}
    for name, column in layout.fields.items():
        if name not in FIELDS:
            raise ConfigError(
                f"{layout.whose}: fields.{name}: a SenML record has no such field", hint=f"it has {', '.join(FIELDS)}"
            )
        _check_column(layout, column, f"fields.{name}")
        places[column] = FIELDS.index(name)
    free = [name for name in FIELDS if name not in layout.fields]
    places |= {name: FIELDS.index(name) for name in free if name in names and name not in places}
    if stream.arrival is not None and "time" in free and "time" not in names:
        places.setdefault(stream.arrival.name, FIELDS.index("time"))
    _check_needed(layout, set(places))
    return SenmlDecoder(places, stream.arrival)


def _check_column(layout: Layout, name: str, where: str, more: str = "") -> Column:
    columns = {column.name: column for column in layout.stream.columns}
    if name not in columns:
        close = difflib.get_close_matches(name, columns, 1, 0.5)
        hint = f"did you mean {close[0]}?" if close else f"the columns are: {', '.join(columns)}"
        raise ConfigError(f"{layout.whose}: {where}: the stream has no column {name!r}", hint=hint + more)
    if name in layout.filled:
        raise ConfigError(
            f"{layout.whose}: {where}: the column {name} is filled by the topic or by `columns`",
            hint="what fills a column wins over the payload; name another one",
        )
    return columns[name]


def _check_needed(layout: Layout, fed: Set[str]) -> None:
    """A column that nothing feeds must allow NULL."""
    for column in layout.stream.columns:
        if column.name not in fed and _is_needed(layout, column):
            raise ConfigError(
                f"{layout.whose}: nothing feeds the column {column.name}, which is {column.type}",
                hint=f"columns: {{{column.name}: ...}}",
            )


def _is_needed(layout: Layout, column: Column) -> bool:
    arrival = layout.stream.arrival
    is_arrival = arrival is not None and arrival.name == column.name
    return not column.type.nullable and column.name not in layout.filled and not is_arrival
