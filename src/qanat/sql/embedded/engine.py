"""The engine: every pipeline of a program on a thread of its own, over one log.

It creates the program's streams, resumes pipelines where their last commit left them, restarts one that failed for a
passing reason, and keeps the others running when one fails for good. Knows no SQL text and opens no listener.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from qanat.errors import ConfigError, LogError, LogFullError, QanatError
from qanat.log.base import Log, Transaction
from qanat.model.streams import dead_letter_stream, late_stream
from qanat.sql.embedded.connectors.sinks import CollectSink, Sink, collected_schema, open_sink
from qanat.sql.embedded.connectors.streams import TableSource
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.outputs import StreamOutput
from qanat.sql.embedded.runner import EngineOptions, Input, Progress, Runner, scan_name
from qanat.sql.embedded.sources import scan_inputs
from qanat.sql.embedded.stored_plans import PLANS, check_plans, dump_plans, load_plans
from qanat.sql.options import size_bytes
from qanat.sql.plan import Pipeline, Program, Scan

_RUN_KEY = "engine/run"
#: Seconds between two looks at a log that another process may write, and between two reports of a pipeline's lag.
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


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """One pipeline: `state` is waiting, running, finished, stopped or failed; `error` says why it failed; `fraction`:
    how far it is through its input files (0-1), None where that is unknown; `state_bytes`: what it holds, about."""

    name: str
    state: str
    rows_in: int
    rows_out: int
    late: int
    partly_late: int
    dead_letters: int
    watermark: int
    first_row_at: float | None
    last_commit_at: float | None
    error: str | None
    fraction: float | None = None
    state_bytes: int = 0


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
        self._workers = [_Worker(self, pipeline) for pipeline in program.pipelines]

    # -- what the caller does -----------------------------------------------------------------------------------------

    def run(self) -> tuple[PipelineStatus, ...]:
        """Run until every pipeline has finished or failed, or `stop`. Raises the first failure of a bounded run."""
        unwatch = self._log.watch(self._wake_up)
        threads = [threading.Thread(target=w.run, name=f"qanat-{w.name}", daemon=True) for w in self._workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        finally:
            self._stop.set()
            self._wake_up()
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
        self._wake_up()

    def status(self) -> tuple[PipelineStatus, ...]:
        """Every pipeline as it is now."""
        return tuple(worker.status() for worker in self._workers)

    # -- what workers need --------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def _wake_up(self) -> None:
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

    @property
    def commits(self) -> int:
        """Grows with every commit of this process."""
        return self._commits

    def open(self, pipeline: Pipeline) -> Runner:
        """A runner at the place where its last commit left it."""
        runner = Runner(pipeline, self._log, self._sources, self._sink(pipeline), self._options)
        runner.recover()
        if self._log.state(failure_key(pipeline.name)) is not None:
            self._log.submit(Transaction(state={failure_key(pipeline.name): None})).result()
        return runner

    def remember(self, pipeline: str, error: BaseException) -> None:
        """Store why a pipeline failed, for those who look at the log only. Faults of the log itself are not stored."""
        if not isinstance(error, QanatError) or isinstance(error, LogError):
            return
        text = json.dumps({"error": str(error), "at": self._options.clock.now_ms()}).encode()
        with suppress(QanatError):
            self._log.submit(Transaction(state={failure_key(pipeline): text})).result()

    def _create_streams(self) -> None:
        for stream in (dead_letter_stream(), late_stream()):
            self._log.create(stream)
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

    def _sources(self, flow: Flow) -> list[Input]:
        return [given for number, scan in enumerate(flow.scans) for given in self._scan_sources(number, scan)]

    def _scan_sources(self, number: int, scan: Scan) -> list[Input]:
        table, rows = scan.table, self._options.batch_rows
        if table.name in self._inputs:
            source = TableSource(self._inputs[table.name], rows)
            return [Input(number, scan_name(scan, number, 0), source, None)]
        return scan_inputs(
            self._log, number, scan, rows, None if self._options.live else self._finished_test(table.name)
        )

    def _finished_test(self, stream: str) -> Callable[[], bool]:
        """In a bounded run a stream ends when all pipelines of the program that write it have."""
        writers = self._workers_by_sink(stream)
        return lambda: all(w.state in ("finished", "failed") for w in writers)

    def _workers_by_sink(self, stream: str) -> list[_Worker]:
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


class _Worker:
    """One pipeline's thread."""

    def __init__(self, engine: Engine, pipeline: Pipeline) -> None:
        self._engine, self.pipeline, self.name = engine, pipeline, pipeline.name
        self.state = "waiting"
        self.failure: BaseException | None = None
        self._progress = Progress()
        self._lag_at = float("-inf")

    def run(self) -> None:
        """Until finished, failed or stopped; a full disk is waited for."""
        self.state = "running"
        runner: Runner | None = None
        try:
            while True:
                try:
                    runner = runner or self._engine.open(self.pipeline)
                    self._progress = runner.progress
                    self._work(runner)
                    runner.flush()
                    self.state = "finished" if runner.finished else "stopped"
                    self._engine.report(runner, _copy(runner.progress), 0.0)
                    self._engine.report_lag(runner)
                    self._engine.report_latencies(runner)
                    return
                except LogFullError as error:
                    if not self._pause(error):
                        raise
                    if runner is not None:
                        runner.restart()
        except BaseException as error:  # noqa: BLE001 - kept, shown by status() and raised by Engine.run
            self.state, self.failure = "failed", error
            self._engine.remember(self.name, error)
        finally:
            if runner is not None:
                runner.close()
            self._engine._wake_up()

    def _pause(self, error: LogFullError) -> bool:
        self.failure = error
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and not self._engine.stopping:
            self._engine.wait(-1, 0.1)
        return not self._engine.stopping

    def _work(self, runner: Runner) -> None:
        while not runner.finished and not self._engine.stopping:
            seen, started, before = self._engine.commits, time.monotonic(), _copy(runner.progress)
            if runner.step():
                self.failure = None
                self._engine.report(runner, before, time.monotonic() - started)
                self._engine.pace(started)
            else:
                self._engine.wait(seen)
            if started >= self._lag_at + _POLL:
                self._lag_at = started
                self._engine.report_lag(runner)
            self._engine.report_latencies(runner)

    def status(self) -> PipelineStatus:
        """This pipeline as it is now."""
        p = self._progress
        return PipelineStatus(
            self.name,
            self.state,
            p.rows_in,
            p.rows_out,
            p.late,
            p.partly_late,
            p.dead_letters,
            p.watermark,
            p.first_row_at,
            p.last_commit_at,
            str(self.failure) if self.failure is not None else None,
            p.fraction,
            p.state_bytes,
        )


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


def _copy(p: Progress) -> Progress:
    return Progress(p.rows_in, p.rows_out, p.late, p.partly_late, p.dead_letters, p.watermark)
