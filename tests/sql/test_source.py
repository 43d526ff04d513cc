"""Parameters, and places in the text as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import SqlError
from qanat.sql import compile_script
from qanat.sql.source import read_source


def test_parameters_are_put_in() -> None:
    assert read_source("a ${x} b ${y.z}", {"x": "1", "y.z": ""}, "s").sql == "a 1 b "


def test_missing_parameter_says_which_and_how() -> None:
    with pytest.raises(SqlError) as caught:
        read_source("SELECT\n  ${GAP} FROM t", {"GAPP": "1"}, "q.sql")
    assert str(caught.value) == (
        "q.sql:2:3: parameter ${GAP} has no value\n    ${GAP} FROM t\n    ^\n  hint: did you mean `GAPP`?"
    )
    with pytest.raises(SqlError, match="--param GAP=VALUE"):
        read_source("${GAP}", {}, "q.sql")


@given(
    st.lists(st.tuples(st.text("ab\n", max_size=4), st.text("xyz\n", max_size=6)), max_size=5),
    st.text("cd", min_size=1),
)
def test_offsets_outside_parameters_point_to_the_same_character(parts: list[tuple[str, str]], tail: str) -> None:
    text = "".join(f"{before}${{p{i}}}" for i, (before, _) in enumerate(parts)) + tail
    source = read_source(text, {f"p{i}": value for i, (_, value) in enumerate(parts)}, "s")
    for back in range(1, len(tail) + 1):
        assert source.original(len(source.sql) - back) == len(text) - back


def test_errors_after_a_long_parameter_point_to_the_text_as_written() -> None:
    sql = "CREATE TABLE t (a ${TYPE}, b INTT)"
    with pytest.raises(SqlError) as caught:
        compile_script(sql, {"TYPE": "ROW<x INT,\n y INT>"}, source="p.sql")
    assert (caught.value.line, caught.value.column, caught.value.source) == (1, sql.index("INTT") + 1, "p.sql")
