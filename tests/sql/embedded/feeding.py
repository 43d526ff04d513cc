"""Feeds one operator with rows that are written down event by event, in batches of any number of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qanat.clock import MIN_TIME
from qanat.model.types import BIGINT, STRING, TIMESTAMP
from qanat.sql.embedded.flow import Batch, Context, polars_type
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.plan import Field, Node, Scan, Schema, Table

KIND_NAMES = ("+I", "-U", "+U", "-D")
I, UB, UA, D = 0, 1, 2, 3  # noqa: E741 - as in +I

LEFT = (Field("k", STRING), Field("v", BIGINT), Field("ts", TIMESTAMP, time_attribute=True))
RIGHT = (Field("k0", STRING), Field("w", BIGINT), Field("ts0", TIMESTAMP, time_attribute=True))


def scan(name: str, schema: Schema) -> Scan:
    """An input with these columns."""
    return Scan(Table(name, schema, schema), schema)


@dataclass(frozen=True)
class Event:
    """One event: a row of one side (or none), its kind, the watermark after it, when it arrived (ms)."""

    side: int
    row: tuple[Any, ...] | None
    kind: int = I
    mark: int | None = None
    at: int = 0


@dataclass
class Fed:
    """What came out: (kind, columns ...) per row, the event of each, event times of late rows, watermark at the end."""

    rows: list[tuple[Any, ...]]
    seqs: list[int]
    late: list[int]
    end: int
    operator: Any = None

    @property
    def shown(self) -> list[str]:
        """The rows as text: `+I a 1 NULL`."""
        return [" ".join("NULL" if value is None else str(value) for value in row) for row in self.rows]


def feed(
    make: Callable[[Any, Context], Any],
    node: Node,
    schemas: Sequence[Schema],
    events: Sequence[Event],
    cut: int = 10_000,
    *,
    snapshots: bool = False,
) -> Fed:
    """Run an operator over events, `cut` of them at a time; `snapshots`: through bytes into a new one between them."""
    context = Context()
    operator = make(node, context)
    fed = Fed([], [], [], MIN_TIME)
    mark = MIN_TIME
    # an update is one event: its two rows are never in two batches
    groups: list[list[Event]] = []
    for event in events:
        if groups and event.kind == UA and groups[-1][-1].kind == UB and groups[-1][-1].side == event.side:
            groups[-1].append(event)
        else:
            groups.append([event])
    for start in range(0, len(groups), cut):
        part = groups[start : start + cut]
        track = [mark]
        for group in part:
            track.append(max([track[-1], *(event.mark for event in group if event.mark is not None)]))
        mark = track[-1]
        context.arrived = np.array([group[0].at for group in part], dtype=np.int64)
        batches = tuple(
            _batch(part, side, schema, np.array(track, dtype=np.int64)) for side, schema in enumerate(schemas)
        )
        out = operator.process(batches)
        _check(out, node)
        kinds = [KIND_NAMES[kind] for kind in out.all_kinds.tolist()]
        fed.rows += [(kind, *row) for kind, row in zip(kinds, out.frame.rows(), strict=True)]
        fed.seqs += (out.seq + start).tolist()
        fed.late += [time for rows in context.late for time in rows.time.tolist()]
        fed.end = out.end
        context.late.clear()
        if snapshots:
            state = unpack(pack({"operator": operator.snapshot()}))["operator"]
            operator = make(node, context)
            operator.restore(state)
    fed.operator = operator
    return fed


def every_cut(
    make: Callable[[Any, Context], Any], node: Node, schemas: Sequence[Schema], events: Sequence[Event]
) -> Fed:
    """Run in batches of all events, 1, 2, 3 and 7, with and without snapshots: always the same (law 1)."""
    whole = feed(make, node, schemas, events)
    for cut in (1, 2, 3, 7):
        for snapshots in (False, True):
            pieces = feed(make, node, schemas, events, cut, snapshots=snapshots)
            assert pieces.rows == whole.rows, f"batches of {cut}"
            assert pieces.seqs == whole.seqs
            assert sorted(pieces.late) == sorted(whole.late)  # per input, so in another order
            assert pieces.end == whole.end
    return whole


def _batch(part: Sequence[Sequence[Event]], side: int, schema: Schema, track: np.ndarray[Any, Any]) -> Batch:
    mine = [
        (i, event) for i, group in enumerate(part) for event in group if event.side == side and event.row is not None
    ]
    columns = {}
    for place, one in enumerate(schema):
        values = [event.row[place] for _, event in mine if event.row is not None]
        dtype = polars_type(one.type)
        if isinstance(dtype, pl.Datetime):
            columns[one.name] = pl.Series(one.name, values, dtype=pl.Int64).cast(pl.Datetime("ms")).cast(dtype)
        else:
            columns[one.name] = pl.Series(one.name, values, dtype=dtype)
    kinds = np.array([event.kind for _, event in mine], dtype=np.int8)
    seq = np.array([i for i, _ in mine], dtype=np.int64)
    return Batch(pl.DataFrame(columns), seq, track, kinds if bool(kinds.any()) else None)


def _check(out: Batch, node: Node) -> None:
    """What holds for the output of every operator."""
    assert out.frame.columns == [one.name for one in node.schema]
    assert out.frame.dtypes == [polars_type(one.type) for one in node.schema]
    assert len(out.seq) == out.frame.height == len(out.all_kinds)
    assert bool((np.diff(out.seq) >= 0).all())
    kinds = out.all_kinds
    for place in np.flatnonzero(kinds == UB):
        assert kinds[place + 1] == UA
        assert out.seq[place + 1] == out.seq[place]
    for place in np.flatnonzero(kinds == UA):
        assert kinds[place - 1] == UB
