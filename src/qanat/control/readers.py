"""Those who read a stream that gets a new version: where they stand, and how they go on behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qanat.control.actual import Actual, Commit, feed_offset
from qanat.errors import ChangedPipelineError, LogError
from qanat.log.base import Log, Place, Transaction
from qanat.model.sinks import CONSUMER
from qanat.sql.embedded.rebuild import Before, Rebuild, Span
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.embedded.stored_plans import stored_plan
from qanat.sql.plan import Pipeline, Program


@dataclass(frozen=True, slots=True)
class Reader:
    """A pipeline of the project that reads the stream, and where it stands."""

    pipeline: Pipeline
    commit: Commit


def readers_of(stream: str, program: Program, actual: Actual, but: str) -> list[Reader]:
    """The pipelines other than `but` that have read the stream. Raises where one of them could not go on."""
    declared = {pipeline.name: pipeline for pipeline in program.pipelines}
    ends = {(stream, part): end for part, end in actual.streams[stream].ends.items()}
    found = []
    for name, commit in actual.commits.items():
        places = [place for place in commit.positions if place[0] == stream]
        if name == but or not places:
            continue
        pipeline, plan = declared.get(name), actual.plans.get(name)
        if pipeline is None or (plan is not None and plan.whole != stored_plan(pipeline).whole):
            raise ChangedPipelineError(
                f"{name}, which reads {stream}, is not declared as it has run", hint="qanat apply, then replay"
            )
        behind = sum(max(end - commit.positions.get(place, 0), 0) for place, end in ends.items())
        if behind:
            raise LogError(
                f"{name} has not read {behind:,} rows of {stream}; the new version would take them away",
                hint="let it catch up: qanat up, until qanat status says that it has read everything",
            )
        found.append(Reader(pipeline, commit))
    return found


def other_consumers(
    stream: str, log: Log, consumers: Iterable[str], known: Iterable[str]
) -> dict[str, dict[Place, int]]:
    """Positions on the stream of consumers that are no pipelines. Raises where a sink has not told all alerts of it.

    A sink goes on behind the new version: what it has told is not told again, and what it has not would never be.
    """
    pipelines = {*known, *(f"{name}@snapshot" for name in known)}
    found = {name: log.positions(name) for name in consumers if name not in pipelines}
    others = {
        name: {place: at for place, at in positions.items() if place[0] == stream}
        for name, positions in found.items()
        if any(place[0] == stream for place in positions)
    }
    ends = log.status()[stream].ends
    for name, held in others.items():
        behind = sum(max(ends.get(place[1], 0) - at, 0) for place, at in held.items())
        if behind and name.startswith(CONSUMER):
            raise LogError(
                f"the sink {name.removeprefix(CONSUMER)} has not dealt with {behind:,} rows of {stream}; "
                "the new version would take them away",
                hint="qanat up, until qanat sink list shows that none waits; or without this sink in qanat.yaml",
            )
    return others


class Continuation:
    """Brings one reader from its last snapshot to where it stands, so that it needs no row of the old version."""

    def __init__(self, reader: Reader, log: Log, *, live: bool, rows: int) -> None:
        name, feeds = reader.pipeline.name, reader.commit.feeds
        data = log.state(f"snapshot/{name}")
        snapshot = unpack(data) if data is not None else None
        taken = {feed["name"]: feed["position"] for feed in snapshot["feeds"]} if snapshot is not None else {}
        inside = {feed: at for feed, at in feeds.items() if at["token"] is None or "file" not in at["token"]}
        begun = {feed: feed_offset(taken[feed]) if feed in taken else 0 for feed in inside}
        read = {
            feed: int(at["consumed"]) - int(taken.get(feed, {"consumed": 0})["consumed"]) for feed, at in feeds.items()
        }
        span = Span(begun, {feed: feed_offset(at) for feed, at in inside.items()}, read)
        self._reader = reader
        self._run = Rebuild(reader.pipeline, log, span, Before(feeds), live=live, rows=rows)
        if snapshot is not None:
            self._run.resume(snapshot)
        for _ in self._run.run():
            pass  # it was emitted when it was read first

    def at(self, stream: str, ends: Mapping[int, int]) -> Transaction:
        """Its state and positions behind the new version of `stream`, which ends there."""
        name, commit = self._reader.pipeline.name, self._reader.commit
        feeds = [_moved(feed, self._run.place(feed["name"]), stream, ends) for feed in self._run.feeds()]
        places = {place: ends[place[1]] if place[0] == stream else at for place, at in commit.positions.items()}
        state = {
            f"commit/{name}": pack({**commit.whole, "feeds": feeds}),
            f"snapshot/{name}": pack(self._run.snapshot(feeds)),
        }
        return Transaction(state=state, positions={name: places, f"{name}@snapshot": places})


def _moved(feed: dict[str, Any], place: Place | None, stream: str, ends: Mapping[int, int]) -> dict[str, Any]:
    if place is None or place[0] != stream:
        return feed
    return {**feed, "position": {**feed["position"], "token": {"offset": ends[place[1]]}}}
