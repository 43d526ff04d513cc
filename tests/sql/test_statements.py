"""Splitting and parsing statements."""

from __future__ import annotations

from qanat.model.types import BIGINT, INT, STRING, Kind, Type, array, decimal
from qanat.sql.source import read_source
from qanat.sql.statements import CreateTable, CreateView, Insert, Setting, Statement, parse_script


def parse(text: str) -> list[Statement]:
    return [statement for statement, _ in parse_script(read_source(text, {}, "test.sql"))]


def test_semicolons_in_strings_comments_and_names_do_not_split() -> None:
    found = parse("SELECT ';' FROM `a;b` -- ; \n /* ; */ WHERE x = 'it''s;'; SELECT 1 FROM t;;")
    assert len(found) == 2


def test_create_table_with_everything() -> None:
    (table,) = parse(
        """CREATE TEMPORARY TABLE IF NOT EXISTS `t``x` (
             a INT NOT NULL COMMENT 'x', `timestamp` BIGINT, ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3) COMMENT 'time',
             WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, CONSTRAINT pk PRIMARY KEY (a) NOT ENFORCED
           ) COMMENT 'all' PARTITIONED BY (a) WITH ('connector' = 'filesystem', 'path' = '--x')"""
    )
    assert isinstance(table, CreateTable)
    assert (table.name.text, table.if_not_exists) == ("t`x", True)
    assert [one.name.text for one in table.columns] == ["a", "timestamp", "ts"]
    assert [one.type for one in table.columns] == [INT.with_nullable(False), BIGINT, None]
    assert [one.text for one in table.key + table.partition_by] == ["a", "a"]
    assert {one.key.text: one.value for one in table.options} == {"connector": "filesystem", "path": "--x"}
    assert table.watermark is not None


def test_types() -> None:
    kinds = {
        "STRING": STRING,
        "VARCHAR(7)": Type(Kind.STRING, precision=7),
        "DECIMAL(10, 2)": decimal(10, 2),
        "DECIMAL": decimal(10, 0),
        "TIMESTAMP(3)": Type(Kind.TIMESTAMP, precision=3),
        "TIMESTAMP": Type(Kind.TIMESTAMP, precision=6),
        "TIMESTAMP_LTZ(3)": Type(Kind.TIMESTAMP_LTZ, precision=3),
        "TIMESTAMP(3) WITH LOCAL TIME ZONE": Type(Kind.TIMESTAMP_LTZ, precision=3),
        "DOUBLE PRECISION": Type(Kind.DOUBLE),
        "ARRAY<ARRAY<INT NOT NULL>>": array(array(INT.with_nullable(False))),
        "INT ARRAY": array(INT),
        "MAP<STRING, BIGINT>": Type(Kind.MAP, key=STRING, element=BIGINT),
        "ROW<a INT, b ROW<c STRING>>": Type(
            Kind.ROW, fields=(("a", INT), ("b", Type(Kind.ROW, fields=(("c", STRING),))))
        ),
    }
    for text, kind in kinds.items():
        (table,) = parse(f"CREATE TABLE t (x {text})")
        assert isinstance(table, CreateTable)
        assert table.columns[0].type == kind, text


def test_statement_sets_both_ways() -> None:
    for opening in ("EXECUTE STATEMENT SET BEGIN", "BEGIN STATEMENT SET;"):
        found = parse(
            f"{opening} INSERT INTO a SELECT x FROM t; INSERT INTO b (p, q) SELECT x, y FROM t; END; SET 'k' = 'v'"
        )
        assert [type(one) for one in found] == [Insert, Insert, Setting]
        assert isinstance(found[1], Insert)
        assert [one.text for one in found[1].columns] == ["p", "q"]
        assert found[1].text == "INSERT INTO b (p, q) SELECT x, y FROM t"


def test_view_with_columns() -> None:
    (view,) = parse("CREATE VIEW IF NOT EXISTS v (a, b) COMMENT 'c' AS SELECT x, y FROM t")
    assert isinstance(view, CreateView)
    assert [one.text for one in view.columns] == ["a", "b"]
