"""Temporal joins (FOR SYSTEM_TIME AS OF): each left row with the version of the right row of its key that was valid.

Event time: left rows wait until the watermark passes their time and then take the right version with the greatest time
not after theirs. A version is kept until a later one is passed by the watermark; so a left row that is late still finds
its version where that is the last one. Where it is not, it goes to the late rows, or on a LEFT join comes out with
NULLs, as in Flink. Processing time: the version that came last, at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import (
    DELETE,
    UPDATE_BEFORE,
    Batch,
    Context,
    Ints,
    State,
    empty_frame,
    instants,
    no_rows,
)
from qanat.sql.embedded.pairs import JoinKeys, Mask, Residual, largest_keys, picked, side_by_side
from qanat.sql.embedded.versions import Versions
from qanat.sql.plan import TemporalJoin


@dataclass(frozen=True, slots=True)
class Waiting:
    """Left rows in order of arrival: key (0 where NULL), whether it has one, time (ms), event (-1: came before)."""

    key: Ints
    present: Mask
    time: Ints
    event: Ints
    frame: pl.DataFrame

    def plus(self, newer: Waiting) -> Waiting:
        """These and newer ones."""
        return Waiting(
            np.concatenate([self.key, newer.key]),
            np.concatenate([self.present, newer.present]),
            np.concatenate([self.time, newer.time]),
            np.concatenate([self.event, newer.event]),
            pl.concat([self.frame, newer.frame]),
        )

    def where(self, keep: Mask) -> Waiting:
        """The rows for which `keep` holds."""
        frame = self.frame.filter(pl.Series(keep))
        return Waiting(self.key[keep], self.present[keep], self.time[keep], self.event[keep], frame)


class TemporalJoinOperator:
    """Runs one `TemporalJoin`. State: the right rows' versions, left rows that wait."""

    def __init__(self, node: TemporalJoin, context: Context) -> None:
        self._node, self._context = node, context
        self._outer = node.kind == "LEFT"
        self._keys = JoinKeys(node.left_keys, node.right_keys, dense=True)
        self._residual = Residual(node.residual, node.schema)
        self._empty = empty_frame(node.schema)
        self._versions = Versions.none(empty_frame(node.right.schema))
        self._waiting = self._no_rows()

    def _no_rows(self) -> Waiting:
        frame = empty_frame(self._node.left.schema)
        return Waiting(no_rows(), np.zeros(0, dtype=np.bool_), no_rows(), no_rows(), frame)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """The left rows whose time has come, each with its version; in order of the event that lets them go."""
        if self._node.left_time is None or self._node.right_time is None:
            return self._at_once(*batches)
        track = np.minimum(batches[0].track, batches[1].track)
        left = self._left(batches[0], instants(batches[0].frame[self._node.left_time]))
        right_times = instants(batches[1].frame[self._node.right_time])
        self._versions = self._versions.plus(self._right(batches[1], right_times))
        rows = self._waiting.plus(left)
        due = rows.time <= track[-1]
        self._waiting = rows.where(~due)
        result = self._due(rows.where(due), track)
        self._versions = self._versions.settled(int(track[-1]))
        self._waiting = replace(self._waiting, event=np.full(len(self._waiting.key), -1))
        self._forget_keys()
        return result

    def _left(self, batch: Batch, times: Ints) -> Waiting:
        keys, present = self._keys.encode(0, batch.frame)
        rows = Waiting(keys, present, times, batch.seq, batch.frame)
        return rows if self._outer or bool(present.all()) else rows.where(present)

    def _right(self, batch: Batch, times: Ints) -> Versions:
        """New versions. A -U says nothing that its +U does not."""
        keys, present = self._keys.encode(1, batch.frame)
        kinds = batch.all_kinds
        keep = present & (kinds != UPDATE_BEFORE)
        frame = batch.frame.filter(pl.Series(keep))
        return Versions(keys[keep], times[keep], kinds[keep] == DELETE, batch.seq[keep], frame)

    def _due(self, rows: Waiting, track: Ints) -> Batch:
        if not len(rows.key):
            return Batch(self._empty, no_rows(), track)
        event = np.maximum(np.searchsorted(track, rows.time, side="left") - 1, rows.event)
        event = np.maximum(event, 0)
        before = track[np.maximum(rows.event, 0)]
        late = (rows.event >= 0) & (rows.time <= before)
        # of a late row, only the version that is valid now is known for certain
        place = self._versions.at(rows.key, np.where(late, before, rows.time), event)
        lost = late & (place >= 0) & (self._version_times(place) > rows.time)
        place[lost | ~rows.present] = -1
        result = self._joined(rows.frame, place, event, track)
        if not self._outer and bool(lost.any()):
            judged = Batch(rows.frame, np.maximum(rows.event, 0), track)
            reason = "the version of the row's time is forgotten"
            self._context.reject("temporal join", judged, lost, rows.time, reason)
        return result

    def _version_times(self, place: Ints) -> Ints:
        return self._versions.time[place] if len(self._versions.time) else np.zeros(len(place), dtype=np.int64)

    def _joined(self, left: pl.DataFrame, place: Ints, event: Ints, track: Ints) -> Batch:
        """Left rows side by side with the versions at these places, in order of `event`, then arrival."""
        if len(self._versions.gone):
            place = np.where((place >= 0) & self._versions.gone[place], -1, place)
        right = picked(self._versions.frame, place)
        held = place >= 0
        holds = held & self._residual.holds(left, right)
        if self._outer:
            right = picked(self._versions.frame, np.where(holds, place, -1)) if bool((held & ~holds).any()) else right
        elif not bool(holds.all()):
            keep = pl.Series(holds)
            left, right, event = left.filter(keep), right.filter(keep), event[holds]
        order = np.argsort(event, kind="stable")
        return Batch(side_by_side(left, right, self._node.schema)[order], event[order], track)

    def _at_once(self, left_batch: Batch, right_batch: Batch) -> Batch:
        """Processing time. The watermark is that of the left input."""
        track = left_batch.track
        new = self._right(right_batch, right_batch.seq)  # the event is the time; what was known has -1
        versions = self._versions.plus(new)
        self._versions = versions
        left = self._left(left_batch, left_batch.seq - 1)
        place = versions.at(left.key, left.time, left.event) if len(left.key) else no_rows()
        place = np.where(left.present, place, -1)
        result = self._joined(left.frame, place, left.event, track)
        settled = versions.settled(len(track))
        self._versions = replace(settled, time=settled.event).living()
        self._forget_keys()
        return result

    def _forget_keys(self) -> None:
        if (len(self._versions.key) + len(self._waiting.key)) * 2 > len(self._keys):
            return
        waiting = self._waiting
        numbers = self._keys.keep(np.concatenate([self._versions.key, waiting.key[waiting.present]]))
        if numbers is not None:
            self._versions = self._versions.renumbered(numbers)
            key = np.where(waiting.present, numbers[waiting.key], 0)
            self._waiting = replace(waiting, key=key)

    def snapshot(self) -> State:
        """Keys, versions, and left rows that wait."""
        waiting = self._waiting
        rows = {"key": waiting.key, "present": waiting.present, "time": waiting.time, "event": waiting.event}
        return {
            "keys": self._keys.snapshot(),
            "versions": self._versions.snapshot(),
            "waiting": {**rows, "frame": waiting.frame},
        }

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._versions = Versions(**state["versions"])
        self._waiting = Waiting(**state["waiting"])

    def held(self) -> int:
        """About how many bytes of state there are."""
        waiting = int(self._waiting.frame.estimated_size()) + 25 * len(self._waiting.key)
        return self._keys.held() + self._versions.held() + waiting

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most versions and waiting rows."""
        waiting = self._waiting
        parts = [
            (self._versions.key, self._versions.held()),
            (waiting.key[waiting.present], int(waiting.frame.estimated_size())),
        ]
        sizes = [np.full(len(keys), size // max(len(keys), 1)) for keys, size in parts]
        return largest_keys(self._keys, np.concatenate([keys for keys, _ in parts]), np.concatenate(sizes), count)
