"""Joins without bounds on time: INNER, LEFT, RIGHT, FULL, SEMI and ANTI, of inserts or of changelogs.

An inner join starts out vectorised (`join_inserts`) and goes row by row (`join_changes`) from the first row on that is
no insert. Which way a row goes depends on the rows before it only.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import INSERT, Batch, Context, Ints, State
from qanat.sql.embedded.pairs import JoinKeys
from qanat.sql.embedded.updating.join_changes import ChangeJoin, Rows, no_changes
from qanat.sql.embedded.updating.join_inserts import Found, InsertJoin
from qanat.sql.plan import RegularJoin


class RegularJoinOperator:
    """Runs one `RegularJoin`. State: all rows of both sides, until their TTL."""

    def __init__(self, node: RegularJoin, context: Context) -> None:
        self._node, self._context = node, context
        self._keys = JoinKeys(node.left_keys, node.right_keys)
        self._changes = ChangeJoin(node, self._keys)
        self._none = no_changes(node)
        # rows that expire are touched one by one
        plain = node.kind == "INNER" and node.left_ttl is None and node.right_ttl is None
        self._inserts = InsertJoin(node, self._keys) if plain else None

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """What the rows of both sides change in the result, in order of their events, the left one's first."""
        track = np.minimum(batches[0].track, batches[1].track)
        parts: list[Rows] = []
        cut = 0
        if self._inserts is not None:
            cut = min(_first_change(batch) for batch in batches)
            parts += [_inserted(one) for one in self._insert(self._inserts, batches, cut)]
            if cut == len(track) - 1:
                return _batch(parts or [self._none], track)
            self._switch(self._inserts)
        left, right = (_rows(batch, cut) for batch in batches)
        if len(left.seq) or len(right.seq):
            parts.append(self._changes.process(left, right, self._arrived(len(track) - 1)))
        return _batch(parts or [self._none], track)

    def _arrived(self, events: int) -> Ints:
        arrived = self._context.arrived
        return arrived if len(arrived) == events else np.zeros(events, dtype=np.int64)

    def _insert(self, inserts: InsertJoin, batches: tuple[Batch, ...], cut: int) -> list[Found]:
        """Run the rows of the events before `cut`."""
        ends = [int(np.searchsorted(batch.seq, cut)) for batch in batches]
        if not any(ends):
            return []
        left, right = (batch.frame[:end] for batch, end in zip(batches, ends, strict=True))
        left_seq, right_seq = (batch.seq[:end] for batch, end in zip(batches, ends, strict=True))
        return inserts.process((left, right), (left_seq, right_seq))

    def _switch(self, inserts: InsertJoin) -> None:
        """Go row by row from now on."""
        for side in (0, 1):
            for frame, keys in inserts.rows(side):
                self._changes.add(side, frame, keys.tolist())
        self._inserts = None

    def snapshot(self) -> State:
        """Keys and rows of both sides."""
        inserts = None if self._inserts is None else self._inserts.snapshot()
        changes = self._changes.snapshot() if self._inserts is None else None
        return {"keys": self._keys.snapshot(), "inserts": inserts, "changes": changes}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        if state["inserts"] is not None and self._inserts is not None:
            self._inserts.restore(state["inserts"])
            return
        self._inserts = None
        self._changes.restore(state["changes"])

    def held(self) -> int:
        """About how many bytes of state there are."""
        rows = self._changes.held() if self._inserts is None else self._inserts.held()
        return rows + self._keys.held()

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most rows."""
        return self._changes.largest(count) if self._inserts is None else self._inserts.largest(count)


def _first_change(batch: Batch) -> int:
    """The event of the first row that is no insert; the number of events where there is none."""
    if batch.kinds is None:
        return len(batch.track) - 1
    changed = batch.kinds != INSERT
    return int(batch.seq[int(np.argmax(changed))]) if bool(changed.any()) else len(batch.track) - 1


def _rows(batch: Batch, cut: int) -> Rows:
    """The rows of the events from `cut` on."""
    start = int(np.searchsorted(batch.seq, cut))
    return Rows(batch.frame[start:], batch.seq[start:], batch.all_kinds[start:])


def _inserted(found: Found) -> Rows:
    return Rows(found.frame, found.seq, np.zeros(len(found.seq), dtype=np.int8))


def _batch(parts: list[Rows], track: Ints) -> Batch:
    if len(parts) == 1:
        (only,) = parts
        frame, seq, kinds = only.frame, only.seq, only.kinds
    else:
        frame = pl.concat([part.frame for part in parts])
        seq, kinds = (np.concatenate(columns) for columns in zip(*((p.seq, p.kinds) for p in parts), strict=True))
    return Batch(frame, seq, track, kinds if bool((kinds != INSERT).any()) else None)
