"""What of qanat.yaml takes effect without a restart: the section `cache`. Everything else waits for the next start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from qanat.cli.project import declared_config
from qanat.errors import ConfigError
from qanat.model.cache import Cache
from qanat.model.project import Project


class Reloading:
    """Looks whether the file has changed. `fault`: why what it says now is not in force; what was, still is."""

    def __init__(self, path: Path, use: Callable[[Cache], Awaitable[None]]) -> None:
        self._path, self._use = path, use
        self._stamp = self._look()
        self.fault: str | None = None

    async def check(self) -> bool:
        """Whether another section `cache` is in force now."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            project = Project() if stamp is None else declared_config(self._path)
            await self._use(project.cache)
        except ConfigError as error:
            self.fault = f"{error.message}; the cache stays as it was"
            return False
        self.fault = None
        return True

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one version of the file from another; None where there is no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
