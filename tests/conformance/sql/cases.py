"""Cases and their golden rows: files in, values out, and back.

    <topic>/<case>.sql    first line: `-- what it shows`, or `-- fails: text of the error`; then statements, a SELECT
                          last. Further comment lines at the top are directives:
        -- key: a, b          the changes of rows with equal a, b come in one order; it is compared
        -- order: final       which changes lead to the result is not defined; the final rows are
        -- engine: embedded   not run on Flink, which has no such connector: its golden rows are those of a join
    <topic>/<case>.rows   first line: columns with their types; then one line per change, `+I | value | value`

Values are JSON after `values.canonical`. Does not run anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import orjson

HERE = Path(__file__).parent
INPUTS = HERE / "inputs"
_TABLES = HERE / "tables.sql"
_PENDING = HERE / "pending.txt"
_DIFFERENCES = HERE / "differences.txt"

#: One change: kind and values.
Change = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave: (name, type) per column, and every change in order."""

    columns: tuple[tuple[str, str], ...]
    changes: tuple[Change, ...]

    @property
    def updating(self) -> bool:
        """Whether rows were taken back."""
        return any(kind != "+I" for kind, _ in self.changes)


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `name`: topic/case; `sql`: the whole script with the tables that it names; `key`: see above."""

    name: str
    path: Path
    sql: str
    shows: str
    fails: str | None
    key: tuple[str, ...]
    final_only: bool
    on_flink: bool

    @property
    def golden(self) -> Path:
        """Where its golden rows are."""
        return self.path.with_suffix(".rows")


def all_cases() -> list[Case]:
    """Every case, by name."""
    return [read_case(path) for path in sorted(HERE.glob("*/*.sql"))]


def read_case(path: Path) -> Case:
    """The case of a file."""
    text = path.read_text()
    head = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        head.append(line[2:].strip())
    directives = dict(part.split(": ", 1) for part in head if re.match(r"(key|order|engine|fails): ", part))
    name = path.relative_to(HERE).with_suffix("").as_posix()
    return Case(
        name,
        path,
        with_tables(text),
        head[0] if head else "",
        directives.get("fails"),
        tuple(one.strip() for one in directives.get("key", "").split(",") if one.strip()),
        directives.get("order") == "final",
        directives.get("engine") != "embedded",
    )


def with_tables(text: str, folder: Path = INPUTS) -> str:
    """The script behind the CREATE TABLEs of tables.sql that it names, `${IN}` put in."""
    declared = re.findall(r"^CREATE TABLE (\w+) .*?;$", _TABLES.read_text(), re.DOTALL | re.MULTILINE)
    statements = re.findall(r"^CREATE TABLE \w+ .*?;$", _TABLES.read_text(), re.DOTALL | re.MULTILINE)
    code = re.sub(r"--[^\n]*", "", text)
    wanted = [made for name, made in zip(declared, statements, strict=True) if re.search(rf"\b{name}\b", code)]
    return "\n".join([*wanted, text]).replace("${IN}", str(folder))


def read_reasons(path: Path) -> dict[str, str]:
    """`topic/case: reason` per line."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


def pending() -> dict[str, str]:
    """Cases that do not pass yet, with the reason."""
    return read_reasons(_PENDING)


def differences() -> dict[str, str]:
    """Cases that are not meant to equal Flink, with the law that says so."""
    return read_reasons(_DIFFERENCES)


def write_rows(path: Path, result: Result) -> None:
    """Write golden rows."""
    head = " | ".join(f"{name} {kind}" for name, kind in result.columns)
    lines = [" | ".join([kind, *(orjson.dumps(one).decode() for one in values)]) for kind, values in result.changes]
    path.write_text("\n".join([head, *lines]) + "\n")


def read_rows(path: Path) -> Result:
    """Read golden rows."""
    head, *lines = path.read_text().split("\n")[:-1]
    columns = tuple((part.split(" ", 1)[0], part.split(" ", 1)[1]) for part in head.split(" | "))
    return Result(columns, tuple(_read_change(line, len(columns)) for line in lines))


def _read_change(line: str, count: int) -> Change:
    # a text may hold " | ", so that the values are taken one after the other
    kind, rest = line[:2], line[2:]
    values: list[object] = []
    parts = rest.split(" | ")[1:]
    while parts:
        size = next(n for n in range(1, len(parts) + 1) if _is_json(" | ".join(parts[:n])))
        values.append(orjson.loads(" | ".join(parts[:size])))
        parts = parts[size:]
    assert len(values) == count, line
    return kind, tuple(values)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
