"""docs/sql.md as a program: its tables and rows, its examples with the output below each, and what is made of the code.

Reads and runs; what must hold is in `test_docs`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

import qanat
from qanat.cli.streams import scanned
from qanat.model.arrow import from_arrow
from qanat.model.types import STRING, Type
from qanat.sql import compile_script
from qanat.sql.plan import Program
from qanat.trial.cells import NUMBERS, arrow_of, read_cell, show, values_of
from qanat.trial.tables import parse_table, split_row, write_table

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
#: The date that the page leaves out.
DATE = "2026-01-01"
#: A comment in an example: its late rows are shown as well.
WITH_LATE = "-- with the late rows"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_ROWS = re.compile(r"^`(\w+)`[^\n]*:\n\n```\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_DATABASE = re.compile(
    r"^`(\w+)` is a table of the SQLite file `([\w.]+)`:\n\n```\n(.*?)^```\n", re.DOTALL | re.MULTILINE
)
_STATEMENT_END = re.compile(r";[ \t]*(?:--[^\n]*)?$", re.MULTILINE)
_DECLARES = re.compile(r"(?:\s|--[^\n]*\n)*CREATE\b")


@dataclass(frozen=True, slots=True)
class Example:
    """One ```sql block. `before`: every CREATE statement above it on the page; `shown`: the block right below, if there
    is one; `end`: where in the page an output block belongs."""

    line: int
    section: str
    sql: str
    before: str
    shown: str | None
    end: int

    def __str__(self) -> str:
        return f"{self.section}:{self.line}"

    @property
    def script(self) -> str:
        """What is run."""
        return f"{self.before}\n{self.sql}"


def examples(page: str) -> list[Example]:
    """The examples of the page, from top to bottom."""
    found: list[Example] = []
    before = ""
    for block in _BLOCK.finditer(page):
        if block[1] != "sql":
            continue
        below = re.match(r"\n```\n(.*?)^```\n", page[block.end() :], re.DOTALL | re.MULTILINE)
        section = re.findall(r"^#+ (.*)$", page[: block.start()], re.MULTILINE)[-1]
        line = page.count("\n", 0, block.start()) + 1
        found.append(Example(line, section, block[2], before, None if below is None else below[1], block.end()))
        before += "".join(f"{one};\n" for one in _STATEMENT_END.split(block[2]) if _DECLARES.match(one))
    return found


def write_modules(page: str, folder: Path) -> None:
    """Python blocks that begin with `# name.py` as files."""
    for kind, text in _BLOCK.findall(page):
        name = re.match(r"# (\w+\.py)\n", text)
        if kind == "python" and name:
            (folder / name[1]).write_text(text)


def write_databases(page: str, folder: Path) -> None:
    """Tables that the page says to be in SQLite, with its rows."""
    for name, file, text in _DATABASE.findall(page):
        header, *lines = [split_row(line) for line in text.splitlines()]
        rows = [[int(cell) if cell.isdigit() else cell for cell in line] for line in lines]
        with contextlib.closing(sqlite3.connect(folder / file)) as connection:
            connection.execute(f"CREATE TABLE {name} ({', '.join(header)})")
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(header))})", rows)
            connection.commit()


def dataset(page: str) -> dict[str, pa.Table]:
    """The rows of the page's tables."""
    first = next(one for one in examples(page))
    tables = compile_script(first.sql).tables
    found = {}
    for name, text in _ROWS.findall(page):
        if name in tables:
            rows = parse_table(text.splitlines(), 1, _fail).rows
            columns = {
                field.name: arrow_of([read_cell(row.cells[field.name], field.type, DATE) for row in rows], field.type)
                for field in tables[name].physical
            }
            found[name] = pa.table(columns)
    return found


def _fail(line: int, message: str) -> NoReturn:
    raise AssertionError(f"line {line} of the rows: {message}")


def compiled(example: Example) -> Program:
    """The plan of an example."""
    return compile_script(example.script, source="SQL")


def output(example: Example, rows: Mapping[str, pa.Table], batch_rows: int | None = None) -> str:
    """What the example gives, as it stands on the page; empty for one that gives nothing. Files are written below the
    current folder."""
    program = compiled(example)
    if not program.pipelines:
        return ""
    inputs = {name: rows[name] for name in scanned(program) if name in rows}
    before = set(_files())
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found = qanat.run(example.script, inputs, batch_rows=batch_rows)
    parts = [_part(name, table) for name, table in found.items() if name not in ("late", "dead_letters")]
    parts += [_file(path) for path in sorted(set(_files()) - before)]
    parts += [said.getvalue()] if said.getvalue() else []
    if WITH_LATE in example.sql:
        late = found["late"].select(["operator", "watermark", "row"])
        parts.append("late:\n" + "\n".join(aligned(late)) + "\n")
    return "\n".join(parts)


def _part(name: str, table: pa.Table) -> str:
    title = "" if name.startswith("result") else f"{name}:\n"
    return title + "\n".join(aligned(table)) + "\n"


def aligned(table: pa.Table) -> list[str]:
    """The rows of a table, a line each, in columns."""
    kinds = [_type(field) for field in table.schema]
    cells = [
        [show(value, kind, DATE) for value in values_of(column.combine_chunks(), kind)]
        for column, kind in zip(table.columns, kinds, strict=True)
    ]
    right = {place for place, kind in enumerate(kinds) if kind.kind in NUMBERS}
    return write_table(table.column_names, list(zip(*cells, strict=True)), right)


def _type(field: pa.Field) -> Type:
    return STRING if field.name == "op" else from_arrow(field.type)


def _files() -> Iterator[Path]:
    return (path for path in Path().rglob("*") if path.is_file() and not path.name.startswith("."))


def _file(path: Path) -> str:
    """A file that an example wrote: its folder, and what is in it."""
    folder = f"{path.parent.as_posix()}/:\n"
    if path.read_bytes()[:4] == b"PAR1":
        return folder + "\n".join(aligned(pq.ParquetFile(path).read())) + "\n"
    return folder + path.read_text()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """With `folder` as the current one."""
    old = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(old)


def filled(page: str, outputs: Sequence[tuple[Example, str]]) -> str:
    """The page with these outputs below its examples."""
    for example, text in sorted(outputs, key=lambda pair: -pair[0].end):
        below = "" if example.shown is None else f"\n```\n{example.shown}```\n"
        assert page[example.end :].startswith(below)
        wanted = f"\n```\n{text}```\n" if text else below
        page = page[: example.end] + wanted + page[example.end + len(below) :]
    return page


def between(page: str, name: str) -> str:
    """What stands between the markers `<!-- name -->` and `<!-- end of name -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", page, re.DOTALL)
    assert found is not None, f"docs/sql.md has no <!-- {name} -->"
    return found[1]


def replaced(page: str, name: str, text: str) -> str:
    """The page with another text between the markers."""
    return page.replace(
        f"<!-- {name} -->\n{between(page, name)}<!-- end of {name} -->",
        f"<!-- {name} -->\n{text}<!-- end of {name} -->",
    )
