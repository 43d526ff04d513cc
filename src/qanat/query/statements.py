"""One statement of a user: that it is one, that it only reads, and what it reads. And DuckDB's errors as ours."""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import duckdb

from qanat.errors import SqlError, UnsupportedError
from qanat.query.reading import Reading, read

_READING = frozenset({"SELECT", "EXPLAIN"})
_PLACE = re.compile(r"\n\nLINE (\d+): (.*)\n( *)\^", re.DOTALL)
_UNKNOWN_TABLE = re.compile(r"Table with name (.+?) does not exist")
_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE|\s*\([^)]*\))?\s+", re.IGNORECASE)
#: Table functions that read nothing but their arguments, and the catalogue.
_HARMLESS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"}
    | {"duckdb_tables", "duckdb_columns", "duckdb_views", "duckdb_functions", "duckdb_types", "duckdb_keywords"}
)
_FILES = "tables outside of the log are declared in qanat.yaml (tables:) and named like streams"
_REMEMBERED = 512


class Statements:
    """Checks statements, and remembers what the last of them read. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Reading] = OrderedDict()

    def check(self, connection: duckdb.DuckDBPyConnection, sql: str) -> Reading:
        """What a statement reads, if it is one and only reads; `refuse_files` is to follow. Raises `SqlError`."""
        with self._lock:
            found = self._known.get(sql)
        if found is None:
            found = _read(connection, sql)
            with self._lock:
                self._known[sql] = found
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return found


def _read(connection: duckdb.DuckDBPyConnection, sql: str) -> Reading:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise sql_error(str(error), sql, ()) from None
    if len(statements) != 1:
        raise SqlError(f"expected one statement, found {len(statements)}", sql=sql, line=1, source="query")
    kind = statements[0].type.name
    if kind == "MULTI":
        hint = "name the values: FROM (PIVOT t ON kind IN ('a', 'b') USING sum(v))"
        raise UnsupportedError("a PIVOT that has to look for its columns first", **_at(sql), hint=hint)
    if kind not in _READING:
        hint = "SELECT ... FROM stream; streams are written by pipelines, MQTT and HTTP"
        raise UnsupportedError(f"{kind}: a query only reads", **_at(sql), hint=hint)
    explained = _EXPLAIN.match(sql) if kind == "EXPLAIN" else None
    reading = read(_tree(connection, sql[explained.end() :] if explained else sql))
    if reading is None:
        raise UnsupportedError(f"{kind}: a query is a SELECT", **_at(sql), hint="SELECT ... FROM stream")
    for name in sorted(reading.functions - _HARMLESS):
        raise UnsupportedError(f"a query may not call {name}() as a table", **_at(sql), hint=_FILES)
    return reading


def refuse_files(reading: Reading, sql: str, tables: Iterable[str]) -> None:
    """DuckDB takes the name of a table that does not exist for that of a file, and would read it."""
    known = {name.casefold() for name in tables}
    for name in reading.uses:
        if name not in known and any(sign in name for sign in "./*\\"):
            raise UnsupportedError(f"a query reads no files: {name}", **_at(sql), hint=_FILES)


def _at(sql: str) -> dict[str, Any]:
    return {"sql": sql, "line": 1, "source": "query"}


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0]
    found: dict[str, Any] = json.loads(text)
    return found


def sql_error(text: str, sql: str, names: Iterable[str]) -> SqlError:
    """What DuckDB says of a statement. `names`: the tables that there are."""
    line, column, message = _place(text, sql)
    hint = None
    unknown = _UNKNOWN_TABLE.search(message)
    if unknown is not None:
        known = sorted(names)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        message = f"no stream {unknown[1]}" + (f"; did you mean {near[0]}?" if near else "")
        hint = f"the streams are: {', '.join(known)}" if known else "the log holds no streams yet"
    return SqlError(message, sql=sql, line=line, column=column, source="query", hint=hint)


def _place(text: str, sql: str) -> tuple[int | None, int | None, str]:
    """Line and column that DuckDB points at, and its message without the excerpt and the kind of error."""
    found = _PLACE.search(text)
    message = text[: found.start()] if found else text
    message = " ".join(message.split("\n\n")[0].splitlines()).strip()
    if found is None:
        return None, None, message
    number = int(found[1])
    excerpt, caret = found[2], len(found[3]) - len(f"LINE {number}: ")
    shown = excerpt.removeprefix("...").removesuffix("...")
    lines = sql.splitlines()
    whole = lines[number - 1] if 0 < number <= len(lines) else ""
    start = whole.find(shown) if excerpt.startswith("...") else 0
    skipped = 3 if excerpt.startswith("...") else 0
    return number, max(1, start + caret - skipped + 1), message
