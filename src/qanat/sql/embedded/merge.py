"""Many feeds -> one order of events, whatever is loaded when. See docs/design/runtime.md, "One order of events"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from qanat.clock import MAX_TIME, MIN_TIME
from qanat.model.streams import CHANGE
from qanat.sql.embedded.feeds import Feed, Taken
from qanat.sql.embedded.flow import Batch, Ints, empty_frame
from qanat.sql.plan import Scan


@dataclass(frozen=True, slots=True)
class Merged:
    """One micro-batch: rows per scan, `events` in all, `rows` of them rows; `arrived`: arrival time (ms) per event."""

    batches: dict[int, Batch]
    events: int
    rows: int
    arrived: Ints


class Merger:
    """Takes the next events of all feeds in their one order and computes each scan's watermark along them."""

    def __init__(self, scans: Sequence[Scan], feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._by_scan = [[feed for feed in feeds if feed.scan == number] for number in range(len(scans))]
        self._empty = [empty_frame(scan.schema) for scan in scans]
        self._changes = [scan.table.changes != "insert" for scan in scans]
        self.watermarks = [MIN_TIME for _ in scans]

    def take(self, limit: int, horizon: int | None) -> Merged | None:
        """The next up to `limit` events; None where none can be taken.

        `horizon`: for live streams, the sequence number up to which every feed has loaded all there is.
        """
        counts, places = self._choose(limit, horizon)
        events = sum(counts)
        if not events:
            return None
        arrived = np.zeros(events, dtype=np.int64)
        taken: list[Taken] = []
        for feed, count, place in zip(self._feeds, counts, places, strict=True):
            part = feed.take(count)
            arrived[place] = part.arrived
            if count:
                feed.idle = False
            taken.append(part)
        batches = {}
        for number, feeds in enumerate(self._by_scan):
            mine = [(feed, taken[i], places[i]) for i, feed in enumerate(self._feeds) if feed in feeds]
            batches[number] = self._batch(number, mine, events)
        rows = events - sum(part.ended for part in taken)
        return Merged(batches, events, rows, arrived)

    def _choose(self, limit: int, horizon: int | None) -> tuple[list[int], list[Ints]]:
        """How many events of each feed come next, and their places among all."""
        if len(self._feeds) == 1:
            count = min(len(self._feeds[0].orders()), limit)
            return [count], [np.arange(count)]
        orders = [feed.orders() for feed in self._feeds]
        orders = [o[: self._released(i, o, horizon)] for i, o in enumerate(orders)]
        whose = np.repeat(np.arange(len(orders)), [len(o) for o in orders])
        merged = np.concatenate(orders)
        chosen = whose[np.lexsort((whose, merged))[:limit]]
        counts = np.bincount(chosen, minlength=len(orders))
        return counts.tolist(), [np.flatnonzero(chosen == i) for i in range(len(orders))]

    def _released(self, number: int, order: Ints, horizon: int | None) -> int:
        """How many events of one feed are known to come before anything that is not loaded yet."""
        count = len(order)
        side: Literal["left", "right"]
        for other, feed in enumerate(self._feeds):
            bound = feed.open_order
            if bound is None or other == number:
                continue
            if horizon is not None:
                side, bound = "right", max(bound, horizon) if feed.drained else bound
            else:
                side = "right" if number < other else "left"
            count = min(count, int(np.searchsorted(order, bound, side=side)))
        return count

    def _batch(self, number: int, feeds: list[tuple[Feed, Taken, Ints]], events: int) -> Batch:
        before = self.watermarks[number]
        tracks, frames, places = [], [], []
        for feed, part, place in feeds:
            if len(place) == events and len(feeds) == 1:
                tracks.append(np.concatenate([[before], part.after]))
            elif (steps := _steps(feed, part, place, events)) is not None:
                tracks.append(steps)
            frames += part.frames
            rows = place[: len(place) - 1] if part.ended else place
            places.append(rows)
        track = np.minimum.reduce(tracks) if tracks else np.full(events + 1, before, dtype=np.int64)
        woken = [place[0] + 1 for _, part, place in feeds if part.woke and len(place)]
        if tracks and len(woken) == len(tracks):
            track[: min(woken)] = before  # all were left out until then: nothing moves on without any of them
        track = np.maximum.accumulate(np.maximum(track, before))
        self.watermarks[number] = int(track[-1])
        seq = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        frame = pl.concat(frames) if frames else self._empty[number]
        if sum(len(p) > 0 for p in places) > 1:
            order = np.argsort(seq, kind="stable")
            frame, seq = frame[order], seq[order]
        return self._with_kinds(number, frame, seq, track)

    def _with_kinds(self, number: int, frame: pl.DataFrame, seq: Ints, track: Ints) -> Batch:
        """The batch, with the kinds of its rows where the table gives a changelog."""
        if not self._changes[number]:
            return Batch(frame, seq, track)
        if CHANGE not in frame.columns:
            return Batch(frame, seq, track, np.empty(0, dtype=np.int8))
        kinds = np.array(frame[CHANGE].to_numpy(), dtype=np.int8)
        return Batch(frame.drop(CHANGE), seq, track, kinds)

    def idle(self, number: int) -> Batch:
        """An event without rows, after feeds became idle: the watermark of scan `number` moves on without them.

        Where all are idle it becomes the largest of their clocks, as between Flink's tasks.
        """
        feeds = self._by_scan[number]
        active = [feed.clock for feed in feeds if not feed.idle]
        before = self.watermarks[number]
        after = max(min(active) if active else max(feed.clock for feed in feeds), before)
        self.watermarks[number] = after
        return self._with_kinds(number, self._empty[number], np.empty(0, dtype=np.int64), np.array([before, after]))


def _steps(feed: Feed, part: Taken, place: Ints, events: int) -> Ints | None:
    """The clock of one feed along all events; None for a feed that is idle throughout."""
    track = np.full(events + 1, MIN_TIME, dtype=np.int64)
    if not len(place):
        if feed.idle:
            return None
        track[0] = MAX_TIME if feed.finished else feed.clock
        return np.maximum.accumulate(track)
    track[0] = part.before
    track[place + 1] = part.after
    np.maximum.accumulate(track, out=track)
    if part.woke:
        track[: place[0] + 1] = MAX_TIME  # left out of the minimum until its first row
    return track
