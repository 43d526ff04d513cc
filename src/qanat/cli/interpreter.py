"""How Python is set in a process that serves for months: its cycle collector, and how its threads take turns."""

from __future__ import annotations

import gc
import sys

#: Containers that may be made, and not be gone again, before the youngest generation is looked through.
_YOUNG = 50_000
_MIDDLE, _OLD = 20, 100
#: s that a thread keeps the interpreter while another one waits for it.
_TURN_S = 0.0005


def settle() -> None:
    """Call once everything is running. What lives until the end is taken out of the collector's sight.

    Python's own setting looks through everything that was made lately after every 700 objects, and now and then through
    all there is: with 10,000 connections that is a sixth of the processor time and pauses of 100 ms and more. Messages
    on their way are freed by their reference counts; cycles come from errors and connections only, and can wait.

    What comes in goes through four threads before it is seen outside, and each comes back to the interpreter dozens of
    times from what runs without it. With Python's own 5 ms, every time that another one is busy may cost 5 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    sys.setswitchinterval(_TURN_S)


def release() -> None:
    """Call at the end. What the collector may not see is never taken apart, and libraries complain of it on stderr."""
    gc.unfreeze()
