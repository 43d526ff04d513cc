"""Every type goes there and comes back as declared, through commits and rewrites; other readers find its values."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanat.lake import DeltaArchive
from qanat.lake.types import stored_type, to_declared, to_stored
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log.admission import declared_schema
from qanat.log.base import Append, Transaction
from qanat.model import types as t
from qanat.model.arrow import to_arrow
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import Kind, Type
from tests.lake.conftest import DAY_ONE, Station, logged, same

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=80)
INT64 = st.integers(-(2**63), 2**63 - 1)
#: Of each type: the values of its Arrow column, as whole numbers where Arrow has no better Python value.
VALUES: list[tuple[Type, st.SearchStrategy[Any]]] = [
    (t.BOOLEAN, st.booleans()),
    (t.TINYINT, st.integers(-128, 127)),
    (t.SMALLINT, st.integers(-(2**15), 2**15 - 1)),
    (t.INT, st.integers(-(2**31), 2**31 - 1)),
    (t.BIGINT, INT64),
    (t.FLOAT, st.floats(width=32)),
    (t.DOUBLE, st.floats()),
    (t.decimal(5, 2), st.decimals(-999, 999, places=2)),
    (t.decimal(38, 10), st.decimals(-(10**27), 10**27, places=10)),
    (t.STRING, TEXT),
    (Type(Kind.STRING, precision=10), TEXT),
    (t.BYTES, st.binary(max_size=40)),
    (t.DATE, st.dates()),
    (Type(Kind.TIME, precision=3), st.integers(0, 86_399_999)),
    (Type(Kind.TIMESTAMP, precision=0), st.integers(-(10**15), 10**15)),
    (Type(Kind.TIMESTAMP, precision=3), st.integers(-(2**63) // 1000 + 1000, 2**63 // 1000 - 1000)),
    (Type(Kind.TIMESTAMP, precision=6), st.integers(-(2**62), 2**62)),
    (Type(Kind.TIMESTAMP, precision=9), st.integers(-(2**62), 2**62)),
    (Type(Kind.TIMESTAMP_LTZ, precision=3), st.integers(-(10**15), 10**15)),
    (Type(Kind.TIMESTAMP_LTZ, precision=6), st.integers(-(2**62), 2**62)),
    (Type(Kind.TIMESTAMP_LTZ, precision=9), st.integers(-(2**62), 2**62)),
    (Type(Kind.INTERVAL_DAY), st.integers(-(10**15), 10**15)),
    (Type(Kind.INTERVAL_YEAR), st.integers(-(10**6), 10**6)),
]


def nested(inner: tuple[Type, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Type, st.SearchStrategy[Any]]]:
    kind, values = inner
    maybe = st.none() | values
    array = (t.array(kind), st.lists(maybe, max_size=3))
    keyed = (
        Type(Kind.MAP, key=t.STRING.with_nullable(False), element=kind),
        st.dictionaries(st.text("abc", max_size=2), maybe, max_size=3).map(lambda one: list(one.items())),
    )
    row = (
        Type(Kind.ROW, fields=(("a", kind), ("b c", t.STRING))),
        st.fixed_dictionaries({"a": maybe, "b c": st.none() | TEXT}),
    )
    return st.sampled_from([array, keyed, row])


KINDS = st.recursive(st.sampled_from(VALUES), lambda inner: inner.flatmap(nested), max_leaves=3)


def raw(kind: pa.DataType) -> pa.DataType:
    """The type that takes the drawn values, and from where a cast leads to `kind`."""
    p = pa.types
    if p.is_timestamp(kind) or p.is_duration(kind):
        return pa.int64()
    if p.is_time(kind):
        return pa.int32()
    if p.is_list(kind):
        return pa.list_(raw(kind.value_type))
    if p.is_map(kind):
        return pa.map_(raw(kind.key_type), raw(kind.item_type))
    return pa.struct([pa.field(one.name, raw(one.type)) for one in kind]) if p.is_struct(kind) else kind


def column_of(kind: Type, values: list[Any]) -> pa.Array:
    wanted = to_arrow(kind)
    return pa.array(values, raw(wanted)).cast(wanted)


def plain(column: pa.Array) -> str:
    """The values; NaN is equal to itself here, and no instant is too far away."""
    return repr(column.cast(raw(column.type)).to_pylist())


@settings(max_examples=300, deadline=None)
@given(KINDS.flatmap(lambda one: st.tuples(st.just(one[0]), st.lists(st.none() | one[1], max_size=5))))
def test_a_cast_there_and_back_changes_nothing(case: tuple[Type, list[Any]]) -> None:
    column = column_of(*case)
    stored = to_stored(column, stored_type(column.type))
    assert stored.type == stored_type(column.type)
    back = to_declared(stored, column.type)
    assert back.type == column.type
    assert plain(back) == plain(column)


def test_instants_beyond_all_calendars_are_put_at_their_end() -> None:
    column = pa.array([2**63 - 1, -(2**63), 0, None]).cast(pa.timestamp("ms"))
    stored = to_stored(column, stored_type(column.type)).cast(pa.int64())
    assert stored.to_pylist() == [9_223_372_036_854_775_000, -9_223_372_036_854_775_000, 0, None]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Stream, list[pa.RecordBatch]]:
    chosen = draw(st.lists(KINDS, min_size=1, max_size=4))
    columns = tuple(Column(f"c{number}", kind) for number, (kind, _) in enumerate(chosen))
    upsert = draw(st.booleans())
    options = {"archive": "true"}
    stream = Stream(
        "readings",
        (Column("k", t.BIGINT), Column("ts", Type(Kind.TIMESTAMP, precision=3)), *columns),
        event_time=ArrivalColumn("ts", None),
        key=("k",) if upsert else (),
        options=options,
        upsert=upsert,
    )
    found = []
    for _ in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(1, 4))
        arrays = [
            pa.array(draw(st.lists(INT64, min_size=rows, max_size=rows))),
            column_of(
                Type(Kind.TIMESTAMP, precision=3),
                draw(st.lists(st.none() | st.integers(-(10**14), 10**14), min_size=rows, max_size=rows)),
            ),
            *(
                column_of(kind, draw(st.lists(st.none() | values, min_size=rows, max_size=rows)))
                for kind, values in chosen
            ),
        ]
        if upsert:
            arrays.append(pa.array(draw(st.lists(st.sampled_from([None, 3]), min_size=rows, max_size=rows)), pa.int8()))
        found.append(pa.RecordBatch.from_arrays(arrays, schema=declared_schema(stream)))
    return stream, found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches())
def test_rows_come_back_through_commits_and_rewrites(case: tuple[Stream, list[pa.RecordBatch]]) -> None:
    stream, appends = case
    with tempfile.TemporaryDirectory() as folder:
        station = Station(Path(folder), stream=stream)
        for number, rows in enumerate(appends):
            station.log.submit(Transaction([Append("readings", 0, rows, DAY_ONE + number)])).result()
            station.archived()
        expected = logged(station.log, ("readings", 0))
        check(station, expected)
        table = station.tables.open("readings")
        assert table is not None
        for chosen in rewrites(table.files(), 1 << 27, DAY_ONE, all_dates=True):
            rewrite(table, stream, chosen, 1 << 27)
        check(station, expected)
        station.log.close()


def check(station: Station, expected: list[Any]) -> None:
    station.archive = DeltaArchive(station.tables, station.log)  # remembers nothing
    found = station.read(("readings", 0))
    assert [list(map(plain, chunk.rows.columns)) for chunk in found] == [
        list(map(plain, chunk.rows.columns)) for chunk in expected
    ]
    same(
        [_without_rows(chunk) for chunk in found],
        [_without_rows(chunk) for chunk in expected],
    )
    for one, other in zip(found, expected, strict=True):
        assert one.rows.schema.equals(other.rows.schema)


def _without_rows(chunk: Any) -> Any:
    return replace(chunk, rows=chunk.rows.select([0]))


# --- other readers -------------------------------------------------------------------------------------------------

EVERYTHING = """CREATE TABLE readings (
  sensor STRING, n INT, v DOUBLE, d DECIMAL(9, 2), b BYTES, day_ DATE, at_ TIME, ts TIMESTAMP(3), l TIMESTAMP_LTZ(3),
  a ARRAY<INT>, m MAP<STRING, DOUBLE>, r ROW<x INT, y STRING>, WATERMARK FOR ts AS ts
) WITH ('archive' = 'true', 'archive.sort' = 'sensor')"""
ROW = {
    "sensor": "s1",
    "n": 7,
    "v": math.pi,
    "d": decimal.Decimal("12.34"),
    "b": b"\x00\xff",
    "day_": dt.date(2026, 2, 3),
    "at_": dt.time(4, 5, 6, 7000),
    "ts": dt.datetime(2026, 1, 1, 10, 11, 12, 345000),
    "l": dt.datetime(2026, 1, 1, 10, 11, 12, 345000, tzinfo=dt.UTC),
    "a": [1, None],
    "m": [("k", 1.5)],
    "r": {"x": 1, "y": "z"},
}


@pytest.fixture
def everything(tmp_path: Path) -> Station:
    station = Station(tmp_path, EVERYTHING)
    station.feed([ROW, dict.fromkeys(ROW)])
    station.archived()
    station.log.close()
    return station


def test_deltalake_reads_it(everything: Station) -> None:
    rows = DeltaTable(everything.tables.place.table("readings")).to_pyarrow_table().sort_by("__offset").to_pylist()
    shown = {**ROW, "at_": ((4 * 60 + 5) * 60 + 6) * 1000 + 7}
    assert {name: rows[0][name] for name in ROW} == shown
    assert {name: rows[1][name] for name in ROW} == dict.fromkeys(ROW)
    places = {name: rows[0][name] for name in ("__partition", "__offset", "__seq", "__at", "__date")}
    assert places == {"__partition": 0, "__offset": 0, "__seq": 1, "__at": DAY_ONE, "__date": dt.date(2026, 1, 1)}


def test_polars_reads_it(everything: Station) -> None:
    url = everything.tables.place.table("readings")
    found = pl.read_delta(url).sort("__offset")
    assert found["v"].to_list() == [math.pi, None]
    assert found["ts"].to_list() == [ROW["ts"], None]
    assert found["a"].to_list() == [[1, None], None]
    assert found["__date"].to_list() == [dt.date(2026, 1, 1)] * 2
    scanned = pl.scan_delta(url).filter(pl.col("sensor") == "s1").select("n", "d").collect()
    assert scanned.rows() == [(7, decimal.Decimal("12.34"))]


def test_duckdb_reads_it(everything: Station) -> None:
    files = DeltaTable(everything.tables.place.table("readings")).file_uris()
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT sensor, n, v, d, b, day_, ts, a, m['k'], r.y, __date "
            "FROM read_parquet($files, hive_partitioning = true) WHERE sensor IS NOT NULL",
            {"files": files},
        ).fetchall()
    row = [ROW[name] for name in ("sensor", "n", "v", "d", "b", "day_", "ts", "a")]
    assert found == [(*row, 1.5, "z", dt.date(2026, 1, 1))]
