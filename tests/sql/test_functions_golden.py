"""Every expression of `functions/*.txt` gives what real Flink gave: the same type, and the same text of its value.

`functions/produce.py` writes those files. What differs on purpose is in `DIFFERENT` with the reason, and must differ.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from qanat.errors import DataError, SqlError
from qanat.model.types import Kind
from qanat.sql import compile_script
from qanat.sql.embedded.kernels import dtype_of, to_polars
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import Project
from tests.sql.functions.different import DIFFERENT

FOLDER = Path(__file__).parent / "functions"


def _cases() -> list[tuple[str, str, str, str | None]]:
    found: list[tuple[str, str, str, str | None]] = []
    for path in sorted(FOLDER.glob("*.txt")):
        settings = ""
        for line in path.read_text().splitlines():
            if line.startswith("SET "):
                settings += line + "\n"
            elif line and not line.startswith("#"):
                expression, kind, value = line.split(" | ", 2)
                found.append((settings, expression, kind, json.loads(value)))
    return found


CASES = _cases()


def evaluate(settings: str, expression: str) -> tuple[str, str | None]:
    """The type, and the value as text; an error is ("ERROR", None)."""
    try:
        program = compile_script(
            f"{settings}CREATE TABLE one (i INT); SELECT {expression} AS x, CAST({expression} AS STRING) AS v FROM one"
        )
        root = program.pipelines[0].root
        assert isinstance(root, Project)
        value, text = root.expressions
        # text to text: the cast is none
        row = pl.DataFrame({"": [0]}).select(to_polars(value).alias("x"), to_polars(text).alias("v"))
    except (SqlError, DataError, pl.exceptions.ComputeError):
        return "ERROR", None
    assert row["x"].dtype == dtype_of(value.type), expression
    assert isinstance(text, Cast) or value.type.kind is text.type.kind
    return re.sub(r"VARCHAR\(\d+\)", "STRING", str(value.type)), row["v"].item()


@pytest.mark.parametrize(
    ("settings", "expression", "kind", "value"), CASES, ids=[f"{one[0][30:44]}{one[1]}" for one in CASES]
)
def test_as_flink(settings: str, expression: str, kind: str, value: str | None) -> None:
    found = evaluate(settings, expression)
    expected = (kind, None if kind == "ERROR" else value)
    if expression in DIFFERENT:
        assert found != expected, f"no longer different; it was: {DIFFERENT[expression]}"
        return
    assert found == expected


#: Functions with arguments that must be literals.
LITERALS = (
    "EXTRACT", "FLOOR", "CEIL", "TIMESTAMPDIFF", "TIMESTAMPADD", "INTERVAL", "TRIM", "ROUND", "TRUNCATE", "TYPEOF",
    "TO_TIMESTAMP_LTZ", "JSON_EXISTS", "JSON_VALUE", "JSON_QUERY", "JSON_OBJECT", "JSON_ARRAY", "IS JSON", "FIELD",
)  # fmt: skip


def _opened(expression: Expression, columns: dict[str, Literal]) -> Expression:
    """The expression with columns in place of its literals, where a column may stand."""
    match expression:
        case Literal(type=kind) if kind.kind is not Kind.NULL:
            columns[name := f"c{len(columns)}"] = expression
            return Column(name, kind)
        case Cast(arg=arg):
            return replace(expression, arg=_opened(arg, columns))
        case Call(function=name, args=args):
            kept = name in LITERALS
            inner = (one if kept and isinstance(one, Literal) else _opened(one, columns) for one in args)
            return replace(expression, args=tuple(inner))
    return expression


@pytest.mark.parametrize(
    ("settings", "expression"),
    [one[:2] for one in CASES if one[2] != "ERROR" and one[1] not in DIFFERENT],
    ids=[f"{one[0][30:44]}{one[1]}" for one in CASES if one[2] != "ERROR" and one[1] not in DIFFERENT],
)
def test_columns_give_what_constants_give(settings: str, expression: str) -> None:
    program = compile_script(
        f"{settings}CREATE TABLE one (i INT); SELECT {expression} AS x, CAST({expression} AS STRING) AS v FROM one"
    )
    root = program.pipelines[0].root
    assert isinstance(root, Project)
    literals: dict[str, Literal] = {}
    opened = _opened(root.expressions[1], literals)
    rows = pl.DataFrame({"": [0, 1, 2]}).with_columns(to_polars(one).alias(name) for name, one in literals.items())
    constant = pl.DataFrame({"": [0]}).select(to_polars(root.expressions[1]).alias("v"))["v"].item()
    assert rows.with_columns(to_polars(opened).alias("v"))["v"].to_list() == [constant] * 3


def test_what_differs_is_asked() -> None:
    assert set(DIFFERENT) - {one[1] for one in CASES} == set()
