"""Where the log stands: next offsets, positions and the newest seq. Pure; drivers keep one and change it by drafts.

A draft collects what a group of transactions changes. Only when the group is durable does the ledger accept it, so a
failed write leaves no trace here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.errors import LogError
from qanat.log.admission import Entry, Known, Request
from qanat.log.base import Place, Receipt


@dataclass(slots=True)
class Ledger:
    """`ends`: next offset per place; `positions`: per consumer and place, never stored means 0."""

    seq: int = 0
    ends: dict[Place, int] = field(default_factory=dict)
    positions: dict[str, dict[Place, int]] = field(default_factory=dict)

    def accept(self, draft: Draft) -> None:
        """Take over what is durable now."""
        self.ends.update(draft.ends)
        for consumer in draft.forgotten:
            self.positions.pop(consumer, None)
        for (consumer, place), offset in draft.positions.items():
            self.positions.setdefault(consumer, {})[place] = offset
        self.seq = draft.seq

    def floor(self, place: Place) -> int | None:
        """The offset below which every consumer of the stream has read this partition; None where none reads it."""
        stream, _ = place
        readers = [held for held in self.positions.values() if any(name == stream for name, _ in held)]
        return min((held.get(place, 0) for held in readers), default=None)


class Draft:
    """Transactions on top of a ledger, one after the other."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.seq = ledger.seq
        self.ends: dict[Place, int] = {}
        self.positions: dict[tuple[str, Place], int] = {}
        #: Consumers whose positions in the ledger no longer count.
        self.forgotten: set[str] = set()
        self.state: dict[str, bytes | None] = {}
        #: What is to be stored: entry, seq, offset.
        self.appends: list[tuple[Entry, int, int]] = []

    def admit(self, request: Request) -> Receipt:
        """Add one transaction. Raises `LogError`, and adds nothing, where what it expects is not so."""
        transaction = request.transaction
        for consumer, expected in transaction.expect.items():
            self._check(consumer, expected)
        offsets = tuple(self._append(entry) for entry in request.entries)
        for consumer in transaction.forget:
            self._forget(consumer)
        for consumer, moved in transaction.positions.items():
            for place, offset in moved.items():
                self.positions[consumer, place] = offset
        self.state.update(transaction.state)
        return Receipt(offsets, self.seq)

    def _check(self, consumer: str, expected: Mapping[Place, int]) -> None:
        stored = {} if consumer in self.forgotten else self._ledger.positions.get(consumer, {})
        for place, offset in expected.items():
            found = self.positions.get((consumer, place), stored.get(place, 0))
            if found != offset:
                raise LogError(
                    f"{consumer} expected position {offset} on {place[0]}/{place[1]}, but {found} is stored",
                    hint="another process runs the same pipeline; stop one of them",
                )

    def _forget(self, consumer: str) -> None:
        self.forgotten.add(consumer)
        for held in [held for held in self.positions if held[0] == consumer]:
            del self.positions[held]

    def _append(self, entry: Entry) -> int:
        place = entry.place
        offset = self.ends.get(place)
        if offset is None:
            offset = self._ledger.ends.get(place, 0)
        if entry.count:  # an append without rows takes neither offset nor seq
            self.seq += 1
            self.ends[place] = offset + entry.count
            self.appends.append((entry, self.seq, offset))
        return offset


def ends_after(known: Known, ledger: Ledger, draft: Draft) -> dict[int, int]:
    """The end of every partition of a stream once the draft is stored."""
    name = known.stream.name
    places = [(name, partition) for partition in range(known.stream.partitions)]
    return {place[1]: draft.ends.get(place, ledger.ends.get(place, 0)) for place in places}
