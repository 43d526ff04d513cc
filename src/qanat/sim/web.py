"""Simulated visitors of a web site: sessions of page views, clicks and purchases, collected by servers that post them.

Pure, seeded, in virtual time: `readings` says who does what and when; what goes wrong with it is `faults`' business,
and how collectors post it that of `posting`. The project that takes them in is examples/web.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qanat.errors import ConfigError
from qanat.sim.faults import PURPOSES, Reading, draw

STREAM = "web_events"
PAGES = 400
#: What visitors do, and in which share of all events.
EVENTS = (("page_view", 0.72), ("click", 0.2), ("add_to_cart", 0.06), ("purchase", 0.02))
#: Between two events of a visitor, and how often that is the end of a session.
PAUSE_MS = (800, 20_000)
_SESSION_ENDS = 0.08
AWAY_MS = (60_000, 600_000)

_FIRST, _PAUSE, _EVENT, _PAGE, _ENDS, _AWAY = range(PURPOSES, PURPOSES + 6)


@dataclass(frozen=True, slots=True)
class Site:
    """`visitors` for `seconds`, heard by `collectors`. `start_ms`: event time of the beginning."""

    visitors: int = 1_000
    collectors: int = 4
    seconds: float = 300.0
    seed: int = 1
    start_ms: int = 1_767_225_600_000

    def __post_init__(self) -> None:
        if self.visitors < 1 or self.collectors < 1 or self.seconds <= 0:
            raise ConfigError(
                f"{self.visitors} visitors, {self.collectors} collectors, {self.seconds} s: nothing to do"
            )


def readings(site: Site) -> Iterator[Reading]:
    """All events in the order of time. A visitor is always heard by the same collector."""
    end = site.start_ms + round(site.seconds * 1000)
    begins = ((who, site.start_ms + _whole(site, who, 0, _FIRST, (0, PAUSE_MS[1]))) for who in range(site.visitors))
    waiting = [(at, who, 0, 0) for who, at in begins if at < end]
    heapq.heapify(waiting)
    while waiting:
        at, who, n, session = waiting[0]
        pause = _whole(site, who, n, _PAUSE, PAUSE_MS)
        ends = draw(site.seed, who, n, _ENDS) < _SESSION_ENDS
        away = _whole(site, who, n, _AWAY, AWAY_MS) if ends else 0
        yield _event(site, at, who, n, session, 0 if ends else pause)
        if at + pause + away < end:
            heapq.heapreplace(waiting, (at + pause + away, who, n + 1, session + ends))
        else:
            heapq.heappop(waiting)


def _event(site: Site, at: int, who: int, n: int, session: int, pause: int) -> Reading:
    page = f"/page/{int(draw(site.seed, who, n, _PAGE) ** 2 * PAGES)}"
    kind = _kind(draw(site.seed, who, n, _EVENT))
    user = f"user-{who + 1:06d}"
    write, value = _writer(user, kind, page, f"{who + 1:06d}-{session:04d}"), check(f"{kind}{page}")
    collector = f"collector-{who % site.collectors + 1}"
    return Reading(at, who, n, collector, STREAM, pause, write, lambda clock: f"{user}/{clock}", value)


def check(text: str) -> int:
    """The number by which contents are compared."""
    return zlib.crc32(text.encode())


def _writer(user: str, kind: str, page: str, session: str) -> Callable[[int], bytes]:
    head = f'{{"user_id":"{user}","event_type":"{kind}","timestamp":'
    tail = f',"payload":{{"page_url":"{page}","session_id":"{session}"}}}}'

    def write(clock: int) -> bytes:
        return f"{head}{clock}{tail}".encode()

    return write


def _kind(share: float) -> str:
    for name, part in EVENTS:
        if share < part:
            return name
        share -= part
    return EVENTS[0][0]


def _whole(site: Site, who: int, n: int, purpose: int, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return low + int(draw(site.seed, who, n, purpose) * (high - low + 1))
