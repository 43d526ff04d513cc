"""Where time comes from. Everywhere else time is a parameter.

Event times, arrival times and watermarks are integers: milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import time

#: A watermark before anything was seen.
MIN_TIME = -(2**63) + 1
#: The watermark at the end of a bounded input.
MAX_TIME = 2**63 - 1


def now_ms() -> int:
    """The wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
