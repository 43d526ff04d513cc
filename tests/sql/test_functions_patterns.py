"""Regular expressions: Rust's engine and Python's give the same, and what is not translated is refused."""

from __future__ import annotations

import polars as pl
import pytest

from qanat.errors import SqlError
from qanat.sql import compile_script
from qanat.sql.java_regex import compiled

TEXTS = ["", "a", "ab\n", "ABab", "a1_b-2", "x\r\ny", "ä😀b", "aaa", "key=value; n=5", "\u2028", "[a]", "10.5e3"]


@pytest.mark.parametrize(
    "pattern",
    [
        "a", "a|b", "[a-c]+", r"\d+", r"\w+=\w+", r"[^\w\s]", r"a.b", r"\s", "^a", "(a)(b)?", "a{2,3}", r"[\d._-]+",
        r"\.", r"[a-z&&[^b]]+", r"\p{Upper}+", r"\p{L}+", r"\Q[a]\E", "a*?b", r"\bab", r"\D", "[[a-b][1-2]]", r"\x61",
        r"(?<k>\w+)=", "[^a]", r"\n", r"\z",
    ],
)  # fmt: skip
def test_both_engines_agree(pattern: str) -> None:
    regex = compiled(pattern)
    assert regex is not None
    assert regex.rust is not None
    rust = pl.Series(TEXTS).str.extract(regex.rust, 0).to_list()
    matches = [regex.pattern.search(one) for one in TEXTS]
    assert rust == [None if one is None else one.group() for one in matches]


@pytest.mark.parametrize("pattern", ["(a)\\1", "a(?=b)", "a++", "(?>a)", "a$", "(?i)a", "\\R", "(?<=a|bc)d"])
def test_what_rust_has_not_is_pythons(pattern: str) -> None:
    regex = compiled(pattern)
    assert regex is not None
    assert regex.rust is None


@pytest.mark.parametrize("pattern", ["(", "[a", "a{", "\\y", "*a", "[b-a]"])
def test_what_java_refuses_is_none(pattern: str) -> None:
    assert compiled(pattern) is None


@pytest.mark.parametrize("pattern", ["a(?i)b", "\\G", "\\p{InGreek}", "(?x)a"])
def test_what_is_not_translated_is_refused_with_its_place(pattern: str) -> None:
    with pytest.raises(SqlError, match=r"1:35: REGEXP"):
        compile_script(f"CREATE TABLE t (s STRING); SELECT REGEXP(s, '{pattern}') AS x FROM t")
