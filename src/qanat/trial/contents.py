"""What was found at a look, as rows of plain values: all of them in order, the changes, or the rows that are left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qanat.model.streams import LATE
from qanat.model.types import Type
from qanat.trial.cases import OPS
from qanat.trial.cells import loose, values_of
from qanat.trial.drive import Contents
from qanat.trial.stage import Target
from qanat.trial.worker import DELETE, INSERT

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of `columns` in order. `ops`: of a changelog, one per row; empty where all are inserts that stay.

    `changing`: the rows are what is left of a changelog, and their order says nothing.
    """

    columns: tuple[str, ...]
    rows: tuple[Values, ...]
    ops: tuple[str, ...] = ()
    changing: bool = False


def found_rows(target: Target, contents: Contents, columns: Sequence[str], *, changes: bool) -> Found:
    """What a target holds, reduced to `columns`, change by change or as the rows that are left."""
    whole = tuple(target.types)
    by_column = {name: values_of(_whole(contents.rows[name]), kind) for name, kind in target.types.items()}
    rows = list(zip(*by_column.values(), strict=True)) if contents.rows.num_rows else []
    kinds = contents.kinds or (INSERT,) * len(rows)
    ops = [OPS[kind] for kind in kinds]
    changing = bool(target.key) or contents.kinds is not None
    if target.key and not target.captured and not target.retracts:
        key = [whole.index(name) for name in target.key]
        rows, ops = _upserts(rows, key, [kind == DELETE for kind in kinds])
    if changing and not changes:
        rows = _left(rows, ops)
    picked = _pick(target, whole, columns, rows)
    return Found(tuple(columns), tuple(picked), tuple(ops) if changes else (), changing and not changes)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _upserts(rows: Sequence[Values], key: Sequence[int], gone: Sequence[bool]) -> tuple[list[Values], list[str]]:
    """Upserts -> a whole changelog. A row that equals the one before it changes nothing."""
    latest: dict[str, Values] = {}
    changed: list[Values] = []
    ops: list[str] = []
    for row, deleted in zip(rows, gone, strict=True):
        name = repr([row[place] for place in key])
        before = latest.get(name)
        if deleted:
            if before is not None:
                changed.append(latest.pop(name))
                ops.append("-D")
        elif before is None:
            latest[name] = row
            changed.append(row)
            ops.append("+I")
        elif repr(before) != repr(row):
            changed += [before, row]
            ops += ["-U", "+U"]
            latest[name] = row
    return changed, ops


def _left(rows: Sequence[Values], ops: Sequence[str]) -> list[Values]:
    """The rows that a changelog leaves, in the order in which they were added."""
    places: dict[str, list[int]] = {}
    left: dict[int, Values] = {}
    for place, (row, op) in enumerate(zip(rows, ops, strict=True)):
        same = places.setdefault(repr(row), [])
        if op in ("+I", "+U"):
            same.append(place)
            left[place] = row
        elif same:
            del left[same.pop(0)]
    return list(left.values())


def _pick(target: Target, whole: Sequence[str], columns: Sequence[str], rows: Sequence[Values]) -> list[Values]:
    if target.name != LATE or set(columns) <= set(whole):
        places = [whole.index(name) for name in columns]
        return [tuple(row[place] for place in places) for row in rows]
    found: list[Values] = []
    for row in rows:
        known: Mapping[str, Any] = dict(zip(whole, row, strict=True))
        inside = json.loads(known["row"])
        found.append(tuple(known[name] if name in known else loose(inside.get(name)) for name in columns))
    return found


def kinds_of(target: Target, columns: Sequence[str]) -> list[Type | None]:
    """The type of each column; None for one of a late row."""
    return [target.types.get(name) for name in columns]
