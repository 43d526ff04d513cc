"""Tables outside, joined with streams: PostgreSQL, SQLite, CSV and Parquet."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qanat.errors import ConfigError, DataError, QanatError, SqlError, StoreError
from qanat.log.base import Log
from qanat.model.tables import OutsideTable
from qanat.query import Query, open_tables

from .farm import Farm
from .postgres import PASSWORD, started


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    """Address and log of a PostgreSQL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    yield from started()


MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)
WIDE: dict[str, tuple[str, Any, Any]] = {
    "small": ("smallint", -3, -3),
    "whole": ("bigint", 2**62, 2**62),
    "exact": ("numeric(20,4)", decimal.Decimal("12345678.9012"), decimal.Decimal("12345678.9012")),
    "loose": ("numeric", decimal.Decimal("1.5"), 1.5),
    "real": ("double precision", 0.1, 0.1),
    "flag": ("boolean", True, True),
    "words": ("text", "grün ✓ 'x' \"y\" 100%", "grün ✓ 'x' \"y\" 100%"),
    "day": ("date", dt.date(2026, 1, 2), dt.date(2026, 1, 2)),
    "clock": ("time", dt.time(1, 2, 3), dt.time(1, 2, 3)),
    "at": ("timestamp", MOMENT, MOMENT),
    "utc": ("timestamptz", MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), None),
    "doc": ("jsonb", json.dumps({"a": [1, None, "ü"]}), None),
    "raw": ("bytea", b"\0\1", b"\0\1"),
    "list": ("integer[]", [1, None, 3], [1, None, 3]),
    "names": ("text[]", ["a", None], ["a", None]),
    "id": ("uuid", "6b4a9b06-9d0c-4e4e-8f0a-0d6a7f6c1d11", "6b4a9b06-9d0c-4e4e-8f0a-0d6a7f6c1d11"),
    "span": ("interval", dt.timedelta(hours=3), "03:00:00"),
    'odd "name"': ("text", "x", "x"),
    "per%cent": ("text", "y", "y"),
}


def url_of(server: tuple[str, Path]) -> str:
    return f"postgresql://qanat@{server[0]}/postgres"


@pytest.fixture(scope="module")
def filled(server: tuple[str, Path]) -> str:
    """The server, with tables."""
    import psycopg

    with psycopg.connect(url_of(server), password=PASSWORD, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA plant")
        connection.execute("CREATE TABLE plant.sites (sensor text, site text, n bigint, built timestamptz)")
        rows = [(f"s{n % 3}", f"site {n}", n, dt.datetime(2026, 1, 1 + n, tzinfo=dt.UTC)) for n in range(6)]
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO plant.sites VALUES (%s, %s, %s, %s)", rows)
        columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {kind}' for name, (kind, _, _) in WIDE.items())
        connection.execute(f"CREATE TABLE wide ({columns})")
        marks = ", ".join(["%s"] * len(WIDE))
        connection.execute(f"INSERT INTO wide VALUES ({marks})", [value for _, value, _ in WIDE.values()])
        connection.execute(f"INSERT INTO wide VALUES ({marks})", [None] * len(WIDE))
        connection.execute("CREATE TABLE forever (at timestamp)")
        connection.execute("INSERT INTO forever VALUES ('infinity')")
    return url_of(server)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_PASSWORD", PASSWORD)


def tables(folder: Path, **declared: OutsideTable) -> Any:
    return open_tables(declared, folder)


def plant(url: str, table: str | None = None) -> OutsideTable:
    return OutsideTable(url=url, table=table, password_env="PLANT_PASSWORD")


def test_postgres_joins_streams_and_lake(farm: Farm, filled: str) -> None:
    farm.readings(0, 30)
    farm.archived()
    farm.expired()
    farm.readings(30, 60)
    query = farm.query(tables=tables(farm.folder, sites=plant(filled, "plant.sites")))
    sql = """SELECT site, count(*) AS rows, sum(v) AS total FROM readings JOIN sites USING (sensor)
      WHERE n < 2 GROUP BY site ORDER BY site"""
    expected = [{"site": f"site {s}", "rows": 20, "total": float(sum(range(s, 60, 3)))} for s in range(2)]
    assert query.table(sql).to_pylist() == expected


def test_every_type_of_postgres(farm: Farm, filled: str) -> None:
    query = farm.query(tables=tables(farm.folder, wide=plant(filled)))
    first, second = query.table("FROM wide ORDER BY small NULLS LAST").to_pylist()
    assert list(first) == list(WIDE)
    assert first.pop("utc") == MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert json.loads(first.pop("doc")) == {"a": [1, None, "ü"]}
    assert first == {name: value for name, (_, _, value) in WIDE.items() if name not in ("utc", "doc")}
    assert set(second.values()) == {None}
    kinds = query.table("FROM wide").schema
    assert kinds.field("exact").type == pa.decimal128(20, 4)
    assert kinds.field("utc").type == pa.timestamp("us", "UTC")


def test_columns_and_conditions_go_to_the_server(farm: Farm, filled: str, server: tuple[str, Path]) -> None:
    query = farm.query(tables=tables(farm.folder, sites=plant(filled, "plant.sites")))
    sql = """SELECT site FROM sites WHERE sensor IN ('s0', 's1') AND n >= 1 AND built < TIMESTAMPTZ '2026-01-03'
      AND upper(site) <> 'X'"""
    assert query.table(sql).to_pylist() == [{"site": "site 1"}]
    asked = [line for line in server[1].read_text().splitlines() if "DECLARE" in line][-1]
    selected = asked.partition("SELECT")[2].partition("FROM")[0]
    assert '"site"' in selected
    assert asked.count("= ANY") == 1
    for part in ('"sensor" =', '"n" >=', '"built" <='):
        assert part in asked
    query.table("SELECT count(*) FROM sites")
    assert '"site"' not in [line for line in server[1].read_text().splitlines() if "DECLARE" in line][-1]
    query.table("SELECT a.site FROM sites a LEFT JOIN sites b ON a.n = b.n + 1 WHERE a.sensor = 's0'")
    assert "WHERE" not in [line for line in server[1].read_text().splitlines() if "DECLARE" in line][-1]


def test_conditions_do_not_change_answers_of_odd_names(farm: Farm, filled: str) -> None:
    query = farm.query(tables=tables(farm.folder, wide=plant(filled)))
    sql = '''SELECT count(*) AS n FROM wide WHERE "odd ""name""" = 'x' AND "per%cent" = 'y' AND whole > 5
      AND "at" >= '2026-01-02' AND id = '6b4a9b06-9d0c-4e4e-8f0a-0d6a7f6c1d11' '''
    assert query.table(sql).to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    ("table", "kind", "said"),
    [
        (lambda url: plant(url, "plant.nothing"), ConfigError, "nothing"),
        (lambda url: plant(url.replace("/postgres", "/other")), StoreError, "other"),
        (lambda url: plant(url.replace("qanat@", "nobody@")), StoreError, "nobody"),
        (lambda url: OutsideTable(url=url.replace("qanat@", f"qanat:{PASSWORD}x@")), StoreError, r"qanat:\*\*\*@"),
        (lambda url: plant(f"postgresql://qanat:{PASSWORD}@[oops/x"), QanatError, "table sites"),
        (lambda url: plant("postgresql://qanat@127.0.0.1:1/postgres"), StoreError, "refused|failed"),
        (lambda url: plant(url, "forever"), QanatError, "table sites"),
    ],
)
def test_errors_of_postgres_name_the_table_and_no_password(
    farm: Farm, filled: str, table: Any, kind: type[Exception], said: str
) -> None:
    query = farm.query(tables=tables(farm.folder, sites=table(filled)))
    with pytest.raises(kind, match=said) as caught:
        query.table("FROM sites")
    assert "table sites" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(caught.value.__cause__)


def test_a_password_that_is_not_there(farm: Farm, filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = farm.query(tables=tables(farm.folder, sites=plant(filled, "plant.sites")))
    monkeypatch.delenv("PLANT_PASSWORD")
    with pytest.raises(ConfigError, match="environment variable PLANT_PASSWORD"):
        query.table("FROM sites")


# --- SQLite --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "plant.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE sites (sensor TEXT, n INTEGER, size REAL, ok BOOLEAN, cost DECIMAL(10,2), raw BLOB, "
            '"made" TIMESTAMP, "a.b" VARCHAR(9))'
        )
        rows = [("s0", 1, 0.5, 1, "12.30", b"\1", "2026-01-01 10:00:00", "ü"), ("s1", 2, 1, 0, 3, None, None, None)]
        connection.executemany("INSERT INTO sites VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE broken (n INTEGER)")
        connection.execute("INSERT INTO broken VALUES ('x')")
        connection.commit()
    return path


def test_sqlite(farm: Farm, sqlite: Path) -> None:
    farm.readings(0, 9)
    query = farm.query(tables=tables(sqlite.parent, sites=OutsideTable(url="sqlite:///plant.sqlite")))
    first, second = query.table("FROM sites ORDER BY n").to_pylist()
    assert list(first.values()) == [
        "s0", 1, 0.5, True, decimal.Decimal("12.30"), b"\1", "2026-01-01 10:00:00", "ü"
    ]  # fmt: skip
    assert list(second.values()) == ["s1", 2, 1.0, False, decimal.Decimal("3.00"), None, None, None]
    joined = """SELECT n, count(*) AS rows FROM readings JOIN sites USING (sensor)
      WHERE n >= 2 AND sensor = 's1' GROUP BY n"""
    assert query.table(joined).to_pylist() == [{"n": 2, "rows": 3}]


def test_errors_of_sqlite(farm: Farm, sqlite: Path) -> None:
    query = farm.query(
        tables=tables(
            sqlite.parent,
            broken=OutsideTable(url="sqlite:///plant.sqlite"),
            missing=OutsideTable(url="sqlite:///plant.sqlite"),
            nowhere=OutsideTable(url="sqlite:///none.sqlite"),
        )
    )
    with pytest.raises(DataError, match="table broken: column n"):
        query.table("FROM broken")
    with pytest.raises(ConfigError, match=r"plant\.sqlite has no table missing"):
        query.table("FROM missing")
    with pytest.raises(ConfigError, match=r"table nowhere: there is no file none\.sqlite"):
        query.table("FROM nowhere")


# --- files ---------------------------------------------------------------------------------------------------------


def test_csv_and_parquet(farm: Farm, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sites.csv").write_text('sensor,site\ns0,"Süd, 1"\ns1,Nord\n', encoding="utf-8")
    for number in range(2):
        pq.write_table(pa.table({"sensor": [f"s{number}"], "height": [number]}), folder / f"h{number}.parquet")
    farm.readings(0, 9)
    declared = {"sites": OutsideTable(url="data/sites.csv"), "heights": OutsideTable(url="data/h*.parquet")}
    query = farm.query(tables=open_tables(declared, tmp_path))
    sql = """SELECT site, height, count(*) AS n FROM readings JOIN sites USING (sensor) JOIN heights USING (sensor)
      GROUP BY ALL ORDER BY height"""
    assert query.table(sql).to_pylist() == [
        {"site": "Süd, 1", "height": 0, "n": 3},
        {"site": "Nord", "height": 1, "n": 3},
    ]
    with pytest.raises(SqlError, match="may not call"):
        query.table(f"SELECT * FROM read_csv('{folder}/sites.csv')")
    with pytest.raises(SqlError, match="reads no files"):
        query.table(f"FROM '{folder}/sites.csv'")


def test_what_cannot_be_a_table(log: Log, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tables\.x: nothing reads mysql://u:\*\*\*@h/d") as caught:
        open_tables({"x": OutsideTable(url="mysql://u:pw@h/d")}, tmp_path)
    assert "postgresql://" in str(caught.value)
    (tmp_path / "a.csv").write_text("a\n1\n")
    query = Query.over(log, tables=open_tables({"readings": OutsideTable(url="a.csv")}, tmp_path))
    with pytest.raises(ConfigError, match=r"tables\.readings has the name of a stream"):
        query.table("FROM readings")
    gone = Query.over(log, tables=open_tables({"gone": OutsideTable(url="gone.csv")}, tmp_path))
    with pytest.raises(QanatError, match=r"gone\.csv"):
        gone.table("FROM gone")
