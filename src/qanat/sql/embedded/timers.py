"""When the watermark reaches a row: Flink's event-time timers, on tracks."""

from __future__ import annotations

import numpy as np

from qanat.sql.embedded.flow import Ints

#: The event of a row whose watermark has not come yet.
NEVER = np.int64(2**62)


def fires(times: Ints, seq: Ints, track: Ints, end: int) -> Ints:
    """For rows that wait (since event `seq`) the event below `end` that lifts the watermark to their time, or `NEVER`.

    A row that the watermark had reached when it came waits for the watermark's next step, whatever it is.
    """
    before = track[seq]
    event = np.searchsorted(track, times, side="left") - 1
    waits = times <= before
    if waits.any():
        event[waits] = np.searchsorted(track, before[waits], side="right") - 1
    return np.where(event < end, event, NEVER)
