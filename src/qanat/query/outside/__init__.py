"""Tables outside of qanat that queries join with streams: PostgreSQL, SQLite, CSV and Parquet files.

Drivers are named by URL; `open_tables` knows them. They are read anew by every query.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qanat.errors import ConfigError
from qanat.model.tables import OutsideTable
from qanat.query.outside.base import Declared, RowTable
from qanat.query.outside.files import FileTable

Outside = RowTable | FileTable

_HINT = "postgresql://user@host/database, sqlite:///path, or a path to *.csv or *.parquet"


def open_tables(tables: Mapping[str, OutsideTable], folder: Path) -> dict[str, Outside]:
    """The tables by name; paths are relative to `folder`. Connects to nothing. Raises `ConfigError`."""
    return {name: _open(name, table, folder) for name, table in tables.items()}


def _open(name: str, table: OutsideTable, folder: Path) -> Outside:
    scheme, found, _ = table.url.partition("://")
    declared = Declared.of(name, table)
    match scheme if found else "":
        case "postgresql" | "postgres":
            from qanat.query.outside.postgresql import PostgresTable

            return PostgresTable(declared)
        case "sqlite":
            from qanat.query.outside.sqlite import SqliteTable

            return SqliteTable(declared, folder / table.url.removeprefix("sqlite:///"))
        case "" if table.url.lower().endswith((".csv", ".csv.gz", ".tsv", ".parquet")):
            return FileTable(name, str((folder / table.url).absolute()))
    raise ConfigError(f"tables.{name}: nothing reads {declared.shown}", hint=_HINT)
