"""Whose silence is to be looked at when: a timer wheel (Varghese and Lauck, 1987). Pure; times are ms.

Everybody stands in one slot at most, and is looked at only when that slot is due. A deadline that has moved on since
costs nothing until then, so 10,000 connections that speak all the time are looked at once per keep-alive.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")
_SLOT_MS = 500


class Deadlines(Generic[T]):
    """Members by the slot of their deadline."""

    def __init__(self) -> None:
        self._slots: dict[int, set[T]] = {}
        self._where: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    def put(self, member: T, deadline: int) -> None:
        """Have `member` given by `due` within a slot's width after `deadline`, and no more for an earlier one."""
        self.drop(member)
        slot = -(-deadline // _SLOT_MS)
        self._where[member] = slot
        self._slots.setdefault(slot, set()).add(member)

    def drop(self, member: T) -> None:
        """Forget `member`, if it is known."""
        slot = self._where.pop(member, None)
        if slot is not None:
            members = self._slots[slot]
            members.discard(member)
            if not members:
                del self._slots[slot]

    def due(self, now: int) -> list[T]:
        """Those whose deadline is over, who are forgotten."""
        found: list[T] = []
        for slot in [one for one in self._slots if one * _SLOT_MS <= now]:
            found += self._slots.pop(slot)
        for member in found:
            del self._where[member]
        return found
