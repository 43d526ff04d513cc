"""The shell around `Sender`: a thread per sink, woken by the log, with the clocks of the system. Decides nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from qanat.clock import SYSTEM, Clock
from qanat.errors import BackpressureError, ConfigError, LogError
from qanat.log.base import Log, Transaction
from qanat.log.declarations import declare_kept
from qanat.model.sinks import Sink
from qanat.model.streams import Stream, dead_letter_stream
from qanat.notify.reader import check_columns
from qanat.notify.sender import Moment, Sender, consumer_of
from qanat.notify.target import open_target
from qanat.observe.metrics import Metrics

#: Seconds until a log that failed is asked again, and how long a stop waits for a target that does not let go.
_LOG_RETRY_S = 1.0
_LONGEST_STOP_S = 5.0
#: Seconds after which the wall clock is looked at again: it may be set, or the machine may have slept.
_LONGEST_LOOK_S = 60.0


class SinkThread:
    """A running sink. `start` once, `stop` once."""

    def __init__(self, sender: Sender, log: Log, clock: Clock = SYSTEM) -> None:
        self._sender, self._log, self._clock = sender, log, clock
        self._news, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=f"qanat-sink-{sender.name}", daemon=True)
        self._unwatch: Callable[[], None] | None = None
        self._log_fault: str | None = None

    @property
    def name(self) -> str:
        """That of qanat.yaml."""
        return self._sender.name

    @property
    def fault(self) -> str | None:
        """What ails it, for /healthz; None: the last try went well."""
        return self._log_fault or self._sender.fault

    def start(self) -> None:
        """Go on where the log says."""
        self._unwatch = self._log.watch(self._news.set)
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand; what a target has not answered by then is sent again by the next start."""
        self._stopping = True
        self._news.set()
        if self._unwatch is not None:
            self._unwatch()
            self._sender.target.abort()
            self._thread.join(_LONGEST_STOP_S)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._news.clear()
                wait = self._step()
                if wait is None:
                    self._wait_for_news()
                elif wait > 0:
                    self._sleep(wait)
        except BaseException as error:  # noqa: BLE001 - shown by /healthz; the other sinks go on
            self._log_fault = f"stopped by {type(error).__name__}: {error}"

    def _wait_for_news(self) -> None:
        """Until there are rows, or an alert is to be repeated without one."""
        wait = self._sender.next_reminder(self._clock.now_ms())
        self._news.wait(None if wait is None else min(wait, _LONGEST_LOOK_S))

    def _sleep(self, seconds: float) -> None:
        """New rows change nothing about a wait; only a stop ends it."""
        end = self._clock.seconds() + seconds
        while not self._stopping and (left := end - self._clock.seconds()) > 0:
            self._news.wait(min(left, _LOG_RETRY_S))
            self._news.clear()

    def _step(self) -> float | None:
        moment = Moment(self._clock.now_ms(), self._clock.seconds(), random.random())  # noqa: S311 - a jitter
        try:
            if self._log_fault is not None:
                self._sender.open()
            wait = self._sender.step(moment)
            self._log_fault = None
        except (LogError, BackpressureError) as error:
            self._log_fault = str(error)
            return _LOG_RETRY_S
        return wait


def open_sinks(
    sinks: Mapping[str, Sink], streams: Mapping[str, Stream], log: Log, metrics: Metrics, base: Path
) -> list[SinkThread]:
    """All sinks of a project, not started; what comes into their streams from now on they will carry.

    Raises `ConfigError` where one of them cannot work, `LogError` where the log cannot.
    """
    _forget_others(log, sinks)
    if not sinks:
        return []
    declare_kept(log, dead_letter_stream())
    senders = [open_sender(name, sink, streams, log, metrics, base) for name, sink in sinks.items()]
    for sender in senders:
        sender.open()
    return [SinkThread(sender, log) for sender in senders]


def open_sender(name: str, sink: Sink, streams: Mapping[str, Stream], log: Log, metrics: Metrics, base: Path) -> Sender:
    """One sink without its thread. Raises `ConfigError`."""
    stream = stream_of(name, sink, streams)
    target = open_target(name, sink, [column.name for column in stream.columns], base)
    return Sender(name, sink, stream, log, target, metrics)


def stream_of(name: str, sink: Sink, streams: Mapping[str, Stream]) -> Stream:
    """The stream of a sink, its columns checked. Raises `ConfigError`."""
    stream = streams.get(sink.stream)
    if stream is None:
        raise ConfigError(
            f"sink {name}: there is no stream {sink.stream!r}", hint=f"there are: {', '.join(sorted(streams))}"
        )
    check_columns(name, sink, stream)
    return stream


def _forget_others(log: Log, sinks: Mapping[str, Sink]) -> None:
    """Sinks that are declared no longer do not hold back retention."""
    known = {consumer_of(name) for name in sinks}
    listed: list[str] = getattr(log, "consumers", list)()
    gone = [name for name in listed if name.startswith(consumer_of("")) and name not in known]
    if gone:
        log.submit(Transaction(forget=gone)).result()
