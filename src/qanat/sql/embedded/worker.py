"""One pipeline's thread: it steps the pipeline's runner, and knows what to do when that fails.

A full disk is waited for. In a live run with a `RestartPolicy` a pipeline that failed is opened again at its last
commit, and rows that it cannot compute with are set aside; see docs/design/controllers.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanat.errors import LogFullError
from qanat.sql.embedded.restarts import Decision, Failure, Restarts
from qanat.sql.embedded.runner import Progress, Runner
from qanat.sql.plan import Pipeline

if TYPE_CHECKING:
    from qanat.sql.embedded.engine import Engine

#: Seconds between two reports of a pipeline's lag.
_REPORT_LAG = 0.25


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """One pipeline: `state` is waiting, running, restarting, finished, stopped or failed; `error` says why it failed;
    `fraction`: how far it is through its input files (0-1), None where that is unknown; `state_bytes`: what it holds,
    about."""

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


class Worker:
    """One pipeline. `failure`: what it failed for, until something works again."""

    def __init__(self, engine: Engine, pipeline: Pipeline) -> None:
        self._engine, self.pipeline, self.name = engine, pipeline, pipeline.name
        self.state = "waiting"
        self.failure: BaseException | None = None
        self._progress = Progress()
        self._aside = 0
        self._lag_at = float("-inf")
        self._restarts = None if engine.restarts is None else Restarts(engine.restarts)
        self._events: int | None = None

    def run(self) -> None:
        """Until finished, stopped, or failed for good."""
        self.state = "running"
        try:
            while not self._run_once():
                pass
        except BaseException as error:  # noqa: BLE001 - kept, shown by status() and raised by Engine.run
            self.state, self.failure = "failed", error
            self._engine.remember(self.name, error)
        finally:
            self._engine.wake_up()

    def _run_once(self) -> bool:
        """Open the pipeline and work; whether that is the end. Raises what it fails for, if that is for good."""
        runner: Runner | None = None
        try:
            while True:
                try:
                    runner = runner or self._open()
                    self._work(runner)
                    self._end(runner)
                    return True
                except LogFullError as error:
                    if not self._wait_for_room(error):
                        raise
                    if runner is not None:
                        runner.restart()
        except Exception as error:
            decision = self._decide(runner, error)
            if decision is None:
                raise
            self.state, self.failure = "restarting", error
            self._engine.remember(self.name, error)
            self._engine.report_restart(self.name)
        finally:
            if runner is not None:
                runner.close()
        return not self._begin_anew(decision)

    def _open(self) -> Runner:
        runner = self._engine.open(self.pipeline)
        runner.events = self._events
        self._progress = runner.progress
        self.state = "running"
        return runner

    def _end(self, runner: Runner) -> None:
        runner.flush()
        self.state = "finished" if runner.finished else "stopped"
        self._engine.report(runner, copy_of(runner.progress), 0.0)
        self._engine.report_lag(runner)
        self._engine.report_latencies(runner)

    def _decide(self, runner: Runner | None, error: Exception) -> Decision | None:
        if self._restarts is None or self._engine.stopping:
            return None
        return self._restarts.on_failure(Failure(error, 0, 0) if runner is None else runner.failure(error))

    def _begin_anew(self, decision: Decision) -> bool:
        """Do what was decided; whether to open the pipeline again."""
        if decision.aside:
            self._engine.set_aside(self.name, decision.aside)
            self._aside += len(decision.aside)
        self._events = decision.events
        if self._engine.pause(decision.wait_ms / 1000):
            return True
        self.state = "stopped"
        return False

    def _wait_for_room(self, error: LogFullError) -> bool:
        self.failure = error
        return self._engine.pause(1.0)

    def _work(self, runner: Runner) -> None:
        while not runner.finished and not self._engine.stopping:
            seen, started, before = self._engine.commits, time.monotonic(), copy_of(runner.progress)
            if runner.step():
                self._on_success(runner)
                self._engine.report(runner, before, time.monotonic() - started)
                if runner.events is None:
                    self._engine.pace(started)
            else:
                self._engine.wait(seen)
            if started >= self._lag_at + _REPORT_LAG:
                self._lag_at = started
                self._engine.report_lag(runner)
            self._engine.report_latencies(runner)

    def _on_success(self, runner: Runner) -> None:
        if self.failure is None:
            return
        if self._restarts is None or self._restarts.on_success(runner.consumed):
            self.failure = runner.events = self._events = None

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
            p.dead_letters + self._aside,
            p.watermark,
            p.first_row_at,
            p.last_commit_at,
            str(self.failure) if self.failure is not None else None,
            p.fraction,
            p.state_bytes,
        )


def copy_of(p: Progress) -> Progress:
    """The counters as they are now."""
    return Progress(p.rows_in, p.rows_out, p.late, p.partly_late, p.dead_letters, p.watermark)
