"""What a stream is: declarations only, frozen. No I/O, no SQL text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.model.types import BIGINT, BYTES, INT, STRING, TIMESTAMP_LTZ, Type

#: Streams that every project has; nobody declares or feeds them by name.
DEAD_LETTERS = "dead_letters"
LATE = "late"

#: Column that the rows of an upsert stream have besides their own: NULL where the row is the latest of its key,
#: `DELETED` where the key is gone.
CHANGE = "__op"
DELETED = 3


@dataclass(frozen=True, slots=True)
class Column:
    """A physical column: one that is stored."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class ArrivalColumn:
    """The column that takes the arrival time where a message brings none.

    `per_second`: how many of the column's units make a second (1 = seconds, 1000 = milliseconds); None where the
    column is a TIMESTAMP or TIMESTAMP_LTZ itself.
    """

    name: str
    per_second: int | None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of the log.

    `columns` are the physical ones. `event_time` names the physical column that gives the log its index of event
    times (None: the log keeps no times), `key` the columns of the PRIMARY KEY. `upsert`: the stream holds the latest
    row per key, and its rows are stored with the column `CHANGE`. `options` are those of the WITH clause.
    """

    name: str
    columns: tuple[Column, ...]
    event_time: ArrivalColumn | None = None
    key: tuple[str, ...] = ()
    partitions: int = 1
    retention_ms: int | None = None
    retention_bytes: int | None = None
    compact: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    upsert: bool = False

    @property
    def arrival(self) -> ArrivalColumn | None:
        """The column that the gateway fills where it is missing: the one that event time comes from."""
        return self.event_time


def dead_letter_stream() -> Stream:
    """Law 7: bytes, reason and origin of what could not be taken."""
    return Stream(
        DEAD_LETTERS,
        (
            Column("arrived", TIMESTAMP_LTZ),
            Column("stream", STRING),  # the stream it was meant for; NULL where that is unknown
            Column("reason", STRING),
            Column("data", BYTES),  # the original bytes
            Column("source", STRING),  # mqtt, http, file, sql
            Column("origin", STRING),  # topic, path or file
            Column("client", STRING),  # MQTT client id, user or peer address
            Column("partition", INT),
            Column("offset", BIGINT),
            Column("schema_version", INT),
        ),
        event_time=ArrivalColumn("arrived", None),
    )


def late_stream() -> Stream:
    """Law 4: rows that came after every window they belong to was closed, with the watermark that condemned them."""
    return Stream(
        LATE,
        (
            Column("event_time", TIMESTAMP_LTZ),
            Column("watermark", TIMESTAMP_LTZ),
            Column("pipeline", STRING),
            Column("operator", STRING),
            Column("reason", STRING),
            Column("row", STRING),  # the row as JSON
        ),
        event_time=ArrivalColumn("event_time", None),
    )
