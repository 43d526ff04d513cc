"""The file that contracts are kept in: SQLite in WAL mode, `.qanat/contracts.db`. It decides nothing.

A file of its own, not the log: the command line registers schemas while `qanat up` holds the log's write lock, and a
contract outlives the streams, their retention and their log.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qanat.contracts.schema import Format, Reference, Schema, Version
from qanat.errors import ConfigError

_LAYOUT = """
CREATE TABLE IF NOT EXISTS schemas (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  digest TEXT NOT NULL UNIQUE,
  guid TEXT NOT NULL UNIQUE,
  normal TEXT NOT NULL,
  format TEXT NOT NULL,
  text TEXT NOT NULL,
  refs TEXT NOT NULL,
  metadata TEXT,
  rules TEXT,
  fingerprint BLOB
);
CREATE INDEX IF NOT EXISTS schemas_by_fingerprint ON schemas (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX IF NOT EXISTS schemas_by_normal ON schemas (normal);
CREATE TABLE IF NOT EXISTS versions (
  subject TEXT NOT NULL,
  version INTEGER NOT NULL,
  id INTEGER NOT NULL REFERENCES schemas (id),
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (subject, version)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS versions_by_id ON versions (id);
CREATE TABLE IF NOT EXISTS settings (
  subject TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (subject, name)
) WITHOUT ROWID;
"""
_FIELDS = "v.subject, v.version, s.id, s.guid, s.format, s.text, s.refs, s.metadata, s.rules, v.deleted"
_JOIN = f"SELECT {_FIELDS} FROM versions v JOIN schemas s ON s.id = v.id"  # noqa: S608  no text of anybody's
_BUSY_S = 10.0


class Store:
    """Durable: a change is on the disk (fsync) when the `with store.change()` block has ended. Thread-safe; several
    processes may have the same file open."""

    def __init__(self, path: Path | None) -> None:
        """None keeps everything in memory. Raises `ConfigError` for a file that cannot be used."""
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_LAYOUT)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"cannot open the contracts in {path}: {error}") from error
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction; nobody else writes meanwhile, in this process or another."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # --- schemas -----------------------------------------------------------------------------------------------------

    def add_schema(self, schema: Schema, digest: str, guid: str, normal: str, fingerprint: bytes | None) -> int:
        """Keep a schema; its id, which is an old one where the digest is known."""
        with self.change():
            known = self._all("SELECT id FROM schemas WHERE digest = ?", digest)
            if known:
                return int(known[0][0])
            references = json.dumps([[one.name, one.subject, one.version] for one in schema.references])
            values = (digest, guid, normal, schema.format, schema.text, references, schema.metadata, schema.rules)
            self._all(
                "INSERT INTO schemas (digest, guid, normal, format, text, refs, metadata, rules, fingerprint)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *values,
                fingerprint,
            )
            return int(self._all("SELECT id FROM schemas WHERE digest = ?", digest)[0][0])

    def schema(self, number: int) -> tuple[int, str, Schema] | None:
        """Id, guid and schema."""
        found = self._all("SELECT id, guid, format, text, refs, metadata, rules FROM schemas WHERE id = ?", number)
        return (found[0][0], found[0][1], _schema(found[0][2:])) if found else None

    def id_of(self, column: str, value: str | bytes) -> int | None:
        """The id of the schema with this `digest`, `normal`, `guid` or `fingerprint`."""
        if column not in ("digest", "normal", "guid", "fingerprint"):
            raise AssertionError(column)
        found = self._all(f"SELECT id FROM schemas WHERE {column} = ? ORDER BY id LIMIT 1", value)  # noqa: S608
        return int(found[0][0]) if found else None

    def ids_of_normal(self, normal: str) -> list[int]:
        """Ids of all schemas that are the same once normalised."""
        return [int(one[0]) for one in self._all("SELECT id FROM schemas WHERE normal = ? ORDER BY id", normal)]

    def ids(self) -> list[int]:
        """All ids."""
        return [int(one[0]) for one in self._all("SELECT id FROM schemas ORDER BY id")]

    # --- versions ----------------------------------------------------------------------------------------------------

    def versions(self, subject: str) -> list[Version]:
        """All versions of a subject in order, deleted ones with them."""
        return [_version(one) for one in self._all(f"{_JOIN} WHERE v.subject = ? ORDER BY v.version", subject)]

    def used_by(self, number: int) -> list[Version]:
        """Where a schema stands."""
        return [_version(one) for one in self._all(f"{_JOIN} WHERE v.id = ? ORDER BY v.subject, v.version", number)]

    def everything(self) -> list[Version]:
        """All versions of all subjects."""
        return [_version(one) for one in self._all(f"{_JOIN} ORDER BY v.subject, v.version")]

    def add_version(self, subject: str, version: int, number: int) -> None:
        """Put a schema under a subject."""
        self._all("INSERT INTO versions (subject, version, id) VALUES (?, ?, ?)", subject, version, number)

    def mark_deleted(self, subject: str, version: int) -> None:
        """Hide a version; its schema can still be had by id."""
        self._all("UPDATE versions SET deleted = 1 WHERE subject = ? AND version = ?", subject, version)

    def remove_version(self, subject: str, version: int) -> None:
        """Forget a version."""
        self._all("DELETE FROM versions WHERE subject = ? AND version = ?", subject, version)

    # --- settings ----------------------------------------------------------------------------------------------------

    def setting(self, subject: str, name: str) -> str | None:
        """What is set; the subject "" is everybody."""
        found = self._all("SELECT value FROM settings WHERE subject = ? AND name = ?", subject, name)
        return str(found[0][0]) if found else None

    def set(self, subject: str, name: str, value: str | None) -> None:
        """Set, or forget with None."""
        if value is None:
            self._all("DELETE FROM settings WHERE subject = ? AND name = ?", subject, name)
        else:
            self._all("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", subject, name, value)


def _schema(row: Sequence[Any]) -> Schema:
    format_, text, references, metadata, rules = row
    made = tuple(Reference(name, subject, version) for name, subject, version in json.loads(references))
    return Schema(Format(format_), text, made, metadata, rules)


def _version(row: Sequence[Any]) -> Version:
    return Version(row[0], row[1], row[2], row[3], _schema(row[4:9]), bool(row[9]))
