"""The port to tables outside the log that are asked by key, and what its drivers share."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from qanat.codec.values import column_array
from qanat.errors import ConfigError, DataError
from qanat.model.streams import Column
from qanat.model.types import Kind
from qanat.sql.embedded.flow import empty_frame, polars_type
from qanat.sql.plan import Field, Schema, Table

#: Parameters of one query, at most: fewer than what SQLite (32,766) and PostgreSQL (65,535) take.
_PARAMETERS = 10_000


class Lookup(Protocol):
    """A table outside the log. Not thread-safe; answers are what the table holds now, so they are not repeatable."""

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """All rows whose key columns equal one of `keys` (distinct, no NULLs, named as the table's columns).

        Columns are those of `Asked.schema`. Raises `BackpressureError` where asking again may help (the connection is
        lost, the table is locked) and `ConfigError` where it cannot (no such table, no such column, wrong password).
        """
        ...

    def close(self) -> None:
        """Let go of connections. Closing twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a table: its columns in order, the key columns among them."""

    table: Table
    schema: Schema
    keys: tuple[str, ...]

    def option(self, name: str) -> str:
        """An option that must be there. Raises `ConfigError`."""
        value = self.table.options.get(name)
        if value is None:
            raise ConfigError(
                f"table {self.table.name}: the connector '{self.table.connector}' needs '{name}'",
                hint="WITH ('connector' = 'jdbc', 'url' = 'jdbc:sqlite:FILE', 'table-name' = 'NAME')",
            )
        return value

    def select(self) -> str:
        """SELECT all wanted columns FROM the table; the condition is to follow."""
        columns = ", ".join(quoted(one.name) for one in self.schema)
        name = ".".join(quoted(part) for part in self.option("table-name").split("."))
        return f"SELECT {columns} FROM {name}"  # noqa: S608 - names are quoted, values are parameters

    def frame(self, rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
        """Rows of the database as the types of the table. Raises `DataError` for a value that does not fit."""
        if not rows:
            return empty_frame(self.schema)
        columns = zip(self.schema, zip(*rows, strict=True), strict=True)
        return pl.DataFrame([self._column(field, list(values)) for field, values in columns])

    def _column(self, field: Field, values: list[Any]) -> pl.Series:
        dtype = polars_type(field.type)
        if field.type.kind is Kind.BOOLEAN:
            values = [bool(one) if isinstance(one, int) else one for one in values]
        if field.type.kind is Kind.STRING:  # a UUID, say
            values = [one if one is None or isinstance(one, str) else str(one) for one in values]
        if any(isinstance(one, (datetime.date, datetime.time, bytes)) for one in values):
            return pl.Series(field.name, values).cast(dtype).alias(field.name)
        reasons: dict[int, str] = {}
        made = pl.from_arrow(column_array(Column(field.name, field.type.with_nullable(True)), values, reasons))
        if reasons:
            raise DataError(
                f"table {self.table.name}: {next(iter(reasons.values()))}",
                hint="declare the column with the type that it has in the database",
            )
        assert isinstance(made, pl.Series)
        return made.cast(dtype).alias(field.name)


def quoted(name: str) -> str:
    """A name as SQL's delimited identifier."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def parts(keys: pl.DataFrame) -> Iterator[list[tuple[Any, ...]]]:
    """The keys as rows, as many at a time as one query takes."""
    size = max(_PARAMETERS // max(keys.width, 1), 1)
    for start in range(0, keys.height, size):
        yield keys[start : start + size].rows()
