"""Payloads of one width as an array of bytes, so that clients, times and values are filled in for thousands at once.

Pure. A template is JSON with words in it: `$client` becomes twelve characters, `$time` the ms since 1970, `$seconds`
the same in seconds, `$value` a number with one decimal, `$whole` one without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qanat.errors import ConfigError
from qanat.model.streams import ArrivalColumn, Stream
from qanat.model.types import Kind, Type

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_WORD = re.compile(r"\$(client|time|seconds|value|whole)")
_WIDTHS = {"client": 12, "time": 13, "seconds": 10, "value": 6, "whole": 2}
_ZERO = ord("0")
_WHOLES = {Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT}
_TEXTS = {Kind.STRING}


@dataclass(frozen=True, slots=True)
class Mold:
    """One payload with dummies in it, and where these stand: (word, first byte)."""

    text: bytes
    slots: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, template: str) -> Mold:
        """Raises `ConfigError` for a template without a word that tells one message from another."""
        parts = _WORD.split(template)
        text, slots = b"", list[tuple[str, int]]()
        for number, part in enumerate(parts):
            if number % 2:
                slots.append((part, len(text)))
                text += b"0" * _WIDTHS[part]
            else:
                text += part.encode()
        if not any(word in ("value", "whole", "client") for word, _ in slots):
            raise ConfigError(
                f"the payload {template!r} says the same in every message",
                hint="""for example {"client_id": "$client", "timestamp": $time, "consumption": $value}""",
            )
        return cls(text, tuple(slots))

    def fill(self, rows: Bytes, at: int, clients: Numbers, values: Numbers, name: str) -> None:
        """Write clients and values into payloads that begin at byte `at` of each row."""
        rows[:, at : at + len(self.text)] = np.frombuffer(self.text, dtype=np.uint8)
        for word, place in self.slots:
            first = at + place
            if word == "client":
                head = f"{name[:4]:-<4}-".encode()
                rows[:, first : first + len(head)] = np.frombuffer(head, dtype=np.uint8)
                rows[:, first + len(head) : first + 12] = digits(clients, 12 - len(head))
            elif word == "value":
                rows[:, first : first + 4] = digits(1000 + values % 9000, 4)
                rows[:, first + 4 : first + 6] = np.frombuffer(b".5", dtype=np.uint8)
            elif word == "whole":
                rows[:, first : first + 2] = digits(10 + values % 90, 2)

    def stamp(self, rows: Bytes, at: int, now_ms: int) -> None:
        """Write the time into payloads that begin at byte `at` of each row."""
        for word, place in self.slots:
            if word == "time":
                rows[:, at + place : at + place + 13] = np.frombuffer(b"%013d" % now_ms, dtype=np.uint8)
            elif word == "seconds":
                rows[:, at + place : at + place + 10] = np.frombuffer(b"%010d" % (now_ms // 1000), dtype=np.uint8)

    def weights(self, values: Numbers) -> npt.NDArray[np.float64]:
        """What the filled-in values are as numbers: the checksum is their sum."""
        if any(word == "value" for word, _ in self.slots):
            return ((1000 + values % 9000) + 0.5).astype(np.float64)
        if any(word == "whole" for word, _ in self.slots):
            return (10 + values % 90).astype(np.float64)
        return np.zeros(len(values))


def digits(numbers: Numbers, width: int) -> Bytes:
    """The last `width` decimal digits of each number as ASCII, a row each."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    found: Bytes = (numbers[:, None] // powers % 10 + _ZERO).astype(np.uint8)
    return found


def template_for(stream: Stream) -> tuple[str, str | None]:
    """A payload for the columns of a stream, and the column whose sum is the checksum (None where there is no number).

    Raises `ConfigError` for a NOT NULL column of a type that no word stands for.
    """
    arrival = stream.arrival
    parts: list[str] = []
    checked: str | None = None
    for column in stream.columns:
        if arrival is not None and column.name == arrival.name:
            word = _time_word(arrival)
        else:
            word = _word(column.type, checked is None)
            if word in ("$value", "$whole"):
                checked = column.name
        if word is not None:
            parts.append(f'"{column.name}":{word}')
        elif not column.type.nullable and (arrival is None or column.name != arrival.name):
            raise ConfigError(
                f"no value is made for the column {column.name} of the stream {stream.name} ({column.type})",
                hint="say what is to be sent with --payload",
            )
    return "{" + ",".join(parts) + "}", checked


def _time_word(arrival: ArrivalColumn) -> str | None:
    return {1: "$seconds", 1000: "$time"}.get(arrival.per_second or 0)


def _word(kind: Type, first_number: bool) -> str | None:
    if kind.kind in _TEXTS:
        return '"$client"'
    if kind.kind in (Kind.DOUBLE, Kind.FLOAT):
        return "$value" if first_number else "1.5"
    if kind.kind in _WHOLES:
        return "$whole" if first_number else "1"
    return "true" if kind.kind is Kind.BOOLEAN else None


def client_numbers(connection: int, connections: int, clients: int, count: int) -> Numbers:
    """Which client each of `count` rows of a connection names: its own ones in turn, nobody else's."""
    mine = np.arange(connection, max(clients, connections), connections, dtype=np.int64)
    found: Numbers = mine[np.arange(count) % len(mine)]
    return found
