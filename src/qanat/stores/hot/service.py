"""A hot store's thread: feeds it whenever the log has rows. What fails is told and tried again, later each time.

It stops nothing else. While a store is down the log keeps the rows for it; `max_lag` says from when on that is a fault
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from qanat.clock import SYSTEM, Clock
from qanat.errors import QanatError
from qanat.model.backoff import Backoff
from qanat.observe.metrics import Metrics
from qanat.stores.hot.base import HotStore
from qanat.stores.hot.feeder import Feeder, lag_of
from qanat.stores.hot.source import Source
from qanat.stores.hot.table import Table

#: Until a stream that failed is tried again.
_BACKOFF = Backoff(0.5, 30.0)
#: Seconds between two looks at the log and at the lag, where nothing wakes it; between two writes of few rows; between
#: two calls of `expire`.
_LOOK, _LINGER, _EXPIRE = 1.0, 0.2, 600.0
_STOP_S = 10.0


@dataclass(slots=True)
class _Fed:
    """One stream, and how it does."""

    table: Table
    source: Source
    feeder: Feeder | None = None
    fault: str | None = None
    late: str | None = None
    failures: int = 0
    again_at: float = 0.0
    look_at: float = 0.0


class StoreService:
    """Feeds one store until it is stopped. `faults` may be asked from any thread.

    `open_it` opens the store; it is called in the service's thread, and again where that fails.
    """

    def __init__(
        self,
        name: str,
        open_it: Callable[[], HotStore],
        fed: Sequence[tuple[Table, Source]],
        metrics: Metrics,
        max_lag_ms: int,
        clock: Clock = SYSTEM,
    ) -> None:
        self._name, self._open, self._metrics, self._clock = name, open_it, metrics, clock
        self._max_lag_ms = max_lag_ms
        self._streams = [_Fed(table, source) for table, source in fed]
        self._store: HotStore | None = None
        self._expired = clock.seconds()
        self._wake, self._ending = Event(), Event()
        self._thread = Thread(target=self._run, name=f"qanat-store-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """The log has new rows. Quick; from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Write what is there, if the store is well, and close it. Returns after ten seconds at most."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def faults(self) -> Mapping[str, str | None]:
        """What is wrong, by check, as /healthz shows it; None where all is well."""
        return {f"store {self._name}: {fed.table.name}": fed.fault or fed.late for fed in self._streams}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(_LOOK)
            self._wake.clear()
            if self.turn():
                self._wake.set()
            self._ending.wait(_LINGER)  # few rows at a time are dear to every store
        self._last()

    def turn(self) -> bool:
        """Feed every stream whose time it is; whether one had rows, and may have more."""
        moved = False
        for fed in self._streams:
            if self._clock.seconds() >= fed.again_at:
                moved |= self._feed(fed)
            if self._clock.seconds() >= fed.look_at:
                fed.look_at = self._clock.seconds() + _LOOK
                self._look(fed)
        if self._store is not None and self._clock.seconds() - self._expired >= _EXPIRE:
            self._expired = self._clock.seconds()
            self._expire(self._store)
        return moved

    def _feed(self, fed: _Fed) -> bool:
        began = self._clock.seconds()
        try:
            if fed.feeder is None:
                fed.feeder = Feeder(self._opened(), fed.table, fed.source)
            rows = fed.feeder.step()
        except QanatError as error:  # shown by /healthz, tried again
            self._failed(fed, error)
            return False
        fed.fault, fed.failures, fed.again_at = None, 0, 0.0
        if rows:
            self._metrics.store_written(self._name, fed.table.name, rows, self._clock.seconds() - began)
        return rows > 0

    def _opened(self) -> HotStore:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _failed(self, fed: _Fed, error: QanatError) -> None:
        if fed.feeder is not None:
            fed.feeder.begin_anew()
        fed.failures += 1
        fed.again_at = self._clock.seconds() + _BACKOFF.wait(fed.failures)
        fed.fault = str(error)
        self._metrics.store_failed(self._name, fed.table.name)

    def _look(self, fed: _Fed) -> None:
        """How far it is behind."""
        try:
            lag = lag_of(fed.source)
        except QanatError as error:  # of the log
            fed.late = str(error)
            return
        seconds = 0.0 if lag.since is None else max(0.0, (self._clock.now_ms() - lag.since) / 1000)
        self._metrics.store_lag(self._name, fed.table.name, lag.rows, seconds)
        fed.late = None
        if seconds * 1000 > self._max_lag_ms:
            fed.late = (
                f"{lag.rows:,} rows have waited for up to {seconds:,.0f} s; "
                "the log keeps them until the store has them, and grows"
            )

    def _expire(self, store: HotStore) -> None:
        try:
            store.expire(self._clock.now_ms())
        except QanatError as error:  # of the whole store, so of every stream
            for fed in self._streams:
                fed.fault = fed.fault or str(error)

    def _last(self) -> None:
        for fed in self._streams:
            if fed.fault is None and fed.feeder is not None:
                self._feed(fed)
        if self._store is not None:
            self._store.close()
