"""Death inside of a process: as `kill -9`, at a named point or at the so-manyth call of a Python function."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

#: Called at each named point.
Reach = Callable[[str], None]


def die() -> None:
    """As `kill -9` from outside: nothing is flushed, nothing cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying_at(point: str, hit: int) -> Reach:
    """Dies when `point` is reached for the `hit`th time (from 1), in whichever thread that is."""
    lock, left = threading.Lock(), hit

    def reach(reached: str) -> None:
        nonlocal left
        if reached == point:
            with lock:
                left -= 1
                if left == 0:
                    die()

    return reach


def die_at_call(number: int) -> None:
    """Die at the `number`th call of a Python function, in whichever thread that is."""
    calls = iter(range(number, 0, -1))  # next() is atomic

    def count(_frame: Any, event: str, _argument: Any) -> None:
        if event == "call" and next(calls, 1) == 1:
            die()

    threading.setprofile(count)
    sys.setprofile(count)


def around(owner: Any, name: str, reach: Reach, before: str | None, after: str | None) -> None:
    """Reach points before and after each call of `owner.name`."""
    plain = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            reach(before)
        found = plain(*args, **kwargs)
        if after is not None:
            reach(after)
        return found

    setattr(owner, name, wrapped)
