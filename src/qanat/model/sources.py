"""Where rows come from and how they are read: the `sources` of qanat.yaml, one table for every way in.

Declarations only. What a pattern means is `gateway.patterns`, what a format means `gateway.formats`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from qanat.model.sections import Section

#: What a column may be set to: text with {captures}, or one of the `$` names.
Constant = str | int | float | bool


class Broker(Section, frozen=True):
    """An outside MQTT broker that qanat subscribes to. `topics` are patterns as in `Source.topic`."""

    url: str
    topics: tuple[str, ...]


class WatchedFolder(Section, frozen=True):
    """A folder, relative to the project, whose new files are taken."""

    path: str


class Source(Section, frozen=True):
    """What feeds a stream from outside, and how its payloads become rows. Exactly one of `topic`, `mqtt`, `folder`.

    `topic`: a pattern of topics of our own listeners. `format`: how payloads are read; None goes by the content type
    of the message, and takes what says none for JSON. `columns`: column -> `{capture}`, `$client`, `$user`, `$topic`,
    `$content_type`, `$property.NAME` or text. `path`: where in a payload the row, or the array of rows, lies.
    `rename`: their name -> our column. `value`: the column of a bare value. `fields`: name of SenML -> column.
    `header`, `delimiter`: the columns of CSV without a header line, and what stands between its fields.
    """

    stream: str
    topic: str | None = None
    mqtt: Broker | None = None
    folder: WatchedFolder | None = None
    format: str | None = None
    columns: dict[str, Constant] = msgspec.field(default_factory=dict)
    path: str | None = None
    rename: dict[str, str] = msgspec.field(default_factory=dict)
    value: str | None = None
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    header: tuple[str, ...] = ()
    delimiter: str = ","

    @property
    def ways(self) -> tuple[str, ...]:
        """Which of `topic`, `mqtt` and `folder` are given; one, in a checked project."""
        given: Mapping[str, object] = {"topic": self.topic, "mqtt": self.mqtt, "folder": self.folder}
        return tuple(name for name, one in given.items() if one is not None)
