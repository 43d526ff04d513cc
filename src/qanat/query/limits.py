"""One query while it runs: its deadline, and the ways to end it early. Computes nothing."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from qanat.errors import QueryLimitError

_AGAIN_SECONDS = 0.05


class Interruptible(Protocol):
    """A connection of DuckDB."""

    def interrupt(self) -> None: ...


class Handle:
    """Ends a query from another thread or task: give it to `Query.table` or `batches`, then call `cancel`.

    A handle that was cancelled before its query begins cancels it at once; it can be given to one query only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End the query: it raises `QueryLimitError`. Harmless where it has ended, and when called twice."""
        with self._lock:
            self._cancelled = True
            run = self._run
        if run is not None:
            run.stop("was cancelled")

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def _attach(self, run: Run) -> bool:
        with self._lock:
            self._run = run
            return self._cancelled


class Run:
    """The time of one query, from its first moment. `seconds` None: no deadline.

    DuckDB is interrupted until it has noticed: an interrupt that comes between two of its steps is lost.
    """

    def __init__(self, seconds: float | None, handle: Handle | None) -> None:
        self._seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._reason: str | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._connection: Interruptible | None = None
        if handle is not None and handle._attach(self):
            self._reason = "was cancelled"

    @property
    def left(self) -> float | None:
        """Seconds until the deadline, not below 0."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def stopped(self) -> bool:
        """Whether it was ended early."""
        return self._reason is not None

    def check(self) -> None:
        """Raise `QueryLimitError` where the query was cancelled or its time is over."""
        if self._reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = self._late()
        if self._reason is not None:
            raise self.error()

    def error(self) -> QueryLimitError:
        """Why it was ended."""
        reason = self._reason or "was ended"
        hint = None
        if "took longer" in reason:
            hint = "bound the time column in WHERE, or raise query.timeout in qanat.yaml"
        return QueryLimitError(f"the query {reason}", hint=hint)

    def stop(self, reason: str) -> None:
        """End it, from any thread."""
        self._reason = self._reason or reason
        self._wake.set()
        self._interrupt(None)

    def on(self, connection: Interruptible) -> _Watched:
        """Watch over what the connection does inside the context."""
        return _Watched(self, connection)

    def _late(self) -> str:
        return f"took longer than {self._seconds:g} s"

    def _interrupt(self, watched: threading.Event | None) -> bool:
        """Interrupt what runs now; `watched`: only while that is what it was."""
        with self._lock:
            if self._connection is None or (watched is not None and watched is not self._wake):
                return False
            self._connection.interrupt()
            return True

    def _begin(self, connection: Interruptible) -> threading.Event:
        with self._lock:
            self._connection, self._wake = connection, threading.Event()
            if self._reason is not None:
                self._wake.set()
            return self._wake

    def _end(self) -> None:
        with self._lock:
            self._connection = None
            self._wake.set()

    def _watch(self, wake: threading.Event) -> None:
        if not wake.wait(self.left):
            self._reason = self._reason or self._late()
        while self._interrupt(wake):
            time.sleep(_AGAIN_SECONDS)


class _Watched:
    def __init__(self, run: Run, connection: Interruptible) -> None:
        self._run, self._connection = run, connection

    def __enter__(self) -> Self:
        self._run.check()
        wake = self._run._begin(self._connection)
        threading.Thread(target=self._run._watch, args=(wake,), name="qanat-query-limit", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run._end()
