"""One writer per log: an exclusive lock on `<log>.lock`, with the holder's process id in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from qanat.errors import LogError, LogLockedError


class FileLock:
    """Held from construction to `release`, or to the end of the process. The file stays; only the lock counts."""

    def __init__(self, log: Path) -> None:
        path = log.with_name(log.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LogError(f"cannot open {path}: {error.strerror}", hint="check folder and permissions") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise LogLockedError(
                f"process {holder} writes the log {log}",
                hint=f"stop it (kill {holder}), or open the log with read_only=True",
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others write."""
        os.close(self._file)
