"""Faults for a process that is about to run an engine: death at a named point of a commit, or at a random call.

Everything is patched in the child only, right after the fork; the code under test knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanat.log import layout, writer
from qanat.sql.embedded import runner as runners
from qanat.sql.embedded import worker
from qanat.sql.embedded.connectors.filesystem_sink import FileSink
from qanat.sql.embedded.runner import Runner

#: Every step of a commit and of a recovery at which the process may end.
POINTS = (
    "transaction begun",
    "rows written",
    "positions and state written",
    "before COMMIT",
    "after COMMIT",
    "snapshot packed",
    "file written",
    "before files are closed",
    "files durable",
    "before files are renamed",
    "files renamed",
    "before recovery",
    "snapshot restored",
    "replayed",
)


@dataclass(frozen=True, slots=True)
class AtPoint:
    """Die when `point` is reached for the `hit`th time (from 1)."""

    point: str
    hit: int

    def install(self) -> None:
        """Arm it in this process."""
        lock, left = threading.Lock(), self.hit

        def reach(point: str) -> None:
            nonlocal left
            if point == self.point:
                with lock:
                    left -= 1
                    if left == 0:
                        die()

        _patch(reach)


@dataclass(frozen=True, slots=True)
class AtCall:
    """Die at the `number`th call of a Python function, in whichever thread that is."""

    number: int

    def install(self) -> None:
        """Arm it in this process."""
        calls = iter(range(self.number, 0, -1))  # next() is atomic

        def count(_frame: Any, event: str, _argument: Any) -> None:
            if event == "call" and next(calls, 1) == 1:
                die()

        threading.setprofile(count)
        sys.setprofile(count)


@dataclass(frozen=True, slots=True)
class FullAt:
    """The log may not grow beyond `pages` pages; SQLite then says what it says on a full disk."""

    pages: int

    def install(self) -> None:
        """Arm it in this process."""
        connect = layout.connect_writer

        def limited(path: Path, settings: layout.Settings) -> sqlite3.Connection:
            connection = connect(path, settings)
            connection.execute(f"PRAGMA max_page_count = {self.pages}")
            return connection

        layout.connect_writer = limited
        # the engine would wait for room; here it fails
        setattr(worker.Worker, "_wait_for_room", lambda _worker, _error: False)  # noqa: B010


def die() -> None:
    """As `kill -9` from outside: nothing is flushed, nothing cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _patch(reach: Callable[[str], None]) -> None:
    plain = layout.transaction

    @contextmanager
    def transaction(connection: Any) -> Iterator[None]:
        with plain(connection):
            reach("transaction begun")
            yield
            reach("before COMMIT")
        reach("after COMMIT")

    layout.transaction = transaction
    _after(writer, "write_rows", reach, "rows written")
    _after(writer, "write_rest", reach, "positions and state written")
    _after(runners, "pack", reach, "snapshot packed")
    _after(FileSink, "write", reach, "file written")
    _around(FileSink, "prepare", reach, "before files are closed", "files durable")
    _around(FileSink, "publish", reach, "before files are renamed", "files renamed")
    _around(Runner, "recover", reach, "before recovery", None)
    _after(Runner, "_restore", reach, "snapshot restored")
    _after(Runner, "_replay", reach, "replayed")


def _after(owner: Any, name: str, reach: Callable[[str], None], point: str) -> None:
    _around(owner, name, reach, None, point)


def _around(owner: Any, name: str, reach: Callable[[str], None], before: str | None, after: str | None) -> None:
    plain = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            reach(before)
        found = plain(*args, **kwargs)
        if after is not None:
            reach(after)
        return found

    setattr(owner, name, wrapped)
