"""Which rows are news: what is raised per key, and what a sink has said about it. Pure; the log keeps it.

row says      known           ->  said        kept
raised        nothing             raised      (state, now)
raised        the same state      nothing, or raised again after `repeat_after`
nothing       something           raised again after `repeat_after`, where a `state` can end it
raised        another state       raised      (state, now)
cleared       something           cleared, if `recovery`      nothing
cleared       nothing             nothing
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from qanat.model.sinks import Sink
from qanat.notify.messages import CLEARED, RAISED, ROW

SLOTS = 64


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A row that says that an alert is raised: its place, when it came (ms), and its JSON."""

    partition: int
    offset: int
    at: int
    row: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An alert that is raised: its state, when it was last sent (ms), and the newest row that says so.

    `row` None: there is none to repeat it with until the next one comes.
    """

    state: str
    sent: int
    row: Row | None = None


class _Slot(msgspec.Struct, frozen=True, array_like=True):
    """What the log keeps: for which declaration, and what is raised by key."""

    made_for: str
    raised: dict[str, Entry]


@dataclass(slots=True)
class Draft:
    """What changes when a batch is delivered: what is raised by key, None where nothing is any more."""

    changes: dict[str, Entry | None] = field(default_factory=dict)


class Raised:
    """What is raised in a stream, as one sink has said it."""

    def __init__(self, name: str, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._made_for = f"{sink.stream}({','.join(sink.key)}){sink.state or ''}"
        self._slots: list[dict[str, Entry]] = [{} for _ in range(SLOTS)]

    @property
    def state_keys(self) -> list[str]:
        """Where the log keeps it, slot by slot."""
        return [f"sink/{self._name}/{slot}" for slot in range(SLOTS)]

    def load(self, stored: list[bytes | None]) -> None:
        """Take over what the log keeps; what was made for another key or stream counts for nothing."""
        for place, data in enumerate(stored):
            slot = None if data is None else msgspec.msgpack.decode(data, type=_Slot)
            self._slots[place] = dict(slot.raised) if slot is not None and slot.made_for == self._made_for else {}

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    @property
    def keeps(self) -> bool:
        """Whether there is anything to remember: without key and state every row is news."""
        return bool(self._sink.key) or self._sink.state is not None

    @property
    def reminds(self) -> bool:
        """Whether time alone repeats an alert. Without `state` nothing would ever end that."""
        return self._sink.state is not None and self._sink.repeat_after is not None

    def decide(self, key: str, state: str | None, now: int, draft: Draft, row: Row | None = None) -> str | None:
        """What to say about a row, if anything. `state` None: it is cleared. The draft knows it afterwards."""
        if not self.keeps:
            return ROW
        known = draft.changes[key] if key in draft.changes else self._slots[_slot_of(key)].get(key)
        if state is None:
            if known is None:
                return None
            draft.changes[key] = None
            return CLEARED if self._sink.recovery else None
        if known is not None and known.state == state and not self._is_due(known.sent, now):
            if self.reminds:
                draft.changes[key] = Entry(state, known.sent, row)
            return None
        draft.changes[key] = Entry(state, now, row if self._sink.state is not None else None)
        return RAISED

    def due(self, now: int, most: int) -> list[tuple[str, Entry]]:
        """What is to be said again though no row came, at most so many, the one that waits longest first."""
        if not self.reminds:
            return []
        found = [(key, one) for key, one in self._entries() if one.row is not None and self._is_due(one.sent, now)]
        return sorted(found, key=lambda item: (item[1].sent, item[0]))[:most]

    def next_due(self) -> int | None:
        """When there is something to be said again (ms, maybe in the past); None: not before another row comes."""
        wait = self._sink.repeat_after
        if wait is None or not self.reminds:
            return None
        return min((one.sent + int(wait) for _, one in self._entries() if one.row is not None), default=None)

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        for slot in self._slots:
            yield from slot.items()

    def forget_stale(self, now: int, draft: Draft) -> None:
        """Where nothing says that an alert has cleared, its key is dropped once it may be said again anyway."""
        if self._sink.state is not None or not draft.changes:
            return
        for place in {_slot_of(key) for key in draft.changes}:
            for key, one in self._slots[place].items():
                if key not in draft.changes and self._is_due(one.sent, now):
                    draft.changes[key] = None

    def stored(self, draft: Draft) -> Mapping[str, bytes | None]:
        """The log's state after the draft, of the slots that it changes."""
        states: dict[str, bytes | None] = {}
        for place in sorted({_slot_of(key) for key in draft.changes}):
            after = _changed(self._slots[place], draft, place)
            encoded = msgspec.msgpack.encode(_Slot(self._made_for, after))
            states[self.state_keys[place]] = encoded if after else None
        return states

    def accept(self, draft: Draft) -> None:
        """The draft is durable."""
        for key, change in draft.changes.items():
            slot = self._slots[_slot_of(key)]
            if change is None:
                slot.pop(key, None)
            else:
                slot[key] = change

    def _is_due(self, sent: int, now: int) -> bool:
        wait = self._sink.repeat_after
        return wait is not None and now - sent >= wait


def _changed(slot: Mapping[str, Entry], draft: Draft, place: int) -> dict[str, Entry]:
    after = dict(slot)
    for key, change in draft.changes.items():
        if _slot_of(key) != place:
            continue
        if change is None:
            after.pop(key, None)
        else:
            after[key] = change
    return after


def _slot_of(key: str) -> int:
    return zlib.crc32(key.encode()) % SLOTS
