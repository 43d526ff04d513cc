"""Which decoder reads a payload: by the name of a format in qanat.yaml, or by a content type. One explicit table.

Pure; what a decoder does is `codec`'s business. A new format is a factory in `FORMATS` and its content types in
`CONTENT_TYPES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from qanat.codec.base import BadRow, Decode, Decoded
from qanat.errors import ConfigError
from qanat.model.arrow import schema_of
from qanat.model.streams import Column, Stream


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


#: The format of payloads whose source names none and whose content type says nothing.
DEFAULT = "json"

#: None stands for the decoder that the stream has anyway: JSON.
Factory = Callable[[Layout], Decode | None]


def _json(layout: Layout) -> Decode | None:  # noqa: ARG001
    return None


FORMATS: dict[str, Factory] = {
    "json": _json,
}

#: Content types and numbers of CoAP content formats -> format. What says nothing is not in it.
CONTENT_TYPES: dict[str, str] = {
    "application/json": "json",
    "50": "json",
}
_SUFFIXES = {"+json": "json"}
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
    factory = FORMATS.get(name)
    if factory is None:
        close = difflib.get_close_matches(name, FORMATS, 1, 0.5)
        meant = f"did you mean {close[0]}?" if close else f"the formats are: {', '.join(FORMATS)}"
        raise ConfigError(f"{layout.whose}: no format {name!r}", hint=meant)
    return factory(layout)
