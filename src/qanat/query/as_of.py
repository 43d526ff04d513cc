"""Which rows a query may see: those of now, or those that a stream had at an offset or a time of arrival. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qanat.errors import ConfigError
from qanat.log.base import Place

_PLACE = re.compile(r"([^/=]+)/(\d+)=(\d+)")


@dataclass(frozen=True, slots=True)
class AsOf:
    """`at`: rows that arrived then (ms) or before. `offsets`: of these places the rows up to that offset, it included.

    Both hold where both are given; a place that is not named is not bounded.
    """

    at: int | None = None
    offsets: Mapping[Place, int] = field(default_factory=dict)

    @staticmethod
    def time(time: dt.datetime) -> AsOf:
        """As it was at a time; UTC unless it says otherwise."""
        zoned = time if time.tzinfo else time.replace(tzinfo=dt.UTC)
        return AsOf((zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1))

    def holds(self, at: int) -> bool:
        """Whether an append that arrived at `at` (ms) is seen."""
        return self.at is None or at <= self.at

    def end(self, place: Place, end: int) -> int:
        """The offset after the last one that is seen, `end` where that is not bounded."""
        last = self.offsets.get(place)
        return end if last is None else last + 1

    def bounds(self, stream: str) -> bool:
        """Whether any row of a stream may be left out."""
        return self.at is not None or any(place[0] == stream for place in self.offsets)


NOW = AsOf()


def parse_as_of(texts: Iterable[str]) -> AsOf:
    """`2026-11-21T10:00:00Z`, `readings/0=1200`, or several of these. Raises `ConfigError`."""
    at: int | None = None
    offsets: dict[Place, int] = {}
    for text in texts:
        match = _PLACE.fullmatch(text.strip())
        if match is not None:
            offsets[match[1], int(match[2])] = int(match[3])
            continue
        try:
            at = AsOf.time(dt.datetime.fromisoformat(text.strip())).at
        except ValueError:
            hint = "a time such as 2026-11-21T10:00:00Z, or STREAM/PARTITION=OFFSET such as readings/0=1200"
            raise ConfigError(f"no moment to look at: {text!r}", hint=hint) from None
    return AsOf(at, offsets)
