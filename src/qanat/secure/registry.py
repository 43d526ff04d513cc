"""The registry of devices: one SQLite file that the command line writes while `qanat up` reads it. Decides nothing.

WAL, so that readers never wait. Every change is one transaction; what ends or changes somebody's rights also leaves a
row in `changes`, which is how a running gateway hears of it (`changed_since`). Thread-safe: one connection, one lock.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qanat.errors import DeviceExistsError, RegistryError, UnknownDeviceError
from qanat.model.devices import Credential, Device, Secret

_VERSION = 1
_WAIT_S = 10.0
#: So many changes are kept; a reader that was away for longer takes everything as changed.
_KEPT_CHANGES = 100_000
#: So long `qanat device show` still tells of a credential that no longer counts.
_KEPT_EXPIRED_MS = 86_400_000
#: Names in one message, and parameters in one statement.
_TOLD, _AT_ONCE = 5, 500

_SCHEMA = """
CREATE TABLE devices (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, interval_ms INTEGER, labels TEXT NOT NULL,
  publish TEXT NOT NULL, subscribe TEXT NOT NULL, disabled INTEGER NOT NULL, created_at INTEGER NOT NULL,
  rotated_at INTEGER
) WITHOUT ROWID;
CREATE TABLE credentials (
  kind TEXT NOT NULL, value TEXT NOT NULL, device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
  created_at INTEGER NOT NULL, expires_at INTEGER, PRIMARY KEY (kind, value)
) WITHOUT ROWID;
CREATE INDEX credentials_of ON credentials (device);
CREATE INDEX credentials_end ON credentials (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE seen (device TEXT PRIMARY KEY REFERENCES devices ON DELETE CASCADE, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL);
"""
#: Beside `_SCHEMA`, since a file may be older than this: which devices were removed, and when.
_RETIRED = "CREATE TABLE IF NOT EXISTS retired (device TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID"
_DEVICES = (
    "SELECT d.id, d.owner, d.kind, d.interval_ms, d.labels, d.publish, d.subscribe, d.disabled, d.created_at,"
    " d.rotated_at, s.at FROM devices d LEFT JOIN seen s ON s.device = d.id"
)
_CREDENTIALS = "SELECT device, kind, value, created_at, expires_at FROM credentials"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices: all that is given must hold. `text`: begins the id."""

    text: str = ""
    owner: str | None = None
    kind: str | None = None
    disabled: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """The file `path`, made where it is missing. Raises `RegistryError` for what SQLite cannot do with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._version = -1
        self._rehearsing = False
        with self._errors():
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Inside of it changes are checked as ever and then not kept; other threads wait."""
        with self._lock:
            self._rehearsing = True
            try:
                yield
            finally:
                self._rehearsing = False

    # --- what there is -----------------------------------------------------------------------------------------------

    def count(self, wanted: Filter | None = None) -> int:
        """How many devices there are."""
        clause, values = _where(wanted or Filter(), "")
        return int(self._ask(f"SELECT count(*) FROM devices d{clause}", values)[0][0])  # noqa: S608  placeholders

    def select(self, wanted: Filter, after: str = "", limit: int = 100) -> tuple[Device, ...]:
        """Up to `limit` devices in the order of their ids, from behind the id `after`."""
        clause, values = _where(wanted, after)
        return tuple(map(_device, self._ask(f"{_DEVICES}{clause} ORDER BY d.id LIMIT ?", (*values, limit))))

    def find(self, name: str) -> Device | None:
        """The device of that id, or None."""
        rows = self._ask(f"{_DEVICES} WHERE d.id = ?", (name,))
        return _device(rows[0]) if rows else None

    def get(self, name: str) -> Device:
        """The device of that id. Raises `UnknownDeviceError`."""
        device = self.find(name)
        if device is None:
            raise unknown([name])
        return device

    def credentials(self, name: str) -> tuple[Credential, ...]:
        """What checks a device, the oldest first, for a day also those whose time is over."""
        rows = self._ask(f"{_CREDENTIALS} WHERE device = ? ORDER BY created_at, value", (name,))
        return tuple(map(_credential, rows))

    def credential(self, kind: Secret, value: str) -> Credential | None:
        """The one of this kind and value, or None."""
        rows = self._ask(f"{_CREDENTIALS} WHERE kind = ? AND value = ?", (kind.value, value))
        return _credential(rows[0]) if rows else None

    def retired(self) -> Mapping[str, int]:
        """The devices that were removed and not registered again since, and when that was (ms)."""
        return dict(self._ask("SELECT device, at FROM retired", ()))

    # --- changes -----------------------------------------------------------------------------------------------------

    def add(self, devices: Sequence[Device], credentials: Sequence[Credential]) -> None:
        """Add all or none. Raises `DeviceExistsError`."""
        with self._writing():
            there = self._present([device.id for device in devices])
            if there:
                raise DeviceExistsError(
                    f"{_names(there)} {'is' if len(there) == 1 else 'are'} already registered; nothing was added",
                    hint="qanat device rotate makes a new secret, qanat device remove makes room",
                )
            self._insert(devices)
            self._credit(credentials)
            self._many("DELETE FROM retired WHERE device = ?", [device.id for device in devices])

    def replace(self, devices: Sequence[Device]) -> None:
        """Store these devices over those of the same id. Raises `UnknownDeviceError`; then nothing was changed."""
        with self._writing():
            self._demand([device.id for device in devices])
            before = {device.id: self.get(device.id) for device in devices}
            self._insert(devices)
            self._tell(device.id for device in devices if _rights(device) != _rights(before[device.id]))

    def rotate(self, credentials: Sequence[Credential], until: int | None, now: int) -> None:
        """Give devices new credentials; the old ones count until `until` (ms), or no longer."""
        names = [credential.device for credential in credentials]
        with self._writing():
            self._demand(names)
            self._db.execute("DELETE FROM credentials WHERE expires_at < ?", (now - _KEPT_EXPIRED_MS,))
            if until is None:
                self._many("DELETE FROM credentials WHERE device = ?", names)
            else:
                old = "UPDATE credentials SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE device = ?2"
                self._db.executemany(old, [(until, name) for name in names])
            self._tell(names)
            self._credit(credentials)
            self._db.executemany("UPDATE devices SET rotated_at = ? WHERE id = ?", [(now, name) for name in names])

    def remove(self, names: Sequence[str], now: int) -> None:
        """Remove all or none; that they were there until `now` (ms) is kept. Raises `UnknownDeviceError`."""
        with self._writing():
            self._demand(names)
            self._many("DELETE FROM devices WHERE id = ?", names)
            retire = "INSERT INTO retired VALUES (?, ?) ON CONFLICT (device) DO UPDATE SET at = excluded.at"
            self._db.executemany(retire, [(name, now) for name in names])
            self._tell(names)

    def see(self, seen: Mapping[str, int]) -> None:
        """Write down when devices were last there (ms); those that are gone by now are left out."""
        with self._writing():
            self._db.executemany(
                "INSERT INTO seen SELECT id, ?1 FROM devices WHERE id = ?2"
                " ON CONFLICT (device) DO UPDATE SET at = max(at, excluded.at)",
                [(at, name) for name, at in seen.items()],
            )

    # --- what a running gateway asks ---------------------------------------------------------------------------------

    def moved(self) -> bool:
        """Whether another `Registry` of this file, in any process, wrote since this was asked last; costs little."""
        version = int(self._ask("PRAGMA data_version", ())[0][0])
        moved, self._version = version != self._version, version
        return moved

    def probe(self) -> None:
        """Raises `RegistryError` where the file cannot be read."""
        self._ask("SELECT 1 FROM devices, credentials, seen, changes LIMIT 1", ())

    def last_change(self) -> int:
        """The number of the newest change of rights."""
        return int(self._ask("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'", ())[0][0])

    def changed_since(self, number: int) -> tuple[str, ...] | None:
        """The devices whose rights ended or changed after that change, once each; None where too much has happened."""
        oldest = self._ask("SELECT min(number) FROM changes", ())[0][0]
        if oldest is not None and oldest > number + 1:
            return None
        rows = self._ask("SELECT DISTINCT device FROM changes WHERE number > ?", (number,))
        return tuple(row[0] for row in rows)

    def next_expiry(self, now: int) -> int | None:
        """When the next credential stops to count, after `now`."""
        row = self._ask("SELECT min(expires_at) FROM credentials WHERE expires_at > ?", (now,))[0]
        return None if row[0] is None else int(row[0])

    def expired(self, since: int, now: int) -> tuple[str, ...]:
        """The devices with a credential that stopped to count after `since` and not after `now`."""
        question = "SELECT DISTINCT device FROM credentials WHERE expires_at > ? AND expires_at <= ?"
        return tuple(row[0] for row in self._ask(question, (since, now)))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("BEGIN IMMEDIATE")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
        if version in (0, _VERSION):
            self._db.execute(_RETIRED)
        self._db.execute("COMMIT")
        if version not in (0, _VERSION):
            raise RegistryError(f"{self.path} has version {version}; this qanat reads {_VERSION}", hint="update qanat")

    def _ask(self, question: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._db.execute(question, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, durable when it ends without an error."""
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("ROLLBACK" if self._rehearsing else "COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise DeviceExistsError(
                "another device has this certificate or common name", hint="each device needs its own"
            ) from error
        except sqlite3.Error as error:
            raise RegistryError(
                f"the registry of devices {self.path}: {error}", hint="is the folder there, writable, and not full?"
            ) from error

    def _present(self, names: Sequence[str]) -> list[str]:
        found: set[str] = set()
        for at in range(0, len(names), _AT_ONCE):
            some = names[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._ask(f"SELECT id FROM devices WHERE id IN ({marks})", some)  # noqa: S608  placeholders
            found.update(row[0] for row in rows)
        return [name for name in names if name in found]

    def _demand(self, names: Sequence[str]) -> None:
        there = set(self._present(names))
        missing = [name for name in names if name not in there]
        if missing:
            raise unknown(missing)

    def _insert(self, devices: Sequence[Device]) -> None:
        self._db.executemany(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " owner = excluded.owner, kind = excluded.kind, interval_ms = excluded.interval_ms,"
            " labels = excluded.labels, publish = excluded.publish, subscribe = excluded.subscribe,"
            " disabled = excluded.disabled",
            map(_row, devices),
        )

    def _credit(self, credentials: Sequence[Credential]) -> None:
        self._db.executemany(
            "INSERT INTO credentials VALUES (?, ?, ?, ?, ?)",
            [(one.kind.value, one.value, one.device, one.created_at, one.expires_at) for one in credentials],
        )

    def _many(self, statement: str, names: Sequence[str]) -> None:
        self._db.executemany(statement, [(name,) for name in names])

    def _tell(self, names: Iterable[str]) -> None:
        """Leave word for whoever has connections of these devices open."""
        self._db.executemany("INSERT INTO changes (device) VALUES (?)", [(name,) for name in names])
        self._db.execute("DELETE FROM changes WHERE number <= (SELECT max(number) FROM changes) - ?", (_KEPT_CHANGES,))


def unknown(names: Sequence[str]) -> UnknownDeviceError:
    """The error for devices that are not there."""
    return UnknownDeviceError(f"no device {_names(names)}; nothing was changed", hint="qanat device list")


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_TOLD]))
    return shown if len(names) <= _TOLD else f"{shown} and {len(names) - _TOLD:,} more"


def _rights(device: Device) -> tuple[object, ...]:
    return device.publish, device.subscribe, device.disabled


def _where(wanted: Filter, after: str) -> tuple[str, tuple[object, ...]]:
    """The condition and what its question marks stand for."""
    terms: list[tuple[str, tuple[object, ...]]] = []
    if wanted.text:
        terms.append(("substr(d.id, 1, ?) = ?", (len(wanted.text), wanted.text)))
    for column in ("owner", "kind", "disabled"):
        value = getattr(wanted, column)
        if value is not None:
            terms.append((f"d.{column} = ?", (value,)))
    for name, value in wanted.labels.items():
        terms.append(("EXISTS (SELECT 1 FROM json_each(d.labels) WHERE key = ? AND value = ?)", (name, value)))
    if after:
        terms.append(("d.id > ?", (after,)))
    clause = " AND ".join(text for text, _ in terms)
    return (f" WHERE {clause}" if clause else ""), tuple(value for _, values in terms for value in values)


def _row(device: Device) -> tuple[object, ...]:
    return (
        device.id,
        device.owner,
        device.kind,
        device.interval_ms,
        json.dumps(dict(device.labels), sort_keys=True, ensure_ascii=False),
        json.dumps(device.publish, ensure_ascii=False),
        json.dumps(device.subscribe, ensure_ascii=False),
        device.disabled,
        device.created_at,
        device.rotated_at,
    )


def _device(row: Sequence[Any]) -> Device:
    name, owner, kind, interval, labels, publish, subscribe, disabled, created, rotated, seen = row
    topics = tuple(json.loads(publish)), tuple(json.loads(subscribe))
    return Device(name, owner, kind, interval, json.loads(labels), *topics, bool(disabled), created, rotated, seen)


def _credential(row: Sequence[Any]) -> Credential:
    device, kind, value, created, expires = row
    return Credential(device, Secret(kind), value, created, expires)
