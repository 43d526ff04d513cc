"""Payloads that say which schema they were written with: Confluent's wire format, and Avro's single objects.

`00`, four bytes of schema id (the highest first), then Avro, JSON, or the places of a message and Protobuf; or `C3 01`,
eight bytes of Avro fingerprint, then Avro. Where schemas are kept is behind `Schemas`. A payload whose schema is not
known is a bad row with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.errors import QanatError
from qanat.model.arrow import schema_of
from qanat.model.streams import Column

MAGIC = b"\x00"
SINGLE_OBJECT = b"\xc3\x01"
_MARK = {MAGIC: 5, SINGLE_OBJECT: 10}

#: A mark -> how what stands behind it is read. Raises `QanatError` where that is not known.
Find = Callable[[bytes], Decode]


class Schemas(Protocol):
    """Where decoders find what they read with. Quick, from any thread; raises `QanatError`."""

    def framed(self, stream: str, mark: bytes) -> Decode:
        """How payloads for `stream` that begin with `mark` (five or ten bytes, as above) are read after the mark."""
        ...

    def bound(self, stream: str, name: str) -> Decode:
        """How payloads of `stream` without a mark are read, by the format's name (avro-plain, ...)."""
        ...


def framed_decoder(find: Find, plain: Decode | None = None) -> Decode:
    """`plain` reads payloads without a mark; None refuses them."""

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        bodies: dict[bytes, tuple[list[int], list[bytes]]] = {}
        for place, payload in enumerate(payloads):
            mark = payload[: _MARK.get(payload[:1]) or _MARK.get(payload[:2], 0)]
            places, cut = bodies.setdefault(mark, ([], []))
            places.append(place)
            cut.append(payload[len(mark) :])
        parts = [
            _decode(mark, find, plain, cut, np.array(places, dtype=np.int64), columns)
            for mark, (places, cut) in bodies.items()
        ]
        return in_order(parts, payloads, columns)

    return decode


def _decode(
    mark: bytes,
    find: Find,
    plain: Decode | None,
    bodies: Sequence[bytes],
    places: npt.NDArray[np.int64],
    columns: Sequence[Column],
) -> Decoded:
    try:
        if not mark and plain is None:
            return refuse(
                "it begins with neither 00 and a schema id nor C3 01 and a fingerprint", bodies, places, columns
            )
        if mark and len(mark) != _MARK.get(mark[:1], _MARK.get(mark[:2])):
            return refuse("it ends before its schema id", bodies, places, columns)
        decode = find(mark) if mark else plain
        assert decode is not None
        made = decode(bodies, columns)
    except QanatError as error:
        return refuse(error.message, bodies, places, columns)
    bad = tuple(BadRow(int(places[one.index]), one.data, one.reason) for one in made.bad)
    return Decoded(made.rows, places[made.index], bad)


def refuse(reason: str, payloads: Sequence[bytes], places: npt.NDArray[np.int64], columns: Sequence[Column]) -> Decoded:
    """None of these payloads, and why."""
    bad = tuple(BadRow(place, bytes(one), reason) for place, one in zip(places.tolist(), payloads, strict=True))
    schema = schema_of((column.name, column.type) for column in columns)
    return Decoded(pa.RecordBatch.from_pylist([], schema=schema), np.empty(0, dtype=np.int64), bad)


def in_order(parts: Sequence[Decoded], payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
    """Parts of one batch, each with the places of its payloads in it, as one, in the order of the payloads."""
    bad = sorted((one for part in parts for one in part.bad), key=lambda one: one.index)
    whole = tuple(BadRow(one.index, bytes(payloads[one.index]), one.reason) for one in bad)
    if len(parts) == 1:
        return Decoded(parts[0].rows, parts[0].index, whole)
    if not parts:
        return refuse("", (), np.empty(0, dtype=np.int64), columns)
    index = np.concatenate([part.index for part in parts])
    order = np.argsort(index, kind="stable")
    rows = pa.concat_batches([part.rows for part in parts])
    return Decoded(rows.take(pa.array(order)), index[order], whole)
