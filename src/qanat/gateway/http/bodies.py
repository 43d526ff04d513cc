"""HTTP bodies -> one payload per row. Pure; it cuts and does not decode; what is wrong inside is found later."""

from __future__ import annotations

import msgspec

from qanat.gateway.http.problems import RefusedError

_LINES = {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
#: Types that say nothing: curl -d sends the form type unless told otherwise.
_UNSAID = {"", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded"}
#: Only a body that has one of these can have a line of nothing but white space.
_BLANK_STARTS = (b"\n ", b"\n\t", b"\n\r", b"\n\v", b"\n\f")
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)


def split_body(body: bytes, content_type: str) -> list[bytes]:
    """The rows as the sender wrote them, byte by byte.

    JSON: an object is one row, an array one row per element; what is not JSON is one (bad) row. NDJSON: a row per
    line that is not blank. Without a telling content type the body decides. Raises `RefusedError` 400 (nothing in it)
    and 415.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _LINES:
        rows = _lines(body)
    elif kind == "application/json" or kind.endswith("+json"):
        rows = _json(body)
    elif kind in _UNSAID:
        rows = _json(body) if _is_one_value(body) else _lines(body)
    else:
        raise RefusedError(415, f"content type {kind!r}", hint="send application/json or application/x-ndjson")
    if not rows:
        raise RefusedError(
            400, "the body has no rows", hint="send a JSON object, an array of objects, or one object a line"
        )
    return rows


def _lines(body: bytes) -> list[bytes]:
    lines = list(filter(None, body.split(b"\n")))
    if body[:1].isspace() or any(start in body for start in _BLANK_STARTS):
        return [line for line in lines if not line.isspace()]
    return lines


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
