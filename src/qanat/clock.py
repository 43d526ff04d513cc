"""Where time comes from. Everywhere else time is a parameter.

Event times, arrival times and watermarks are integers: milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

#: A watermark before anything was seen.
MIN_TIME = -(2**63) + 1
#: The watermark at the end of a bounded input.
MAX_TIME = 2**63 - 1


def now_ms() -> int:
    """The wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def instant_text(milliseconds: int) -> str:
    """Milliseconds since the epoch as `2026-11-21T10:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second_text(seconds)}.{rest:03d}Z"


@lru_cache(1024)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


class Clock(Protocol):
    """The clocks that a runtime reads; tests hand over one that stands still until they move it."""

    def now_ms(self) -> int:
        """The wall clock, in milliseconds since the epoch: what is written down as time of arrival."""
        ...

    def seconds(self) -> float:
        """A clock that never goes back, in seconds from anywhere: what intervals and timeouts are measured by."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    def now_ms(self) -> int:
        """See `Clock`."""
        return now_ms()

    def seconds(self) -> float:
        """See `Clock`."""
        return time.monotonic()


SYSTEM = SystemClock()
