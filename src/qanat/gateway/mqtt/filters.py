"""Topic filters -> which rows of which streams they name, and the topics that these rows get. Pure.

A row comes out under `STREAM/KEY`, or under `STREAM` where its stream has no key. The filter `STREAM` names all rows of
the stream, and they come under just that topic. In a topic, `%`, `+`, `#` and NUL of a key are written as `%25` and so
on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from qanat.errors import ProtocolError
from qanat.gateway.mqtt.packets import Reason
from qanat.model.streams import DEAD_LETTERS, LATE

#: Wildcards at the first level pass over these; they have to be named.
_UNLISTED = frozenset({DEAD_LETTERS, LATE})
_SHARED = "$share"
_WILD = {"+": "[^/]*", "#": "#"}


@dataclass(frozen=True, slots=True)
class Filter:
    """`stream`: a name, or `+` or `#`. `rest`: the levels after it, None where there are none."""

    text: str
    stream: str
    rest: str | None

    @property
    def is_whole(self) -> bool:
        """Whether rows come under the bare name of their stream."""
        return self.rest is None and self.stream != "#"

    @property
    def keys(self) -> frozenset[str] | None:
        """The one key that is named, or None where more than one may be meant."""
        if self.rest is None or "+" in self.rest or self.rest.endswith("#"):
            return None
        return frozenset({unquote(self.rest)})

    def streams(self, known: Iterable[str]) -> list[str]:
        """Which of the known streams are meant, by name."""
        if self.stream in ("+", "#"):
            return sorted(name for name in known if name not in _UNLISTED)
        return [self.stream] if self.stream in known else []

    def picker(self) -> Callable[[str | None], bool] | None:
        """Whether a row with this key is meant; None where every row is, or `keys` says it all."""
        if self.rest is None or self.rest == "#" or self.keys is not None:
            return None
        return partial(_matches, re.compile(_pattern(self.rest)))


def parse_filter(text: str) -> Filter:
    """Raises `ProtocolError`: 0x8F for what is no filter, 0x9E for shared subscriptions."""
    levels = text.split("/")
    if levels[0] == _SHARED:
        raise ProtocolError("shared subscriptions are not served", reason_code=Reason.SHARED_UNSUPPORTED)
    bad = [one for one in levels if ("#" in one or "+" in one) and len(one) > 1]
    if not text or bad or "#" in levels[:-1]:
        raise ProtocolError(f"{text!r} is not a topic filter", reason_code=Reason.FILTER_INVALID)
    return Filter(text, levels[0], "/".join(levels[1:]) if len(levels) > 1 else None)


def topic_of(stream: str, key: str | None) -> str:
    """The topic of a row."""
    if key is None:
        return stream
    if "%" in key or "+" in key or "#" in key or "\0" in key:
        key = key.replace("%", "%25").replace("+", "%2B").replace("#", "%23").replace("\0", "%00")
    return f"{stream}/{key}"


def _matches(pattern: re.Pattern[str], key: str | None) -> bool:
    return key is not None and pattern.fullmatch(key) is not None


def _pattern(rest: str) -> str:
    """The levels after the stream as a regular expression over keys."""
    parts = [_WILD.get(level) or re.escape(unquote(level)) for level in rest.split("/")]
    if parts[-1] != "#":
        return "/".join(parts)
    return "/".join(parts[:-1]) + "(/.*)?"
