"""Faults for a process that is about to run an engine: death at a named point of a commit, or at a random call.

Everything is patched in the child only, right after the fork; the code under test knows nothing of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qanat.log import layout, writer
from qanat.sql.embedded import runner as runners
from qanat.sql.embedded import worker
from qanat.sql.embedded.connectors.filesystem_sink import FileSink
from qanat.sql.embedded.runner import Runner
from tests.crash.dying import Reach, around, die_at_call, dying_at

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
        _patch(dying_at(self.point, self.hit))


@dataclass(frozen=True, slots=True)
class AtCall:
    """Die at the `number`th call of a Python function, in whichever thread that is."""

    number: int

    def install(self) -> None:
        """Arm it in this process."""
        die_at_call(self.number)


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


def _patch(reach: Reach) -> None:
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
    around(FileSink, "prepare", reach, "before files are closed", "files durable")
    around(FileSink, "publish", reach, "before files are renamed", "files renamed")
    around(Runner, "recover", reach, "before recovery", None)
    _after(Runner, "_restore", reach, "snapshot restored")
    _after(Runner, "_replay", reach, "replayed")


def _after(owner: Any, name: str, reach: Reach, point: str) -> None:
    around(owner, name, reach, None, point)
