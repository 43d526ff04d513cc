"""Operator state <-> bytes: nested dicts of frames, arrays and plain values. The only format of snapshots."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import numpy as np
import polars as pl

from qanat.errors import LogCorruptError

_FRAME, _ARRAY = 1, 2
#: Raised when the layout changes; an older snapshot is then rebuilt from the log.
VERSION = 1


def pack(state: dict[str, Any]) -> bytes:
    """Bytes of a state."""
    return msgspec.msgpack.encode({"version": VERSION, "state": state}, enc_hook=_encode)


def unpack(data: bytes) -> dict[str, Any]:
    """The state of `pack`. Raises `LogCorruptError` for bytes that are none."""
    try:
        whole = msgspec.msgpack.decode(data, ext_hook=_decode)
        version, state = whole["version"], whole["state"]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise LogCorruptError(
            f"a snapshot cannot be read: {error}", hint="qanat run --state NEW_DIR starts afresh"
        ) from error
    if version != VERSION:
        raise LogCorruptError(f"a snapshot has version {version}, expected {VERSION}")
    result: dict[str, Any] = state
    return result


def _encode(value: object) -> Any:
    match value:
        case pl.DataFrame():
            sink = io.BytesIO()
            value.write_ipc_stream(sink, compat_level=pl.CompatLevel.newest())
            return msgspec.msgpack.Ext(_FRAME, sink.getvalue())
        case np.ndarray():
            sink = io.BytesIO()
            np.save(sink, value, allow_pickle=False)
            return msgspec.msgpack.Ext(_ARRAY, sink.getvalue())
        case np.integer():
            return int(value)
        case _:
            raise TypeError(f"no state of {type(value)}")


def _decode(code: int, data: memoryview) -> object:
    if code == _FRAME:
        return pl.read_ipc_stream(io.BytesIO(bytes(data)))
    return np.load(io.BytesIO(bytes(data)), allow_pickle=False)
