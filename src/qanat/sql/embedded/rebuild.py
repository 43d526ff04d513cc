"""A pipeline's state from the history of its inputs: its operators read again what was read before, and stop there.

Writes nothing: what comes out is handed to the caller batch by batch, and in the end the state, ready to be committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qanat.clock import MIN_TIME
from qanat.log.base import Log, Place
from qanat.sql.embedded.connectors.streams import offset_of
from qanat.sql.embedded.feeds import Block, Feed, Preparer, Source, Token
from qanat.sql.embedded.flow import Batch, Ints, empty_frame, no_rows
from qanat.sql.embedded.merge import Merger
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.runner import Input, restored, snapshot_of
from qanat.sql.embedded.skipped import Skipped, skipped_key
from qanat.sql.embedded.sources import scan_inputs
from qanat.sql.fingerprint import fingerprint
from qanat.sql.plan import Pipeline

#: Beyond every sequence number and clock: all that the sources give may be merged.
_OPEN = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Span:
    """What to read, by feed. Over the log the first offset and the one after the last; outside of it `events`: how many
    events (rows, and the end of the source as one more) were read before."""

    starts: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Before:
    """Where the pipeline stood: positions of its feeds by name, and the watermarks of its scans where these are the
    same ones (a partition that was left out as idle moved them, which no replay repeats)."""

    feeds: Mapping[str, Token] = field(default_factory=dict)
    watermarks: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Rows of one micro-batch and the arrival time (ms) of each of its events."""

    batch: Batch
    arrived: Ints


class Rebuild:
    """One run over the history. `live`: inputs are merged as `qanat up` does it, else as `qanat run`."""

    def __init__(self, pipeline: Pipeline, log: Log, span: Span, before: Before, *, live: bool, rows: int) -> None:
        self._flow = Flow(pipeline.root)
        self._parts = fingerprint(pipeline).parts
        self._span, self._before, self._rows = span, before, rows
        scans = self._flow.scans
        skipped = Skipped.load(log.state(skipped_key(pipeline.name)))
        given = [
            one for number, scan in enumerate(scans) for one in scan_inputs(log, number, scan, rows, skipped=skipped)
        ]
        self._inputs = given
        preparers = [Preparer(scan) for scan in scans]
        self._feeds = [
            Feed(one.scan, preparers[one.scan], self._bounded(one), one.name, by_clock=not live) for one in given
        ]
        for one, feed in zip(given, self._feeds, strict=True):
            if one.place is not None:
                feed.seek(_position({"offset": span.starts[one.name]}))
        self._merger = Merger(scans, self._feeds)
        self.rows_read = 0

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Begin with the states of a snapshot, where that was taken. Only before `run`."""
        self._flow.restore(restored(snapshot, self._parts))
        self._merger.watermarks = list(snapshot["watermarks"])
        positions = {feed["name"]: feed["position"] for feed in snapshot["feeds"]}
        for feed in self._feeds:
            if feed.name in positions:
                feed.seek(positions[feed.name])

    def _bounded(self, given: Input) -> Source:
        if given.place is not None:
            old = self._before.feeds.get(given.name)
            return _UpTo(given.source, self._span.ends[given.name], ended=bool(old and old["finished"]))
        return _FirstRows(given.source, self._span.events.get(given.name, 0))

    def run(self) -> Iterator[Output]:
        """Read everything; late and broken rows were reported when they first came."""
        while True:
            for feed in self._feeds:
                if not feed.finished:
                    feed.load(self._rows)
            merged = self._merger.take(self._rows, _OPEN)
            if merged is None:
                break
            self.rows_read += merged.rows
            yield self._through(merged.batches, merged.arrived)
        yield from self._catch_up()

    def _through(self, batches: Mapping[int, Batch], arrived: Ints) -> Output:
        result = self._flow.process(batches, arrived)
        self._flow.context.late.clear()
        for feed in self._feeds:
            feed.bad.clear()
        return Output(result, self._flow.context.arrived)

    def _catch_up(self) -> Iterator[Output]:
        """Watermarks are never behind where they were."""
        now = self._merger.watermarks
        goal = [max(one, old) for one, old in zip(now, self._before.watermarks or now, strict=True)]
        if goal == now:
            return
        batches = {
            number: Batch(empty_frame(scan.schema), no_rows(), np.array([now[number], goal[number]], dtype=np.int64))
            for number, scan in enumerate(self._flow.scans)
        }
        self._merger.watermarks = goal
        yield self._through(batches, np.zeros(1, dtype=np.int64))

    def feeds(self) -> list[dict[str, Any]]:
        """Where every feed stands now: as a commit stores it."""
        found = []
        for given, feed in zip(self._inputs, self._feeds, strict=True):
            position = dict(feed.position())
            old = self._before.feeds.get(feed.name)
            if given.place is not None:
                position["token"] = {"offset": self._span.ends[feed.name]}
            if old is not None:
                position["idle"] = old["idle"]
                position["clock"] = max(position["clock"], old["clock"]) if not feed.consumed else position["clock"]
            found.append({"name": feed.name, "position": position})
        return found

    def places(self) -> dict[Place, int]:
        """The positions in the log."""
        pairs = zip(self._inputs, self.feeds(), strict=True)
        return {one.place: offset_of(at["position"]["token"]) for one, at in pairs if one.place is not None}

    def place(self, feed: str) -> Place | None:
        """The place of the log that a feed reads; None for one outside of it."""
        return next(one.place for one in self._inputs if one.name == feed)

    @property
    def watermarks(self) -> list[int]:
        """Of every scan."""
        return list(self._merger.watermarks)

    def snapshot(self, feeds: Sequence[dict[str, Any]]) -> dict[str, object]:
        """What `runner` would store as a snapshot."""
        return snapshot_of(self._flow, self._parts, self._merger.watermarks, feeds)


class _UpTo:
    """The rows of a partition before an offset, then nothing more: the end where the stream had `ended`."""

    def __init__(self, source: Source, end: int, *, ended: bool) -> None:
        self._source, self._end, self._ended = source, end, ended

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """See `Source`."""
        if offset_of(token) < self._end:
            for block in self._source.blocks(token):
                if block is None or block.token["offset"] >= self._end:
                    break
                rest = self._end - int(block.token["offset"])
                yield block if block.frame.height <= rest else _cut(block, rest)
                if block.frame.height >= rest:
                    break
        while not self._ended:
            yield None


class _FirstRows:
    """The first events of a source: its end counts as one."""

    def __init__(self, source: Source, events: int) -> None:
        self._source, self._events = source, events

    def blocks(self, token: Token | None) -> Iterator[Block | None]:
        """See `Source`."""
        left = self._events
        for block in self._source.blocks(token) if left else ():
            if block is None or left == 0:
                break
            yield block if block.frame.height <= left else _cut(block, left)
            left -= min(block.frame.height, left)
        else:
            if left:
                return
        while True:
            yield None


def _cut(block: Block, rows: int) -> Block:
    return Block(block.frame[:rows], block.token, block.at, block.seq, block.bad)


def _position(token: Token) -> Token:
    return {"token": token, "clock": MIN_TIME, "consumed": 0, "finished": False, "idle": False}
