"""`qanat query` while the project runs and after, in every form of output."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from tests.cli.conftest import COMMAND, Run, Server

from qanat.cli.project import log_url
from qanat.lake import Archiver, Tables
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.arrow import schema_of
from qanat.model.lake import Lake
from qanat.model.streams import Column, Stream
from qanat.model.types import DOUBLE, STRING

ROWS = [{"sensor": name, "temperature": value} for name, value in (("a", 1.5), ("b", 20.0), ('ü, "x"', None))]


COLUMNS = (Column("sensor", STRING), Column("temperature", DOUBLE))


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """A stopped project with three readings."""
    log = open_log(log_url(tmp_path / ".qanat"))
    log.create(Stream("readings", COLUMNS))
    log.create(Stream("climate", COLUMNS))
    rows = pa.RecordBatch.from_pylist(ROWS, schema_of((column.name, column.type) for column in COLUMNS))
    log.submit(Transaction([Append("readings", 0, rows, 0)])).result()
    log.close()
    return tmp_path


def test_a_running_project_answers(qanat: Run, up: Callable[..., Server], tmp_path: Path) -> None:
    qanat("init", "farm")
    server = up(tmp_path / "farm")
    assert httpx.post(f"{server.url}/streams/readings", json=ROWS).json()["accepted"] == 3
    done = qanat("query", "SELECT count(*) AS n FROM readings", cwd=tmp_path / "farm")
    assert done.stdout == '{"n":3}\n'


def test_json_is_one_object_a_row_and_so_is_a_pipe(qanat: Run, farm: Path) -> None:
    sql = "SELECT sensor, temperature FROM readings ORDER BY sensor"
    done = qanat("query", sql, "--json", cwd=farm)
    assert [json.loads(line) for line in done.stdout.splitlines()] == ROWS
    assert qanat("query", sql, "--dir", farm).stdout == done.stdout


def test_csv_has_a_header_and_quotes(qanat: Run, farm: Path) -> None:
    done = qanat(
        "query", 'SELECT sensor, count(*) AS "n, all" FROM readings GROUP BY ALL ORDER BY 1', "--csv", cwd=farm
    )
    assert list(csv.reader(io.StringIO(done.stdout))) == [["sensor", "n, all"], ["a", "1"], ["b", "1"], ['ü, "x"', "1"]]


def test_an_empty_answer_is_empty(qanat: Run, farm: Path) -> None:
    done = qanat("query", "SELECT * FROM climate", "--json", cwd=farm)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_person_sees_aligned_columns(farm: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "query", "SELECT sensor, temperature FROM readings ORDER BY temperature"]
    done = subprocess.run(
        command, cwd=farm, stdout=theirs, stderr=theirs, timeout=60, env=os.environ | {"NO_COLOR": "1"}
    )
    os.close(theirs)
    seen = os.read(ours, 10_000).decode().replace("\r", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
    os.close(ours)
    assert done.returncode == 0
    assert seen.splitlines() == [
        "sensor  temperature",
        "a               1.5",
        "b                20",
        'ü, "x"         NULL',
    ]


@pytest.mark.parametrize(
    ("sql", "code", "said"),
    [
        ("SELECT nothing FROM readings", 3, "nothing"),
        ("SELECT * FROM reading", 3, "readings"),
        ("DROP TABLE readings", 3, "only reads"),
        ("SELECT", 3, "SELECT"),
        ("", 3, "statement"),
    ],
)
def test_mistakes_in_the_sql(qanat: Run, farm: Path, sql: str, code: int, said: str) -> None:
    done = qanat("query", sql, cwd=farm)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_json_and_csv_exclude_each_other(qanat: Run, tmp_path: Path) -> None:
    assert qanat("query", "SELECT 1", "--json", "--csv").returncode == 2


def test_as_it_was(qanat: Run, farm: Path) -> None:
    count = "SELECT count(*) AS n FROM readings"
    assert qanat("query", count, "--as-of", "readings/0=1", cwd=farm).stdout == '{"n":2}\n'
    assert qanat("query", count, "--as-of", "1969-12-31T23:00:00Z", cwd=farm).stdout == '{"n":0}\n'
    assert qanat("query", count, "--as-of", "1970-01-01", "--as-of", "readings/0=0", cwd=farm).stdout == '{"n":1}\n'
    done = qanat("query", count, "--as-of", "yesterday", cwd=farm)
    assert (done.returncode, "STREAM/PARTITION=OFFSET" in done.stderr) == (2, True)


def test_tables_and_limits_of_the_project(qanat: Run, farm: Path) -> None:
    (farm / "sites.csv").write_text("sensor,site\na,north\n")
    (farm / "qanat.yaml").write_text(
        "users: [{name: x, password_env: NOT_SET_HERE}]\n"
        "query: {max_rows: 2, threads: 1}\ntables: {sites: {url: sites.csv}}\n"
    )
    done = qanat("query", "SELECT site, temperature FROM readings JOIN sites USING (sensor)", cwd=farm)
    assert done.stdout == '{"site":"north","temperature":1.5}\n'
    done = qanat("query", "FROM readings", cwd=farm)
    assert (done.returncode, "more than 2 rows" in done.stderr) == (1, True)


def test_a_query_ends_in_time(qanat: Run, farm: Path) -> None:
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range * b.range % 7 = 3"
    done = qanat("query", endless, "--timeout", "300 ms", cwd=farm)
    assert (done.returncode, "took longer than 0.3 s" in done.stderr) == (1, True)
    assert qanat("query", "SELECT 1", "--timeout", "soon", cwd=farm).returncode == 2


def test_archived_rows_are_there_too(qanat: Run, farm: Path) -> None:
    log = open_log(log_url(farm / ".qanat"))
    log.create(Stream("readings", COLUMNS, retention_ms=1, options={"archive": "true"}))
    archiver = Archiver(log, Tables(farm / ".qanat" / "lake"), Lake())
    archiver.prepare()
    archiver.archive("readings")
    assert log.maintain(10**13) == {"readings": 3}  # type: ignore[attr-defined]
    log.close()
    assert qanat("query", "SELECT count(*) AS n FROM readings", cwd=farm).stdout == '{"n":3}\n'
