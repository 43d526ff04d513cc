"""One pipeline at work: feeds -> merge -> operators -> commit, and back to where it was after a crash.

A runner is driven by the engine's thread for it (`step`); writing and committing happen on a thread of its own, in
order, so that the next micro-batch is computed while the last one is made durable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from qanat.clock import MIN_TIME, SYSTEM, Clock
from qanat.errors import BackpressureError
from qanat.log.base import Append, Log, Place, Transaction
from qanat.model.streams import CHANGE
from qanat.sql.changelog import changes_of
from qanat.sql.embedded.carried import carried
from qanat.sql.embedded.connectors.sinks import Sink
from qanat.sql.embedded.connectors.streams import offset_of
from qanat.sql.embedded.feeds import Feed, Preparer, Source, Token
from qanat.sql.embedded.flow import Batch, State
from qanat.sql.embedded.merge import Merged, Merger
from qanat.sql.embedded.operators import Closable, Flow
from qanat.sql.embedded.outputs import StreamOutput, dead_rows, late_rows
from qanat.sql.embedded.restarts import Failure, RestartPolicy, reason_of
from qanat.sql.embedded.skipped import Suspect
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.embedded.state_limit import check_state
from qanat.sql.fingerprint import Part, fingerprint
from qanat.sql.plan import Pipeline, Scan
from qanat.sql.tree import user_functions

#: Commits that may be under way while the next micro-batch is computed.
_IN_FLIGHT = 3
#: Smaller micro-batches say more about their overhead than about the rate of a pipeline.
_BULK = 1024


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run. `live`: streams of the log never end (`qanat up`); else they end where their writers do.

    `batch_rows`: at most so many events per micro-batch. `commit_interval_ms`: how long a pipeline with a sink outside
    the log gathers before it commits (each commit is a file); into the log what a micro-batch gives is committed at
    once, and one that gives nothing waits for the next one that does, for up to `quiet_interval_ms`.
    `interval_ms`: a live pipeline starts a micro-batch at most so often; what comes meanwhile goes into the next one.
    `state_limit`: bytes of state that a pipeline may hold (None: any), `state_limits`: those of single pipelines.
    `restarts`: how a live pipeline that failed is begun again and sets rows aside; None: it stays failed.
    """

    live: bool = False
    batch_rows: int = 131_072
    commit_interval_ms: int = 1_000
    quiet_interval_ms: int = 100
    interval_ms: int = 10
    snapshot_interval_ms: float = 5_000
    clock: Clock = SYSTEM
    state_limit: int | None = None
    state_limits: Mapping[str, int] = field(default_factory=dict)
    restarts: RestartPolicy | None = None

    def limit_of(self, pipeline: str) -> int | None:
        """How many bytes of state a pipeline may hold."""
        return self.state_limits.get(pipeline, self.state_limit)


@dataclass(slots=True)
class Progress:
    """What a runner tells while it runs. Times of the wall clock are epoch seconds."""

    rows_in: int = 0
    rows_out: int = 0
    late: int = 0
    partly_late: int = 0
    dead_letters: int = 0
    watermark: int = MIN_TIME
    fraction: float | None = None
    first_row_at: float | None = None
    last_commit_at: float | None = None
    latencies: deque[float] = field(default_factory=deque)
    state_bytes: int = 0
    idle: int = 0  # partitions left out of the watermark
    bulk_rows: int = 0  # of micro-batches large enough to tell a rate
    bulk_seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Rows per second while there is much to do; None where that has not been seen."""
        return self.bulk_rows / self.bulk_seconds if self.bulk_seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Input:
    """One source of one scan. `place`: where positions are kept in the log; None for sources outside it."""

    scan: int
    name: str
    source: Source
    place: Place | None


@dataclass(slots=True)
class _Gathered:
    """What waits for the next commit."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    late: list[Append] = field(default_factory=list)
    dead: list[Append] = field(default_factory=list)
    rows_in: int = 0
    rows_out: int = 0
    arrived: int = 0  # of the newest row
    completed: list[int] = field(default_factory=list)  # arrival times of the rows that completed results
    since: float = 0.0
    changed: bool = False

    @property
    def has_rows(self) -> bool:
        """Whether there is something that others can see."""
        return bool(self.frames or self.late or self.dead)


class Runner:
    """Runs one pipeline. Not thread-safe: one thread steps it; `progress` may be read by others."""

    def __init__(  # what a pipeline stands on
        self,
        pipeline: Pipeline,
        log: Log,
        inputs: Callable[[Flow], list[Input]],
        sink: Sink | StreamOutput,
        options: EngineOptions,
    ) -> None:
        self.pipeline = pipeline
        self.progress = Progress()
        self._log, self._sink, self._options = log, sink, options
        self._make_inputs = inputs
        #: At most so many events in a micro-batch, which is committed before the next one; None: as many as ever.
        self.events: int | None = None
        self._parts = fingerprint(pipeline).parts
        self._updates = changes_of(pipeline.root).updates
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"qanat-commit-{pipeline.name}")
        self._open_flow()

    # -- start and recovery -------------------------------------------------------------------------------------------

    def _open_flow(self) -> None:
        self._flow = Flow(self.pipeline.root)
        #: Whether what an operator gave cannot be computed again, so that its state is needed with every commit.
        self._unrepeatable = any(not getattr(one, "repeatable", True) for one in self._flow.operators) or any(
            not one.deterministic for one in user_functions(self.pipeline.root)
        )
        self._inputs = self._make_inputs(self._flow)
        preparers = [Preparer(scan) for scan in self._flow.scans]
        self._feeds = [self._feed(i, preparers[i.scan]) for i in self._inputs]
        self._merger = Merger(self._flow.scans, self._feeds)
        self._gathered = _Gathered()
        self._pending: list[tuple[Future[None], int]] = []
        self._safe = 0  # events whose commit has succeeded
        self._next_tokens: list[Token | None] = []
        self._committed: dict[Place, int] = {}
        self._last_snapshot = self._options.clock.seconds()
        self._heard = [self._options.clock.seconds()] * len(self._feeds)

    def _feed(self, given: Input, preparer: Preparer) -> Feed:
        isolate = self._options.restarts is not None and given.place is not None
        return Feed(given.scan, preparer, given.source, given.name, by_clock=not self._options.live, isolate=isolate)

    def recover(self) -> None:
        """Load the last snapshot, replay what was committed since without emitting, finish files of the last commit."""
        name = self.pipeline.name
        self._committed = self._log.positions(name)
        stored = self._log.state(f"commit/{name}")
        committed = unpack(stored) if stored else None
        if not isinstance(self._sink, StreamOutput):
            self._sink.recover(committed["sink"] if committed else None)
        if committed is None:
            return
        progress = committed["progress"]
        for counter in ("rows_in", "rows_out", "late", "partly_late", "dead_letters"):
            setattr(self.progress, counter, progress[counter])
        snapshot = self._log.state(f"snapshot/{name}")
        target = {feed["name"]: feed for feed in committed["feeds"]}
        if snapshot is not None:
            self._restore(unpack(snapshot))
        self._replay(sum(target[f.name]["position"]["consumed"] - f.consumed for f in self._feeds if f.name in target))
        counters = self._flow.context.counters
        counters.late, counters.partly_late = self.progress.late, self.progress.partly_late
        self._check_state()
        self._safe = self.consumed

    def _restore(self, snapshot: dict[str, object]) -> None:
        self._flow.restore(restored(snapshot, self._parts))
        self._merger.watermarks = list(snapshot["watermarks"])  # type: ignore[call-overload]
        positions = {feed["name"]: feed["position"] for feed in snapshot["feeds"]}  # type: ignore[attr-defined]
        for feed in self._feeds:
            if feed.name in positions:
                feed.seek(positions[feed.name])

    def _replay(self, events: int) -> None:
        while events > 0:
            merged = self._next(min(events, self._options.batch_rows))
            if merged is None:
                time.sleep(0.001)
                continue
            self._flow.process(merged.batches, merged.arrived)
            self._flow.context.late.clear()
            events -= merged.events
        for feed in self._feeds:
            feed.bad.clear()

    # -- work ---------------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether every input has ended."""
        return all(feed.finished for feed in self._feeds)

    def step(self) -> bool:
        """One micro-batch, if there is one. Whether anything was done. Raises what a commit raised."""
        self._check()
        started = time.time()
        merged = self._next(min(self.events or self._options.batch_rows, self._options.batch_rows))
        if merged is None:
            worked = self._idle()
        else:
            if self.progress.first_row_at is None:
                self.progress.first_row_at = started
            self._process(merged)
            self.progress.fraction = self.fraction()
            worked = True
        if self._due(worked):
            self._commit()
        if self.events is not None:
            self.flush()
        return worked

    @property
    def consumed(self) -> int:
        """Events taken since the beginning."""
        return sum(feed.consumed for feed in self._feeds)

    def failure(self, error: BaseException) -> Failure:
        """What is known of an error that `step` raised."""
        return Failure(error, self._safe, self.consumed - self._safe, self._suspects(error))

    def _suspects(self, error: BaseException) -> list[Suspect]:
        found = []
        for given, feed in zip(self._inputs, self._feeds, strict=True):
            if given.place is not None:
                found += [Suspect(given.place, offset_of(token), reason_of(fault)) for token, fault in feed.faults]
        if not found and self.consumed == self._safe + 1:
            for given, feed, next_ in zip(self._inputs, self._feeds, self._next_tokens, strict=True):
                if given.place is not None and next_ is not None and feed.next_token() != next_:
                    found.append(Suspect(given.place, offset_of(next_), reason_of(error)))
        return found

    def _next(self, limit: int) -> Merged | None:
        horizon = self._log.seq() if self._options.live else None
        for feed in self._feeds:
            if not feed.finished:
                feed.load(limit)
        consumed = [feed.consumed for feed in self._feeds]
        self._next_tokens = [feed.next_token() for feed in self._feeds]
        merged = self._merger.take(limit, horizon)
        for i, feed in enumerate(self._feeds):
            if feed.consumed > consumed[i]:
                self._heard[i] = self._options.clock.seconds()
        return merged

    def _process(self, merged: Merged) -> None:
        gathered = self._gathered
        if not gathered.changed:
            gathered.since, gathered.changed = self._options.clock.seconds(), True
        began = time.perf_counter()
        result = self._flow.process(merged.batches, merged.arrived)
        self._check_state()
        if merged.rows >= _BULK:
            self.progress.bulk_rows += merged.rows
            self.progress.bulk_seconds += time.perf_counter() - began
        gathered.rows_in += merged.rows
        if result.frame.height:
            gathered.frames.append(self._changes(result))
            gathered.rows_out += result.frame.height
            if self._options.live:
                events, counts = np.unique(merged.arrived[result.seq], return_counts=True)
                gathered.completed += [int(at) for at in events[counts > 0] if at]
        self._side_outputs()
        self.progress.watermark = result.end
        self.progress.idle = sum(feed.idle for feed in self._feeds)

    def _check_state(self) -> None:
        self.progress.state_bytes = check_state(
            self.pipeline.name, self._parts, self._flow.operators, self._options.limit_of(self.pipeline.name)
        )

    def _changes(self, result: Batch) -> pl.DataFrame:
        """The rows, with the kind of each where the pipeline changes its results."""
        return result.frame.with_columns(pl.Series(CHANGE, result.all_kinds)) if self._updates else result.frame

    def _side_outputs(self) -> None:
        context = self._flow.context
        name = self.pipeline.name
        if context.late:
            self._gathered.late.append(late_rows(name, context.late, self._options.clock.now_ms()))
            context.late.clear()
        for feed in self._feeds:
            if feed.bad:
                self._gathered.dead.append(dead_rows(feed.name, feed.bad, self._options.clock.now_ms()))
                self.progress.dead_letters += len(feed.bad)
                feed.bad = []

    def _idle(self) -> bool:
        """Leave out partitions that were silent for their idle timeout."""
        now = self._options.clock.seconds()
        silent = []
        for feed, heard in zip(self._feeds, self._heard, strict=True):
            if feed.idle_ms is not None and not feed.idle and (now - heard) * 1000 >= feed.idle_ms:
                silent.append(feed.name)
        return self.leave_out(silent)

    def leave_out(self, names: Collection[str]) -> bool:
        """Let the watermark go on without these feeds until they bring a row. Whether that changed anything.

        Such a decision is never replayed: it is committed with a snapshot.
        """
        found = [feed for feed in self._feeds if feed.name in names and not feed.idle and not feed.finished]
        for feed in found:
            feed.idle = True
        if not found or not self._options.live:
            return False
        batches = {number: self._merger.idle(number) for number in range(len(self._flow.scans))}
        self._process(Merged(batches, 1, 0, np.zeros(1, dtype=np.int64)))
        self._last_snapshot = float("-inf")
        return True

    # -- commit -------------------------------------------------------------------------------------------------------

    def _due(self, worked: bool) -> bool:
        gathered, options = self._gathered, self._options
        if not gathered.changed:
            return False
        into_log = isinstance(self._sink, StreamOutput)
        if self.finished or (into_log and gathered.has_rows) or (not worked and options.live):
            return True
        waited = (options.clock.seconds() - gathered.since) * 1000
        return waited >= (options.quiet_interval_ms if into_log else options.commit_interval_ms)

    def _commit(self) -> None:
        gathered, self._gathered = self._gathered, _Gathered()
        name = self.pipeline.name
        self.progress.rows_in += gathered.rows_in
        self.progress.rows_out += gathered.rows_out
        counters = self._flow.context.counters
        self.progress.late, self.progress.partly_late = counters.late, counters.partly_late
        feeds: list[dict[str, object]] = [{"name": feed.name, "position": feed.position()} for feed in self._feeds]
        places = self._places()
        positions = {name: places}
        state: dict[str, bytes | None] = {}
        commit: dict[str, object] = {"feeds": feeds, "sink": None, "progress": self._counts()}
        commit |= {"watermarks": list(self._merger.watermarks), "rate": self.progress.rate}
        if (
            self._unrepeatable
            or self._options.clock.seconds() - self._last_snapshot >= self._options.snapshot_interval_ms / 1000
        ):
            self._last_snapshot = self._options.clock.seconds()
            state[f"snapshot/{name}"] = self._snapshot(feeds)
            positions[f"{name}@snapshot"] = places
        elif not self._committed and places:
            positions[f"{name}@snapshot"] = dict.fromkeys(places, 0)
        expect = {name: {**dict.fromkeys(places, 0), **self._committed}}
        self._committed = places
        future = self._writer.submit(self._write, gathered, positions, expect, state, commit)
        self._pending.append((future, self.consumed))
        while len(self._pending) > _IN_FLIGHT:
            self._settle()

    def _counts(self) -> dict[str, int]:
        p = self.progress
        return {
            "rows_in": p.rows_in,
            "rows_out": p.rows_out,
            "late": p.late,
            "partly_late": p.partly_late,
            "dead_letters": p.dead_letters,
        }

    def _places(self) -> dict[Place, int]:
        found = {}
        for given, feed in zip(self._inputs, self._feeds, strict=True):
            if given.place is not None:
                found[given.place] = offset_of(feed.position()["token"])
        return found

    def fraction(self) -> float | None:
        """How far through its files this pipeline is (0-1), the one that is furthest behind; None where unknown."""
        if self.finished:
            return 1.0
        given = (getattr(i.source, "fraction", None) for i in self._inputs)
        pairs = [(ask, feed) for ask, feed in zip(given, self._feeds, strict=True) if ask is not None]
        found = [1.0 if feed.finished else ask(feed.position()["token"]) for ask, feed in pairs]
        return None if not found or None in found else min(found)

    def lag(self) -> int:
        """Rows in the log that this pipeline has not yet taken."""
        streams = self._log.status()
        places = self._places()
        return sum(max(streams[name].ends[part] - offset, 0) for (name, part), offset in places.items())

    def _snapshot(self, feeds: list[dict[str, object]]) -> bytes:
        return pack(snapshot_of(self._flow, self._parts, self._merger.watermarks, feeds))

    def _write(  # runs on the writer thread; the parts of one commit
        self,
        gathered: _Gathered,
        positions: dict[str, dict[Place, int]],
        expect: dict[str, dict[Place, int]],
        state: dict[str, bytes | None],
        commit: dict[str, object],
    ) -> None:
        appends = [*gathered.late, *gathered.dead]
        if isinstance(self._sink, StreamOutput):
            appends = [*self._sink.appends(gathered.frames, self._options.clock.now_ms()), *appends]
        else:
            for frame in gathered.frames:
                self._sink.write(frame)
            commit["sink"] = self._sink.prepare()
        state[f"commit/{self.pipeline.name}"] = pack(commit)
        self._submit(Transaction(appends, positions, state, expect))
        if not isinstance(self._sink, StreamOutput):
            self._sink.publish()
        now = time.time()
        self.progress.last_commit_at = now
        self.progress.latencies += [now - at / 1000 for at in gathered.completed]

    def _submit(self, transaction: Transaction) -> None:
        while True:
            try:
                self._log.submit(transaction).result()
            except BackpressureError as error:
                time.sleep(error.retry_after)
                continue
            return

    def _check(self) -> None:
        while self._pending and self._pending[0][0].done():
            self._settle()

    def _settle(self) -> None:
        future, consumed = self._pending.pop(0)
        future.result()
        self._safe = consumed

    def flush(self) -> None:
        """Commit what is gathered and wait for it."""
        if self._gathered.changed:
            self._commit()
        while self._pending:
            self._settle()

    def restart(self) -> None:
        """Forget everything in memory and start from what is committed."""
        for pending, _ in self._pending:
            pending.cancel()
        self._writer.shutdown(wait=True)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"qanat-commit-{self.pipeline.name}")
        self._open_flow()
        self.recover()

    def close(self) -> None:
        """Let go of threads and connections; what is not committed is forgotten (and done again at the next start)."""
        self._writer.shutdown(wait=True)
        for operator in self._flow.operators:
            if isinstance(operator, Closable):
                operator.close()


def snapshot_of(flow: Flow, parts: Sequence[Part], watermarks: Sequence[int], feeds: object) -> dict[str, object]:
    """Everything a pipeline needs to go on: states, with the operators that they are of."""
    plan = [[part.kind, part.state, list(part.names)] for part in parts]
    return {"operators": flow.snapshot(), "watermarks": list(watermarks), "feeds": feeds, "plan": plan}


def restored(snapshot: Mapping[str, Any], parts: Sequence[Part]) -> list[State]:
    """The states of a snapshot for the operators `parts`; old snapshots do not say whose theirs are."""
    first, *states = snapshot["operators"]
    plan = snapshot.get("plan")
    old = parts if plan is None else [Part(kind, state, tuple(names)) for kind, state, names in plan]
    return [first, *carried(states, old, parts)]


def scan_name(scan: Scan, number: int, partition: int) -> str:
    """The stable name of a feed within its pipeline."""
    return f"{scan.table.name}#{number}/{partition}"
