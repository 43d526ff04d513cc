"""Streaming SQL: text in, a `Program` out; `embedded/` runs it. sqlglot's nodes stay inside this package.

text ─ source ─ statements (dialect) ─ catalog, bind (windows, joins, aggregates, scalars, inserts) ─ rules ─ Program
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from qanat.model.functions import UserFunction
from qanat.sql.compile import compile_texts
from qanat.sql.plan import Program, Table

__all__ = ["compile_files", "compile_script"]

_NONE: Mapping[str, str] = MappingProxyType({})
_NO_FUNCTIONS: Mapping[str, UserFunction] = MappingProxyType({})
_NO_TABLES: Mapping[str, Table] = MappingProxyType({})


def compile_script(
    text: str,
    params: Mapping[str, str] = _NONE,
    source: str = "SQL",
    tables: Mapping[str, Table] = _NO_TABLES,
    functions: Mapping[str, UserFunction] = _NO_FUNCTIONS,
) -> Program:
    """Compile one script. `params` replace `${NAME}`, `source` names the text in errors; `tables` and `functions` are
    declared already.

    Raises `SqlError` (and `UnsupportedError`) with line, column, excerpt and a hint.
    """
    return compile_texts([(source, text)], params, tables, functions)


def compile_files(files: Sequence[tuple[str, str]], params: Mapping[str, str] = _NONE) -> Program:
    """Compile the (name, text) pairs of a project in the order of their names. Tables and views of one file may be
    used in any other."""
    return compile_texts(sorted(files), params, _NO_TABLES, _NO_FUNCTIONS)
