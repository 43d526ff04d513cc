"""Runs the operators of a compiled query over tables in memory, cut into batches of a given size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import polars as pl
import pyarrow as pa

from qanat.sql import compile_script
from qanat.sql.embedded.connectors.streams import TableSource
from qanat.sql.embedded.feeds import Feed, Preparer
from qanat.sql.embedded.flow import LateRows
from qanat.sql.embedded.merge import Merger
from qanat.sql.embedded.operators import Flow
from qanat.sql.embedded.state import pack, unpack
from qanat.sql.plan import Program


def drive(
    sql: str,
    inputs: Mapping[str, pl.DataFrame | pa.Table],
    batch_rows: int,
    *,
    snapshots: bool = False,
    pipeline: int = 0,
) -> tuple[list[dict[str, Any]], list[LateRows]]:
    """Output rows in order, and late rows. `snapshots`: after each batch state goes through bytes into a new flow."""
    root = _compiled(sql).pipelines[pipeline].root
    flow = Flow(root)
    feeds = [
        Feed(
            number,
            Preparer(scan),
            TableSource(_arrow(inputs[scan.table.name]), batch_rows),
            scan.table.name,
            by_clock=True,
        )
        for number, scan in enumerate(flow.scans)
    ]
    merger = Merger(flow.scans, feeds)
    rows: list[dict[str, Any]] = []
    late: list[LateRows] = []
    while not all(feed.finished for feed in feeds):
        for feed in feeds:
            feed.load(batch_rows)
        merged = merger.take(batch_rows, None)
        if merged is None:
            continue
        rows += flow.process(merged.batches).frame.to_dicts()
        late += flow.context.late
        flow.context.late.clear()
        if snapshots:
            state = unpack(pack({"operators": flow.snapshot()}))
            counters = flow.context.counters
            flow = Flow(root)
            flow.restore(state["operators"])
            flow.context.counters = counters
    return rows, late


@lru_cache(maxsize=64)
def _compiled(sql: str) -> Program:
    return compile_script(sql)


def _arrow(table: pl.DataFrame | pa.Table) -> pa.Table:
    return table.to_arrow() if isinstance(table, pl.DataFrame) else table
