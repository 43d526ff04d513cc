"""Upserts <-> changelogs: `Normalize` reads the latest row per key, `Materialize` keeps it for a sink's key."""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.changelog import changes_of
from qanat.sql.embedded.flow import (
    DELETE,
    INSERT,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Array,
    Batch,
    Context,
    Ints,
    State,
    empty_frame,
)
from qanat.sql.embedded.updating.key_bits import comparable
from qanat.sql.embedded.updating.key_table import KeyTable
from qanat.sql.embedded.updating.layout import Mask, by_key
from qanat.sql.embedded.updating.lifetimes import describe, grown
from qanat.sql.embedded.updating.row_store import RowStore
from qanat.sql.embedded.updating.steps import APPEARS, GONE, NOTHING, REPLACED, changes_by
from qanat.sql.plan import Materialize, Normalize

#: Fewer keys or rows than this are not worth forgetting.
_SPARE = 4096
#: The place of the row of a key that has none.
_NONE = -1
_ENTRY_BYTES = 120


def _arrivals(context: Context, batch: Batch) -> Ints:
    return context.arrived[batch.seq] if len(context.arrived) else np.zeros(len(batch.seq), dtype=np.int64)


class NormalizeOperator:
    """Runs one `Normalize`: +I and +U are upserts, -D is a tombstone, -U is left out. The row of key number i is row
    `_place[i]` of `_rows`."""

    def __init__(self, node: Normalize, context: Context) -> None:
        self._context, self._key, self._ttl = context, list(node.key), node.ttl
        self._empty = empty_frame(node.schema)
        self._keys = KeyTable(comparable(self._empty.select(self._key)))
        self._rows = RowStore(self._empty)
        self._place = np.full(_SPARE, _NONE, dtype=np.int64)
        self._touched = np.zeros(_SPARE, dtype=np.int64)
        self._sweep_at = 2 * _SPARE

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """+I for new keys, -U and +U where the row differs, -D with the row that was."""
        (batch,) = batches
        if batch.kinds is not None:
            batch = batch.select(batch.kinds != UPDATE_BEFORE)
        if not batch.frame.height:
            return Batch(self._empty, batch.seq[:0], batch.track, np.empty(0, dtype=np.int8))
        keys = self._keys.encode(comparable(batch.frame.select(self._key)))
        if len(self._place) < len(self._keys):
            self._place = grown(self._place, len(self._keys), _NONE)
            self._touched = grown(self._touched, len(self._keys), 0)
        return self._change(batch, keys, _arrivals(self._context, batch))

    def _change(self, batch: Batch, keys: Ints, times: Ints) -> Batch:
        order = by_key(keys)
        mine, now = keys[order], times[order]
        deletes = (batch.all_kinds == DELETE)[order]
        starts = np.concatenate([[True], mine[1:] != mine[:-1]])
        alive = self._alive(mine, now, deletes, starts)
        stored = starts & alive
        known = self._rows.rows(self._place[mine[stored]])
        rows = pl.concat([known, batch.frame])
        previous = np.concatenate([[0], known.height + order[:-1]])
        previous[stored] = np.arange(known.height)
        steps = np.full(len(order), NOTHING)
        steps[~deletes & ~alive] = APPEARS
        steps[deletes & alive] = GONE
        replaced = np.flatnonzero(~deletes & alive)
        if self._ttl is None:  # with a TTL every row counts: it keeps its key alive
            replaced = replaced[_differ(rows, previous[replaced], known.height + order[replaced])]
        steps[replaced] = REPLACED
        self._keep(batch.frame, order, mine, now, deletes)
        return self._output(batch, rows, order, steps, previous, known.height)

    def _alive(self, mine: Ints, now: Ints, deletes: Mask, starts: Mask) -> Mask:
        """Whether the key of each row has a row when it comes."""
        alive = np.concatenate([[False], ~deletes[:-1]])
        alive[starts] = self._place[mine[starts]] != _NONE
        if self._ttl is not None:
            before = np.concatenate([[0], now[:-1]])
            before[starts] = self._touched[mine[starts]]
            alive &= ~((before > 0) & (before + self._ttl <= now))
        return alive

    def _keep(self, frame: pl.DataFrame, order: Ints, mine: Ints, now: Ints, deletes: Mask) -> None:
        last = np.concatenate([mine[1:] != mine[:-1], [True]])
        kept = last & ~deletes
        self._place[mine[last]] = _NONE
        self._place[mine[kept]] = self._rows.height + np.arange(int(np.count_nonzero(kept)))
        self._touched[mine[last]] = now[last]
        self._rows.add(frame[order[kept]])
        self._sweep(int(now.max()))

    def _output(self, batch: Batch, rows: pl.DataFrame, order: Ints, steps: Array, previous: Ints, known: int) -> Batch:
        by_row, before = np.zeros(len(order), dtype=np.int8), np.zeros(len(order), dtype=np.int64)
        by_row[order], before[order] = steps, previous
        changes = changes_by(by_row)
        at = np.where(changes.before, before[changes.source], known + changes.source)
        return Batch(rows[at], batch.seq[changes.source], batch.track, changes.kinds)

    def _sweep(self, newest: int) -> None:
        """Forget keys without a row, expired ones, and rows that are no key's any more. Nothing depends on when."""
        count = len(self._keys)
        if max(count, self._rows.height) < self._sweep_at:
            return
        live = self._place[:count] != _NONE
        if self._ttl is not None:
            touched = self._touched[:count]
            live &= ~((touched > 0) & (touched + self._ttl <= newest))
        self._compact(live)
        self._sweep_at = 2 * max(len(self._keys), _SPARE)

    def _compact(self, live: Mask) -> None:
        place, touched = self._place[: len(live)][live], self._touched[: len(live)][live]
        self._keys.keep(live)
        self._rows.restore({"rows": self._rows.rows(place)})
        self._place = grown(np.arange(len(place)), _SPARE, _NONE)
        self._touched = grown(touched, _SPARE, 0)

    def snapshot(self) -> State:
        """The rows that are there, and when each was written."""
        live = np.flatnonzero(self._place[: len(self._keys)] != _NONE)
        return {"rows": self._rows.rows(self._place[live]), "touched": self._touched[live]}

    def restore(self, state: State) -> None:
        """Take the rows of a snapshot."""
        rows, touched = state["rows"], state["touched"]
        self._keys = KeyTable(comparable(self._empty.select(self._key)))
        self._keys.encode(comparable(rows.select(self._key)))
        self._rows.restore({"rows": rows})
        self._place = grown(np.arange(rows.height), _SPARE, _NONE)
        self._touched = grown(np.array(touched), _SPARE, 0)
        self._sweep_at = 2 * max(rows.height, _SPARE)

    def held(self) -> int:
        """About how many bytes."""
        return self._keys.held() + self._rows.held() + self._place.nbytes + self._touched.nbytes

    def largest(self, count: int) -> list[tuple[str, int]]:
        """All keys hold about the same: some of them."""
        live = np.flatnonzero(self._place[: len(self._keys)] != _NONE)
        share = self.held() // max(len(live), 1)
        rows = self._rows.rows(self._place[live[:count]]).select(self._key).rows()
        return [(describe(row), share) for row in rows]


def _differ(rows: pl.DataFrame, left: Ints, right: Ints) -> Mask:
    """Which pairs of rows differ. NaN differs from itself, as in Flink; so does -0.0 from 0.0, so that a -U always
    shows the row that was sent."""
    same = np.ones(len(left), dtype=np.bool_)
    for column in comparable(rows).get_columns():
        same &= column.gather(left).eq_missing(column.gather(right)).to_numpy()
    for column in rows.get_columns():
        if column.dtype.is_float():
            same &= ~column.gather(left).is_nan().fill_null(value=False).to_numpy()
    return ~same


class MaterializeOperator:
    """Runs one `Materialize`: Flink's SinkUpsertMaterializer. Per key the rows that are there, in the order in which
    they were added; the last one is shown. Rows go one by one."""

    def __init__(self, node: Materialize, context: Context) -> None:
        self._context, self._key, self._ttl = context, list(node.key), node.ttl
        self._empty = empty_frame(node.schema)
        #: By these columns a retraction finds its row: the input's own key, or else all of them.
        key = changes_of(node.input).key
        self._unique, self._known_by = key is not None, list(self._empty.columns if key is None else key)
        self._clear()

    def _clear(self) -> None:
        self._keys = KeyTable(comparable(self._empty.select(self._key)))
        self._names = KeyTable(comparable(self._empty.select(self._known_by)))
        self._store = RowStore(self._empty)
        #: key number -> (number of the name, place of the row) of each row, and when the key was last written
        self._lists: dict[int, list[tuple[int, int]]] = {}
        self._touched: dict[int, int] = {}
        self._live = 0
        self._sweep_at = 2 * _SPARE

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """What the sink shows after each row."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, batch.seq[:0], batch.track, np.empty(0, dtype=np.int8))
        base = self._store.height
        self._store.add(batch.frame)
        out: list[tuple[int, int, int]] = []
        arrivals = _arrivals(self._context, batch)
        keys = self._keys.encode(comparable(batch.frame.select(self._key))).tolist()
        names = self._names.encode(comparable(batch.frame.select(self._known_by))).tolist()
        facts = zip(keys, names, batch.all_kinds.tolist(), arrivals.tolist(), strict=True)
        for row, (key, name, kind, time) in enumerate(facts):
            rows = self._rows_of(key, time)
            if kind in (INSERT, UPDATE_AFTER):
                self._live += 1
                out += _added(rows, name, base + row, row, self._unique)
            elif all(name != one for one, _ in rows):
                continue  # its row has expired
            else:
                self._live -= 1
                out += _removed(rows, name, row)
            self._touched[key] = time
        made = np.array(out, dtype=np.int64).reshape(-1, 3)
        frame = self._store.rows(made[:, 1])
        output = Batch(frame, batch.seq[made[:, 2]], batch.track, made[:, 0].astype(np.int8))
        self._sweep(int(arrivals[-1]))
        return output

    def _rows_of(self, key: int, time: int) -> list[tuple[int, int]]:
        rows = self._lists.setdefault(key, [])
        touched = self._touched.get(key, 0)
        if self._ttl is not None and 0 < touched <= time - self._ttl:
            rows.clear()
        return rows

    def _sweep(self, newest: int) -> None:
        """Leave out the rows that are no longer there. Nothing depends on when."""
        if self._store.height < self._sweep_at:
            return
        if self._ttl is None and self._store.height < 2 * self._live:
            self._sweep_at = 2 * self._live
            return
        self.restore(self._state(newest))

    def _state(self, newest: int | None) -> State:
        live = {
            key: rows
            for key, rows in self._lists.items()
            if rows and not (newest is not None and self._ttl and 0 < self._touched[key] <= newest - self._ttl)
        }
        places = np.array([place for rows in live.values() for _, place in rows], dtype=np.int64)
        touched = np.array([self._touched[key] for key, rows in live.items() for _ in rows], dtype=np.int64)
        return {"rows": self._store.rows(places), "touched": touched}

    def snapshot(self) -> State:
        """The rows of each key in their order, and when the key was last written."""
        return self._state(None)

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._clear()
        rows: pl.DataFrame = state["rows"]
        if not rows.height:
            return
        self._store.restore({"rows": rows})
        keys = self._keys.encode(comparable(rows.select(self._key))).tolist()
        names = self._names.encode(comparable(rows.select(self._known_by))).tolist()
        for place, (key, name, time) in enumerate(zip(keys, names, state["touched"].tolist(), strict=True)):
            self._lists.setdefault(key, []).append((name, place))
            self._touched[key] = time
        self._live = rows.height
        self._sweep_at = 2 * max(rows.height, _SPARE)

    def held(self) -> int:
        """About how many bytes."""
        return self._store.held() + self._keys.held() + self._names.held() + _ENTRY_BYTES * len(self._lists)

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most rows."""
        top = sorted(self._lists.items(), key=lambda one: -len(one[1]))[:count]
        share = self._store.held() // max(self._store.height, 1) + _ENTRY_BYTES
        firsts = self._store.rows(np.array([rows[0][1] for _, rows in top if rows], dtype=np.int64))
        names = [describe(row) for row in firsts.select(self._key).rows()]
        return [(name, share * len(rows)) for name, (_, rows) in zip(names, top, strict=False)]


#: Rows of the changelog: kind, place of the row, input row.
_Out = list[tuple[int, int, int]]


def _added(rows: list[tuple[int, int]], name: int, place: int, row: int, unique: bool) -> _Out:
    shown = rows[-1][1] if rows else None
    if unique:  # only where the retraction of its older row has got lost
        rows[:] = [one for one in rows if one[0] != name]
    rows.append((name, place))
    if shown is None:
        return [(int(INSERT), place, row)]
    return [(int(UPDATE_BEFORE), shown, row), (int(UPDATE_AFTER), place, row)]


def _removed(rows: list[tuple[int, int]], name: int, row: int) -> _Out:
    at = next(i for i, (one, _) in enumerate(rows) if one == name)
    _, removed = rows.pop(at)
    if not rows:
        return [(int(DELETE), removed, row)]
    if at < len(rows):
        return []
    return [(int(UPDATE_BEFORE), removed, row), (int(UPDATE_AFTER), rows[-1][1], row)]
