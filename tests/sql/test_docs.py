"""docs/sql.md: every example compiles, every function is listed."""

from __future__ import annotations

import re
from pathlib import Path

from qanat.sql import compile_script
from qanat.sql.functions import FUNCTIONS
from qanat.sql.options import CONNECTORS
from qanat.sql.scalars import AGGREGATES

_PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()


def test_examples_compile() -> None:
    script = "\n".join(re.findall(r"```sql\n(.*?)```", _PAGE, re.DOTALL))
    program = compile_script(script, source="docs/sql.md")
    assert len(program.pipelines) == script.count("SELECT") - _inner_selects(script)
    assert len(program.views) == 2


def _inner_selects(script: str) -> int:
    """SELECTs of views, subqueries, WITH and UNION ALL."""
    return len(re.findall(r"\(\s*SELECT|AS\s+SELECT|ALL\s+SELECT", script))


def test_everything_is_listed() -> None:
    page = _PAGE.replace("\\|", "|")
    missing = [one.usage for one in FUNCTIONS.values() if f"`{one.usage}` | {one.doc} |" not in page]
    assert missing == []
    assert [one for one in AGGREGATES if one not in page] == []
    options = {name for one in CONNECTORS.values() for name in one.options if not name.startswith("sink.rolling")}
    assert [one for one in options if f"`{one}`" not in page] == []
