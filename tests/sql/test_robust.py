"""Whatever is written, the answer is a program or an error with a place: no other exception leaves the front."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.errors import SqlError
from qanat.sql import compile_script
from tests.sql.plans import NILM, TABLES
from tests.sql.test_bind import read_cases

_TABLES = compile_script(TABLES).tables
_TEXTS = [sql for name in ("plans.txt", "refused.txt") for _, sql, _ in read_cases(name)] + [NILM]
_TOKEN = re.compile(r"\s+|'[^']*'|`[^`]*`|\w+|.", re.DOTALL)
_WORDS = sorted({token for text in _TEXTS for token in _TOKEN.findall(text) if token.strip()})


def error_of(sql: str) -> SqlError | None:
    try:
        compile_script(sql, tables=_TABLES)
    except SqlError as error:
        return error
    return None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_TEXTS), st.data())
def test_damaged_scripts(text: str, data: st.DataObject) -> None:
    tokens = _TOKEN.findall(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(tokens) - 1, 0)))
        tokens[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(st.sampled_from(_WORDS), max_size=2))
    error = error_of(" ".join(tokens))
    assert error is None or (error.message and error.line)
