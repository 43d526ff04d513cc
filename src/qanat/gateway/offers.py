"""What producers hand to `ingest.Ingest` and what they hear: values only, the same for every protocol."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qanat.errors import QanatError


class DeadKind(enum.Enum):
    """The class of a dead letter's reason, as metrics count it."""

    DECODE = "decode"
    FUTURE = "future"
    UNKNOWN_STREAM = "unknown_stream"


@dataclass(frozen=True, slots=True)
class Dead:
    """One payload that went to `dead_letters`: its place in the offer, and why."""

    index: int
    kind: DeadKind
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an offer. With `error` nothing is durable; without, `accepted` rows and all of `dead` are."""

    accepted: int = 0
    dead: tuple[Dead, ...] = ()
    error: QanatError | None = None


@dataclass(slots=True)
class Offer:
    """Payloads of one producer for one stream, in order; one payload is one row.

    `known`: False sends all of them to the dead letters. `source`: mqtt, http, ...; `origin`: topic or path; `client`:
    MQTT client id, user or peer. `arrived` in ms. `done` is called once, in the event loop, after the verdict is
    durable.
    """

    stream: str
    payloads: Sequence[bytes]
    source: str
    origin: str
    client: str
    arrived: int
    done: Callable[[Verdict], None]
    known: bool = True
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.payloads))
