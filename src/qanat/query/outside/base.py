"""The port to tables outside that are read row by row, and how DuckDB gets them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from qanat.errors import ConfigError, DataError
from qanat.model.tables import OutsideTable
from qanat.query.conditions import Conditions, Domain
from qanat.query.lazy import LazyRows

#: Rows of one batch.
ROWS = 10_000
_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*@")


@dataclass(frozen=True, slots=True)
class Declared:
    """A table as qanat.yaml has it. `shown`: its URL without a password; errors show nothing else."""

    name: str
    url: str
    table: str
    password_env: str | None
    shown: str

    @staticmethod
    def of(name: str, table: OutsideTable) -> Declared:
        """From the section of qanat.yaml."""
        shown = _PASSWORD.sub(r"\1:***@", table.url)
        return Declared(name, table.url, table.table or name, table.password_env, shown)

    def password(self) -> str | None:
        """From the environment; None where none is declared. Raises `ConfigError`."""
        if self.password_env is None:
            return None
        found = os.environ.get(self.password_env)
        if not found:
            raise ConfigError(
                f"tables.{self.name}: the password is expected in the environment variable {self.password_env}",
                hint=f"export {self.password_env}=...",
            )
        return found


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type in Arrow, and how the table itself compares it (None: conditions are not handed over)."""

    name: str
    type: pa.DataType
    domain: Domain | None = None


class RowTable(Protocol):
    """A table that is asked for columns and rows. Thread-safe; keeps no connection between two calls.

    Ordering: none. Idempotency: reading changes nothing. What two calls give need not be of one moment.
    Errors: `ConfigError` where the table cannot be read as declared, `DataError` where a value does not fit its column.
    They name the table, and never have a password in them.
    """

    def columns(self) -> Sequence[Column]:
        """All columns; asked once, and again after `forget`."""
        ...

    def read(
        self, columns: Sequence[Column], conditions: Conditions, check: Callable[[], None]
    ) -> Iterator[pa.RecordBatch]:
        """Rows, at least those that meet the conditions (by casefolded name). `check` is called between batches."""
        ...

    def forget(self) -> None:
        """The columns may have changed."""
        ...


@dataclass(slots=True)
class OutsideScan(LazyRows):
    """One table as DuckDB reads it."""

    table: RowTable
    wanted: frozenset[str]
    conditions: Conditions
    check: Callable[[], None]
    failures: list[Exception] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return pa.schema([pa.field(one.name, one.type) for one in self.table.columns()])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as the table gives them; columns that nobody asked for are NULL."""
        schema = self.schema
        asked = [one for one in self.table.columns() if one.name in self.wanted] or list(self.table.columns()[:1])
        try:
            for rows in self.table.read(asked, self.conditions, self.check):
                yield _spread(rows, schema)
        except Exception:
            self.table.forget()
            raise


def _spread(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    given = dict(zip(rows.schema.names, rows.columns, strict=True))
    columns = [given[one.name] if one.name in given else pa.nulls(rows.num_rows, one.type) for one in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def batch_of(
    table: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]], made: Mapping[str, Callable[[Any], Any]]
) -> pa.RecordBatch:
    """Rows of a driver as Arrow. `made`: by column, what turns a value that is not NULL into one that Arrow takes."""
    arrays = []
    for place, column in enumerate(columns):
        values = [row[place] for row in rows]
        try:
            turn = made.get(column.name)
            if turn is not None:
                values = [None if value is None else turn(value) for value in values]
            arrays.append(pa.array(values, column.type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise DataError(f"table {table}: column {column.name}: {error}") from None
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([(one.name, one.type) for one in columns]))


def quoted(name: str) -> str:
    """A name as a delimited identifier; a dot in it is part of it."""
    return '"' + name.replace('"', '""') + '"'


def quoted_path(name: str) -> str:
    """SCHEMA.TABLE as delimited identifiers."""
    return ".".join(map(quoted, name.split(".")))
