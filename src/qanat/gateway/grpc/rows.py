"""Messages of `qanat.proto` <-> rows: payloads for an offer, deliveries for a subscriber. No calls, no log."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value

from qanat.codec.arrow_body import Limits, read_arrow
from qanat.codec.base import Decode
from qanat.codec.json import decode_payloads
from qanat.errors import DataError
from qanat.gateway.grpc.qanat_pb2 import (
    FORMAT_ARROW,
    FORMAT_JSON,
    FORMAT_STRUCT,
    AppendRequest,
    JsonRows,
    Place,
    Rows,
    StructRows,
)
from qanat.gateway.outlets import Delivery
from qanat.gateway.pages import GONE
from qanat.model.streams import Column, Stream

FORMATS = (FORMAT_JSON, FORMAT_ARROW, FORMAT_STRUCT)


def read_rows(request: AppendRequest, limits: Limits) -> tuple[Sequence[bytes], Decode | None]:
    """The payloads of a batch, and how they are read (None: JSON).

    A Struct's numbers are doubles; those without a fraction are written as whole numbers, so that they fit integers.
    Raises `DataError` where there are no rows, too many, or bytes that are not Arrow.
    """
    payloads: Sequence[bytes]
    decode: Decode | None = None
    match request.WhichOneof("rows"):
        case "json":
            payloads = list(request.json.rows)
        case "arrow":
            body = read_arrow(request.arrow, limits)
            payloads, decode = body, body.decode
        case "structs":
            payloads = [_json_of(one) for one in request.structs.rows]
        case _:
            payloads = ()
    if not len(payloads):
        raise DataError("the request has no rows", hint="set json, arrow or structs")
    if len(payloads) > limits.rows:
        raise DataError(f"the request has more than {limits.rows} rows", hint="send them in several requests")
    return payloads, decode


def _json_of(row: Struct) -> bytes:
    """NaN and Infinity stay such, and so end among the dead letters."""
    return json.dumps({name: _plain(value) for name, value in row.fields.items()}, separators=(",", ":")).encode()


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if math.isfinite(number) and number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {name: _plain(one) for name, one in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(one) for one in value.list_value.values]
        case _:
            return None


def write_rows(deliveries: Sequence[Delivery], stream: Stream, form: int) -> Rows:
    """Rows of a stream with their places. A row that says that its key is gone is empty."""
    places = [
        Place(partition=one.partition, offset=one.offset, key=one.key or "", deleted=one.payload == GONE)
        for one in deliveries
    ]
    payloads = [b"" if place.deleted else one.payload for place, one in zip(places, deliveries, strict=True)]
    match form:
        case value if value == FORMAT_JSON:
            return Rows(places=places, json=JsonRows(rows=payloads))
        case value if value == FORMAT_STRUCT:
            structs = [ParseDict(json.loads(payload or b"{}"), Struct()) for payload in payloads]
            return Rows(places=places, structs=StructRows(rows=structs))
        case value if value == FORMAT_ARROW:
            return Rows(places=places, arrow=_ipc(payloads, stream))
        case _:
            raise DataError(f"format {form} is not known", hint="FORMAT_JSON, FORMAT_ARROW or FORMAT_STRUCT")


def _ipc(payloads: Sequence[bytes], stream: Stream) -> bytes:
    columns = [Column(one.name, one.type.with_nullable(True)) for one in stream.columns]
    decoded = decode_payloads([payload or b"{}" for payload in payloads], columns)
    if decoded.bad:
        raise DataError(
            f"a row of {stream.name} has no Arrow form: {decoded.bad[0].reason}", hint="ask for FORMAT_JSON"
        )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, decoded.rows.schema) as writer:
        writer.write_batch(decoded.rows)
    return bytes(sink.getvalue())
