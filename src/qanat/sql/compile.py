"""Texts -> `Program`: parse all, declare tables and views, then bind the pipelines in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qanat.errors import ConfigError
from qanat.model.functions import UserFunction
from qanat.sql.bind import Queries
from qanat.sql.catalog import Catalog
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
                _check_setting(statement, source)
                catalog.settings[statement.key.text] = statement.value
            case Insert() | Query() | CreateFunction():
                pass
    pipelines = _pipelines(parsed, catalog)
    for view, source in catalog.views.values():
        # a view that nothing reads must still be right
        Queries(catalog, source, (view.name.text,)).query(view.query)
    return Program(catalog.tables, pipelines, catalog.settings, tuple(catalog.views))


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


def _check_setting(statement: Setting, source: Source) -> None:
    if statement.key.text == "table.local-time-zone" and statement.value.upper() not in (
        "UTC",
        "Z",
        "GMT",
        "UTC+00:00",
    ):
        message = f"the time zone {statement.value} is not supported yet"
        raise source.unsupported(message, statement.key.at, "SET 'table.local-time-zone' = 'UTC'")
