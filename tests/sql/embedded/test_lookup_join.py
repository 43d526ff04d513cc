"""Lookup joins: in files, in SQLite, in PostgreSQL where there is one, and with a table that the test plays."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qanat.errors import BackpressureError, ConfigError, DataError
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DATE, DOUBLE, INT, STRING, TIMESTAMP, TIMESTAMP_LTZ, decimal
from qanat.sql import compile_script
from qanat.sql.embedded.flow import polars_type
from qanat.sql.embedded.lookup_join import LookupJoinOperator
from qanat.sql.expressions import Call, Column
from qanat.sql.plan import Field, LookupJoin, Schema, Table
from tests.sql.embedded.feeding import UA, UB, D, Event, I, every_cut, feed, scan

LEFT = (Field("site", STRING), Field("n", BIGINT), Field("v", BIGINT))
SITES = (Field("id", STRING), Field("no", BIGINT), Field("w", BIGINT))
SMALLER = Call("<", (Column("v", BIGINT), Column("w", BIGINT)), BOOLEAN)


def lookup(
    options: dict[str, str], kind: str = "LEFT", residual: Any = None, keys: tuple[str, ...] = ("id", "no"),
    physical: Schema = SITES, connector: str = "jdbc", columns: tuple[str, ...] | None = None,
) -> LookupJoin:  # fmt: skip
    table = Table("sites", physical, physical, connector=connector, options=options)
    columns = columns or tuple(one.name for one in physical)
    read = tuple(one for one in physical if one.name in columns)
    mine = (Column("site", STRING), Column("n", BIGINT))[: len(keys)]
    return LookupJoin(scan("l", LEFT), table, columns, mine, keys, residual, LEFT + read, kind)


def rows(*given: tuple[Any, Any, Any]) -> list[Event]:
    return [Event(0, row) for row in given]


# --- a table that the test plays ------------------------------------------------------------------------------------


class Played:
    """Answers from rows in memory; remembers what it was asked, and fails when told to."""

    def __init__(self, *held: tuple[Any, ...]) -> None:
        self.held = list(held)
        self.asked: list[list[tuple[Any, ...]]] = []
        self.failures = 0

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        self.asked.append(keys.rows())
        if self.failures:
            self.failures -= 1
            raise BackpressureError("not now", retry_after=1.0)
        found = [row for row in self.held if row[: keys.width] in keys.rows()]
        schema = {one.name: polars_type(one.type) for one in SITES}
        return pl.DataFrame(found, schema=schema, orient="row")

    def close(self) -> None:
        pass


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def played(node: LookupJoin, table: Played, clock: Clock | None = None) -> Any:
    return lambda _, context: LookupJoinOperator(node, context, clock=clock or Clock(), lookup=table)


HELD = (("a", 1, 10), ("a", 1, 20), ("b", 2, 30), ("b", 3, 40))
GIVEN = rows(("a", 1, 15), ("b", 2, 0), ("b", 9, 0), (None, 1, 0), ("a", 1, 5), ("b", None, 0), ("b", 3, 50))


@pytest.mark.parametrize(
    ("kind", "residual", "want"),
    [
        ("INNER", None, [(15, 10), (15, 20), (0, 30), (5, 10), (5, 20), (50, 40)]),
        ("LEFT", None, [(15, 10), (15, 20), (0, 30), (0, None), (0, None), (5, 10), (5, 20), (0, None), (50, 40)]),
        ("INNER", SMALLER, [(15, 20), (0, 30), (5, 10), (5, 20)]),
        ("LEFT", SMALLER, [(15, 20), (0, 30), (0, None), (0, None), (5, 10), (5, 20), (0, None), (50, None)]),
    ],
)
def test_law_1_each_row_comes_with_the_rows_of_its_keys(kind: str, residual: Any, want: list[Any]) -> None:
    for options in ({}, {"lookup.cache": "PARTIAL"}, {"lookup.cache": "PARTIAL", "lookup.partial-cache.max-rows": "1"}):
        node = lookup(options, kind, residual)
        fed = every_cut(played(node, Played(*HELD)), node, (LEFT,), GIVEN)
        assert [(row[3], row[6]) for row in fed.rows] == want


def test_one_question_a_batch_with_the_distinct_keys() -> None:
    table, node = Played(*HELD), lookup({})
    feed(played(node, table), node, (LEFT,), GIVEN, 5)
    assert table.asked == [[("a", 1), ("b", 2), ("b", 9)], [("b", 3)]]


def test_the_cache_remembers_answers_and_that_there_was_none() -> None:
    table, node = Played(*HELD), lookup({"lookup.cache": "PARTIAL"})
    feed(played(node, table), node, (LEFT,), [*GIVEN, *GIVEN], 4)
    assert table.asked == [[("a", 1), ("b", 2), ("b", 9)], [("b", 3)]]


def test_the_cache_forgets_by_number_and_by_age() -> None:
    events = rows(("a", 1, 0), ("b", 2, 0), ("b", 2, 0), ("a", 1, 0))
    table, node = Played(*HELD), lookup({"lookup.cache": "PARTIAL", "lookup.partial-cache.max-rows": "1"})
    feed(played(node, table), node, (LEFT,), events, 1)
    assert table.asked == [[("a", 1)], [("b", 2)], [("a", 1)]]
    table, clock = Played(*HELD), Clock()
    node = lookup({"lookup.cache": "PARTIAL", "lookup.partial-cache.expire-after-write": "10 s"})
    operator = played(node, table, clock)(node, None)
    for clock.now, asked in ((0.0, 1), (9.9, 1), (10.0, 2), (11.0, 2)):
        feed(lambda *_: operator, node, (LEFT,), rows(("a", 1, 0)))
        assert len(table.asked) == asked
    assert operator.held() > 0


def test_a_question_is_repeated_as_often_as_the_options_say() -> None:
    table, node = Played(*HELD), lookup({"lookup.max-retries": "2"})
    table.failures = 2
    assert len(feed(played(node, table), node, (LEFT,), rows(("b", 2, 0))).rows) == 1
    table.failures = 3
    with pytest.raises(BackpressureError, match="not now"):
        feed(played(node, table), node, (LEFT,), rows(("b", 2, 0)))


def test_kinds_of_a_changelog_go_along() -> None:
    node = lookup({}, "INNER")
    events = [
        Event(0, ("b", 2, 0)), Event(0, ("b", 2, 0), UB), Event(0, ("b", 3, 0), UA),
        Event(0, ("b", 3, 0), UB), Event(0, ("a", 1, 0), UA), Event(0, ("a", 1, 0), D), Event(0, ("b", 9, 0), I),
    ]  # fmt: skip
    fed = every_cut(played(node, Played(*HELD)), node, (LEFT,), events)
    assert [(row[0], row[6]) for row in fed.rows] == [
        ("+I", 30), ("-U", 30), ("+U", 40), ("-D", 40), ("+I", 10), ("+I", 20), ("-D", 10), ("-D", 20),
    ]  # fmt: skip


def test_answers_are_not_repeatable() -> None:
    assert LookupJoinOperator.repeatable is False


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "sites.csv"
    path.write_text("a,1,10\na,1,20\nb,2,30\nb,3,40\n")
    node = lookup({"path": str(path), "format": "csv"}, "INNER", connector="filesystem", columns=("w",))
    fed = every_cut(LookupJoinOperator, node, (LEFT,), GIVEN)
    assert [(row[3], row[4]) for row in fed.rows] == [(15, 10), (15, 20), (0, 30), (5, 10), (5, 20), (50, 40)]
    path.write_text("a,1\n")
    with pytest.raises(DataError, match=r"table sites: .*sites\.csv"):
        feed(LookupJoinOperator, node, (LEFT,), GIVEN)
    path.unlink()
    with pytest.raises(ConfigError, match="no file or folder"):
        feed(LookupJoinOperator, node, (LEFT,), GIVEN)


# --- databases ------------------------------------------------------------------------------------------------------

WIDE = (
    Field("id", STRING), Field("i", INT), Field("x", DOUBLE), Field("d", decimal(10, 2)), Field("b", BOOLEAN),
    Field("day", DATE), Field("at", TIMESTAMP), Field("utc", TIMESTAMP_LTZ), Field("raw", BYTES),
)  # fmt: skip
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
VALUES = (
    "a", -7, 1.5, Decimal("12.34"), True, MOMENT.date(), MOMENT, MOMENT.replace(tzinfo=datetime.UTC), b"\x00\xff",
)  # fmt: skip


def script(url: str, more: str = "") -> str:
    return f"""
    CREATE TABLE l (site STRING, n BIGINT, pt AS PROCTIME());
    CREATE TABLE sites (id STRING, w BIGINT)
      WITH ('connector' = 'jdbc', 'url' = '{url}', 'table-name' = 'sites' {more});
    SELECT l.n, s.w FROM l LEFT JOIN sites FOR SYSTEM_TIME AS OF l.pt AS s ON l.site = s.id;
    """


def test_the_connector_is_declared_in_sql(tmp_path: Path) -> None:
    program = compile_script(script(f"jdbc:sqlite:{tmp_path}/x.db", ", 'lookup.cache' = 'PARTIAL'"))
    assert program.tables["sites"].options["lookup.cache"] == "PARTIAL"
    for wrong, text in (
        (", 'lookup.cache' = 'ALL'", "one of 'NONE', 'PARTIAL'"),
        (", 'lookup.max-retries' = 'x'", "whole"),
    ):
        with pytest.raises(Exception, match=text):
            compile_script(script("jdbc:sqlite:x.db", wrong))


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    path = tmp_path / "plant.db"
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE sites (id TEXT, "no" INTEGER, w INTEGER)')
        connection.executemany("INSERT INTO sites VALUES (?, ?, ?)", [*HELD, ("z%", 5, None)])
        connection.execute(
            "CREATE TABLE wide (id TEXT, i INT, x REAL, d TEXT, b INT, day TEXT, at TEXT, utc TEXT, raw BLOB)"
        )
        texts = ("2026-01-02", "2026-01-02 03:04:05.678", "2026-01-02 03:04:05.678Z")
        connection.execute("INSERT INTO wide VALUES ('a', -7, 1.5, '12.34', 1, ?, ?, ?, x'00ff')", texts)
        connection.execute("INSERT INTO wide (id) VALUES ('b')")
    connection.close()
    return path


def test_sqlite_is_asked_by_one_key_and_by_several(sqlite: Path) -> None:
    options = {"url": f"jdbc:sqlite:{sqlite}", "table-name": "sites"}
    fed = every_cut(LookupJoinOperator, lookup(options, "INNER"), (LEFT,), GIVEN)
    assert [(row[3], row[6]) for row in fed.rows] == [(15, 10), (15, 20), (0, 30), (5, 10), (5, 20), (50, 40)]
    one = feed(LookupJoinOperator, lookup(options, "INNER", keys=("id",)), (LEFT,), rows(("z%", 0, 0), ("b", 0, 1)))
    assert [row[4:] for row in one.rows] == [("z%", 5, None), ("b", 2, 30), ("b", 3, 40)]


def test_sqlite_takes_more_keys_than_fit_into_one_query(sqlite: Path) -> None:
    options = {"url": f"jdbc:sqlite:{sqlite}", "table-name": "sites"}
    many = rows(*((f"k{i}", i, 0) for i in range(12_000)), ("b", 3, 1))
    fed = feed(LookupJoinOperator, lookup(options, "INNER"), (LEFT,), many, 20_000)
    assert [row[4:] for row in fed.rows] == [("b", 3, 40)]


def test_sqlite_gives_values_of_the_declared_types(sqlite: Path) -> None:
    options = {"url": f"jdbc:sqlite:{sqlite}", "table-name": "wide"}
    node = lookup(options, keys=("id",), physical=WIDE)
    fed = feed(LookupJoinOperator, node, (LEFT,), rows(("a", 0, 0), ("b", 0, 0)))
    assert fed.rows[0][4:] == VALUES
    assert fed.rows[1][4:] == ("b",) + (None,) * 8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"url": "jdbc:sqlite:/no/such/file.db", "table-name": "sites"}, "no file"),
        ({"url": "jdbc:sqlite:{}", "table-name": "nothing"}, "no such table"),
        ({"url": "jdbc:oracle:thin:@x", "table-name": "sites"}, "no driver for"),
        ({"url": "jdbc:sqlite:{}"}, "needs 'table-name'"),
    ],
)
def test_what_asking_again_cannot_mend_is_a_config_error(sqlite: Path, options: dict[str, str], text: str) -> None:
    node = lookup({key: value.format(sqlite) for key, value in options.items()})
    with pytest.raises(ConfigError, match=text) as caught:
        feed(LookupJoinOperator, node, (LEFT,), rows(("a", 1, 1)))
    assert caught.value.hint


def test_a_value_that_does_not_fit_its_type_is_named(sqlite: Path) -> None:
    wrong = (Field("id", INT), *SITES[1:])
    node = lookup({"url": f"jdbc:sqlite:{sqlite}", "table-name": "sites"}, physical=wrong, keys=("no",))
    node = LookupJoin(node.left, node.table, node.columns, (Column("n", BIGINT),), ("no",), None, node.schema, "INNER")
    with pytest.raises(DataError, match="column id: expected INT"):
        feed(LookupJoinOperator, node, (LEFT,), rows(("a", 1, 1)))


def test_a_locked_file_may_be_asked_again(sqlite: Path) -> None:
    writer = sqlite3.connect(sqlite, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    options = {"url": f"jdbc:sqlite:{sqlite}", "table-name": "sites", "lookup.max-retries": "0"}
    with pytest.raises(BackpressureError, match="locked"):
        feed(LookupJoinOperator, lookup(options), (LEFT,), rows(("b", 2, 0)))
    writer.execute("ROLLBACK")
    writer.close()
    assert len(feed(LookupJoinOperator, lookup(options), (LEFT,), rows(("b", 2, 0))).rows) == 1


def test_without_psycopg_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="psycopg") as caught:
        LookupJoinOperator(lookup({"url": "jdbc:postgresql://localhost/x", "table-name": "sites"}), None)  # type: ignore[arg-type]
    assert caught.value.hint == "pip install 'qanat[postgres]'"


def _postgres_programs() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of its own; its URL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = _postgres_programs()
    if programs is None:
        text = "PostgreSQL is not installed (make services)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    as_user: list[str] = []
    folder = tmp_path_factory.mktemp("pg")
    if os.geteuid() == 0:  # it refuses to run as root
        if not shutil.which("runuser"):
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, *folder.parents):
            if path.stat().st_uid == 0 and path != Path(path.anchor):
                path.chmod(path.stat().st_mode | 0o011)  # the way there; a folder more where tests run in parallel
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, control = folder / "data", str(programs / "pg_ctl")
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*as_user, str(programs / "initdb"), "-D", str(data), "-U", "qanat", "-A", "trust", "-N"], **quiet)
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    log = str(folder / "log")
    subprocess.run([*as_user, control, "-D", str(data), "-l", log, "-o", options, "-w", "start"], **quiet)
    try:
        yield f"postgresql://127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_user, control, "-D", str(data), "-m", "immediate", "stop"], **quiet)


@pytest.fixture
def plant(postgres: str) -> str:
    import psycopg

    with psycopg.connect(postgres, user="qanat", autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS plant CASCADE")
        connection.execute("CREATE SCHEMA plant")
        connection.execute('CREATE TABLE plant.sites (id text, "no" bigint, w bigint)')
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO plant.sites VALUES (%s, %s, %s)", HELD)
        connection.execute(
            "CREATE TABLE plant.wide (id uuid, i int, x float8, d numeric(10, 2), b boolean, day date, at timestamp, "
            "utc timestamptz, raw bytea)"
        )
        connection.execute("INSERT INTO plant.wide VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", (UUID, *VALUES[1:]))
    return postgres


UUID = "8d6c0f6e-3a0b-4c1d-9a55-0123456789ab"


def declared(url: str, table: str) -> dict[str, str]:
    return {"url": f"jdbc:{url}", "table-name": table, "username": "qanat", "lookup.max-retries": "0"}


def test_postgres_is_asked_by_one_key_and_by_several(plant: str) -> None:
    options = declared(plant, "plant.sites")
    fed = every_cut(LookupJoinOperator, lookup(options, "INNER"), (LEFT,), GIVEN)
    assert [(row[3], row[6]) for row in fed.rows] == [(15, 10), (15, 20), (0, 30), (5, 10), (5, 20), (50, 40)]
    one = feed(LookupJoinOperator, lookup(options, keys=("id",)), (LEFT,), rows(("z%", 0, 0), ("b", 0, 1)))
    assert [row[4:] for row in one.rows] == [(None, None, None), ("b", 2, 30), ("b", 3, 40)]


def test_postgres_gives_values_of_the_declared_types(plant: str) -> None:
    node = lookup(declared(plant, "plant.wide"), keys=("id",), physical=WIDE)
    fed = feed(LookupJoinOperator, node, (LEFT,), rows((UUID, 0, 0)))
    assert fed.rows[0][4:] == (UUID, *VALUES[1:])


def test_postgres_errors_say_whether_to_ask_again(plant: str) -> None:
    other = declared(plant.replace("/postgres", "/other"), "plant.sites")
    closed = declared("postgresql://127.0.0.1:1/postgres", "plant.sites")
    with pytest.raises(ConfigError, match="nothing"):
        feed(LookupJoinOperator, lookup(declared(plant, "plant.nothing")), (LEFT,), rows(("a", 1, 1)))
    with pytest.raises(ConfigError, match="does not exist"):
        feed(LookupJoinOperator, lookup(other), (LEFT,), rows(("a", 1, 1)))
    with pytest.raises(BackpressureError):
        feed(LookupJoinOperator, lookup(closed), (LEFT,), rows(("a", 1, 1)))


def test_a_lost_connection_is_made_anew(plant: str) -> None:
    import psycopg

    node = lookup({**declared(plant, "plant.sites"), "lookup.max-retries": "1"})
    operator = LookupJoinOperator(node, None)  # type: ignore[arg-type]
    feed(lambda *_: operator, node, (LEFT,), rows(("b", 2, 0)))
    with psycopg.connect(plant, user="qanat", autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert len(feed(lambda *_: operator, node, (LEFT,), rows(("b", 3, 0))).rows) == 1
    operator.close()
