"""The one way into the log for all protocols: offers are collected, admitted in bulk, stored, and answered after fsync.

It lives in one event loop; `put` and the callbacks of offers run there. What a row must look like is `admit`'s
business, how durable it is the log's. It keeps no more than `IngestLimits` allow, provided that its producers heed
`is_full`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from qanat.errors import BackpressureError, LogError, QanatError
from qanat.gateway.admit import Batch, Inlet, admit
from qanat.gateway.config import IngestLimits
from qanat.gateway.flush import Flush, take
from qanat.gateway.offers import Offer, Verdict
from qanat.log.base import Log, Receipt, Transaction
from qanat.observe.metrics import Metrics

_RETRY_AFTER_S = 1.0
_LONGEST_RETRY_S = 1.0
#: With nothing new for so long at first, all have sent who were going to.
_LULL_S = 0.001


class Ingest:
    """Ordering: flushes reach the log one after the other, so offers of one stream keep their order."""

    def __init__(
        self,
        inlets: Mapping[str, Inlet],
        log: Log,
        metrics: Metrics,
        limits: IngestLimits,
        clock: Callable[[], int],
    ) -> None:
        self._inlets, self._log, self._metrics, self._limits, self._clock = inlets, log, metrics, limits, clock
        self._waiting: list[Offer] = []
        self._messages = self._bytes = self._queued = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._full = False
        self._watchers: list[Callable[[bool], None]] = []
        self._afterwards: list[Callable[[], None]] = []
        self._last_start = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qanat-admit")
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether producers should wait. It becomes False again at half of the limits."""
        return self._full

    def start(self) -> None:
        """Begin to flush, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, timeout: float) -> None:
        """Answer everything that was put, then end.

        After `timeout` seconds, what the log was not yet given hears an error; what it has and does not commit hears
        nothing, which for every protocol means: not acknowledged.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            self._fail(self._take(), LogError("qanat stopped before the log had taken this", hint="send it again"))
        self._thread.shutdown(wait=False)

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(is_full)` whenever that changes."""
        self._watchers.append(callback)

    def after(self, callback: Callable[[], None]) -> None:
        """Call `callback()` after the verdicts of a flush were told, so that what they make is written at once."""
        self._afterwards.append(callback)

    def check_room(self) -> None:
        """Raises `BackpressureError` while `is_full`, for producers that can be told to come back."""
        if self._full:
            raise BackpressureError(
                f"{self._messages} messages wait for the log",
                retry_after=_RETRY_AFTER_S,
                hint="send less often, or larger batches; see qanat_log_commit_seconds in /metrics",
            )

    def put(self, offer: Offer) -> None:
        """Take an offer; `offer.done` hears the verdict. Producers stop reading while `is_full`."""
        if not self._waiting:
            self._idle.clear()
            self._wake.set()
        self._waiting.append(offer)
        self._queued += offer.count
        self._messages += offer.count
        self._bytes += offer.size
        if not self._full and (
            self._messages >= self._limits.max_pending_messages or self._bytes >= self._limits.max_pending_bytes
        ):
            self._tell(True)

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._linger()
            await self._flush(self._take())

    async def _linger(self) -> None:
        """Under load wait, so that this flush is worth its fixed cost; who waits for each answer does not pay for it.

        A flush begins at once where the last one is long ago. Else `linger_ms` after the start of that one, or, where
        few messages wait, as soon as a while brought nothing more (1 ms, then 2, 4 ...), `linger_max_ms` after it at
        the latest: so all of them have sent who send only what was answered before.
        """
        loop, limits = asyncio.get_running_loop(), self._limits
        left = self._last_start + limits.linger_ms / 1000 - loop.time()
        if left > 0 and self._queued < limits.flush_messages:
            await asyncio.sleep(left)
        seen, lull = 0, _LULL_S
        while seen < self._queued < limits.linger_messages:
            left = self._last_start + limits.linger_max_ms / 1000 - loop.time()
            if left <= 0:
                break
            seen = self._queued
            await asyncio.sleep(min(lull, left))
            lull *= 2
        self._last_start = loop.time()

    def _take(self) -> Flush:
        """One flush, oldest first; what is over `flush_messages` waits for the next one."""
        flush = take(self._waiting, self._limits.flush_messages)
        self._waiting = self._waiting[len(flush.offers) :]
        self._queued -= flush.count
        if not self._waiting:
            self._wake.clear()
        return flush

    async def _flush(self, flush: Flush) -> None:
        try:
            self._count_received(flush)
            batch = await self._admit(flush)
            future = await self._submit(Transaction(appends=batch.appends, state=batch.state))
            submitted = asyncio.get_running_loop().time()
        except QanatError as error:
            self._fail(flush, error)
        except asyncio.CancelledError:
            self._fail(flush, LogError("qanat stopped before the log had taken this", hint="send it again"))
            raise
        except Exception as error:  # noqa: BLE001  whatever broke, the producers hear of it and may send again
            self._fail(flush, LogError(f"the flush failed: {type(error).__name__}: {error}"))
        else:
            loop = asyncio.get_running_loop()

            def on_log_thread(done: Future[Receipt]) -> None:
                with contextlib.suppress(RuntimeError):  # the loop may be closed, long after `stop` gave up waiting
                    loop.call_soon_threadsafe(self._settle, flush, batch, done, submitted)

            future.add_done_callback(on_log_thread)

    async def _admit(self, flush: Flush) -> Batch:
        work = partial(admit, flush.offers, self._inlets, self._limits.max_future_skew_ms)
        if flush.size <= self._limits.inline_bytes:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _submit(self, transaction: Transaction) -> Future[Receipt]:
        """Hand over to the log; while its queue is full, hold this flush and so all that come after it."""
        while True:
            try:
                return self._log.submit(transaction)
            except BackpressureError as busy:
                await asyncio.sleep(min(busy.retry_after, _LONGEST_RETRY_S))

    # --- verdicts ----------------------------------------------------------------------------------------------------

    def _settle(self, flush: Flush, batch: Batch, done: Future[Receipt], submitted: float) -> None:
        error = done.exception()
        if error is not None:
            known = error if isinstance(error, QanatError) else LogError(f"the log failed: {error}")
            self._fail(flush, known)
            return
        self._count_stored(batch, asyncio.get_running_loop().time() - submitted)
        for offer, verdict in zip(flush.offers, batch.verdicts, strict=True):
            offer.done(verdict)
        now = self._clock()
        for source, arrived in flush.oldest().items():
            self._metrics.gateway_ack(source, (now - arrived) / 1000)
        self._release(flush)

    def _fail(self, flush: Flush, error: QanatError) -> None:
        verdict = Verdict(error=error)
        for offer in flush.offers:
            offer.done(verdict)
        self._release(flush)

    def _release(self, flush: Flush) -> None:
        for callback in self._afterwards:
            callback()
        self._messages -= flush.count
        self._bytes -= flush.size
        self._metrics.gateway_pending(self._messages)
        limits = self._limits
        if self._full and (
            self._messages <= limits.max_pending_messages // 2 and self._bytes <= limits.max_pending_bytes // 2
        ):
            self._tell(False)
        if not self._messages and not self._waiting:
            self._idle.set()

    def _tell(self, full: bool) -> None:
        self._full = full
        for callback in self._watchers:
            callback(full)

    def _count_stored(self, batch: Batch, seconds: float) -> None:
        self._metrics.log_committed(seconds)
        for append in batch.appends:
            self._metrics.log_appended(append.stream, append.rows.num_rows, append.rows.nbytes)
        for stream, rows in batch.accepted.items():
            self._metrics.gateway_accepted(stream, rows)
        for (stream, kind), rows in batch.dead.items():
            self._metrics.gateway_dead(stream, kind, rows)

    def _count_received(self, flush: Flush) -> None:
        for (source, stream), tally in flush.tallies.items():
            self._metrics.gateway_received(source, stream, tally.messages, tally.size)
        self._metrics.gateway_pending(self._messages)
