"""What CREATE TABLE says about an archive, and what it may not."""

from __future__ import annotations

import pytest

from qanat.errors import SqlError
from qanat.lake.store import folder_of
from qanat.model.lake import is_archived, sort_columns
from qanat.sql import compile_script
from tests.lake.conftest import stream_of

TABLE = "CREATE TABLE t (a INT, `b` STRING, c ARRAY<INT>, PRIMARY KEY (a) NOT ENFORCED) WITH ({})"


@pytest.mark.parametrize(
    ("options", "archived", "columns"),
    [
        ("'archive' = 'true', 'archive.sort' = ' b , a'", True, ("b", "a")),
        ("'archive' = 'TRUE'", True, ("a",)),
        ("'archive' = 'false'", False, ("a",)),
        ("'partitions' = '2'", False, ("a",)),
    ],
)
def test_what_is_archived_and_how_it_is_sorted(options: str, archived: bool, columns: tuple[str, ...]) -> None:
    stream = stream_of(TABLE.format(options))
    assert (is_archived(stream), sort_columns(stream)) == (archived, columns)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (TABLE.format("'archive' = 'yes'"), "'archive' is 'true' or 'false', found 'yes'"),
        (TABLE.format("'archive.sort' = 'b'"), "'archive.sort' sorts an archive, and the table has none"),
        (TABLE.format("'archive' = 'true', 'archive.sort' = 'd'"), "no physical column is called `d`"),
        (TABLE.format("'archive' = 'true', 'archive.sort' = 'c'"), "`c` is ARRAY<INT>, which has no order"),
        (TABLE.format("'archive' = 'true', 'archive.sort' = 'b,b'"), "each of them once"),
        (TABLE.format("'archive' = 'true', 'archive.sort' = ','"), "each of them once"),
        ("CREATE TABLE t (__at INT) WITH ('archive' = 'true')", "cannot have the column `__at`"),
        ("CREATE TABLE t (`a b` INT) WITH ('archive' = 'true')", "cannot have the column `a b`"),
        ("CREATE TABLE t (a INT, A INT) WITH ('archive' = 'true')", "cannot tell `A` from `a`"),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'print', 'archive' = 'true')",
            "the connector 'print' has no option 'archive'",
        ),
    ],
)
def test_what_is_refused(sql: str, said: str) -> None:
    with pytest.raises(SqlError) as caught:
        compile_script(sql)
    assert said in str(caught.value)


def test_names_of_columns_are_free_without_an_archive() -> None:
    assert not is_archived(stream_of("CREATE TABLE t (__at INT, `a b` INT, a INT, A INT)"))


def test_folders_of_streams_are_all_different() -> None:
    names = ["readings", "a b", "a_b", "a-b", "a/b", "../x", "Ä", ".x", "+a20b", "a+b", "", "a20b ", "a b "]
    folders = [folder_of(name) for name in names]
    assert len(set(folders)) == len(names)
    assert not any("/" in one or one.startswith(".") for one in folders)
