"""What producers hand to `ingest.Ingest` and what they hear: values only, the same for every protocol."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qanat.codec.base import Block, Decode
from qanat.errors import QanatError


class DeadKind(enum.Enum):
    """The class of a dead letter's reason, as metrics count it."""

    DECODE = "decode"
    FUTURE = "future"
    UNKNOWN_STREAM = "unknown_stream"
    CAPTURE = "capture"


@dataclass(frozen=True, slots=True)
class Dead:
    """One payload that went to `dead_letters`: its place in the offer, and why."""

    index: int
    kind: DeadKind
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an offer. With `error` nothing is durable; without, what was accepted and all of `dead` are.

    `accepted` counts payloads, `rows` the rows that came out of them.
    """

    accepted: int = 0
    dead: tuple[Dead, ...] = ()
    error: QanatError | None = None
    rows: int = 0


@dataclass(slots=True)
class Offer:
    """Payloads of one producer for one stream, in order; one payload is one row, or a few that belong together. A list,
    or a block (`codec.base.Block`) that is decoded without an object per payload.

    `known`: False sends all of them to the dead letters. `source`: mqtt, http, ...; `origin`: topic or path; `client`:
    MQTT client id, user or peer. `arrived` in ms. `done` is called once, in the event loop, after the verdict is
    durable. `decode`: how the payloads are read; None is JSON. `fill`: (column, text, or None for NULL) that every row
    of the offer gets, whatever the payload says. `state`: what the log keeps in the same transaction, by key (None
    deletes), made from the verdict before it is durable; quick, may run in another thread. An offer without payloads
    stores only its state. `place`: number of a payload -> what its dead letter has after the origin, to find it there.
    """

    stream: str
    payloads: Sequence[bytes]
    source: str
    origin: str
    client: str
    arrived: int
    done: Callable[[Verdict], None]
    known: bool = True
    decode: Decode | None = None
    fill: tuple[tuple[str, str | None], ...] = ()
    state: Callable[[Verdict], Mapping[str, bytes | None]] | None = None
    place: Callable[[int], str] | None = None
    size: int = field(init=False)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        payloads = self.payloads
        count = len(payloads)
        self.count = count or 1
        if type(payloads) is list:  # asked first, since an ABC is dear to ask
            self.size = len(payloads[0]) if count == 1 else sum(map(len, payloads))
        else:
            self.size = payloads.size if isinstance(payloads, Block) else sum(map(len, payloads))
