"""The archiver's thread: rounds at an interval, then upkeep. What fails is told and tried again, later each time.

It stops nothing else: while it cannot archive, the log keeps the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread

from qanat.clock import SYSTEM, Clock
from qanat.errors import QanatError
from qanat.lake.archiver import Archiver
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log.base import Log
from qanat.model.backoff import Backoff
from qanat.model.lake import Lake

#: Until a stream that failed is tried again.
_BACKOFF = Backoff(1.0, 300.0)
#: Seconds between two looks at what is to be rewritten, and the least between two vacuums.
_UPKEEP, _VACUUM = 60.0, 3600.0
#: Files that are younger may belong to a commit that another process is about to make.
_SAFE_MS = 3_600_000


class ArchiveService:
    """Archives the streams of one log until it is stopped. `faults` may be asked from any thread."""

    def __init__(self, archiver: Archiver, log: Log, settings: Lake, clock: Clock = SYSTEM) -> None:
        self._archiver, self._log, self._settings, self._clock = archiver, log, settings, clock
        self._faults: dict[str, str] = {}
        self._again: dict[str, tuple[int, float]] = {}
        self._vacuumed: dict[str, float] = {}
        self._looked = clock.seconds()
        self._ending = Event()
        self._thread = Thread(target=self._run, name="qanat-lake", daemon=True)

    def start(self) -> None:
        """Begin. `Archiver.prepare` must have been called."""
        self._thread.start()

    def stop(self) -> None:
        """End the round at hand, make a last one of every stream, and return."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def faults(self) -> Mapping[str, str | None]:
        """What is wrong, by check, as /healthz shows it; None where all is well."""
        return {f"lake {name}": self._faults.get(name) for name in self._archiver.streams()}

    def _run(self) -> None:
        while not self._ending.wait(int(self._settings.interval) / 1000):
            self.turn()
        for name in self._archiver.streams():
            self._guarded(name, self._last)

    def turn(self) -> None:
        """Everything that is due now."""
        for name in self._archiver.streams():
            _, until = self._again.get(name, (0, 0.0))
            if self._clock.seconds() >= until:
                self._guarded(name, self._all)
        if self._clock.seconds() - self._looked >= _UPKEEP:
            self._looked = self._clock.seconds()
            for name in self._archiver.streams():
                if name not in self._faults:
                    self._guarded(name, self._upkeep)

    def _all(self, name: str) -> None:
        while self._archiver.archive(name).more and not self._ending.is_set():
            pass

    def _last(self, name: str) -> None:
        self._archiver.archive(name)

    def _upkeep(self, name: str) -> None:
        status = self._log.status()[name]
        table = self._archiver.table(status)
        for chosen in rewrites(table.files(), int(self._settings.file_size), self._clock.now_ms()):
            if self._ending.is_set():
                return
            rewrite(table, status.stream, chosen, int(self._settings.file_size))
            self._all(name)  # new rows do not wait for the next date
        keep = max(int(self._settings.keep), _SAFE_MS)
        now, every = self._clock.seconds(), max(_VACUUM, keep / 4000)
        if now - self._vacuumed.get(name, -every) >= every:  # also once after each start
            self._vacuumed[name] = now
            table.vacuum(keep)

    def _guarded(self, name: str, act: Callable[[str], None]) -> None:
        """Do it; remember what went wrong, and when to try again."""
        try:
            act(name)
        except Exception as error:  # noqa: BLE001 - shown by /healthz, and tried again
            failures = self._again.get(name, (0, 0.0))[0] + 1
            self._again[name] = failures, self._clock.seconds() + _BACKOFF.wait(failures)
            self._faults[name] = str(error) if isinstance(error, QanatError) else f"{type(error).__name__}: {error}"
        else:
            self._again.pop(name, None)
            self._faults.pop(name, None)
