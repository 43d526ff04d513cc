"""CloudEvents 1.0 -> payloads and rows: binary, structured and batch mode, JSON data. Pure.

A payload is one event in its structured form, so that a dead letter is a whole event. The data is the row; `time`
stands in for an event time that the data lacks, and columns `ce_NAME` take the attribute NAME.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec
import numpy as np
import orjson

from qanat.codec.base import BadRow, Decoded
from qanat.codec.json import decode_payloads
from qanat.gateway.http.problems import RefusedError
from qanat.model.streams import ArrivalColumn, Column
from qanat.model.types import Kind

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_HINT = "see https://github.com/cloudevents/spec: an event has specversion, id, source and type"
_PREFIX = "ce_"

_Event = dict[str, msgspec.Raw]
_event = msgspec.json.Decoder(_Event).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Events:
    """`payloads`: events in structured form; `names`: source and id of each, by which a repeated one is known."""

    payloads: tuple[bytes, ...]
    names: tuple[tuple[str, str], ...]


def is_event(kind: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request brings CloudEvents, in any mode."""
    return kind in (STRUCTURED, BATCH) or b"ce-specversion" in headers


def split_events(body: bytes, kind: str, headers: Mapping[bytes, bytes]) -> Events:
    """The events of a request. Raises `RefusedError`: 400 for what is no event, 415 for data that is not JSON."""
    if kind == STRUCTURED:
        payloads: tuple[bytes, ...] = (body,)
    elif kind == BATCH:
        try:
            payloads = tuple(bytes(one) for one in _elements(body))
        except msgspec.DecodeError as error:
            raise RefusedError(400, f"the batch is no JSON array: {error}", hint=_HINT) from error
    else:
        payloads = (_structured(body, kind, headers),)
    if not payloads:
        raise RefusedError(400, "the batch has no events", hint=_HINT)
    return Events(payloads, tuple(_name(payload, place) for place, payload in enumerate(payloads)))


def _structured(body: bytes, kind: str, headers: Mapping[bytes, bytes]) -> bytes:
    """A binary event as a structured one."""
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise RefusedError(415, f"data of content type {kind!r} in an event", hint="send application/json")
    attributes = {
        name[3:].decode(): unquote(value.decode(errors="replace"))
        for name, value in headers.items()
        if name.startswith(b"ce-") and name.isascii()
    }
    try:
        data = b',"data":' + bytes(_raw(body)) + b"}"
    except msgspec.DecodeError:  # a row that is not JSON is kept as it came, and refused by `EventRows`
        data = b',"data_base64":"' + base64.b64encode(body) + b'"}'
    return orjson.dumps(attributes)[:-1] + data


def _name(payload: bytes, place: int) -> tuple[str, str]:
    try:
        event = _event(payload)
        version, source, name, _ = (_text(event[one]) for one in ("specversion", "source", "id", "type"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"event {place} is no CloudEvent: {error}", hint=_HINT) from error
    except KeyError as error:
        raise RefusedError(400, f"event {place} has no {error.args[0]}", hint=_HINT) from error
    if version != "1.0" or not name or not source:
        raise RefusedError(400, f"event {place}: specversion must be 1.0, id and source not empty", hint=_HINT)
    return source, name


@dataclass(frozen=True, slots=True)
class EventRows:
    """A decoder of events in structured form, for a stream with this event time."""

    arrival: ArrivalColumn | None

    def __call__(self, payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        """A row per event whose data is an object that fits."""
        documents: list[bytes] = []
        places: list[int] = []
        bad: dict[int, str] = {}
        filled = [column.name for column in columns if column.name.startswith(_PREFIX)]
        times = {column.name: column.type.kind for column in columns}
        for place, payload in enumerate(payloads):
            try:
                documents.append(_document(_event(payload), filled, self.arrival, times))
                places.append(place)
            except (msgspec.DecodeError, ValueError) as error:
                bad[place] = f"not a CloudEvent: {error}".splitlines()[0]
        decoded = decode_payloads(documents, columns)
        bad.update({places[one.index]: one.reason for one in decoded.bad})
        index = np.array(places, dtype=np.int64)[decoded.index]
        return Decoded(decoded.rows, index, tuple(BadRow(place, payloads[place], bad[place]) for place in sorted(bad)))


def _document(event: _Event, filled: Sequence[str], arrival: ArrivalColumn | None, kinds: Mapping[str, Kind]) -> bytes:
    """The data with the event's time before, where its own may be missing, and with its attributes behind it.

    Of two keys that are the same, the last one counts. Raises `ValueError`.
    """
    data = _data(event)
    if not data.startswith(b"{"):
        raise ValueError("its data is not a JSON object")
    first: dict[str, object] = {}
    if arrival is not None and "time" in event:
        first[arrival.name] = _time(_text(event["time"]), arrival, kinds.get(arrival.name))
    last = {
        name: _attribute(event, name[len(_PREFIX) :], kinds[name]) for name in filled if name[len(_PREFIX) :] in event
    }
    inside = data[1:-1].strip()
    parts = [orjson.dumps(first)[1:-1], inside, orjson.dumps(last)[1:-1]]
    return b"{" + b",".join(part for part in parts if part) + b"}"


def _data(event: _Event) -> bytes:
    if "data" in event:
        return bytes(event["data"]).strip()
    if "data_base64" not in event:
        raise ValueError("it has no data")
    try:
        return bytes(_raw(base64.b64decode(_text(event["data_base64"]), validate=True))).strip()
    except binascii.Error as error:
        raise ValueError(f"data_base64: {error}") from error


def _attribute(event: _Event, name: str, kind: Kind) -> object:
    if name == "time" and kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return _written(_instant(_text(event[name])), kind)
    return orjson.loads(bytes(event[name]))


def _time(text: str, arrival: ArrivalColumn, kind: Kind | None) -> object:
    """`time` as the event time column counts it."""
    instant = _instant(text)
    if arrival.per_second is None:
        return _written(instant, kind)
    millis = (instant - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    if kind in (Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL):
        return millis * arrival.per_second / 1000
    return millis * arrival.per_second // 1000


def _instant(text: str) -> dt.datetime:
    """RFC 3339, with Z or an offset. Raises `ValueError`."""
    instant = dt.datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"its time {text!r} has neither Z nor an offset")
    try:
        return instant.astimezone(dt.UTC)
    except OverflowError as error:
        raise ValueError(f"its time {text!r} is beyond the years 1 to 9999") from error


def _written(instant: dt.datetime, kind: Kind | None) -> str:
    text = instant.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return text if kind is Kind.TIMESTAMP else f"{text}Z"
