"""A source of qanat.yaml as it is used: its stream, how its payloads are read, and which columns are filled for them.

Pure, made once at the start. Topics and their patterns are `routes`' and `patterns`' business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qanat.codec.base import Decode
from qanat.codec.csv import CsvOptions
from qanat.codec.csv_fields import parse_columns
from qanat.codec.framed import Schemas
from qanat.errors import ConfigError
from qanat.gateway.formats import DEFAULT, FILE_FORMATS, Layout, Reader, check_settings, open_format
from qanat.model.sources import Constant, Source
from qanat.model.streams import Column, Stream

#: (column, text) of every filled column; None is NULL.
Fill = tuple[tuple[str, str | None], ...]

_PLAIN = ("client", "user", "topic", "content_type")
_PROPERTY = "property."
_TEXT = CsvOptions()
_MARK = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Sender:
    """Where payloads come from: `source` is the protocol, `origin` the topic or path, `client` who.

    `attributes`: what the protocol says about the messages beside their payload, by name: `user`, `content_type`,
    `property.NAME`.
    """

    source: str
    origin: str
    client: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Filling:
    """What fills one column: `text` with captures in it, or what is asked of the topic or the sender (`asked`)."""

    column: str
    text: str = ""
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """`source`: its name in qanat.yaml, None for the topics `NAME/...` of a stream. `format`: None is by content type.

    `decode`: how payloads are read where no content type says otherwise; None is the stream's own way. `asks_sender`:
    whether `complete` has something to do. `may_cut`: a front that knows bodies of many rows may cut them into rows, as
    it does for the stream itself; else what comes is one payload.
    """

    source: str | None
    stream: Stream
    format: str | None
    decode: Decode | None
    reader: Reader
    fillings: tuple[_Filling, ...]
    asks_sender: bool
    may_cut: bool

    @property
    def filled(self) -> Mapping[str, str]:
        """The columns that are filled, whatever the payload says, and with what, as qanat.yaml says it."""
        return {one.column: one.text if one.asked is None else f"${one.asked}" for one in self.fillings}

    def choose(self, wanted: Decode | None, sender: Sender) -> Decode | None:
        """How payloads are read: as the front has cut them, else as the source demands, else by their content type."""
        if wanted is not None:
            return wanted
        if self.format is not None:
            return self.decode
        said = sender.attributes.get("content_type") if sender.attributes else None
        return self.decode if said is None else self.reader.decoder(said)

    def fill(self, topic: str, captured: Mapping[str, str]) -> Fill:
        """The filled columns, as far as the topic says them; what the sender says is None yet."""
        return tuple((one.column, _said_by_topic(one, topic, captured)) for one in self.fillings)

    def complete(self, fill: Fill, sender: Sender) -> Fill:
        """With what the sender says; what he does not say stays None."""
        return tuple(
            said if one.asked in (None, "topic") else (one.column, _said_by(sender, one.asked or ""))
            for one, said in zip(self.fillings, fill, strict=True)
        )


def open_feed(
    name: str | None,
    source: Source,
    streams: Mapping[str, Stream],
    accepts: frozenset[str],
    captures: Sequence[str],
    schemas: Schemas | None = None,
) -> Feed:
    """`captures`: the names that the source's pattern captures. Raises `ConfigError`."""
    whose = f"source {name!r}" if name is not None else f"stream {source.stream}"
    stream = _stream_of(source.stream, streams, accepts, whose)
    columns = {column.name: column for column in stream.columns}
    fillings = [_filling(column, text, captures, whose) for column, text in source.columns.items()]
    used = {mark for text in source.columns.values() for mark in _MARK.findall(str(text))}
    fillings += [
        _Filling(one, f"{{{one}}}")
        for one in captures
        if one not in source.columns and (one in columns or one not in used)
    ]
    for one in fillings:
        _check_column(one, columns, whose)
    filled = tuple(one.column for one in fillings)
    layout = Layout(
        stream,
        whose,
        source.path,
        source.rename,
        source.value,
        source.fields,
        source.header,
        source.delimiter,
        frozenset(filled),
        schemas,
    )
    asks = any(one.asked not in (None, "topic") for one in fillings)
    is_file = source.folder is not None and source.format in FILE_FORMATS
    if not is_file:
        check_settings(source.format, layout)
    decode = None if is_file else open_format(source.format or DEFAULT, layout)
    return Feed(name, stream, source.format, decode, Reader(layout), tuple(fillings), asks, _may_cut(source, decode))


def _may_cut(source: Source, decode: Decode | None) -> bool:
    plain = Source(stream=source.stream)
    return source.format is None and decode is None and (source.header, source.delimiter) == ((), plain.delimiter)


def _stream_of(name: str, streams: Mapping[str, Stream], accepts: frozenset[str], whose: str) -> Stream:
    if name in accepts:
        return streams[name]
    if name in streams:
        raise ConfigError(
            f"{whose}: the stream {name} takes no input from outside",
            hint=f"streams that take input: {', '.join(sorted(accepts)) or 'none'}",
        )
    raise ConfigError(f"{whose}: no stream {name!r}", hint=nearest(name, accepts, "streams that take input"))


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A hint: the name that was probably meant, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"{what}: {', '.join(known) or 'none'}"


def _filling(column: str, value: Constant, captures: Sequence[str], whose: str) -> _Filling:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text.startswith("$") and not text.startswith("$$"):
        asked = text[1:]
        if asked not in _PLAIN and not (asked.startswith(_PROPERTY) and len(asked) > len(_PROPERTY)):
            raise ConfigError(
                f"{whose}: columns.{column}: there is no {text}",
                hint="$client, $user, $topic, $content_type, $property.NAME; a text that begins with $ is written $$",
            )
        return _Filling(column, asked=asked)
    for mark in _MARK.findall(text):
        if mark not in captures:
            raise ConfigError(
                f"{whose}: columns.{column}: the topic captures no {{{mark}}}",
                hint=nearest(mark, captures, "it captures"),
            )
    return _Filling(column, text[1:] if text.startswith("$$") else text)


def _check_column(one: _Filling, columns: Mapping[str, Column], whose: str) -> None:
    if one.column not in columns:
        hint = nearest(one.column, columns, "the columns are")
        more = "; a level that is not wanted is written +" if one.text == f"{{{one.column}}}" else ""
        raise ConfigError(f"{whose}: the stream has no column {one.column!r}", hint=hint + more)
    if one.asked is None and not _MARK.search(one.text):
        _, reasons = parse_columns([[one.text]], [columns[one.column]], _TEXT)
        if reasons:
            raise ConfigError(f"{whose}: {reasons[0]}", hint=f"columns.{one.column} of the source")


def _said_by_topic(one: _Filling, topic: str, captured: Mapping[str, str]) -> str | None:
    if one.asked is not None:
        return topic if one.asked == "topic" else None
    return _MARK.sub(lambda mark: captured[mark[1]], one.text)


def _said_by(sender: Sender, asked: str) -> str | None:
    return sender.client if asked == "client" else sender.attributes.get(asked)
