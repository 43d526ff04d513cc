"""Who wants to know about commits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Lock, Thread, current_thread

from qanat.errors import LogError

_logger = logging.getLogger(__name__)
#: Gives the call that looks, for as long as it is needed.
Source = AbstractContextManager[Callable[[], int]]


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

    def __init__(self, watchers: Watchers, source: Callable[[], Source], seconds: float) -> None:
        self._watchers, self._source, self._seconds = watchers, source, seconds
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to look, unless it is so already. What is committed from now on is noticed."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                began = Event()
                self._thread = Thread(target=self._run, args=(began,), name="qanat-log-poll", daemon=True)
                self._thread.start()
                began.wait()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not current_thread():
            thread.join()

    def _run(self, began: Event) -> None:
        try:
            with self._source() as look:
                seen = look()
                began.set()
                while not self._stop.wait(self._seconds) and not self._is_idle():
                    now = look()
                    if now != seen:
                        seen = now
                        self._watchers.call()
        except LogError:
            _logger.exception("no longer looks for commits")
        finally:
            began.set()

    def _is_idle(self) -> bool:
        with self._lock:
            if not self._watchers:
                self._thread = None
            return self._thread is None
