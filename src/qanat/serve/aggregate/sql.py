"""Aggregates by SQL, for all that is not in memory: the text of a query, and its rows as a `Tally`. Does not run it.

The SQL is DuckDB's, as `qanat query` takes it. Bounds stand on the columns themselves, so that whoever reads files can
leave out those that lie outside.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from qanat.model.streams import ArrivalColumn
from qanat.model.types import Kind
from qanat.serve.aggregate.measure import Measure
from qanat.serve.aggregate.question import Question, percent_of
from qanat.serve.aggregate.tally import Tally, in_order, nothing

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_CALLS = {
    "min": "min(v)",
    "max": "max(v)",
    "avg": "avg(v)",
    "sum": "sum(v)",
    "stddev": "stddev_samp(v)",
    "first": "(min(struct_pack(t := t, v := v)) FILTER (WHERE v IS NOT NULL)).v",
    "last": "(max(struct_pack(t := t, v := v)) FILTER (WHERE v IS NOT NULL)).v",
}


def query_of(
    question: Question, measure: Measure, edges: Sequence[int], start: int, end: int
) -> tuple[str, list[object]]:
    """The query and its parameters: a row per group and window with any row in the range."""
    names = [f"g{place}" for place in range(len(question.by))]
    parameters: list[object] = []
    conditions = _conditions(question, measure, start, end, parameters)
    groups = "".join(f"{_quoted(column)} AS {name}, " for column, name in zip(question.by, names, strict=True))
    rows = (  # names are quoted, values parameters
        f"SELECT {groups}{_millis(measure)} AS t, {_finite(measure)} AS v "  # noqa: S608
        f"FROM {_quoted(measure.stream.name)} WHERE {' AND '.join(conditions)}"
    )
    bucket, source = "0", "r"
    if len(edges) > 2:
        source = "r ASOF JOIN (SELECT unnest(?::BIGINT[]) AS b) AS e ON r.t >= e.b"
        bucket = "b"
        parameters.append(list(edges[:-1]))
    listed = "".join(f"{name}, " for name in names)
    calls = "".join(f", {_call(name)} AS f{place}" for place, name in enumerate(_called(question)))
    keys = ", ".join([*names, "bucket"])
    sql = (
        f"WITH r AS ({rows}) SELECT {listed}{bucket} AS bucket, count(v) AS n, count(*) - count(v) AS gaps, "  # noqa: S608
        f"max(t) FILTER (WHERE v IS NOT NULL) AS newest{calls} FROM {source} GROUP BY {keys}"
    )
    return sql, parameters


def tally_of(question: Question, rows: pa.Table, edges: Sequence[int], as_of: Mapping[int, int]) -> Tally:
    """The rows of that query, in the order that answers have."""
    gaps = int(np.sum(rows["gaps"].to_numpy())) if rows.num_rows else 0
    rows = rows.filter(pa.array(rows["n"].to_numpy() > 0, pa.bool_())) if rows.num_rows else rows
    if not rows.num_rows:
        return nothing(question, gaps, as_of, "sql")
    columns = [rows[f"g{place}"].to_pylist() for place in range(len(question.by))]
    lines = list(zip(*columns, strict=True)) if columns else [()] * rows.num_rows
    groups = in_order(dict.fromkeys(lines))
    numbers = {line: number for number, line in enumerate(groups)}
    group = np.array([numbers[line] for line in lines], dtype=np.int64)
    bucket = rows["bucket"].to_numpy().astype(np.int64)
    if len(edges) > 2:
        bucket = np.searchsorted(np.array(edges), bucket)
    order = np.lexsort((bucket, group))
    found = {
        name: rows[f"f{place}"].cast(pa.float64()).to_numpy()[order] for place, name in enumerate(_called(question))
    }
    newest = max((one for one in rows["newest"].to_pylist() if one is not None), default=None)
    count = rows["n"].to_numpy()[order].astype(np.int64)
    return Tally(groups, group[order], bucket[order], found, count, gaps, newest, as_of, "sql")


def _called(question: Question) -> list[str]:
    return [name for name in question.functions if name != "count"]


def _call(name: str) -> str:
    percent = percent_of(name)
    return _CALLS[name] if percent is None else f"quantile_cont(v, {percent / 100!r})"


def _conditions(question: Question, measure: Measure, start: int, end: int, parameters: list[object]) -> list[str]:
    time = _quoted(measure.time.name)
    low, high = _bound(measure, start), _bound(measure, end)
    conditions = [f"{time} >= {low}", f"{time} < {high}"]
    for name, values in question.chosen:
        conditions.append(f"{_quoted(name)} IN ({', '.join('?' * len(values))})")
        parameters.extend(values)
    return conditions


def _bound(measure: Measure, ms: int) -> str:
    """An instant as the column has it; of whole seconds, say, the first that is not before it."""
    time: ArrivalColumn = measure.time
    if time.per_second is not None:
        return str(-(-ms * time.per_second // 1000))
    text = (_EPOCH + dt.timedelta(milliseconds=ms)).replace(tzinfo=None).isoformat(" ")
    kind = {column.name: column.type.kind for column in measure.stream.columns}[time.name]
    return f"TIMESTAMPTZ '{text}+00'" if kind is Kind.TIMESTAMP_LTZ else f"TIMESTAMP '{text}'"


def _millis(measure: Measure) -> str:
    time = _quoted(measure.time.name)
    if measure.time.per_second is None:
        return f"epoch_ms({time})"
    if measure.time.per_second == 1000:
        return f"CAST({time} AS BIGINT)"
    return f"CAST(floor(CAST({time} AS HUGEINT) * 1000 / {measure.time.per_second}) AS BIGINT)"


def _finite(measure: Measure) -> str:
    value = f"CAST({_quoted(measure.value.name)} AS DOUBLE)"
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
