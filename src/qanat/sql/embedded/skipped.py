"""Rows of the log that a pipeline passes over, because it cannot compute with them. Kept in the log, by pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qanat.log.base import Chunk, Place


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row that a pipeline failed on, and the error in one line."""

    place: Place
    offset: int
    reason: str


class Skipped:
    """Offsets by place. `count`: how many there are."""

    def __init__(self, offsets: Mapping[Place, Iterable[int]] | None = None) -> None:
        self._offsets = {place: frozenset(some) for place, some in (offsets or {}).items()}

    @classmethod
    def load(cls, data: bytes | None) -> Skipped:
        """What `dump` gave; None is none."""
        if data is None:
            return cls()
        return cls({(stream, partition): offsets for stream, partition, offsets in json.loads(data)})

    def dump(self) -> bytes:
        """As bytes, for the log."""
        return json.dumps([[*place, sorted(offsets)] for place, offsets in sorted(self._offsets.items())]).encode()

    @property
    def count(self) -> int:
        """How many rows are passed over."""
        return sum(map(len, self._offsets.values()))

    def add(self, suspects: Iterable[Suspect], starts: Mapping[Place, int]) -> Skipped:
        """With these, and without those below `starts`, which the log has no more."""
        merged: dict[Place, set[int]] = {place: set(offsets) for place, offsets in self._offsets.items()}
        for suspect in suspects:
            merged.setdefault(suspect.place, set()).add(suspect.offset)
        kept = {place: {one for one in some if one >= starts.get(place, 0)} for place, some in merged.items()}
        return Skipped({place: offsets for place, offsets in kept.items() if offsets})

    def without(self, chunk: Chunk) -> Iterator[Chunk]:
        """The chunk, or what is left of it: runs of rows between those that are passed over."""
        mine = self._offsets.get((chunk.stream, chunk.partition))
        inside = sorted(one for one in mine if chunk.offset <= one < chunk.end) if mine else []
        start = chunk.offset
        for end in (*inside, chunk.end):
            if start < end:
                yield _part(chunk, start, end)
            start = end + 1


#: Nothing is passed over.
NOTHING = Skipped()


def _part(chunk: Chunk, start: int, end: int) -> Chunk:
    if (start, end) == (chunk.offset, chunk.end):
        return chunk
    first = start - chunk.offset
    rows = chunk.rows.slice(first, end - start)
    return Chunk(chunk.stream, chunk.partition, start, chunk.seq, chunk.row + first, chunk.at, rows)


def skipped_key(pipeline: str) -> str:
    """Where the log keeps what a pipeline passes over."""
    return f"skipped/{pipeline}"
