"""What has been taken of a folder: the file under way, and the files before it. Pure; says what the log is to keep.

`.../at` has the place in the file under way. The files that were taken lie in buckets by a hash of their name, so that
one more costs the log little, however many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import msgspec

#: So many keys of the log's state hold the files that were taken.
BUCKETS = 64
#: A file that is no longer in the folder is remembered for so long after it was taken (ms).
_REMEMBERED = 7 * 86_400_000

State = Mapping[str, bytes | None]


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A file that was taken to its end: `digest` is of all its bytes, `at` is when (ms)."""

    name: str
    size: int
    mtime_ns: int
    digest: bytes
    at: int


class Place(msgspec.Struct, frozen=True):
    """How far a file is read: `offset` in bytes (Parquet: rows), `line` from 0. `head`: digest of its first bytes."""

    name: str
    size: int
    head: bytes
    offset: int = 0
    line: int = 0


_decode = msgspec.msgpack.Decoder(list[Taken]).decode
_encode = msgspec.msgpack.Encoder().encode


class Ledger:
    """What the log holds for one source; `read` is `Log.state`."""

    def __init__(self, source: str, read: Callable[[str], bytes | None]) -> None:
        self._name = f"folder/{source}"
        at = read(f"{self._name}/at")
        self.place = None if at is None else msgspec.msgpack.decode(at, type=Place)
        self._buckets: list[dict[str, Taken]] = []
        for number in range(BUCKETS):
            data = read(self._key(number))
            self._buckets.append({one.name: one for one in (_decode(data) if data else ())})

    @property
    def names(self) -> list[str]:
        """The files that were taken."""
        return [name for bucket in self._buckets for name in bucket]

    def find(self, name: str) -> Taken | None:
        """The file of that name that was taken."""
        return self._buckets[_bucket(name)].get(name)

    def at(self, place: Place) -> State:
        """What is to be kept with the rows up to this place."""
        return {f"{self._name}/at": _encode(place)}

    def end(self, taken: Taken, there: Callable[[str], bool]) -> State:
        """What is to be kept with the last rows of a file. `there`: whether a name is still in the folder."""
        bucket = {
            name: one
            for name, one in self._buckets[_bucket(taken.name)].items()
            if there(name) or taken.at - one.at < _REMEMBERED
        }
        bucket[taken.name] = taken
        return {f"{self._name}/at": None, **self._stored(taken.name, bucket)}

    def gone(self, name: str) -> State:
        """What is to be kept when a file that was taken has left the folder."""
        bucket = dict(self._buckets[_bucket(name)])
        bucket.pop(name, None)
        return self._stored(name, bucket)

    def accept(self, state: State) -> None:
        """The log has it."""
        for key, data in state.items():
            if key == f"{self._name}/at":
                self.place = None if data is None else msgspec.msgpack.decode(data, type=Place)
            else:
                number = int(key.rpartition("/")[2])
                self._buckets[number] = {one.name: one for one in (_decode(data) if data else ())}

    def _stored(self, name: str, bucket: Mapping[str, Taken]) -> State:
        return {self._key(_bucket(name)): _encode(list(bucket.values())) if bucket else None}

    def _key(self, number: int) -> str:
        return f"{self._name}/taken/{number}"


def _bucket(name: str) -> int:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=2).digest()[0] % BUCKETS
