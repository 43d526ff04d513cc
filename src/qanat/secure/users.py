"""Users and what they may publish: frozen declarations and pure decisions. Passwords are checked in `passwords.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from qanat.errors import ConfigError
from qanat.secure.topics import covers, matches

#: The user of listeners that demand no credentials.
ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class User:
    """Who came in: a person or program of qanat.yaml, or a device of the registry.

    `password_hash` is argon2's own text form (`passwords.hash_password`). `publish`: patterns of stream names with `*`,
    `?` and `[...]`; the default allows every stream that takes input. `subscribe`: patterns of topics (`STREAM`,
    `STREAM/KEY`); the default allows none. `admin`: may manage devices. `device`: the rights of a device instead of
    those patterns. `scopes`: of an API key, beside its patterns; None for everybody else. `proof`: what he came in
    with, for `gateway.auth.Authenticator.still`; "" for his only password.
    """

    name: str
    password_hash: str
    publish: tuple[str, ...] = ("*",)
    subscribe: tuple[str, ...] = ()
    admin: bool = False
    device: DeviceRights | None = None
    scopes: frozenset[str] | None = None
    proof: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DeviceRights:
    """MQTT topic filters (`+`, `#`) that a device may publish to and subscribe to, its id already put in."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


def may_publish(user: User | None, stream: str, topic: str = "") -> bool:
    """Whether the user may feed the stream by this topic. None is anyone, on a listener that demands no credentials.

    People have rights to streams, devices to topics; without `topic` a device needs the right to the topic STREAM. An
    answer holds for that very topic: whoever remembers it keeps it by topic.
    """
    if user is None:
        return True
    if user.device is not None:
        return any(matches(granted, topic or stream) for granted in user.device.publish)
    return any(fnmatchcase(stream, pattern) for pattern in user.publish)


def may_subscribe(user: User | None, topic: str) -> bool:
    """Whether the user may read all that comes out under the topic (`STREAM`, or `STREAM/KEY` for the rows of one key).

    `topic` may be a filter with `+` and `#`: then he needs the right to everything that it can match.
    """
    if user is None:
        return True
    if user.device is not None:
        return any(covers(granted, topic) for granted in user.device.subscribe)
    return all(any(_allows(pattern, one) for pattern in user.subscribe) for one in _parts(topic))


def may_manage(user: User | None) -> bool:
    """Whether the user may add, change and remove devices. Anyone, where no credentials are demanded, may not."""
    return user is not None and user.admin


def may_manage_devices(user: User | None) -> bool:
    """Whether the user may manage devices, and nothing else beside."""
    return may_manage(user) or (user is not None and user.scopes is not None and "devices" in user.scopes)


def _parts(topic: str) -> tuple[str, ...]:
    """`A/#` is what lies below A, and A itself; each may be allowed by a pattern of its own."""
    return (topic, topic[:-2]) if topic.endswith("/#") else (topic,)


def _allows(pattern: str, topic: str) -> bool:
    """Whether a pattern of a person matches everything that a filter can match.

    For + and # stands once a text that is longer than all that `?` and `[...]` could swallow, and once nothing.
    """
    if "+" not in topic and "#" not in topic:
        return fnmatchcase(topic, pattern)
    if "[" in pattern:
        return False
    long = "\uffff" * (len(pattern) + 1)
    return all(fnmatchcase(topic.replace("+", some).replace("#", some), pattern) for some in (long, ""))


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
