"""ClickHouse in this process, its files in a folder: `chdb:///folder`.

One process at a time can have the folder open, and one folder at a time can be open in a process.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from chdb.session import Session

from qanat.errors import ConfigError, StoreError
from qanat.stores.hot.clickhouse import ClickHouseStore, quoted

_DATABASE = "qanat"


def chdb_at(rest: str, password: str | None) -> Callable[[], ClickHouseStore]:
    """The store in the folder after `chdb:///`."""
    if not rest.startswith("/") or rest == "/":
        raise ConfigError(f"chdb://{rest} names no folder", hint="write chdb:///relative/folder or chdb:////absolute")
    if password is not None:
        raise ConfigError("a folder of chdb has no password", hint="leave password_env out")
    folder = Path(rest[1:]).resolve()
    return lambda: ClickHouseStore(Chdb(folder))


class Chdb:
    """See `Transport`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._session: Session | None = Session(str(folder))
            self.run(f"CREATE DATABASE IF NOT EXISTS {_DATABASE} ENGINE = Atomic")
            self.run(f"USE {_DATABASE}")
        except RuntimeError as error:
            raise StoreError(f"chdb: {error}", hint="one process at a time can have the folder open") from error

    def run(self, sql: str) -> None:
        """See `Transport`."""
        try:
            self._open().query(sql)
        except RuntimeError as error:
            raise StoreError(f"chdb: {error}") from error

    def select(self, sql: str, parameters: Mapping[str, str]) -> pa.Table:
        """See `Transport`."""
        text = f"{sql} SETTINGS output_format_arrow_string_as_string = 0"
        try:
            answer = self._open().query(text, "Arrow", params={name: _escaped(one) for name, one in parameters.items()})
        except RuntimeError as error:
            raise StoreError(f"chdb: {error}") from error
        return pa.ipc.open_file(pa.py_buffer(answer.bytes())).read_all()

    def insert(self, name: str, rows: pa.Table) -> None:
        """See `Transport`."""
        body = io.BytesIO()
        with pa.ipc.new_stream(body, rows.schema) as writer:
            writer.write_table(rows)
        columns = ", ".join(map(quoted, rows.column_names))
        sql = f"INSERT INTO {quoted(name)} ({columns}) SETTINGS max_partitions_per_insert_block = 0"
        try:
            with self._open().send_insert(sql, "ArrowStream") as inserter:
                inserter.append(body.getvalue())
                inserter.finish()
        except RuntimeError as error:
            raise StoreError(f"chdb: {error}") from error

    def close(self) -> None:
        """See `Transport`."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(RuntimeError):
                session.close()

    def _open(self) -> Session:
        if self._session is None:
            raise StoreError("this store is closed")
        return self._session


def _escaped(value: str) -> str:
    """A parameter's text is read as a field of TSV is."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
