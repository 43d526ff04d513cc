"""The file of API keys: a command writes it while `qanat up` reads it. What a key may do is `keys`' business.

JSON of mode 0600, replaced as a whole, one writer at a time. Keys that were revoked stay in it, so that their names are
not taken for those of others. Thread-safe for readers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from qanat.errors import ConfigError, RegistryError
from qanat.secure.keys import Key, key_digest, user_of
from qanat.secure.users import User

_VERSION = 1
#: (inode, size, time of change): another file has others.
_Stamp = tuple[int, int, int]


class _File(msgspec.Struct, frozen=True):
    """What the file holds."""

    version: int
    keys: tuple[Key, ...]


class Keyring:
    """The keys of the file `path`, which need not be there. `clock` gives ms since 1970.

    Raises `RegistryError` for a file that cannot be read or written.
    """

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self.path = path
        self._clock = clock
        self._stamp: _Stamp | None = None
        self._keys: dict[str, Key] = {}
        self._alive: dict[str, Key] = {}
        self.news()

    # --- for commands ------------------------------------------------------------------------------------------------

    def listed(self) -> tuple[Key, ...]:
        """All of them, by name, with those that count no longer."""
        self._look()
        return tuple(sorted(self._keys.values(), key=lambda one: one.name))

    def add(self, key: Key) -> None:
        """Keep one more. Raises `ConfigError` where one of that name still counts."""
        with self._writing() as keys:
            if any(one.name == key.name and one.counts(self._clock()) for one in keys):
                raise ConfigError(
                    f"there is a key {key.name!r} already", hint=f"qanat key revoke {key.name}, or another name"
                )
            keys[:] = [*(one for one in keys if one.name != key.name), key]

    def revoke(self, names: Sequence[str]) -> None:
        """These count no longer; all or none. Raises `ConfigError` for a name that no key has."""
        now = self._clock()
        with self._writing() as keys:
            missing = sorted(set(names) - {one.name for one in keys})
            if missing:
                raise ConfigError(f"no key {missing[0]!r}; nothing was changed", hint="qanat key list")
            gone = {one.name for one in keys if one.name in names and one.revoked_at is None}
            keys[:] = [replace(one, revoked_at=now) if one.name in gone else one for one in keys]

    # --- for a running gateway ---------------------------------------------------------------------------------------

    @property
    def known(self) -> int:
        """How many keys there ever were, as far as the file says."""
        return len(self._keys)

    def find(self, text: str) -> User | None:
        """Whose key this is, or None. A key that was added just now counts at once."""
        digest = key_digest(text)
        key = self._keys.get(digest)
        if key is None:
            self._look()
            key = self._keys.get(digest)
        if key is None or not key.counts(self._clock()):
            return None
        self._alive[digest] = key  # he is in now: when the key ends, that is news, however soon
        return user_of(key)

    def still(self, user: User) -> bool:
        """Whether the key that he came in with still counts, with the same scopes."""
        self._look()
        key = self._keys.get(user.proof)
        return key is not None and key.counts(self._clock()) and user_of(key) == user

    def news(self) -> tuple[str, ...]:
        """The users whose rights ended or changed since this was asked last. Costs a `stat`."""
        self._look()
        now = self._clock()
        alive = {digest: key for digest, key in self._keys.items() if key.counts(now)}
        before, self._alive = self._alive, alive
        if before == alive:
            return ()
        return tuple(sorted({user_of(key).name for digest, key in before.items() if alive.get(digest) != key}))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the file where it is another than before."""
        try:
            found = self.path.stat()
            stamp = found.st_ino, found.st_size, found.st_mtime_ns
            if stamp != self._stamp:
                self._keys = {key.digest: key for key in self._read()}
                self._stamp = stamp
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
        except OSError as error:
            raise self._broken(str(error)) from error

    def _read(self) -> tuple[Key, ...]:
        try:
            read = msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise self._broken(str(error)) from error
        if read.version != _VERSION:
            raise self._broken(f"version {read.version}; this qanat reads {_VERSION}")
        return read.keys

    @contextmanager
    def _writing(self) -> Iterator[list[Key]]:
        """The keys, stored when the block ends without an error; other writers wait."""
        try:
            with self.path.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = list(self._read())
                yield keys
                self._write(keys)
        except OSError as error:
            raise self._broken(str(error)) from error

    def _write(self, keys: Sequence[Key]) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".keys-")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(_File(_VERSION, tuple(keys))))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def _broken(self, why: str) -> RegistryError:
        return RegistryError(f"the API keys in {self.path}: {why}", hint="is it readable, and the disk not full?")
