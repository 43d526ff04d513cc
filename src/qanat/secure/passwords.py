"""Passwords: argon2 hashes, and a memory of secrets that were right, so that a fleet reconnects without paying again.

`Passwords.verify` takes about 20 ms (a twentieth of a millisecond for device secrets) and is meant for a worker thread;
`Passwords.recall` takes a microsecond. Neither blocks on anything but the processor.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
from collections.abc import Mapping

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from qanat.secure.users import User


class Cost(enum.Enum):
    """How dear one guess is: (passes, KiB).

    PERSON: what OWASP asks for (2024) of passwords that people choose. DEVICE: only for secrets that a machine drew
    with at least 128 bits; those cannot be guessed however cheap a guess is, and 10,000 devices can be added in
    seconds.
    """

    PERSON = (2, 19_456)
    DEVICE = (1, 64)


_HASHERS = {cost: PasswordHasher(time_cost=cost.value[0], memory_cost=cost.value[1], parallelism=1) for cost in Cost}


def hash_password(password: str, cost: Cost = Cost.PERSON) -> str:
    """The argon2id text form of a password; another one each time."""
    return _HASHERS[cost].hash(password)


def is_right(encoded: str, password: str) -> bool:
    """Whether the password is the one that was hashed; what is no argon2 hash fits none."""
    try:
        return _HASHERS[Cost.PERSON].verify(encoded, password)
    except (VerificationError, InvalidHashError):
        return False


def draw_secret() -> str:
    """A device secret of 192 bits, as text that can be typed."""
    return secrets.token_urlsafe(24)


class Passwords:
    """Checks passwords of fixed users. Thread-safe.

    What was right once is remembered as a digest under a key that lives only in this process, one per user; a changed
    password hash means new `Passwords`.
    """

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        hashes = [user.password_hash for user in users.values()]
        self._nobody = hashes[0] if hashes else hash_password(draw_secret())

    def recall(self, name: str, password: str) -> User | None:
        """The user, if exactly this password was verified before; None says nothing about whether it is right."""
        known = self._right.get(name)
        if known is None or not secrets.compare_digest(known, self.digest(name, password)):
            return None
        return self._users[name]

    def verify(self, name: str, password: str) -> User | None:
        """The user, or None for an unknown name or a wrong password, which takes as long."""
        user = self._users.get(name)
        encoded = self._nobody if user is None else user.password_hash
        if not is_right(encoded, password):
            return None
        if user is not None:
            self._right[name] = self.digest(name, password)
        return user

    def digest(self, name: str, password: str) -> bytes:
        """What stands for this pair in memory; of no use to another process."""
        text = f"{len(name)}:{name}{password}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()
