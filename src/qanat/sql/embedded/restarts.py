"""What to do when a pipeline fails: wait and begin again, look for the row, set it aside, or give up. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from qanat.errors import (
    ChangedPipelineError,
    DataError,
    FunctionError,
    LogError,
    QanatError,
    RowsError,
    StateLimitError,
)
from qanat.model.backoff import Backoff
from qanat.sql.embedded.skipped import Suspect

#: Where beginning again changes nothing: another engine has the pipeline, its plan or its log is not right.
_FOR_GOOD = (LogError, ChangedPipelineError, StateLimitError)
_OF_INPUT = (
    DataError,
    FunctionError,
    RowsError,
    pl.exceptions.PolarsError,
    pa.ArrowException,
    ArithmeticError,
    ValueError,
)
#: By how much micro-batches shrink, while the row is looked for.
_NARROWER = 8


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Waits double from `first_ms` to `longest_ms`. `tries`: how often a row is tried that a user's function fails on.

    `in_a_row`: so many rows are set aside without one that works in between, and no more.
    """

    first_ms: int = 1_000
    longest_ms: int = 60_000
    tries: int = 5
    in_a_row: int = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """Set rows aside, wait, open the pipeline again. `events`: at most so many in a micro-batch; None: any number."""

    wait_ms: int = 0
    events: int | None = None
    aside: tuple[Suspect, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """`at`: events that the pipeline had taken and committed; `events`: those that it had taken since; `suspects`: rows
    that the error is known to be of."""

    error: BaseException
    at: int
    events: int
    suspects: Sequence[Suspect] = ()


class Restarts:
    """The failures of one pipeline, one after the other."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures = self._aside = 0
        self._reach = 0  # beyond so many events nothing has failed yet
        self._is_narrow = False

    def on_failure(self, failure: Failure) -> Decision | None:
        """What to do; None: give up."""
        error = failure.error
        of_input = isinstance(error, _OF_INPUT)
        if not isinstance(error, Exception) or (isinstance(error, _FOR_GOOD) and not of_input):
            return None
        self._failures += 1
        self._reach = max(self._reach, failure.at + failure.events)
        events = 1 if self._is_narrow else None
        if not of_input:
            return Decision(self._wait(), events)
        if not failure.suspects:
            if failure.events <= 1:  # not a row of the log
                return Decision(self._wait(), events)
            self._is_narrow = True
            return Decision(events=max(1, failure.events // _NARROWER))
        if isinstance(error, FunctionError) and self._failures < self._policy.tries:
            return Decision(self._wait(), events)
        if self._aside >= self._policy.in_a_row:
            return Decision(self._policy.longest_ms, events)
        self._aside += len(failure.suspects)
        self._reach -= len(failure.suspects)  # those will not be among the events any more
        self._failures = 0
        return Decision(events=events, aside=tuple(failure.suspects))

    def on_success(self, at: int) -> bool:
        """`at` events are taken and all is well. Whether micro-batches may be as large as ever again."""
        if at >= self._reach:
            self._failures = self._aside = self._reach = 0
            self._is_narrow = False
        return not self._is_narrow

    def _wait(self) -> int:
        backoff = Backoff(self._policy.first_ms / 1000, self._policy.longest_ms / 1000)
        return round(backoff.wait(self._failures) * 1000)


def reason_of(error: BaseException) -> str:
    """The error in one line."""
    text = error.message if isinstance(error, QanatError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0] if text else type(error).__name__
