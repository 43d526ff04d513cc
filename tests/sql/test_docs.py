"""docs/sql.md keeps its word: every example gives the rows below it, what is refused is refused with these words, and
every function, aggregate and option is listed.

`UPDATE_GOLDENS=1 pytest tests/sql/test_docs.py` writes outputs, the table of functions and what the compiler says into
the page; read the diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pytest

from qanat.errors import SqlError
from qanat.sql import compile_script
from qanat.sql.functions import ALIASES, FUNCTIONS
from qanat.sql.options import CONNECTORS
from qanat.sql.scalars import AGGREGATES
from tests.sql import page
from tests.sql.page import Example

TEXT = page.PAGE.read_text()
EXAMPLES = page.examples(TEXT)
UPDATE = os.environ.get("UPDATE_GOLDENS") == "1"


@lru_cache(maxsize=1)
def rows() -> dict[str, pa.Table]:
    """The rows of the page."""
    return page.dataset(TEXT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the examples write, one after the other, as a reader would."""
    made = tmp_path_factory.mktemp("page")
    page.write_modules(TEXT, made)
    page.write_databases(TEXT, made)
    with page.inside(made):
        yield made


@pytest.fixture(scope="module")
def outputs(folder: Path) -> dict[Example, str | Exception]:
    """What every example gives; those behind one that fails still run."""
    assert folder.exists()
    found: dict[Example, str | Exception] = {}
    for example in EXAMPLES:
        try:
            found[example] = page.output(example, rows())
        except Exception as error:  # noqa: BLE001  # told where it belongs: in the example's own test
            found[example] = error
    if UPDATE:
        given = [(example, text) for example, text in found.items() if isinstance(text, str)]
        page.PAGE.write_text(page.filled(page.PAGE.read_text(), given))
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_gives_what_stands_below_it(example: Example, outputs: dict[Example, str | Exception]) -> None:
    found = outputs[example]
    if isinstance(found, Exception):
        raise found
    if UPDATE:
        return
    if found or re.search(r"^(INSERT|SELECT|WITH)\b", example.sql, re.MULTILINE):
        assert example.shown is not None, "no output below the example: UPDATE_GOLDENS=1"
        assert example.shown == found
        assert len(found.splitlines()) > 1, "an example without rows shows nothing"
    else:
        assert example.shown is None


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_does_not_depend_on_batches(example: Example, folder: Path) -> None:
    """Files are left out: they lie where the first run wrote them."""
    assert folder.exists()
    if example.shown is None or "'connector'" in example.sql or " out_" in example.sql or "counts" in example.sql:
        pytest.skip("gives no rows to the caller")
    assert page.output(example, rows(), batch_rows=1) == example.shown


def test_the_page_has_its_rows() -> None:
    tables = compile_script(EXAMPLES[0].sql).tables
    assert set(rows()) == set(tables)
    assert all(table.num_rows for table in rows().values())


def test_every_section_that_the_page_begins_with_is_there() -> None:
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


# --- tables that are made of the code --------------------------------------------------------------------------------


def functions_table() -> str:
    """Every function, as the page lists it."""
    lines = [f"| `{_cell(one.usage)}` | {_cell(one.doc)} |" for one in FUNCTIONS.values()]
    return "\n".join(["| written | gives |", "| --- | --- |", *lines]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_every_function_is_listed() -> None:
    _same_or_written("functions", functions_table())


def test_other_names_of_functions_are_listed() -> None:
    assert [name for name in ALIASES if not re.search(rf"\b{name}\b", TEXT)] == []


def test_every_aggregate_and_option_is_listed() -> None:
    assert [one for one in AGGREGATES if not re.search(rf"\b{one}\b", TEXT)] == []
    options = {name for one in CONNECTORS.values() for name in one.options}
    assert [one for one in sorted(options) if f"`{one}`" not in TEXT and f"'{one}'" not in TEXT] == []
    assert [one for one in CONNECTORS if one and f"'connector' = '{one}'" not in TEXT] == []


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [line.split("` | ")[0].removeprefix("| `") for line in page.between(TEXT, "refused").splitlines()[2:]]


def refusal(sql: str) -> tuple[str, str]:
    """What the compiler says about a statement, and what it says to write instead."""
    before = EXAMPLES[-1].before
    with pytest.raises(SqlError) as caught:
        compile_script(f"{before}\n{sql}", source="docs/sql.md")
    lines = str(caught.value).splitlines()
    said = re.sub(r"^docs/sql.md:\d+:\d+: ", "", lines[0])
    hint = next((line.split("hint: ", 1)[1] for line in lines if "hint: " in line), "")
    return said, hint


def refused_table() -> str:
    """The table of refusals."""
    lines = []
    for sql in REFUSED:
        said, hint = (_cell(one) for one in refusal(sql))
        lines.append(f"| `{sql}` | {said} | {hint} |")
    return "\n".join(["| written | said | instead |", "| --- | --- | --- |", *lines]) + "\n"


def test_what_is_refused_says_so() -> None:
    assert len(REFUSED) >= 30
    _same_or_written("refused", refused_table())


def _same_or_written(name: str, text: str) -> None:
    if UPDATE:
        page.PAGE.write_text(page.replaced(page.PAGE.read_text(), name, text))
    else:
        assert page.between(TEXT, name).splitlines() == text.splitlines()
