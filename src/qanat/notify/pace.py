"""When a target may be tried: back-off, breaker and rate. Pure: time (seconds) and draws are parameters.

    closed --FAILURES in a row--> open --back-off over--> half open --delivered--> closed
                                    ^------------- failed -------------'

One message is on its way at a time, so the breaker is what the back-off is called after several failures; it is told
apart because people want to see it: a target that is down looks different from one that stumbled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qanat.model.backoff import Backoff

#: So many failures in a row open the breaker.
FAILURES = 5


class Breaker(Enum):
    """The value is what the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: the wait doubles from `first` to `longest`, half of it drawn. `per_minute`: alerts; None: no limit."""

    first: float = 0.5
    longest: float = 60.0
    per_minute: float | None = None


class Pace:
    """One per sink."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._backoff = Backoff(limits.first, limits.longest)
        self._failures = 0
        self._next_try = 0.0
        #: The time at which everything sent so far would have been sent at the allowed rate.
        self._sent_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may be tried; 0 is now."""
        return max(0.0, self._next_try - now, self._room_at(now) - now)

    def room(self, now: float, wanted: int) -> int:
        """So many alerts of those wanted may go now; one at least once `wait` is over."""
        rate = self._limits.per_minute
        if rate is None:
            return wanted
        free = (now + 60 - max(self._sent_until, now)) * rate / 60
        return max(1, min(wanted, int(free + 1e-9)))

    def took(self, alerts: int, now: float) -> None:
        """Alerts were delivered, or went to where nobody sends them again: the target is well."""
        self._failures, self._next_try = 0, 0.0
        rate = self._limits.per_minute
        if rate is not None:
            self._sent_until = max(self._sent_until, now) + alerts * 60 / rate

    def failed(self, now: float, draw: float, retry_after: float | None = None) -> float:
        """A try failed; how long to wait. `draw` is in [0, 1); a target that says how long is believed, up to a day."""
        self._failures += 1
        wait = self._backoff.wait(self._failures, draw)
        if retry_after is not None:
            wait = max(wait, min(retry_after, 86_400.0))
        self._next_try = now + wait
        return wait

    def refused(self, now: float, draw: float, tries: int) -> float:
        """The target is well and did not want an alert for so many times; how long to wait before it is asked again."""
        self._failures = 0
        wait = self._backoff.wait(tries, draw)
        self._next_try = now + wait
        return wait

    def breaker(self, now: float) -> Breaker:
        """See `Breaker`."""
        if self._failures < FAILURES:
            return Breaker.CLOSED
        return Breaker.OPEN if now < self._next_try else Breaker.HALF_OPEN

    def _room_at(self, now: float) -> float:
        """When there is room for one alert: a minute's worth may go at once."""
        rate = self._limits.per_minute
        return now if rate is None else self._sent_until - 60 + 60 / rate
