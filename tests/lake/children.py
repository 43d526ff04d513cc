"""What the crash tests run in a process of its own: `python -m tests.lake.children FOLDER [POINT HIT | call NUMBER]`.

It archives all there is, rewrites, vacuums and lets the log delete, until nothing is left to do or the fault strikes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qanat.lake import Archiver, Tables, table
from qanat.lake.store import Folder
from qanat.lake.table import LakeTable
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log import open_log
from qanat.model.lake import Lake
from tests.crash.dying import around, die_at_call, dying_at

#: Every step at which the process may end.
POINTS = (
    "bytes written",
    "file written",
    "before commit",
    "committed",
    "settled",
    "before the log is told",
    "log told",
    "before vacuum",
    "vacuumed",
    "table made",
)
#: Rows of a commit, and a time by which everything in the log is old.
ROWS, FAR = 150, 4 * 10**12


def work(folder: Path) -> None:
    """All of it."""
    log = open_log(f"sqlite:///{folder}/log.db")
    archiver = Archiver(log, Tables(folder / "lake"), Lake(rows=ROWS))
    archiver.prepare()
    print("begun", flush=True)
    (name,) = archiver.streams()
    for number in itertools.count(1):
        more = archiver.archive(name).more
        if number % 3 == 0 or not more:
            status = log.status()[name]
            found = archiver.table(status)
            for chosen in rewrites(found.files(), 1 << 27, FAR, all_dates=True):
                rewrite(found, status.stream, chosen, 1 << 27)
            found.vacuum(0)
            log.maintain(FAR)
        if not more:
            break
    log.close()
    print("done", flush=True)


def at_point(point: str, hit: int) -> None:
    """Die when `point` is reached for the `hit`th time."""
    reach = dying_at(point, hit)
    plain = Folder.written

    @contextmanager
    def written(self: Folder, name: str) -> Iterator[Any]:
        with plain(self, name) as file:
            yield file
            file.flush()
            reach("bytes written")

    Folder.written = written  # type: ignore[method-assign]
    around(LakeTable, "write", reach, None, "file written")
    around(LakeTable, "_commit", reach, "before commit", None)
    around(LakeTable, "_settle", reach, "committed", "settled")
    around(LakeTable, "vacuum", reach, "before vacuum", "vacuumed")
    around(Archiver, "_tell", reach, "before the log is told", "log told")
    around(table.Tables, "create", reach, None, "table made")


def no_room(hit: int) -> None:
    """Every file from the `hit`th on meets a full disk in its middle; the log has room."""
    numbers = itertools.count(1)
    plain = Folder.written

    @contextmanager
    def written(self: Folder, name: str) -> Iterator[Any]:
        with plain(self, name) as file:
            yield _Full(file) if next(numbers) >= hit else file

    Folder.written = written  # type: ignore[method-assign]


class _Full:
    """A file for which the disk has room for a little only."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, 500

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size > self._left:
            raise OSError(28, "No space left on device")
        self._left -= size
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


if __name__ == "__main__":
    match sys.argv[2:]:
        case []:
            pass
        case ["call", number]:
            die_at_call(int(number))
        case ["full", hit]:
            no_room(int(hit))
        case [point, hit]:
            at_point(point, int(hit))
    work(Path(sys.argv[1]))
