"""Users and what they may publish: frozen declarations and pure decisions. Passwords are checked in `passwords.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from qanat.errors import ConfigError

#: The user of listeners that demand no credentials.
ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class User:
    """`password_hash` is argon2's own text form (`passwords.hash_password`).

    `publish`: patterns of stream names with `*`, `?` and `[...]`; the default allows every stream that takes input.
    `subscribe`: patterns of topics (`STREAM`, `STREAM/KEY`); the default allows none.
    """

    name: str
    password_hash: str
    publish: tuple[str, ...] = ("*",)
    subscribe: tuple[str, ...] = ()


def may_publish(user: User | None, stream: str) -> bool:
    """Whether the user may feed the stream. None is anyone, on a listener that demands no credentials."""
    return user is None or any(fnmatchcase(stream, pattern) for pattern in user.publish)


def may_subscribe(user: User | None, topic: str) -> bool:
    """Whether the user may read what comes out under the topic (`STREAM`, or `STREAM/KEY` for the rows of one key)."""
    return user is None or any(fnmatchcase(topic, pattern) for pattern in user.subscribe)


def index_users(users: Iterable[User]) -> Mapping[str, User]:
    """The users by name. Raises `ConfigError` for a name given twice, an empty one and what is no argon2 hash."""
    index: dict[str, User] = {}
    for user in users:
        if not user.name or user.name in index:
            raise ConfigError(f"user {user.name!r} is given twice or has no name", hint="give each user its own name")
        if not user.password_hash.startswith("$argon2"):
            raise ConfigError(
                f"the password of user {user.name!r} is not an argon2 hash",
                hint="store what qanat.secure.passwords.hash_password gives, never the password",
            )
        index[user.name] = user
    return index
