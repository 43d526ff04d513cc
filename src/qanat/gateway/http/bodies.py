"""HTTP bodies -> one payload per row. Pure; it cuts and does not decode; what is wrong inside is found later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from qanat.codec.arrow_body import Limits, read_arrow
from qanat.codec.arrow_sizes import TooLargeError
from qanat.codec.base import Decode, split_lines
from qanat.codec.csv_header import read_csv
from qanat.errors import DataError
from qanat.gateway.formats import WHOLE, Reader
from qanat.gateway.http.codings import decompress
from qanat.gateway.http.events import BATCH, STRUCTURED, EventRows, is_event, split_events
from qanat.gateway.http.problems import RefusedError
from qanat.model.streams import Stream

_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
#: Types that say nothing: curl -d sends the form type unless told otherwise.
_UNSAID = frozenset({"", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"})
_ARROW = frozenset({"application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"})
_CSV = "text/csv"
_CHARSETS = frozenset({"", "utf-8", "utf8", "us-ascii"})
#: For the header accept-post.
ACCEPTED = ", ".join(
    ("application/json", "application/x-ndjson", _CSV, *sorted(_ARROW, reverse=True), STRUCTURED, BATCH, *sorted(WHOLE))
)
_HINT = "send a JSON object, an array of objects, or one object a line"
#: Up to so many bytes, lines are quicker as a list than as a block.
_SMALL = 2048
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Body:
    """`payloads` are the rows; `decode` reads them, None is JSON. `names`: (source, id) of each, if they are events."""

    payloads: Sequence[bytes]
    decode: Decode | None = None
    names: tuple[tuple[str, str], ...] = ()


def is_plain(headers: Mapping[bytes, bytes]) -> bool:
    """Whether cutting the body takes no time worth a thread."""
    return b"content-encoding" not in headers and b"arrow" not in headers.get(b"content-type", b"")


def unpack(body: bytes, headers: Mapping[bytes, bytes], limits: Limits) -> bytes:
    """The body without its content coding. Raises `RefusedError` 400, 413 and 415."""
    if b"content-encoding" not in headers:
        return body
    return decompress(body, headers[b"content-encoding"].decode("latin-1"), limits.bytes)


def read_body(
    body: bytes, headers: Mapping[bytes, bytes], stream: Stream, limits: Limits, reader: Reader | None = None
) -> Body:
    """What a request brings, by its headers. `reader` knows the formats of bodies that are one payload.

    Raises `RefusedError`: 400 (nothing in it, or not what it says), 413 and 415.
    """
    body = unpack(body, headers, limits)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    kind = content_type.partition(";")[0].strip().lower()
    if reader is not None and kind in WHOLE:
        return Body((body,), reader.decoder(kind))
    try:
        read = _read(body, kind, content_type, headers, stream, limits)
    except TooLargeError as error:
        raise RefusedError(413, error.message, hint="send it in several requests") from error
    except DataError as error:
        raise RefusedError(400, error.message, hint=error.hint) from error
    if not len(read.payloads):
        raise RefusedError(400, "the body has no rows", hint=_HINT)
    if len(read.payloads) > limits.rows:
        raise RefusedError(413, f"the body has more than {limits.rows} rows", hint="send it in several requests")
    return read


def is_cut(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the body says itself, apart from any source's format, what its rows are: Arrow and events."""
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    return kind in _ARROW or is_event(kind, headers)


def whole_body(body: bytes, headers: Mapping[bytes, bytes], limits: Limits) -> Body:
    """The body as one payload, for a source that says how it is read. Raises `RefusedError` 413 and 415."""
    body = unpack(body, headers, limits)
    if not body:
        raise RefusedError(400, "the body is empty", hint="see the format of the source: qanat sources")
    return Body((body,))


def _read(
    body: bytes, kind: str, content_type: str, headers: Mapping[bytes, bytes], stream: Stream, limits: Limits
) -> Body:
    if is_event(kind, headers):
        events = split_events(body, kind, headers)
        return Body(events.payloads, EventRows(stream.arrival), events.names)
    if kind in _ARROW:
        arrow = read_arrow(body, limits)
        return Body(arrow, arrow.decode)
    if kind == _CSV:
        return _csv(body, _parameters(content_type), stream)
    return Body(split_body(body, kind))


def _csv(body: bytes, parameters: Mapping[str, str], stream: Stream) -> Body:
    if parameters.get("charset", "").lower() not in _CHARSETS:
        raise RefusedError(415, f"charset {parameters['charset']!r}", hint="send UTF-8")
    columns = [column.name for column in stream.columns]
    csv = read_csv(body, columns if parameters.get("header", "").lower() == "absent" else None)
    if not set(csv.names) & set(columns):
        hint = f"the first line names the columns: {','.join(columns)}; without one, send {_CSV}; header=absent"
        raise RefusedError(
            400, f"no column of {stream.name} is called {' or '.join(map(repr, csv.names[:5]))}", hint=hint
        )
    return Body(csv, csv.decode)


def _parameters(content_type: str) -> dict[str, str]:
    """The parameters of a content type, names in lower case."""
    parts = (part.partition("=") for part in content_type.split(";")[1:])
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in parts}


def split_body(body: bytes, content_type: str) -> Sequence[bytes]:
    """The rows of JSON as the sender wrote them, byte by byte.

    JSON: an object is one row, an array one row per element; what is not JSON is one (bad) row. NDJSON: a row per
    line that is not blank. Without a telling content type the body decides. Raises `RefusedError` 415.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _LINES:
        return _lines(body)
    if kind == "application/json" or kind.endswith("+json"):
        return _json(body)
    if kind in _UNSAID:
        return _json(body) if _is_one_value(body) else _lines(body)
    raise RefusedError(415, f"content type {kind!r}", hint=f"send one of: {ACCEPTED}")


def _lines(body: bytes) -> Sequence[bytes]:
    if len(body) > _SMALL:
        return split_lines(body)[0]
    return [line.removesuffix(b"\r") for line in body.split(b"\n") if line.strip()]


def _json(body: bytes) -> list[bytes]:
    start = body.lstrip()[:1]
    if start == b"[":
        try:
            return [bytes(element) for element in _ELEMENTS.decode(body)]
        except msgspec.DecodeError:
            return [body]
    return [body] if start else []


def _is_one_value(body: bytes) -> bool:
    try:
        _ANY.decode(body)
    except msgspec.DecodeError:
        return body.lstrip()[:1] == b"["
    return True
