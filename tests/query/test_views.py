"""Views that stay on a connection: made once for the same files, and never seen by a query that does not name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qanat.model.query import QuerySettings
from qanat.query import Query
from qanat.query.mount import Mount

from .farm import READINGS, Farm

TOTAL = "SELECT count(*) AS n, sum(v) AS s FROM readings"
OTHERS = READINGS.replace("readings", "others")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the views that are made."""
    found: list[str] = []
    create = Mount._create

    def told(self: Mount, name: str, select: str) -> None:
        found.append(name)
        create(self, name, select)

    monkeypatch.setattr(Mount, "_create", told)
    return found


def asked(query: Query, sql: str = TOTAL) -> tuple[Any, ...]:
    (row,) = query.table(sql).to_pylist()
    return tuple(row.values())


def left(query: Query) -> list[str]:
    """Views on the only connection."""
    (lent,) = query._connections._idle
    found = lent.connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1").fetchall()
    return [name for (name,) in found]


def one_connection(farm: Farm) -> Query:
    return farm.query(settings=QuerySettings(connections=1))


def test_the_same_files_have_one_view_and_new_rows_another(farm: Farm, made: list[str]) -> None:
    farm.readings(0, 100)
    farm.archived()
    query = one_connection(farm)
    for _ in range(3):
        assert asked(query) == (100, 4950.0)
    assert asked(query, "SELECT max(v) AS v FROM readings") == (99.0,)
    assert made == ["readings"]
    farm.readings(100, 110)
    assert asked(query) == (110, 5995.0)
    assert len(made) == 2
    farm.expired()
    assert asked(query) == (110, 5995.0)
    farm.archived()
    assert asked(query) == (110, 5995.0)
    farm.expired()
    farm.compacted(vacuum=True)
    assert asked(query) == (110, 5995.0)
    assert asked(query, TOTAL + " WHERE ts < TIMESTAMP '1999-01-01'") == (0, None)
    assert asked(query) == (110, 5995.0)


def test_a_query_finds_no_view_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    both = Farm(tmp_path / "both", READINGS, OTHERS)
    both.readings(0, 10)
    both.feed([{"sensor": "x", "v": 7.0, "ts": 1_767_225_600_000}], "others")
    both.archived()
    query = one_connection(both)
    assert asked(query) == (10, 45.0)
    assert left(query) == ["readings"]
    assert asked(query, "SELECT sum(v) AS s FROM others") == (7.0,)
    assert left(query) == ["others"]
    assert asked(query, "SELECT 1 AS one") == (1,)
    assert left(query) == []
    both.close()


def test_a_stream_that_is_archived_no_longer_is_its_live_rows(farm: Farm) -> None:
    farm.readings(0, 10)
    farm.archived()
    farm.expired()
    farm.readings(10, 20)
    query = one_connection(farm)
    assert asked(query)[0] == 20
    farm.redeclare(READINGS.replace("'archive' = 'true', 'archive.sort' = 'sensor'", "'archive' = 'false'"))
    for _ in range(2):
        assert asked(query)[0] == 10
    farm.redeclare(READINGS)
    for _ in range(2):
        assert asked(query)[0] == 20
