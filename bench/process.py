"""Memory and processor time of process trees, read from /proc; and commands run under that watch."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Peak resident memory (bytes, summed over the tree at one instant), processor time and time watched (seconds)."""

    peak_bytes: int
    cpu_seconds: float
    wall_seconds: float


class Watch:
    """Samples the trees below some processes until it is left. Shared pages count once per process, as `ps` counts.

    `fresh`: the processes were started for this; then each one's own peak, which the kernel keeps exactly, counts too.
    """

    def __init__(self, *roots: int, fresh: bool, every: float = 0.2) -> None:
        self._roots = roots
        self._fresh = fresh
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, name="watch", daemon=True)
        self._peak = 0
        self._cpu_first = 0.0
        self._cpu_last = 0.0
        self._began = self._ended = 0.0

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        self._cpu_first = _tree_usage(self._roots, fresh=False)[1]
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sample()
        self._ended = time.monotonic()
        self._stop.set()
        self._thread.join()

    @property
    def usage(self) -> Usage:
        """What was seen, once it is left."""
        return Usage(self._peak, round(self._cpu_last - self._cpu_first, 2), round(self._ended - self._began, 3))

    def _sample_until_stopped(self) -> None:
        while not self._stop.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        resident, cpu = _tree_usage(self._roots, self._fresh)
        self._peak = max(self._peak, resident)
        self._cpu_last = max(self._cpu_last, cpu)


class CommandError(Exception):
    """A command of the bench ended badly; the text holds the end of what it said."""


def run_watched(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 3600,
) -> Usage:
    """Run a command to its end, standard output in `log`, errors beside it in `log`.err. Raises CommandError when it
    fails or takes too long."""
    errors = log.with_name(log.name + ".err")
    with log.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            with Watch(process.pid, fresh=True) as watch:
                # wait without reaping, so that the tree's last figures are still there when the watch ends
                _wait_unreaped(process.pid, timeout)
            code = process.wait()
        except BaseException:
            stop(process)
            raise
    if code:
        raise CommandError(f"{' '.join(map(str, command))} ended with {code}\n{tail(errors) or tail(log)}")
    return watch.usage


def stop(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """End a process that was started as the leader of its own session, and everything in that session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a text file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _wait_unreaped(pid: int, timeout: float) -> None:
    end = time.monotonic() + timeout
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            raise CommandError(f"process {pid} took longer than {timeout:.0f} s")
        time.sleep(0.02)


def _tree_usage(roots: Sequence[int], fresh: bool) -> tuple[int, float]:
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    pages: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # the command name may hold blanks and brackets: fields count from the last bracket
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))  # own and reaped children's, user and system
        pages[pid] = int(fields[21])
    tree = {pid for pid in parents if _descends(pid, parents, set(roots))}
    resident = sum(pages[pid] for pid in tree) * _PAGE
    if fresh:
        resident = max([resident, *map(_own_peak, tree)])
    return resident, sum(ticks[pid] for pid in tree) / _TICKS


def _own_peak(pid: int) -> int:
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _descends(pid: int, parents: Mapping[int, int], roots: set[int]) -> bool:
    while pid in parents:
        if pid in roots:
            return True
        pid = parents[pid]
    return False
