"""History computed anew into a new version of a pipeline's output, swapped for the old one in one transaction.

docs/design/changing.md says what becomes of readers. The log must be open for writing; nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from threading import Event

import msgspec
import numpy as np
import polars as pl

from qanat.control.actual import Actual, Commit, Version, consumers_of, read_actual
from qanat.control.apply import before, committed
from qanat.control.archives import refuse_archived
from qanat.control.diff import ASSUMED_RATE
from qanat.control.event_times import follows_event_time, times_of
from qanat.control.history import need_of
from qanat.control.pipelines import pipeline_of
from qanat.control.readers import Continuation, other_consumers, readers_of
from qanat.control.spans import reach_of
from qanat.control.stages import History
from qanat.errors import ChangedPipelineError, ConfigError, LogError
from qanat.log.base import Append, Log, Transaction
from qanat.model.stores import CONSUMER as STORE
from qanat.model.streams import CHANGE, Stream
from qanat.query.tail import tail
from qanat.sql.changelog import changes_of
from qanat.sql.embedded.connectors.streams import frame_of
from qanat.sql.embedded.outputs import StreamOutput
from qanat.sql.embedded.rebuild import Output, Rebuild
from qanat.sql.embedded.stored_plans import PLANS, dump_plans, stored_plan
from qanat.sql.plan import Pipeline, Program


@dataclass(frozen=True, slots=True)
class Window:
    """The event times (ms) of the results that are computed anew; None: without bound."""

    begin: int | None = None
    end: int | None = None

    @property
    def whole(self) -> bool:
        """Whether every result is computed anew."""
        return self.begin is None and self.end is None

    def covers(self, times: np.ndarray) -> np.ndarray:
        """Which of the event times lie within."""
        low = times >= self.begin if self.begin is not None else np.ones(len(times), dtype=np.bool_)
        return low & (times < self.end) if self.end is not None else low


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay would do. `stored`: rows of the stream now; `readers`: pipelines that go on behind the new version;
    `missing`: results that could not be computed anew since their rows are gone, in words."""

    pipeline: str
    stream: str
    version: int
    history: History
    stored: int
    readers: tuple[str, ...]
    missing: str = ""


class Replay:
    """One replay: `plan()` says what it is, `run()` does it. The log may be read-only for `plan`."""

    def __init__(self, program: Program, log: Log, name: str, window: Window, *, live: bool, rows: int) -> None:
        self._program, self._log, self._window = program, log, window
        self._live, self._rows = live, rows
        self._pipeline = pipeline_of(program, name)
        self._stream = _stream_of(self._pipeline, program)
        self._actual = read_actual(log, (one.name for one in program.pipelines))
        _check_window(self._pipeline, window)
        refuse_archived(self._stream, log)
        self._commit = _commit_of(name, self._actual)
        self._reach = reach_of(self._pipeline, self._commit, self._actual, window.begin)
        self._readers = readers_of(self._stream.name, program, self._actual, name)
        self._others = other_consumers(self._stream.name, log, consumers_of(log), self._actual.commits)
        self.stopped = Event()

    def plan(self) -> ReplayPlan:
        """What would be done."""
        known = self._actual.streams[self._stream.name]
        rate = self._commit.rate or ASSUMED_RATE
        history = History(self._reach.rows, rate, self._commit.rate is not None)
        readers = tuple(reader.pipeline.name for reader in self._readers)
        version = self._version().number
        return ReplayPlan(
            self._pipeline.name, self._stream.name, version, history, known.rows, readers, self._reach.missing
        )

    def _version(self) -> Version:
        known = self._actual.versions.get(self._stream.name)
        ends = dict(self._actual.streams[self._stream.name].ends)
        return Version(2 if known is None else known.number + 1, ends)

    def run(self, *, allow_loss: bool = False, tell: Callable[[int], None] = lambda _rows: None) -> int:
        """Compute and swap; returns how many rows the new version has. `tell`: rows read so far.

        Setting `stopped` from another thread ends it; the old version stays then.
        """
        plan = self.plan()
        if plan.missing and not allow_loss:
            raise ChangedPipelineError(
                f"{plan.pipeline} cannot be replayed like this: {plan.missing}",
                hint="a later --from, or --allow-loss to do without them",
            )
        swap = getattr(self._log, "replace", None)
        if swap is None or self._reach.span is None:
            raise LogError(f"{plan.stream} cannot be replaced here")
        self._log.create(self._stream)
        going_on = [Continuation(reader, self._log, live=self._live, rows=self._rows) for reader in self._readers]
        past = before(self._pipeline, self._actual, self._commit)
        run = Rebuild(self._pipeline, self._log, self._reach.span, past, live=self._live, rows=self._rows)
        made = _Made(self._stream, self._window, run, self._log, changes_of(self._pipeline.root).updates)

        def rows() -> Iterator[Append]:
            for append in made.appends():
                if self.stopped.is_set():
                    raise LogError("the replay was stopped; the old version stays")
                tell(run.rows_read)
                yield append

        swap(self._stream.name, rows(), lambda ends: self._then(run, going_on, ends))
        return made.count

    def _then(self, run: Rebuild, going_on: list[Continuation], ends: Mapping[int, int]) -> Transaction:
        """Everything that becomes true with the new version."""
        name, stream = self._pipeline.name, self._stream.name
        mine = committed(name, run, self._commit, self._commit.whole["sink"])
        plans = {**self._actual.plans, name: stored_plan(self._pipeline)}
        positions, state = dict(mine.positions), dict(mine.state)
        state |= {PLANS: dump_plans(plans), f"version/{stream}": msgspec.msgpack.encode(self._version())}
        for one in going_on:
            moved = one.at(stream, ends)
            positions |= moved.positions
            state |= moved.state
        begins = self._actual.streams[stream].ends
        for consumer, held in self._others.items():
            # a hot store takes the new version, too, and holds retention back until then
            at = begins if consumer.startswith(STORE) else ends
            positions[consumer] = {place: at[place[1]] for place in held}
        return replace(mine, positions=positions, state=state)


class _Made:
    """The rows of the new version, in order: older results, computed ones, newer ones."""

    def __init__(self, stream: Stream, window: Window, run: Rebuild, log: Log, updates: bool) -> None:
        self._stream, self._window, self._run, self._log = stream, window, run, log
        self._updates = updates
        self._output = StreamOutput(stream)
        self.count = 0

    def appends(self) -> Iterator[Append]:
        """All of them."""
        for append in self._all():
            self.count += append.rows.num_rows
            yield append

    def _all(self) -> Iterator[Append]:
        begin, end = self._window.begin, self._window.end
        if begin is not None:
            yield from self._old(lambda times: times < begin)
        newest = 0
        for output in self._run.run():
            newest = max(newest, int(output.arrived[-1]) if len(output.arrived) else 0)
            yield from self._output.appends(self._new(output), newest)
        if end is not None:
            yield from self._old(lambda times: times >= end)

    def _new(self, output: Output) -> list[pl.DataFrame]:
        frame, batch = output.batch.frame, output.batch
        frame = frame.rename(dict(zip(frame.columns, (c.name for c in self._stream.columns), strict=True)))
        if self._updates:
            frame = frame.with_columns(pl.Series(CHANGE, batch.all_kinds))
        if not self._window.whole and frame.height:
            frame = frame.filter(pl.Series(self._window.covers(times_of(self._stream, frame))))
        return [frame] if frame.height else []

    def _old(self, wanted: Callable[[np.ndarray], np.ndarray]) -> Iterator[Append]:
        for chunk in tail(self._log, self._stream.name, "beginning"):
            frame = frame_of(chunk.rows)
            times = times_of(self._stream, frame)
            keep = wanted(times)
            if not bool(keep.any()):
                continue
            rows = chunk.rows.filter(keep) if not bool(keep.all()) else chunk.rows
            low, high = int(times[keep].min()), int(times[keep].max())
            yield Append(chunk.stream, chunk.partition, rows, chunk.at, low, high)


# --- what can be replayed ------------------------------------------------------------------------------------------


def _stream_of(pipeline: Pipeline, program: Program) -> Stream:
    sink = pipeline.sink
    if sink is None or sink.stream is None:
        where = "the caller" if sink is None else f"the connector {sink.connector}"
        raise ConfigError(
            f"{pipeline.name} writes to {where}; only a stream of the log can be swapped",
            hint="for files: run the script again with an empty folder and a new --state DIR",
        )
    others = [one.name for one in program.pipelines if one.sink == sink and one.name != pipeline.name]
    if others:
        raise ConfigError(
            f"{others[0]} writes into {sink.name}, too: its rows cannot be told from those of {pipeline.name}",
            hint="let each write a stream of its own and join them with UNION ALL",
        )
    if sink.stream.name in stored_plan(pipeline).reads:
        raise ConfigError(f"{pipeline.name} reads what it writes; there is no history to begin from")
    return sink.stream


def _commit_of(name: str, actual: Actual) -> Commit:
    commit = actual.commits.get(name)
    if commit is None:
        raise ConfigError(f"{name} has not run yet: there is nothing to replay", hint="qanat up")
    return commit


def _check_window(pipeline: Pipeline, window: Window) -> None:
    if window.whole:
        return
    if window.begin is not None and window.end is not None and window.begin >= window.end:
        raise ConfigError("--to must be later than --from")
    reason = ""
    if not follows_event_time(pipeline):
        reason = "the event time of its results is not that of its rows or windows"
    elif changes_of(pipeline.root).updates:
        reason = "it changes its results"
    elif window.begin is not None and need_of(pipeline.root).ms is None:
        reason = "its state depends on everything before"
    if reason:
        raise ConfigError(
            f"{pipeline.name} cannot be replayed in part: {reason}", hint="--from beginning, without --to"
        )
