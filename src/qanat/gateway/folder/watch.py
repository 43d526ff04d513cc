"""Which files of a folder are there, and which of them nobody writes any more. `list_files` looks; `Watch` is pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Seen:
    """A file as it was seen. The order is the one in which files are taken."""

    mtime_ns: int
    name: str
    size: int


def list_files(folder: Path, pattern: str, without: Path | None) -> list[Seen]:
    """The files that fit, by their name relative to the folder, with / between its parts.

    Names that begin with a dot are temporary files of those who write; what lies in `without` is done. Raises OSError.
    """
    found: list[Seen] = []
    if "/" not in pattern:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and fnmatchcase(entry.name, pattern) and entry.is_file():
                    stat = entry.stat()
                    found.append(Seen(stat.st_mtime_ns, entry.name, stat.st_size))
        return found
    folder.stat()  # glob says nothing about a folder that is not there
    for path in _glob(folder, pattern, without):
        stat = path.stat()
        found.append(Seen(stat.st_mtime_ns, path.relative_to(folder).as_posix(), stat.st_size))
    return found


def _glob(folder: Path, pattern: str, without: Path | None) -> Iterator[Path]:
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (without is None or not path.is_relative_to(without)) and path.is_file():
            yield path


class Watch:
    """Remembers since when each file is as it is."""

    def __init__(self, settle_ms: int) -> None:
        self._settle_ms = settle_ms
        self._since: dict[Seen, int] = {}

    def look(self, files: Iterable[Seen], now: int) -> list[Seen]:
        """The files that have been as they are for long enough, in the order in which they are to be taken."""
        self._since = {one: self._since.get(one, now) for one in files}
        return sorted(one for one, since in self._since.items() if now - since >= self._settle_ms)
