"""Queries over a project: its log, its lake and the tables that qanat.yaml names, put together. Runs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.log.archive import Archive
    from qanat.log.base import Log
    from qanat.query import Query
    from qanat.query.outside import Outside


def open_query(folder: Folder, log: Log, *, archive: Archive | None = None) -> Query:
    """Queries over an open log. `archive`: the one that is open already. Raises `ConfigError`."""
    from qanat.query import Query, open_tables

    project = folder.project
    tables = open_tables(project.tables, folder.path)
    found = archive or archive_of(folder, log)
    return Query.over(log, archive=found, tables=tables, settings=project.query)


def queries_of(folder: Folder) -> Callable[[Log, Archive | None, bool], Query]:
    """What opens queries for `serve`: over some streams, and over the tables outside only where the last is true."""
    project = folder.project
    tables: Mapping[str, Outside] = {}
    if project.tables:
        from qanat.query import open_tables

        tables = open_tables(project.tables, folder.path)

    def opened(log: Log, archive: Archive | None, whole: bool) -> Query:
        from qanat.query import Query  # it loads DuckDB, which a project that is asked no SQL does without

        return Query.over(log, archive=archive, tables=tables if whole else {}, settings=project.query)

    return opened


def archive_of(folder: Folder, log: Log) -> Archive | None:
    """The archive of a project's streams; None where none of them is archived."""
    from qanat.model.lake import is_archived

    if not any(is_archived(status.stream) for status in log.status().values()):
        return None
    from qanat.cli.archiving import tables_of
    from qanat.lake import DeltaArchive

    return DeltaArchive(tables_of(folder), log)


def asked_folder(directory: Path, data: Path | None) -> Folder:
    """The project in a folder, for a command that only reads: users' passwords need not be in the environment.

    A folder without a project is one with the default settings, so that `--data` alone is enough.
    """
    from qanat.cli.project import CONFIG, Folder, data_folder, declared_config
    from qanat.model.project import Project

    config = directory / CONFIG
    project = declared_config(config) if config.exists() else Project()
    return Folder(directory, project, (), data_folder(directory, data))
