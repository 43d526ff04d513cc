"""Declarations of streams: how they are stored, and which changes a log takes over."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from qanat.errors import LogError
from qanat.log.base import Log
from qanat.model.streams import Column, Stream


def declare_kept(log: Log, stream: Stream) -> None:
    """Declare a stream that every project has, for who knows nothing of the project: the retention and the options that
    it was given before stay."""
    known = log.status().get(stream.name)
    if known is not None:
        was = known.stream
        stream = replace(
            stream, retention_ms=was.retention_ms, retention_bytes=was.retention_bytes, options=was.options
        )
    log.create(stream)


def encode_stream(stream: Stream) -> bytes:
    """The declaration as JSON."""
    return msgspec.json.encode(replace(stream, options=dict(stream.options)))


def decode_stream(data: bytes) -> Stream:
    """The declaration that `encode_stream` wrote. Raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(data, type=Stream)


def evolve(known: Stream, wanted: Stream) -> Stream:
    """What the log holds after `wanted` was declared over `known`.

    Nullable columns may be added, retention and options may change. Raises `LogError` that lists all else that differs.
    """
    differences = _differences(known, wanted)
    if differences:
        raise LogError(
            f"stream {known.name} is already there and differs: " + "; ".join(differences),
            hint="declare it as it was, or choose another name for the new stream",
        )
    return wanted


def _differences(known: Stream, wanted: Stream) -> list[str]:
    found = _column_differences(known.columns, wanted.columns)
    for what in ("event_time", "key", "partitions", "compact"):
        old, new = getattr(known, what), getattr(wanted, what)
        if old != new:
            found.append(f"{what} was {old}, is {new}")
    return found


def _column_differences(known: tuple[Column, ...], wanted: tuple[Column, ...]) -> list[str]:
    found = []
    old, new = {column.name: column.type for column in known}, {column.name: column.type for column in wanted}
    for name, kind in old.items():
        if name not in new:
            found.append(f"column {name} is missing")
        elif new[name] != kind:
            found.append(f"column {name} was {kind}, is {new[name]}")
    found += [f"new column {name} is NOT NULL" for name, kind in new.items() if name not in old and not kind.nullable]
    return found
