"""Tables of PostgreSQL, through psycopg: columns and conditions go into the SELECT that the server answers."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from qanat.errors import ConfigError, QanatError, StoreError
from qanat.query.conditions import Conditions, Domain
from qanat.query.outside.base import ROWS, Column, Declared, batch_of, quoted, quoted_path

_PLAIN: dict[str, tuple[pa.DataType, Domain | None]] = {
    "bool": (pa.bool_(), None),
    "int2": (pa.int16(), Domain.WHOLE),
    "int4": (pa.int32(), Domain.WHOLE),
    "int8": (pa.int64(), Domain.WHOLE),
    "float4": (pa.float32(), None),
    "float8": (pa.float64(), None),
    "text": (pa.string(), Domain.TEXT),
    "varchar": (pa.string(), Domain.TEXT),
    "bytea": (pa.binary(), None),
    "date": (pa.date32(), None),
    "time": (pa.time64("us"), None),
    "timestamp": (pa.timestamp("us"), Domain.TIME),
    "timestamptz": (pa.timestamp("us", "UTC"), Domain.TIME),
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class PostgresTable:
    """One table or view. NUMERIC without a precision comes as DOUBLE; types that DuckDB lacks come as their text."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._lock = threading.Lock()
        self._columns: Sequence[Column] | None = None

    def columns(self) -> Sequence[Column]:
        """See `RowTable`."""
        with self._lock:
            if self._columns is None:
                with self._connected() as connection:
                    self._columns = self._look(connection)
            return self._columns

    def forget(self) -> None:
        """See `RowTable`."""
        with self._lock:
            self._columns = None

    def _look(self, connection: Any) -> Sequence[Column]:
        found = connection.execute(f"SELECT * FROM {quoted_path(self._declared.table)} LIMIT 0")  # noqa: S608 - quoted
        names = dict(connection.execute("SELECT oid::int8, typname FROM pg_type").fetchall())
        return [_column(one, str(names.get(one.type_code, ""))) for one in found.description]

    def read(
        self, columns: Sequence[Column], conditions: Conditions, check: Callable[[], None]
    ) -> Iterator[pa.RecordBatch]:
        """See `RowTable`: one transaction that reads, and a cursor on the server."""
        where, values = _where(self.columns(), conditions)
        names = ", ".join(_selected(one) for one in columns).replace("%", "%%")
        table = quoted_path(self._declared.table).replace("%", "%%")
        made: dict[str, Callable[[Any], Any]] = {one.name: list for one in columns if pa.types.is_list(one.type)}
        with self._connected() as connection, connection.cursor(name="qanat") as cursor:
            cursor.itersize = ROWS
            cursor.execute(f"SELECT {names} FROM {table}{where}", values)  # noqa: S608 - names are quoted
            while rows := cursor.fetchmany(ROWS):
                check()
                yield batch_of(self._declared.name, columns, rows, made)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        psycopg = _driver()
        password = self._declared.password()
        given = {} if password is None else {"password": password}
        try:
            with psycopg.connect(self._declared.url, connect_timeout=10, **given) as connection:
                connection.read_only = True
                connection.execute("SET TIME ZONE 'UTC'")
                yield connection
        except psycopg.Error as error:
            raise self._said(psycopg, error, password) from None

    def _said(self, psycopg: Any, error: Any, password: str | None) -> QanatError:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        text = lines[0].replace(self._declared.url, self._declared.shown)
        for secret in filter(None, (password, _password_in(psycopg, self._declared.url))):
            text = text.replace(secret, "***")
        message = f"table {self._declared.name} ({self._declared.shown}): {text}"
        if isinstance(error, psycopg.OperationalError):
            return StoreError(message, hint="is the server up, and may this user log in? psql postgresql://...")
        return ConfigError(message, hint=f"compare tables.{self._declared.name} in qanat.yaml with the database")


def _column(found: Any, kind: str) -> Column:
    name = str(found.name)
    if kind in _PLAIN:
        return Column(name, *_PLAIN[kind])
    if kind == "numeric":
        exact = found.precision is not None and 0 < found.precision <= 38 and 0 <= found.scale <= found.precision
        return Column(name, pa.decimal128(found.precision, found.scale) if exact else pa.float64())
    inner = kind.removeprefix("_")
    if inner != kind and inner in (*_PLAIN, "numeric"):
        return Column(name, pa.list_(pa.float64() if inner == "numeric" else _PLAIN[inner][0]))
    return Column(name, pa.string() if inner == kind else pa.list_(pa.string()), None)


def _selected(column: Column) -> str:
    """As the type that it has here: what is read as text or DOUBLE is made so by the server."""
    name = quoted(column.name)
    if pa.types.is_string(column.type) and column.domain is None:
        return f"{name}::text"
    if pa.types.is_float64(column.type):
        return f"{name}::float8"
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return f"{name}::text[]"
    if pa.types.is_list(column.type) and pa.types.is_float64(column.type.value_type):
        return f"{name}::float8[]"
    return name


def _where(columns: Sequence[Column], conditions: Conditions) -> tuple[str, list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for column in columns:
        condition = conditions.get(column.name.casefold())
        if condition is None or column.domain is None:
            continue
        name = quoted(column.name).replace("%", "%%")
        if condition.among is not None:
            terms.append(f"{name} = ANY(%s)")
            values.append(sorted(condition.among, key=str))
            if column.domain is Domain.WHOLE:
                terms[-1] = f"{name} = ANY(%s::numeric[])"
            continue
        for sign, value in ((">=", _bound(column, condition.low)), ("<=", _bound(column, condition.high))):
            if value is not None:
                terms.append(f"{name} {sign} %s")
                values.append(value)
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), values


def _bound(column: Column, value: int | None) -> Any:
    """A bound as a parameter; None where it cannot be said."""
    if value is None or column.domain is Domain.WHOLE:
        return value if value is None or abs(value) < 1 << 63 else None
    try:
        moment = _EPOCH + dt.timedelta(microseconds=value)
    except OverflowError:
        return None
    return moment if column.type.tz is not None else moment.replace(tzinfo=None)


def _password_in(psycopg: Any, url: str) -> str | None:
    try:
        return psycopg.conninfo.conninfo_to_dict(url).get("password")  # type: ignore[no-any-return] # psycopg is Any here
    except psycopg.Error:
        return None


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(
            "tables in PostgreSQL need psycopg, which is not installed", hint="pip install 'qanat[postgres]'"
        ) from error
    return psycopg
