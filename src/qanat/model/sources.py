"""Where rows come from and how they are read: the `sources` of qanat.yaml, one table for every way in.

Declarations only. What a pattern means is `gateway.patterns`, what a format means `gateway.formats`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from qanat.model.sections import Duration, Section

#: What a column may be set to: text with {captures}, or one of the `$` names.
Constant = str | int | float | bool


class BrokerTls(Section, frozen=True):
    """PEM files relative to the project: who signs the broker's certificate (none: whom the system trusts); ours."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Broker(Section, frozen=True):
    """An outside MQTT broker that qanat subscribes to. `topics` are patterns as in `Source.topic`.

    `url`: mqtt[s]://[user:password@]host[:port]; `password_env`: the environment variable that holds the password.
    `client_id`: none is drawn once and kept in the log. `shared`: the group that shares the messages. `session`: how
    long the broker keeps what it has for us. `in_flight`: so many messages at a time without an acknowledgement.
    """

    url: str
    topics: tuple[str, ...]
    qos: Literal[0, 1, 2] = 1
    client_id: str | None = None
    shared: str | None = None
    version: Literal["5", "3.1.1", 5] = "5"
    password_env: str | None = None
    tls: BrokerTls | None = None
    keep_alive: Duration = Duration(30_000)
    session: Duration = Duration(7 * 86_400_000)
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 1000


class WatchedFolder(Section, frozen=True):
    """A folder, relative to the project, whose new files are taken.

    `pattern`: of the files' names. `settle`: so long a file must not have changed. `after`: what becomes of a file that
    was taken; `done`: where to with `move`. `poll`: how often it looks.
    """

    path: str
    pattern: str = "*"
    settle: Duration = Duration(2000)
    after: Literal["keep", "move", "delete"] = "keep"
    done: str | None = None
    poll: Duration = Duration(1000)


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
