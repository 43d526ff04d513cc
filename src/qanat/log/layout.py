"""The SQLite file: tables, statements, connections, and what SQLite's errors mean here. docs/design/log.md says why."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from qanat.errors import LogCorruptError, LogError, LogFullError
from qanat.log.admission import Known, declared_schema
from qanat.log.chunks import first_place
from qanat.log.declarations import encode_stream
from qanat.model.streams import Stream

#: "qanL", so that `file` and we know whose database it is.
APPLICATION_ID = 0x71616E4C
LAYOUT_VERSION = 2
#: What makes the layout of the version before out of it: version -> statements.
UPGRADES = {
    1: """
ALTER TABLE batches ADD COLUMN checksum INTEGER;
ALTER TABLE positions ADD COLUMN checksum INTEGER;
ALTER TABLE state ADD COLUMN checksum INTEGER;
"""
}
#: How long the writer waits for readers, when the write-ahead log has to begin again.
_BUSY_S = 2.0

TABLES = """
CREATE TABLE streams (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, declaration BLOB NOT NULL);
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES streams, schema BLOB NOT NULL);
CREATE TABLE partitions (
    stream INTEGER NOT NULL, partition INTEGER NOT NULL, start_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL, max_time INTEGER,
    PRIMARY KEY (stream, partition)) WITHOUT ROWID;
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, partition INTEGER NOT NULL,
    base_offset INTEGER NOT NULL, span INTEGER NOT NULL, count INTEGER NOT NULL, min_time INTEGER, max_time INTEGER,
    at INTEGER NOT NULL, version INTEGER NOT NULL, bytes INTEGER NOT NULL, kept BLOB, data BLOB NOT NULL,
    checksum INTEGER);
CREATE UNIQUE INDEX batches_by_place ON batches (stream, partition, base_offset);
CREATE TABLE positions (
    consumer TEXT NOT NULL, stream TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    checksum INTEGER, PRIMARY KEY (consumer, stream, partition)) WITHOUT ROWID;
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER);
"""

INSERT_BATCH = """
INSERT INTO batches (seq, stream, partition, base_offset, span, count, min_time, max_time, at, version, bytes, data,
    checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
GROW_PARTITION = """
UPDATE partitions SET rows = rows + ?, bytes = bytes + ?, end_offset = ?,
    max_time = max(coalesce(max_time, ?), coalesce(?, max_time)) WHERE stream = ? AND partition = ?"""
SET_POSITION = """
INSERT OR REPLACE INTO positions (consumer, stream, partition, next_offset, checksum) VALUES (?, ?, ?, ?, ?)"""
DROP_POSITIONS = "DELETE FROM positions WHERE consumer = ?"
SET_STATE = """
INSERT INTO state (key, value, checksum) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, checksum = excluded.checksum"""
DELETE_STATE = "DELETE FROM state WHERE key = ?"

READ_BATCHES = """
SELECT seq, base_offset, span, at, version, kept, data, checksum FROM batches
WHERE stream = ?1 AND partition = ?2 AND base_offset >= coalesce(
    (SELECT max(base_offset) FROM batches WHERE stream = ?1 AND partition = ?2 AND base_offset <= ?3), 0)
ORDER BY base_offset"""
READ_SEQ = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'batches'"
READ_STREAMS = "SELECT number, version, declaration FROM streams ORDER BY number"
READ_PARTITIONS = """
SELECT stream, partition, start_offset, end_offset, rows, bytes, max_time FROM partitions ORDER BY stream, partition"""
READ_POSITIONS = "SELECT consumer, stream, partition, next_offset, checksum FROM positions WHERE consumer = ?"
READ_ALL_POSITIONS = "SELECT consumer, stream, partition, next_offset, checksum FROM positions"
READ_STATE = "SELECT value, checksum FROM state WHERE key = ?"
LAST_BATCHES = """
SELECT s.name, p.partition, p.end_offset, p.rows, (
    SELECT base_offset + span FROM batches AS b WHERE b.stream = p.stream AND b.partition = p.partition
    ORDER BY base_offset DESC LIMIT 1)
FROM partitions AS p JOIN streams AS s ON s.number = p.stream"""
READ_VERSION = "SELECT schema FROM versions WHERE version = ?"

ADD_STREAM = "INSERT INTO streams (name, version, declaration) VALUES (?, 0, ?) RETURNING number"
ADD_VERSION = "INSERT INTO versions (stream, schema) VALUES (?, ?) RETURNING version"
CHANGE_STREAM = "UPDATE streams SET version = ?, declaration = ? WHERE number = ?"
ADD_PARTITION = "INSERT INTO partitions VALUES (?, ?, 0, 0, 0, 0, NULL)"

OLDEST_BATCHES = """
SELECT seq, partition, base_offset, span, count, at, bytes FROM batches
WHERE stream = ? AND partition = ? ORDER BY base_offset"""
DELETE_BATCH = "DELETE FROM batches WHERE seq = ?"
REWRITE_BATCH = "UPDATE batches SET count = ?, bytes = ?, kept = ?, data = ?, checksum = ? WHERE seq = ?"
FIRST_BATCH = """
SELECT base_offset, kept FROM batches WHERE stream = ? AND partition = ? ORDER BY base_offset LIMIT 1"""
SHRINK_PARTITION = """
UPDATE partitions SET rows = rows - ?, bytes = bytes - ?, start_offset = coalesce(?, end_offset)
WHERE stream = ? AND partition = ?"""
READ_BATCH = """
SELECT partition, seq, base_offset, span, at, version, kept, data, checksum FROM batches WHERE seq = ?"""
OFFSET_AT = """
SELECT coalesce(
    (SELECT min(base_offset) FROM batches WHERE stream = ?1 AND partition = ?2 AND coalesce(max_time, ?3) >= ?3),
    (SELECT end_offset FROM partitions WHERE stream = ?1 AND partition = ?2))"""
EMPTY_STREAM = "DELETE FROM batches WHERE stream = ?"
EMPTY_PARTITIONS = """
UPDATE partitions SET rows = 0, bytes = 0, start_offset = end_offset, max_time = NULL WHERE stream = ?"""
READ_SIZE = "SELECT sum(bytes) FROM partitions WHERE stream = ?"


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one open log, in bytes where nothing else is said."""

    queue_bytes: int = 256 << 20
    queue_count: int = 50_000  # transactions
    group_bytes: int = 32 << 20  # what one fsync makes durable, at most
    cache_bytes: int = 64 << 20
    wal_bytes: int = 64 << 20  # when to move the write-ahead log into the file
    page_size: int = 32 << 10  # of a new file
    poll_seconds: float = 0.05  # how often a read-only log looks for commits, while someone watches


def connect_writer(path: Path, settings: Settings) -> sqlite3.Connection:
    """The connection that writes; makes file and tables where there are none. Raises `LogError`."""
    with translated(path, "open"):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    try:
        with translated(path, "open"):
            connection.execute(f"PRAGMA page_size = {settings.page_size}")
            is_new = _is_new(connection, path)  # before anything is changed in a file that may be another's
            connection.execute("PRAGMA journal_mode = WAL")
            for pragma in (
                "synchronous = FULL",
                "wal_autocheckpoint = 0",
                "secure_delete = OFF",
                "cache_size = -65536",
            ):
                connection.execute(f"PRAGMA {pragma}")
            if not is_new:
                _upgrade(connection)
            else:
                connection.executescript(
                    f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
                    f" PRAGMA user_version = {LAYOUT_VERSION}; COMMIT;"
                )
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older layout to today's, in one transaction per version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number in range(version, LAYOUT_VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {UPGRADES[number]} PRAGMA user_version = {number + 1}; COMMIT;")


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, whoever writes. Raises `LogError`."""
    if not path.exists():
        raise LogError(f"there is no log {path}", hint="check the path; whoever writes the log makes the file")
    with translated(path, "open"):
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)
    try:
        with translated(path, "open"):
            connection.execute("PRAGMA cache_size = -4096")
            if _is_new(connection, path):
                raise LogError(f"{path} is empty", hint="start the process that writes it first")
            if connection.execute("PRAGMA user_version").fetchone() != (LAYOUT_VERSION,):
                hint = "start the process that writes it once: it brings the file to the layout of today"
                raise LogError(f"{path} was written by an older qanat", hint=hint)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has no tables yet. Raises `LogError` where they are not ours."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner == 0 and tables == 0:
        return True
    if owner != APPLICATION_ID:
        raise LogError(f"{path} is an SQLite database, but not a log of qanat", hint="choose another file")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (LAYOUT_VERSION, *UPGRADES):
        raise LogError(
            f"{path} has layout {version}; this qanat reads {LAYOUT_VERSION}", hint="use the qanat that wrote it"
        )
    return False


def add_stream(connection: sqlite3.Connection, stream: Stream) -> Known:
    """Store a new declaration, within a transaction."""
    (number,) = connection.execute(ADD_STREAM, (stream.name, encode_stream(stream))).fetchone()
    for partition in range(stream.partitions):
        connection.execute(ADD_PARTITION, (number, partition))
    return change_stream(connection, Known.of(stream, number, 0), stream)


def change_stream(connection: sqlite3.Connection, known: Known, stream: Stream) -> Known:
    """Store a changed declaration, within a transaction; a new version where the columns changed."""
    version = known.version
    if version == 0 or stream.columns != known.stream.columns or stream.upsert != known.stream.upsert:
        schema = declared_schema(stream).serialize()
        (version,) = connection.execute(ADD_VERSION, (known.number, schema)).fetchone()
    connection.execute(CHANGE_STREAM, (version, encode_stream(stream), known.number))
    return Known.of(stream, known.number, version)


def shrink(connection: sqlite3.Connection, known: Known, partition: int, rows: int, size: int) -> None:
    """Account for rows that were deleted from a partition, within the transaction that deletes them."""
    first = connection.execute(FIRST_BATCH, (known.number, partition)).fetchone()
    start = None if first is None else first[0] + first_place(first[1])
    connection.execute(SHRINK_PARTITION, (rows, size, start, known.number, partition))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE .. COMMIT; anything that goes wrong rolls back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path, doing) from error


def translate(error: sqlite3.Error, path: Path, doing: str) -> LogError:
    """What an error of SQLite means for the log at `path`."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    text = f"cannot {doing} {path}: {error} ({name})"
    if name.startswith("SQLITE_FULL"):
        return LogFullError(
            text, hint="free space on the disk, or shorten the retention; the log goes on by itself then"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return LogCorruptError(
            text,
            hint=f"restore a backup, or move it away and save what is left: sqlite3 {path} .recover | sqlite3 new.db",
        )
    if name.startswith("SQLITE_IOERR"):
        return LogError(text, hint="look at the disk, its quota and the limit of file sizes (ulimit -f)")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return LogError(text, hint="check that file and folder exist and that this user may write there")
    return LogError(text)
