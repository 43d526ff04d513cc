"""What a target is given: one alert with its row, and the templates that make texts of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from qanat.clock import instant_text
from qanat.errors import ConfigError

#: What an alert may be: raised, cleared after it was raised, or a row of a stream that knows neither.
RAISED, CLEARED, ROW = "raised", "cleared", "row"

#: What a template may name beside the columns.
_OWN = ("$status", "$key", "$sink", "$stream", "$id", "$at")
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Message:
    """One alert. `id`: STREAM/PARTITION/OFFSET, the same however often it is sent; `at`: when the row came, in ms.

    `row`: the row as one JSON object; `key`: the values of the key's columns, joined with `/`. `since`: a reminder, of
    what was last sent then (ms); that is part of its id, since it is another message about the same row.
    """

    sink: str
    stream: str
    partition: int
    offset: int
    status: str
    key: str
    at: int
    row: bytes
    test: bool = field(default=False, kw_only=True)
    since: int | None = field(default=None, kw_only=True)

    @property
    def id(self) -> str:
        """What tells it from all others, whoever sends it again."""
        again = "" if self.since is None else f"/again/{self.since}"
        return f"{'test/' if self.test else ''}{self.stream}/{self.partition}/{self.offset}{again}"

    @property
    def values(self) -> dict[str, Any]:
        """The row, by column."""
        decoded: dict[str, Any] = orjson.loads(self.row)
        return decoded


def encode_json(message: Message) -> bytes:
    """As JSON of our own: what it is, and the row."""
    told = {
        "id": message.id,
        "sink": message.sink,
        "stream": message.stream,
        "status": message.status,
        "key": message.key,
        "at": instant_text(message.at),
        "row": orjson.Fragment(message.row),
    }
    return orjson.dumps(told | ({"test": True} if message.test else {}))


def encode_event(message: Message) -> bytes:
    """As a CloudEvent 1.0 in structured form; the data is the row. `source` and `id` together name it for ever."""
    told = {
        "specversion": "1.0",
        "id": message.id,
        "source": f"/qanat/sinks/{message.sink}",
        "type": f"qanat.alert.{message.status}" if not message.test else "qanat.alert.test",
        "time": instant_text(message.at),
        "datacontenttype": "application/json",
    }
    subject = {"subject": message.key} if message.key else {}
    return orjson.dumps(told | subject | {"data": orjson.Fragment(message.row)})


def id_of(messages: Sequence[Message]) -> str:
    """What names a request: the id of its alert, of a batch the first one's with the offset of the last.

    Reminders are of many places: a batch of them has the first one's id and their number.
    """
    first, last = messages[0], messages[-1]
    if first is last:
        return first.id
    return f"{first.id}-{last.offset}" if first.since is None else f"{first.id}+{len(messages) - 1}"


class Template:
    """Text with `{column}`, and `{$status}`, `{$key}`, `{$sink}`, `{$stream}`, `{$id}`, `{$at}`; `{{` is a `{`.

    Raises `ConfigError` for what is neither, with `place` (sinks.NAME.KEY) and what there is.
    """

    def __init__(self, text: str, columns: Collection[str], place: str) -> None:
        self.text = text
        for match in _PLACE.finditer(text):
            if match[0] in ("{{", "}}"):
                continue
            if match[1] is None or match[1] not in (*columns, *_OWN):
                raise ConfigError(
                    f"{place}: {match[0]!r} in the template is no column",
                    hint=f"there are: {', '.join((*columns, *_OWN))}; a brace is written twice",
                )

    def fill(self, message: Message) -> dict[str, str]:
        """The texts of everything that the template may name. NULL is empty, text is itself, the rest is JSON."""
        own = (message.status, message.key, message.sink, message.stream, message.id, instant_text(message.at))
        return {name: text_of(value) for name, value in message.values.items()} | dict(zip(_OWN, own, strict=True))

    def render(self, message: Message) -> str:
        """The text for one alert."""
        return self.render_with(self.fill(message))

    def render_with(self, values: Mapping[str, str]) -> str:
        """The text with these values."""
        return _PLACE.sub(lambda match: match[0][0] if match[1] is None else values[match[1]], self.text)


def text_of(value: Any) -> str:
    """A JSON value as people read it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
