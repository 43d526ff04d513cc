"""The text protocol of Memcached, as far as a cache needs it: get, set, delete, version. Pure; no sockets.

Requests are bytes; `Answers` turns the bytes that come back into values, in the order of what was asked.
Source: doc/protocol.txt of Memcached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from qanat.errors import ProtocolError

_LONGEST_LINE = 2048
_LARGEST_VALUE = 64 << 20
#: Longer times are taken for a date.
_LONGEST_SECONDS = 30 * 86_400


class Wanted(Enum):
    """Which answer a request has."""

    VALUES = "values"
    STORED = "stored"
    DELETED = "deleted"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class Refused:
    """The server could not do this one thing; what it said. The connection is as good as before."""

    text: str


#: A dict of values; whether it was stored; None; the version; or why not.
Answer = dict[str, bytes] | bool | None | str | Refused


def encode_get(keys: Sequence[str]) -> bytes:
    """Asks for values; keys without one are missing in the answer."""
    return f"get {' '.join(keys)}\r\n".encode("ascii")


def encode_set(key: str, value: bytes, seconds: int) -> bytes:
    """Keeps a value for at most so many seconds, of which there must be one."""
    head = f"set {key} 0 {min(seconds, _LONGEST_SECONDS)} {len(value)}\r\n".encode("ascii")
    return b"".join((head, value, b"\r\n"))


def encode_delete(key: str) -> bytes:
    """Forgets a key."""
    return f"delete {key}\r\n".encode("ascii")


def encode_version() -> bytes:
    """Asks for the version, which every server knows."""
    return b"version\r\n"


class Answers:
    """What one connection says. `expect` what was asked for, `feed` what came."""

    def __init__(self) -> None:
        self._wanted: deque[Wanted] = deque()
        self._buffer = bytearray()
        self._values: dict[str, bytes] = {}
        self._body: tuple[str, int] | None = None

    def expect(self, wanted: Wanted) -> None:
        """One more answer will come."""
        self._wanted.append(wanted)

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now. Raises `ProtocolError` for bytes that no Memcached says here."""
        self._buffer += data
        done: list[Answer] = []
        while self._buffer:
            if self._body is not None:
                if not self._take_body(*self._body):
                    break
                continue
            end = self._buffer.find(b"\r\n", 0, _LONGEST_LINE)
            if end < 0:
                if len(self._buffer) >= _LONGEST_LINE:
                    raise _nonsense(bytes(self._buffer))
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if not self._wanted:
                raise _nonsense(line)
            if self._wanted[0] is Wanted.VALUES and line.startswith(b"VALUE "):
                self._begin_body(line)
                continue
            done.append(self._finish(self._wanted.popleft(), line))
        return done

    def _begin_body(self, line: bytes) -> None:
        parts = line.split(b" ")
        if len(parts) not in (4, 5) or not parts[3].isdigit() or len(parts[3]) > 9:
            raise _nonsense(line)
        size = int(parts[3])
        if size > _LARGEST_VALUE:
            raise _nonsense(line)
        self._body = (parts[1].decode("ascii", "replace"), size)

    def _take_body(self, key: str, size: int) -> bool:
        if len(self._buffer) < size + 2:
            return False
        if self._buffer[size : size + 2] != b"\r\n":
            raise _nonsense(bytes(self._buffer[size : size + 40]))
        with memoryview(self._buffer) as view:
            self._values[key] = bytes(view[:size])
        del self._buffer[: size + 2]
        self._body = None
        return True

    def _finish(self, wanted: Wanted, line: bytes) -> Answer:
        values, self._values = self._values, {}
        match wanted, line:
            case Wanted.VALUES, b"END":
                return values
            case Wanted.STORED, b"STORED":
                return True
            case Wanted.STORED, b"NOT_STORED" | b"SERVER_ERROR object too large for cache":
                return False
            case Wanted.DELETED, b"DELETED" | b"NOT_FOUND":
                return None
            case Wanted.VERSION, _ if line.startswith(b"VERSION "):
                return line[8:].decode("ascii", "replace")
        if line.startswith((b"SERVER_ERROR ", b"CLIENT_ERROR ")):
            return Refused(line.decode("ascii", "replace"))
        raise _nonsense(line)


def _nonsense(found: bytes) -> ProtocolError:
    return ProtocolError(f"no answer of a Memcached: {found[:60]!r}")
