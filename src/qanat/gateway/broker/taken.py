"""Which QoS 2 messages of a broker are durable, so that one that comes again is not stored again.

Pure. The packet ids lie in a few slots, each a key of the log's state. A batch has at most one offer per slot, and
there is one batch at a time: so what an offer writes for its slot holds whatever becomes of the other offers, and the
number of keys does not grow with the number of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: How many offers of QoS 2 a broker's source may have in one commit.
SLOTS = 32


class Taken:
    """The ids by slot. `session` says which session they belong to; ids of another one mean nothing."""

    def __init__(self, name: str, session: str) -> None:
        self._name, self._session = name, session.encode()
        self._slots: list[frozenset[int]] = [frozenset()] * SLOTS
        self._where: dict[int, int] = {}

    def __contains__(self, packet_id: object) -> bool:
        return packet_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    @property
    def state_keys(self) -> list[str]:
        """The log's keys, by slot."""
        return [f"{self._name}/taken/{slot}" for slot in range(SLOTS)]

    def load(self, stored: Iterable[bytes | None]) -> None:
        """What the log holds under `state_keys`, in their order."""
        for slot, data in enumerate(stored):
            session, _, ids = (data or b"").partition(b"\n")
            if session == self._session:
                self.set(slot, frozenset(int.from_bytes(ids[at : at + 2]) for at in range(0, len(ids), 2)))

    def slot_of(self, packet_id: int) -> int | None:
        """Where an id lies."""
        return self._where.get(packet_id)

    def ids(self, slot: int) -> frozenset[int]:
        """The ids in a slot."""
        return self._slots[slot]

    def set(self, slot: int, ids: frozenset[int]) -> None:
        """A slot's ids are durably these."""
        for packet_id in self._slots[slot]:
            self._where.pop(packet_id, None)
        self._slots[slot] = ids
        self._where.update(dict.fromkeys(ids, slot))

    def stored(self, slot: int, ids: frozenset[int]) -> Mapping[str, bytes | None]:
        """What the log is to keep for a slot with these ids."""
        key = f"{self._name}/taken/{slot}"
        if not ids:
            return {key: None}
        return {key: self._session + b"\n" + b"".join(packet_id.to_bytes(2) for packet_id in sorted(ids))}
