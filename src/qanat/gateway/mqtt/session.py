"""What is known of a client beyond its connection: values, and how they are kept in the log's state. Pure.

A session holds no messages. What is to be delivered is a position in the log, what is on its way an offset.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from qanat.gateway.mqtt.filters import Filter, parse_filter

#: (user, client id); the user is "" where no credentials are demanded.
Client = tuple[str, str]
#: (filter, stream): what one outlet reads.
Source = tuple[str, str]

_NO_LOCAL, _AS_PUBLISHED = 0x04, 0x08


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a client with its options byte (3.1.1: the QoS) and its identifier, 0 for none."""

    filter: Filter
    options: int
    identifier: int = 0

    @property
    def qos(self) -> int:
        """The QoS with which its messages are sent."""
        return self.options & 3

    @property
    def no_local(self) -> bool:
        """Whether the client's own messages are not to come back to it."""
        return bool(self.options & _NO_LOCAL)

    @property
    def as_published(self) -> bool:
        """Whether messages keep their retain flag."""
        return bool(self.options & _AS_PUBLISHED)

    @property
    def retain_handling(self) -> int:
        """0: send what is retained; 1: only where the subscription is new; 2: never."""
        return self.options >> 4 & 3


@dataclass(frozen=True, slots=True)
class Flight:
    """A message with QoS 1 or 2 that is on its way: the row, and under which subscription it was sent.

    `is_released`: the client has it (PUBREC) and does not yet know that we know.
    """

    source: Source
    partition: int
    offset: int
    qos: int
    is_released: bool = False
    is_retained: bool = False


def _nothing() -> None:
    """A session without a connection does not move."""


@dataclass(slots=True)
class Session:
    """`expiry_s`: for how long it outlives its connection. `positions`: where each source with QoS 1 or 2 goes on.

    `flights`: by packet id, in the order sent. `taken`: packet ids with QoS 2 that are stored and not yet released.
    `retained`: sources whose newest rows have not all been sent. `is_busy`: messages with QoS 2 wait for the log.
    `is_dirty`: something has changed that is to be written soon. `refresh` brings `positions` up to date.
    """

    client: Client
    expiry_s: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    positions: dict[Source, dict[int, int]] = field(default_factory=dict)
    flights: dict[int, Flight] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    is_dirty: bool = False
    is_busy: bool = False
    is_over: bool = False
    last_id: int = 0
    retained: set[Source] = field(default_factory=set)
    refresh: Callable[[], None] = _nothing

    @property
    def is_durable(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry_s > 0 and not self.is_over

    @property
    def is_worth_keeping(self) -> bool:
        """Whether there is anything in it beside the packet ids, which have a place of their own."""
        return bool(self.subscriptions or self.flights)

    def next_id(self) -> int:
        """A packet id that is not in use."""
        for _ in range(0xFFFF):
            self.last_id = self.last_id % 0xFFFF + 1
            if self.last_id not in self.flights:
                return self.last_id
        raise RuntimeError("all packet ids are on their way")  # the window is far smaller

    def rank(self, filter_text: str) -> tuple[int, int]:
        """(QoS, identifier) of a subscription; QoS 0 where it is gone."""
        found = self.subscriptions.get(filter_text)
        return (found.qos, found.identifier) if found is not None else (0, 0)


class _Stored(msgspec.Struct, array_like=True):
    """The kept form: MessagePack."""

    subscriptions: list[tuple[str, int, int]]
    positions: list[tuple[str, str, dict[int, int]]]
    flights: list[tuple[int, str, str, int, int, int, bool, bool]]
    retained: list[Source] = msgspec.field(default_factory=list)


_decoder = msgspec.msgpack.Decoder(_Stored)


def encode_session(session: Session) -> bytes:
    """What is kept of a session beside its taken packet ids."""
    stored = _Stored(
        [(one.filter.text, one.options, one.identifier) for one in session.subscriptions.values()],
        [(text, stream, offsets) for (text, stream), offsets in session.positions.items()],
        [
            (number, *one.source, one.partition, one.offset, one.qos, one.is_released, one.is_retained)
            for number, one in session.flights.items()
        ],
        list(session.retained),
    )
    return msgspec.msgpack.encode(stored)


def decode_session(client: Client, expiry_s: int, kept: bytes | None, taken: bytes | None) -> Session:
    """The session again. Raises `msgspec.MsgspecError` for bytes that are none."""
    session = Session(client, expiry_s, taken=set(decode_ids(taken)))
    if kept is not None:
        stored = _decoder.decode(kept)
        for text, options, identifier in stored.subscriptions:
            session.subscriptions[text] = Subscription(parse_filter(text), options, identifier)
        session.positions = {(text, stream): offsets for text, stream, offsets in stored.positions}
        for number, text, stream, partition, offset, qos, is_released, is_retained in stored.flights:
            session.flights[number] = Flight((text, stream), partition, offset, qos, is_released, is_retained)
        session.retained = set(stored.retained)
        session.last_id = max(session.flights, default=0)
    return session


def encode_ids(ids: Iterable[int]) -> bytes | None:
    """Packet ids, two bytes each; None where there are none, so that their key goes."""
    data = array("H", ids).tobytes()
    return data or None


def decode_ids(data: bytes | None) -> list[int]:
    """The packet ids again."""
    return list(array("H", data)) if data else []


class Entry(msgspec.Struct, array_like=True):
    """One session in the index: how long it lives beyond its connection, and until when (ms) where it has none."""

    user: str
    client: str
    expiry_s: int
    deadline: int | None


_entries = msgspec.msgpack.Decoder(list[Entry])


def encode_entries(entries: Mapping[Client, Entry]) -> bytes | None:
    """One bucket of the index; None for an empty one."""
    return msgspec.msgpack.encode(list(entries.values())) if entries else None


def decode_entries(data: bytes | None) -> dict[Client, Entry]:
    """The bucket again."""
    found = _entries.decode(data) if data else []
    return {(one.user, one.client): one for one in found}
