"""The engine: every pipeline of a program on a thread of its own, over one log.

It creates the program's streams, resumes pipelines where their last commit left them, and keeps the others running when
one fails (what becomes of that one: `worker`). Knows no SQL text and opens no listener.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

import pyarrow as pa

from qanat.errors import ConfigError, LogError, QanatError
from qanat.log.base import Append, Log, Transaction
from qanat.log.declarations import declare_kept
from qanat.model.streams import dead_letter_stream, late_stream
from qanat.sql.embedded.connectors.sinks import CollectSink, Sink, collected_schema, open_sink
from qanat.sql.embedded.connectors.streams import TableSource
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.outputs import StreamOutput, aside_row
from qanat.sql.embedded.restarts import RestartPolicy
from qanat.sql.embedded.runner import EngineOptions, Input, Progress, Runner, scan_name
from qanat.sql.embedded.skipped import Skipped, Suspect, skipped_key
from qanat.sql.embedded.sources import scan_inputs
from qanat.sql.embedded.stored_plans import PLANS, check_plans, dump_plans, load_plans
from qanat.sql.embedded.worker import PipelineStatus, Worker
from qanat.sql.options import size_bytes
from qanat.sql.plan import Pipeline, Program, Scan

_RUN_KEY = "engine/run"
#: Seconds between two looks at a log that another process may write.
_POLL = 0.25


class PipelineMetrics(Protocol):
    """What the engine counts; `observe.Metrics` has it."""

    def pipeline_batch(self, pipeline: str, rows_in: int, rows_out: int, seconds: float) -> None: ...
    def pipeline_late(self, pipeline: str, rows: int) -> None: ...
    def pipeline_partly_late(self, pipeline: str, rows: int) -> None: ...
    def pipeline_watermark(self, pipeline: str, watermark_ms: int) -> None: ...
    def pipeline_lag(self, pipeline: str, rows: int) -> None: ...
    def pipeline_latency(self, pipeline: str, seconds: list[float]) -> None: ...
    def pipeline_state(self, pipeline: str, size: int) -> None: ...
    def pipeline_idle(self, pipeline: str, partitions: int) -> None: ...
    def pipeline_aside(self, pipeline: str, rows: int) -> None: ...
    def pipeline_restarted(self, pipeline: str) -> None: ...


class Engine:
    """Runs a program. `inputs`: table name -> rows that take the place of its source; `collect`: called with the name
    and rows of bare SELECTs as they are committed."""

    def __init__(  # a program, what it stands on, and where its edges lead
        self,
        program: Program,
        log: Log,
        options: EngineOptions | None = None,
        *,
        inputs: Mapping[str, pa.Table] | None = None,
        collect: Callable[[str, pa.Table], None] | None = None,
        metrics: PipelineMetrics | None = None,
    ) -> None:
        self._program, self._log = program, log
        self._options = options or EngineOptions()
        self._inputs = dict(inputs or {})
        self._collect, self._metrics = collect, metrics
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._commits = 0
        self._options = _with_limit(self._options, program.settings)
        self._plans = load_plans(log)
        plans = check_plans(self._plans, program.pipelines)
        self._create_streams()
        if plans != self._plans:
            log.submit(Transaction(state={PLANS: dump_plans(plans)})).result()
        self._run = self._run_name()
        self._workers = [Worker(self, pipeline) for pipeline in program.pipelines]

    # -- what the caller does -----------------------------------------------------------------------------------------

    def run(self) -> tuple[PipelineStatus, ...]:
        """Run until every pipeline has finished or failed, or `stop`. Raises the first failure of a bounded run."""
        unwatch = self._log.watch(self.wake_up)
        threads = [threading.Thread(target=w.run, name=f"qanat-{w.name}", daemon=True) for w in self._workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        finally:
            self._stop.set()
            self.wake_up()
            for thread in threads:
                thread.join()
            unwatch()
        failed = [w.failure for w in self._workers if w.failure is not None]
        if failed and not self._options.live:
            raise failed[0]
        return self.status()

    def stop(self) -> None:
        """End `run` after the micro-batches at hand are committed. From any thread."""
        self._stop.set()
        self.wake_up()

    def status(self) -> tuple[PipelineStatus, ...]:
        """Every pipeline as it is now."""
        return tuple(worker.status() for worker in self._workers)

    # -- what workers need --------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def wake_up(self) -> None:
        """Something happened that others may wait for."""
        with self._wake:
            self._commits += 1
            self._wake.notify_all()

    def wait(self, seen: int, seconds: float = _POLL) -> None:
        """Wait until something was committed after `seen` (see `commits`), or for `seconds`."""
        with self._wake:
            self._wake.wait_for(lambda: self._commits != seen or self._stop.is_set(), seconds)

    def pace(self, started: float) -> None:
        """In a live run, wait until the interval of a micro-batch that began at `started` (monotonic) is over."""
        if self._options.live:
            self._stop.wait(max(started + self._options.interval_ms / 1000 - time.monotonic(), 0))

    def pause(self, seconds: float) -> bool:
        """Wait; whether the engine goes on after it."""
        return not self._stop.wait(seconds)

    @property
    def restarts(self) -> RestartPolicy | None:
        """How failed pipelines are begun again; None: not at all."""
        return self._options.restarts if self._options.live else None

    @property
    def commits(self) -> int:
        """Grows with every commit of this process."""
        return self._commits

    def open(self, pipeline: Pipeline) -> Runner:
        """A runner at the place where its last commit left it."""
        skipped = Skipped.load(self._log.state(skipped_key(pipeline.name)))
        inputs = partial(self._sources, skipped=skipped)
        runner = Runner(pipeline, self._log, inputs, self._sink(pipeline), self._options)
        runner.recover()
        if self._log.state(failure_key(pipeline.name)) is not None:
            self._log.submit(Transaction(state={failure_key(pipeline.name): None})).result()
        return runner

    def set_aside(self, pipeline: str, suspects: Sequence[Suspect]) -> None:
        """Dead letters for rows that a pipeline fails on, and with them the word to pass over them from now on."""
        key, now = skipped_key(pipeline), self._options.clock.now_ms()
        starts = {(name, n): start for name, one in self._log.status().items() for n, start in one.starts.items()}
        skipped = Skipped.load(self._log.state(key)).add(suspects, starts)
        appends = [letter for one in suspects for letter in self._letter(pipeline, one, now)]
        self._log.submit(Transaction(appends, state={key: skipped.dump()})).result()
        if self._metrics is not None:
            self._metrics.pipeline_aside(pipeline, len(appends))

    def _letter(self, pipeline: str, suspect: Suspect, now: int) -> list[Append]:
        found = self._log.read(suspect.place, suspect.offset, 1)
        if not found or found[0].offset != suspect.offset:  # retention was faster
            return []
        return [aside_row(pipeline, suspect, found[0].rows.slice(0, 1), now)]

    def remember(self, pipeline: str, error: BaseException) -> None:
        """Store why a pipeline failed, for those who look at the log only. Faults of the log itself are not stored."""
        if not isinstance(error, QanatError) or isinstance(error, LogError):
            return
        text = json.dumps({"error": str(error), "at": self._options.clock.now_ms()}).encode()
        with suppress(QanatError):
            self._log.submit(Transaction(state={failure_key(pipeline): text})).result()

    def _create_streams(self) -> None:
        for stream in (dead_letter_stream(), late_stream()):
            declare_kept(self._log, stream)
        for table in self._program.tables.values():
            if table.stream is not None and table.name not in self._inputs:
                self._log.create(table.stream)

    def _run_name(self) -> str:
        stored = self._log.state(_RUN_KEY)
        if stored is not None:
            return stored.decode()
        name = uuid.uuid4().hex[:12]
        if any(p.sink is not None and p.sink.connector is not None for p in self._program.pipelines):
            self._log.submit(Transaction(state={_RUN_KEY: name.encode()})).result()
        return name

    def _sink(self, pipeline: Pipeline) -> Sink | StreamOutput:
        table = pipeline.sink
        if table is None:
            schema = collected_schema(pipeline)
            collect = self._collect or (lambda _name, _rows: None)
            return CollectSink(schema, lambda rows: collect(pipeline.name, rows))
        if table.stream is not None:
            return StreamOutput(table.stream)
        # by name: a pipeline that comes before this one in the script must not change what its files are called
        return open_sink(table, f"{self._run}-{zlib.crc32(pipeline.name.encode()):08x}")

    def _sources(self, flow: Flow, skipped: Skipped) -> list[Input]:
        return [given for number, scan in enumerate(flow.scans) for given in self._scan_sources(number, scan, skipped)]

    def _scan_sources(self, number: int, scan: Scan, skipped: Skipped) -> list[Input]:
        table, rows = scan.table, self._options.batch_rows
        if table.name in self._inputs:
            source = TableSource(self._inputs[table.name], rows)
            return [Input(number, scan_name(scan, number, 0), source, None)]
        finished = None if self._options.live else self._finished_test(table.name)
        return scan_inputs(self._log, number, scan, rows, finished, skipped)

    def _finished_test(self, stream: str) -> Callable[[], bool]:
        """In a bounded run a stream ends when all pipelines of the program that write it have."""
        writers = self._workers_by_sink(stream)
        return lambda: all(w.state in ("finished", "failed") for w in writers)

    def _workers_by_sink(self, stream: str) -> list[Worker]:
        return [w for w in self._workers if w.pipeline.sink is not None and w.pipeline.sink.name == stream]

    def report(self, runner: Runner, before: Progress, seconds: float) -> None:
        """Pass on what a step changed."""
        metrics, name, after = self._metrics, runner.pipeline.name, runner.progress
        if metrics is None:
            return
        metrics.pipeline_batch(name, after.rows_in - before.rows_in, after.rows_out - before.rows_out, seconds)
        if after.late > before.late:
            metrics.pipeline_late(name, after.late - before.late)
        if after.partly_late > before.partly_late:
            metrics.pipeline_partly_late(name, after.partly_late - before.partly_late)
        metrics.pipeline_watermark(name, after.watermark)
        metrics.pipeline_state(name, after.state_bytes)
        metrics.pipeline_idle(name, after.idle)

    def report_restart(self, pipeline: str) -> None:
        """Pass on that a pipeline has failed and is begun again."""
        if self._metrics is not None:
            self._metrics.pipeline_restarted(pipeline)

    def report_lag(self, runner: Runner) -> None:
        """Pass on how far a pipeline is behind; the log is asked for it, so not with every step."""
        if self._metrics is not None:
            self._metrics.pipeline_lag(runner.pipeline.name, runner.lag())

    def report_latencies(self, runner: Runner) -> None:
        """Pass on the latencies of commits that have finished since the last call."""
        waiting = runner.progress.latencies
        found = [waiting.popleft() for _ in range(len(waiting))]
        if self._metrics is not None and found:
            self._metrics.pipeline_latency(runner.pipeline.name, found)


def failure_key(pipeline: str) -> str:
    """Where the log's state says why a pipeline failed: JSON with `error` and `at` (ms)."""
    return f"failure/{pipeline}"


def _with_limit(options: EngineOptions, settings: Mapping[str, str]) -> EngineOptions:
    """SET 'qanat.state.limit' goes before the project's, not before that of a single pipeline."""
    text = settings.get("qanat.state.limit")
    if text is None:
        return options
    try:
        return replace(options, state_limit=size_bytes(text))
    except ValueError as error:
        raise ConfigError(f"'qanat.state.limit' is {error}, found {text!r}") from None
