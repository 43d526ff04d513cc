"""Who wants to know about commits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread

from qanat.errors import LogError

_logger = logging.getLogger(__name__)


class Watchers:
    """A list of callbacks. One that raises is reported and stays; it must not stop the log."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._callbacks: tuple[Callable[[], None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Add a callback; returns the call that takes it away, which may be called twice."""

        def entry() -> None:  # one per call, so that a callback may be added twice
            callback()

        def remove() -> None:
            with self._lock:
                self._callbacks = tuple(held for held in self._callbacks if held is not entry)

        with self._lock:
            self._callbacks = (*self._callbacks, entry)
        return remove

    def call(self) -> None:
        """Call all of them."""
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a watcher of the log failed")


class Poller:
    """Calls watchers when a number changes that it looks at now and then, in a thread that lives while one watches."""

    def __init__(self, watchers: Watchers, look: Callable[[], Callable[[], int]], seconds: float) -> None:
        self._watchers, self._look, self._seconds = watchers, look, seconds
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to look, unless it is so already."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                look = self._look()
                self._thread = Thread(target=self._run, args=(look, look()), name="qanat-log-poll", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, look: Callable[[], int], seen: int) -> None:
        while not self._stop.wait(self._seconds):
            try:
                now = look()
            except LogError:
                _logger.exception("cannot look for commits")
                continue
            if now != seen:
                seen = now
                self._watchers.call()
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    return
