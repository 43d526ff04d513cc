"""Tables of a SQLite file, read-only, through the standard library."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from qanat.errors import ConfigError, QanatError, StoreError
from qanat.query.conditions import Conditions, Domain
from qanat.query.outside.base import ROWS, Column, Declared, batch_of, quoted

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", re.IGNORECASE)


class SqliteTable:
    """One table or view. Types are those that the columns declare; dates and times come as they are stored."""

    def __init__(self, declared: Declared, path: Path) -> None:
        self._declared, self._path = declared, path
        self._columns: Sequence[Column] | None = None

    def columns(self) -> Sequence[Column]:
        """See `RowTable`."""
        known = self._columns
        if known is None:
            try:
                with closing(self._connect()) as connection:
                    found = connection.execute("SELECT name, type FROM pragma_table_info(?)", [self._name]).fetchall()
            except sqlite3.Error as error:
                raise self._said(error) from None
            if not found:
                raise ConfigError(
                    f"table {self._declared.name}: {self._path.name} has no table {self._name}",
                    hint=f"tables.{self._declared.name}.table in qanat.yaml names it",
                )
            known = self._columns = [_column(name, kind or "") for name, kind in found]
        return known

    @property
    def _name(self) -> str:
        return self._declared.table

    def forget(self) -> None:
        """See `RowTable`."""
        self._columns = None

    def read(
        self, columns: Sequence[Column], conditions: Conditions, check: Callable[[], None]
    ) -> Iterator[pa.RecordBatch]:
        """See `RowTable`: one SELECT."""
        where, values = _where(self.columns(), conditions)
        made = {one.name: _made(one.type) for one in columns}
        names = ", ".join(quoted(one.name) for one in columns)
        try:
            with closing(self._connect()) as connection:
                cursor = connection.execute(f"SELECT {names} FROM {quoted(self._name)}{where}", values)  # noqa: S608 - quoted
                while rows := cursor.fetchmany(ROWS):
                    check()
                    yield batch_of(self._declared.name, columns, rows, made)
        except sqlite3.Error as error:
            raise self._said(error) from None

    def _connect(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise ConfigError(
                f"table {self._declared.name}: there is no file {self._path.name}",
                hint=f"tables.{self._declared.name}.url in qanat.yaml: sqlite:///path, relative to the project",
            )
        uri = f"{self._path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=1.0)  # DuckDB reads on its own threads

    def _said(self, error: sqlite3.Error) -> QanatError:
        message = f"table {self._declared.name} ({self._path.name}): {error}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            return StoreError(message, hint="another process writes to the file; ask again")
        return ConfigError(message, hint="compare the table's columns with the file's: sqlite3 FILE .schema")


def _column(name: str, kind: str) -> Column:
    """By SQLite's own rules of affinity, and a few names that say more."""
    upper = kind.upper()
    exact = _DECIMAL.search(upper)
    if exact is not None and 0 < int(exact[1]) <= 38:
        return Column(name, pa.decimal128(int(exact[1]), int(exact[2] or 0)))
    if "BOOL" in upper:
        return Column(name, pa.bool_())
    if "INT" in upper:
        return Column(name, pa.int64(), Domain.WHOLE)
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return Column(name, pa.string(), Domain.TEXT)
    if "BLOB" in upper:
        return Column(name, pa.binary())
    if any(word in upper for word in ("REAL", "FLOA", "DOUB")):
        return Column(name, pa.float64())
    return Column(name, pa.string())


def _made(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_string(kind):
        return str
    if pa.types.is_boolean(kind):
        return _boolean
    if pa.types.is_decimal(kind):
        return lambda value: Decimal(str(value)).quantize(Decimal(1).scaleb(-kind.scale))
    if pa.types.is_binary(kind):
        return lambda value: value.encode() if isinstance(value, str) else bytes(value)
    return lambda value: value


def _boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError(f"{value!r} is neither 0 nor 1")


def _where(columns: Sequence[Column], conditions: Conditions) -> tuple[str, list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for column in columns:
        condition = conditions.get(column.name.casefold())
        if condition is None or column.domain is None:
            continue
        name = quoted(column.name)
        among = [one for one in condition.among or () if not isinstance(one, int) or abs(one) < 1 << 63]
        if condition.among is not None and len(among) == len(condition.among) <= 500:
            terms.append(f"{name} IN ({', '.join('?' * len(among))})")
            values += among
        for sign, bound in ((">=", condition.low), ("<=", condition.high)):
            if bound is not None and abs(bound) < 1 << 63 and column.domain is Domain.WHOLE:
                terms.append(f"{name} {sign} ?")
                values.append(bound)
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), values
