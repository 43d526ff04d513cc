"""API keys: what one may do, and what is kept of it. Pure decisions; the file that they lie in is `keyring`'s.

A key is drawn once and shown once. It has 192 bits, so that one pass of SHA-256 hides it: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from qanat.errors import ConfigError
from qanat.model.streams import DEAD_LETTERS
from qanat.secure.passwords import draw_secret
from qanat.secure.users import User

#: What every key begins with, so that one is known where it should not be.
KEY_PREFIX = "qk_"
#: What the user of a key is called; no device and no MQTT client id can be called so.
USER_PREFIX = "key:"
#: Scopes without a pattern.
PLAIN = ("query", "devices", "dead-letters", "admin")
_STREAMS = ("read", "write")
_NAME = re.compile(r"[^\s/+#:{}\x00-\x1f\x7f]{1,64}")
_HINT = "read:STREAM, write:STREAM (with * and ? as in file names), query, devices, dead-letters, admin"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, without its text. `digest`: SHA-256 of it (hex); times are ms since 1970."""

    name: str
    digest: str
    scopes: tuple[str, ...]
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None

    def counts(self, now: int) -> bool:
        """Whether it still lets anybody in."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def draw_key() -> str:
    """A new one."""
    return KEY_PREFIX + draw_secret()


def key_digest(text: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """The name. Raises `ConfigError` for one that cannot stand in a log line or a command."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a key", hint="1 to 64 characters, none of them a space or / + # : { }"
        )
    return name


def parse_scopes(texts: Iterable[str]) -> tuple[str, ...]:
    """The scopes, each once, in their order. Raises `ConfigError` for an unknown one, and where there is none."""
    scopes = tuple(dict.fromkeys(map(_scope, texts)))
    if not scopes:
        raise ConfigError("a key without a scope may do nothing", hint=f"--scope: {_HINT}")
    return scopes


def _scope(text: str) -> str:
    kind, colon, pattern = text.partition(":")
    if (colon and kind in _STREAMS and pattern) or (not colon and text in PLAIN):
        return text
    raise ConfigError(f"there is no scope {text!r}", hint=_HINT)


def user_of(key: Key) -> User:
    """The rights of a key, as every part of the gateway asks for them."""
    scopes = frozenset(PLAIN) if "admin" in key.scopes else frozenset(key.scopes)
    everything = ("*",) if "admin" in scopes else ()
    read = tuple(pattern for scope in key.scopes if (pattern := _of(scope, "read")))
    write = tuple(pattern for scope in key.scopes if (pattern := _of(scope, "write")))
    below = tuple(f"{pattern}/*" for pattern in read)  # STREAM/KEY: the rows of one key
    letters = (DEAD_LETTERS,) if "dead-letters" in scopes else ()
    return User(
        USER_PREFIX + key.name,
        "",
        publish=write + everything,
        subscribe=read + below + letters + everything,
        admin="admin" in scopes,
        scopes=scopes,
        proof=key.digest,
    )


def _of(scope: str, kind: str) -> str:
    found, _, pattern = scope.partition(":")
    return pattern if found == kind else ""


def may_query(user: User | None) -> bool:
    """Whether the user may run SQL. He then sees only the streams that he may read.

    A key needs the scope; a person of qanat.yaml the right to subscribe to something. Devices may not.
    """
    if user is None:
        return True
    if user.scopes is not None:
        return "query" in user.scopes
    return user.device is None and bool(user.subscribe)


def may_watch(user: User | None) -> bool:
    """Whether the user may see how the pipelines are."""
    return may_query(user) or (user is not None and user.admin)
