"""Texts -> `Program`: parse all, declare tables and views, then bind the pipelines in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qanat.errors import ConfigError
from qanat.model.functions import UserFunction
from qanat.sql.bind import Queries
from qanat.sql.catalog import Catalog
from qanat.sql.expressions import UTC
from qanat.sql.inserts import into, keyed
from qanat.sql.plan import Pipeline, Program, Table
from qanat.sql.rules import optimise
from qanat.sql.source import Source, near, read_source
from qanat.sql.statements import (
    CreateFunction,
    CreateTable,
    CreateView,
    Insert,
    Query,
    Setting,
    Statement,
    parse_script,
)
from qanat.sql.user_functions import load
from qanat.sql.zones import in_zone, zone_of

_TIME_ZONE = "table.local-time-zone"


def compile_texts(
    files: Sequence[tuple[str, str]],
    params: Mapping[str, str],
    tables: Mapping[str, Table],
    functions: Mapping[str, UserFunction],
) -> Program:
    """Compile (name, text) pairs as one script; tables and views may be used before the text that declares them."""
    parsed: list[tuple[Statement, Source]] = []
    called = dict(functions)
    for name, text in files:
        parsed += parse_script(replace(read_source(text, params, name), functions=called))
    catalog = Catalog(dict(tables))
    for statement, source in parsed:
        if isinstance(statement, CreateFunction):
            _add_function(statement, source, called)
    for statement, source in parsed:
        match statement:
            case CreateTable():
                catalog.add_table(statement, source)
            case CreateView():
                catalog.add_view(statement, source)
            case Setting():
                catalog.settings[statement.key.text] = statement.value
            case Insert() | Query() | CreateFunction():
                pass
    pipelines = _pipelines(parsed, catalog)
    for view, source in catalog.views.values():
        # a view that nothing reads must still be right
        Queries(catalog, source, (view.name.text,)).query(view.query)
    zone = _zone(parsed)
    return _placed(Program(catalog.tables, pipelines, catalog.settings, tuple(catalog.views)), zone)


def _add_function(statement: CreateFunction, source: Source, functions: dict[str, UserFunction]) -> None:
    """Import what CREATE FUNCTION names. Raises `SqlError` at the statement."""
    name = statement.name
    if name.text in functions:
        if statement.if_not_exists:
            return
        raise source.error(f"the function `{name.text}` is declared twice", name.at)
    try:
        functions[name.text] = load(statement.reference.text, Path(source.name).parent, name.text)
    except ConfigError as error:
        raise source.error(error.message, statement.reference.at, error.hint) from error


def _pipelines(parsed: Sequence[tuple[Statement, Source]], catalog: Catalog) -> tuple[Pipeline, ...]:
    pipelines: list[Pipeline] = []
    taken: dict[str, int] = {}
    for statement, source in parsed:
        if isinstance(statement, Insert):
            pipeline = _insert(statement, source, catalog)
        elif isinstance(statement, Query):
            root = Queries(catalog, source).bind(statement.query).node
            pipeline = Pipeline("result", optimise(root), None, statement.text)
        else:
            continue
        pipelines.append(_numbered(pipeline, taken))
    return tuple(pipelines)


def _numbered(pipeline: Pipeline, taken: dict[str, int]) -> Pipeline:
    number = taken[pipeline.name] = taken.get(pipeline.name, 0) + 1
    name = pipeline.name if number == 1 else f"{pipeline.name}_{number}"
    return Pipeline(name, pipeline.root, pipeline.sink, pipeline.text)


def _insert(statement: Insert, source: Source, catalog: Catalog) -> Pipeline:
    name = statement.table
    if name.text in catalog.views:
        raise source.error(f"`{name.text}` is a view; rows go into tables", name.at)
    table = catalog.tables.get(name.text)
    if table is None:
        hint = near(name.text, catalog.tables) or f"CREATE TABLE {name.text} (...)"
        raise source.error(f"no table is called `{name.text}`", name.at, hint)
    relation = Queries(catalog, source).bind(statement.query)
    root = optimise(keyed(into(statement, relation, table, source), table, statement, source))
    return Pipeline(table.name, root, table, statement.text)


def _zone(parsed: Sequence[tuple[Statement, Source]]) -> str:
    """The session's time zone: one for all statements, wherever it is set."""
    found: dict[str, str] = {}
    for statement, source in parsed:
        if not isinstance(statement, Setting) or statement.key.text != _TIME_ZONE:
            continue
        zone = UTC if statement.value == "default" else zone_of(statement.value)
        if zone is None:
            hint = "SET 'table.local-time-zone' = 'Europe/Berlin', or 'GMT+02:00'"
            raise source.error(f"no time zone is called {statement.value}", statement.key.at, hint)
        found[zone] = statement.value
        if len(found) > 1:
            message = f"the time zone is set to {' and '.join(found.values())}"
            raise source.unsupported(message, statement.key.at, "one time zone for all statements")
    return next(iter(found), UTC)


def _placed(program: Program, zone: str) -> Program:
    """The program with the zone in its expressions."""
    if zone == UTC:
        return program
    tables = {name: in_zone(table, zone) for name, table in program.tables.items()}
    return replace(program, tables=tables, pipelines=in_zone(program.pipelines, zone))
