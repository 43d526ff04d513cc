"""The versions of rows by key, and which one was valid when. Values only: the caller says when one is forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints, State, no_rows
from qanat.sql.embedded.pairs import Mask

_NONE = -1


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions sorted by (key, time, arrival): key, time (ms) from which it is valid, whether it says that there is no
    row, the event of this micro-batch that brought it (-1: known before), and the rows."""

    key: Ints
    time: Ints
    gone: Mask
    event: Ints
    frame: pl.DataFrame

    @staticmethod
    def none(empty: pl.DataFrame) -> Versions:
        """No versions; `empty`: a frame without rows."""
        return Versions(no_rows(), no_rows(), np.zeros(0, dtype=np.bool_), no_rows(), empty)

    def plus(self, newer: Versions) -> Versions:
        """These and newer ones, which are in order of arrival."""
        if not len(newer.key):
            return self
        key, time, gone, event = (np.concatenate(pair) for pair in zip(self._columns(), newer._columns(), strict=True))
        order = np.lexsort((time, key))  # stable: of one time, the order of arrival
        frame = pl.concat([self.frame, newer.frame])[order]
        return Versions(key[order], time[order], gone[order], event[order], frame)

    def at(self, keys: Ints, times: Ints, upto: Ints) -> Ints:
        """For each key the place of the last version from `times` or before that came by event `upto`; -1: none."""
        if not len(self.key):
            return np.full(len(keys), _NONE)
        moments = np.unique(self.time)
        steps = len(moments) + 1
        code = self.key * steps + np.searchsorted(moments, self.time, side="right")
        wanted = keys * steps + np.searchsorted(moments, times, side="right")
        place = np.searchsorted(code, wanted, side="right") - 1
        while True:
            found = (place >= 0) & (self.key[place] == keys)
            early = found & (self.event[place] > upto)  # not there yet: the one before it
            if not bool(early.any()):
                return np.where(found, place, _NONE)
            place[early] -= 1

    def latest(self) -> Mask:
        """Of versions with the same key and time only the last one to come counts."""
        last = np.ones(len(self.key), dtype=np.bool_)
        last[:-1] = (self.key[1:] != self.key[:-1]) | (self.time[1:] != self.time[:-1])
        return last

    def settled(self, watermark: int) -> Versions:
        """Without those that no row after the watermark can ask for: older than another that is no later than it."""
        kept = self._where(self.latest())
        needed = np.ones(len(kept.key), dtype=np.bool_)
        needed[:-1] = (kept.key[1:] != kept.key[:-1]) | (kept.time[1:] > watermark)
        kept = kept._where(needed)
        return Versions(kept.key, kept.time, kept.gone, np.full(len(kept.key), _NONE), kept.frame)

    def living(self) -> Versions:
        """Without those that say that there is no row."""
        return self._where(~self.gone)

    def renumbered(self, numbers: Ints) -> Versions:
        """Keys have new numbers (old -> new), in the same order."""
        return Versions(numbers[self.key], self.time, self.gone, self.event, self.frame)

    def held(self) -> int:
        """About how many bytes these are."""
        return int(self.frame.estimated_size()) + 25 * len(self.key)

    def snapshot(self) -> State:
        """The columns."""
        return {"key": self.key, "time": self.time, "gone": self.gone, "event": self.event, "frame": self.frame}

    def _columns(self) -> tuple[Ints, Ints, Mask, Ints]:
        return self.key, self.time, self.gone, self.event

    def _where(self, keep: Mask) -> Versions:
        if bool(keep.all()):
            return self
        frame = self.frame.filter(pl.Series(keep))
        return Versions(self.key[keep], self.time[keep], self.gone[keep], self.event[keep], frame)
