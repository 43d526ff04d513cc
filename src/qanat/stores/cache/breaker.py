"""Whether a cache is to be asked at all, from how its last answers went. Pure: time and draws are parameters.

    closed --too many failures--> open --back-off over--> half-open --probes well--> closed
                                    ^------- a probe failed ----------'

Two things keep it from flapping: probes must be twice as fast as answers must, and a cache that fails again soon after
it came back waits twice as long as the time before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from qanat.model.backoff import Backoff


class State(Enum):
    """What a breaker lets through: everything, nothing, probes. The value is what metrics show."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When it opens, and how it comes back. Times in seconds.

    It opens after `in_a_row` failures, or when `share` of the last `window` answers failed, once there are `least`.
    Answers slower than `slow` failed; probes slower than half of that did. `probes` good ones, `gap` apart, close it.
    The back-off doubles from `first` to `longest`, half of it drawn; after `calm` without opening it begins anew.
    """

    slow: float = 0.05
    in_a_row: int = 5
    window: int = 20
    least: int = 10
    share: float = 0.5
    probes: int = 3
    gap: float = 0.1
    first: float = 0.5
    longest: float = 30.0
    calm: float = 30.0


class Breaker:
    """One per cache."""

    def __init__(self, limits: BreakerLimits) -> None:
        self.limits = limits
        self.state = State.CLOSED
        self._recent: deque[bool] = deque(maxlen=limits.window)
        self._failures_in_a_row = 0
        self._good_probes = 0
        self._openings = 0
        self._closed_at = 0.0
        self._next_probe = 0.0

    def record(self, ok: bool, seconds: float, now: float, draw: float = 1.0) -> None:
        """One answer came, or did not, after so many seconds. What comes late, after it has opened, does not count."""
        if self.state is not State.CLOSED:
            return
        good = ok and seconds <= self.limits.slow
        self._recent.append(good)
        self._failures_in_a_row = 0 if good else self._failures_in_a_row + 1
        if not good and self._too_many():
            self._open(now, draw)

    def due(self, now: float) -> bool:
        """Whether a probe should be sent now."""
        return self.state is not State.CLOSED and now >= self._next_probe

    def begin_probe(self, now: float) -> None:
        """A probe is being sent. Until it is `probed`, none is due for the longest time that one can take."""
        self.state = State.HALF_OPEN
        self._next_probe = now + self.limits.longest

    def probed(self, ok: bool, seconds: float, now: float, draw: float = 1.0) -> None:
        """How a probe went."""
        if not ok or seconds > self.limits.slow / 2:
            self._open(now, draw)
            return
        self._good_probes += 1
        self._next_probe = now + self.limits.gap
        if self._good_probes >= self.limits.probes:
            self.state = State.CLOSED
            self._closed_at = now
            self._recent.clear()
            self._failures_in_a_row = 0

    def _too_many(self) -> bool:
        limits, failed = self.limits, self._recent.count(False)
        enough = len(self._recent) >= limits.least and failed >= limits.share * len(self._recent)
        return enough or self._failures_in_a_row >= limits.in_a_row

    def _open(self, now: float, draw: float) -> None:
        if self.state is State.CLOSED and now - self._closed_at >= self.limits.calm:
            self._openings = 0
        self._openings += 1
        self.state = State.OPEN
        self._good_probes = 0
        self._next_probe = now + Backoff(self.limits.first, self.limits.longest).wait(self._openings, draw)
