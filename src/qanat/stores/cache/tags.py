"""What an answer depends on, and under which keys it and that are kept. Pure.

A tag names rows: a stream, or those of a stream with certain values of its dimensions. In a cache, each tag has a
stamp, random bytes. An answer carries the stamps that its tags had before it was made, and counts while they are the
same. Dropping a stamp is therefore what makes every answer with the tag worthless, in all processes that share the
cache, and those that are being made right now, too. A stamp that is missing, for whatever reason, fits no answer.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b
from urllib.parse import quote

from qanat.stores.cache.base import MAX_KEY

#: The tag of everything: each answer has it beside its own ones.
EVERYTHING = "*"
_PLAIN = re.compile(r"[!-~]+").fullmatch


def tag_of(stream: str, *values: object) -> str:
    """The tag of a stream's rows, or of those with these values of its dimensions, in an order that is always the same.

    >>> tag_of("readings", "temperature", 7)
    'readings/temperature/7'
    """
    return "/".join(
        (quote(stream, safe=""), *("%" if value is None else quote(str(value), safe="") for value in values))
    )


class Keys:
    """The keys of one project in a cache that others may use, too. Keys that do not fit are replaced by their hash."""

    def __init__(self, prefix: str) -> None:
        self._entry, self._stamp = f"{prefix}:e:", f"{prefix}:t:"
        self._longest = MAX_KEY - len(self._entry)
        #: What this process writes to see whether the cache works.
        self.probe = f"{prefix}:p:{secrets.token_hex(8)}"

    def entry(self, key: str) -> str:
        """Where the answer for a key is kept."""
        return self._entry + self._fitting(key)

    def stamp(self, tag: str) -> str:
        """Where the stamp of a tag is kept."""
        return self._stamp + self._fitting(tag)

    def stamps(self, tags: Iterable[str]) -> list[str]:
        """Where the stamps of tags are kept."""
        return [self._stamp + self._fitting(tag) for tag in tags]

    def _fitting(self, text: str) -> str:
        if len(text) <= self._longest and _PLAIN(text) and text[0] != "#":
            return text
        return "#" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
