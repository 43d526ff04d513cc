"""Patterns of topics: `farm/{site_id}/+/{kind}`, `plant/{line...}`, `raw/#`; which of several fits a topic best.

Pure, and knows neither streams nor columns. As in MQTT, `+` is one level, `#` any number of them at the end, and
neither stands for a first level that begins with `$`. `{name}` is one level that is not empty, `{name...}` one or more
at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from qanat.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HINT = "a level is text, +, {name}, or at the end # or {name...}: farm/{site_id}/+/{kind}"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pattern:
    """`levels`: a text, or None for any level; `open`: more levels may follow.

    `captures`: (name, level) of what is one level; `rest`: the same of what takes all levels from there on.
    """

    text: str
    levels: tuple[str | None, ...]
    open: bool
    captures: tuple[tuple[str, int], ...]
    rest: tuple[str, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it captures."""
        return tuple(name for name, _ in self.captures) + (() if self.rest is None else (self.rest[0],))

    @property
    def filter(self) -> str:
        """The MQTT topic filter that lets at least the same topics through."""
        levels = ["+" if level is None else level for level in self.levels]
        if self.rest is not None:
            levels.pop()  # its one level is part of what # stands for
        return "/".join([*levels, "#"] if self.open else levels)

    def read(self, levels: Sequence[str]) -> Mapping[str, str] | None:
        """What it captures of a topic whose levels fit; None where a capture would be empty."""
        found = {name: levels[place] for name, place in self.captures}
        if self.rest is not None:
            name, place = self.rest
            found[name] = "/".join(levels[place:])
        return found if all(found.values()) else None


def parse_pattern(text: str, whose: str) -> Pattern:
    """Raises `ConfigError` that names `whose` pattern it is."""
    levels: list[str | None] = []
    captures: list[tuple[str, int]] = []
    rest: tuple[str, int] | None = None
    parts = text.split("/")
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "#" and last:
            return _pattern(text, levels, True, captures, None, whose)
        name = part[1:-1] if part.startswith("{") and part.endswith("}") else ""
        if last and name.endswith("...") and _NAME.fullmatch(name[:-3]):
            rest = (name[:-3], place)
            levels.append(None)
        elif _NAME.fullmatch(name):
            captures.append((name, place))
            levels.append(None)
        elif part == "+":
            levels.append(None)
        elif any(mark in part for mark in "{}+#\0"):
            raise ConfigError(f"{whose}: {part!r} is no level of a topic pattern", hint=_HINT)
        else:
            levels.append(part)
    return _pattern(text, levels, rest is not None, captures, rest, whose)


def _pattern(
    text: str,
    levels: Sequence[str | None],
    is_open: bool,
    captures: Sequence[tuple[str, int]],
    rest: tuple[str, int] | None,
    whose: str,
) -> Pattern:
    if not text:
        raise ConfigError(f"{whose}: the topic pattern is empty", hint=_HINT)
    found = Pattern(text, tuple(levels), is_open, tuple(captures), rest)
    twice = {name for name in found.names if found.names.count(name) > 1}
    if twice:
        raise ConfigError(f"{whose}: {{{min(twice)}}} stands twice in {text}", hint="give each capture its own name")
    return found


@dataclass(slots=True)
class _Node(Generic[T]):
    """What may follow a level: `here` ends on it, `below` takes everything from here on."""

    children: dict[str | None, _Node[T]] = field(default_factory=dict)
    here: tuple[Pattern, T] | None = None
    below: tuple[Pattern, T] | None = None


class PatternTable(Generic[T]):
    """Patterns with what they stand for. The most specific one that fits a topic wins.

    A pattern is more specific than another where every topic of it is one of the other, too. Two that have topics in
    common without that, or mean the same, are ambiguous (`ConfigError`), unless a third is just what they share.
    """

    def __init__(self, entries: Sequence[tuple[str, Pattern, T]]) -> None:
        _check_ambiguous([(whose, pattern) for whose, pattern, _ in entries])
        self._root: _Node[T] = _Node()
        for _, pattern, value in entries:
            node = self._root
            for level in pattern.levels:
                node = node.children.setdefault(level, _Node())
            if pattern.open:
                node.below = (pattern, value)
            else:
                node.here = (pattern, value)

    def find(self, topic: str) -> tuple[T, Mapping[str, str]] | None:
        """What the best pattern stands for, and what it captures."""
        levels = topic.split("/")
        for pattern, value in _matches(self._root, levels, 0):
            captured = pattern.read(levels)
            if captured is not None:
                return value, captured
        return None


def _matches(node: _Node[T], levels: Sequence[str], place: int) -> Iterator[tuple[Pattern, T]]:
    """The patterns that fit, those with texts before those with wildcards, level by level: the most specific first."""
    if place == len(levels):
        if node.here is not None:
            yield node.here
    else:
        same = node.children.get(levels[place])
        if same is not None:
            yield from _matches(same, levels, place + 1)
        wild = None if place == 0 and levels[0].startswith("$") else node.children.get(None)
        if wild is not None:
            yield from _matches(wild, levels, place + 1)
    if node.below is not None and not (place == 0 and levels[0].startswith("$")):
        yield node.below


def _check_ambiguous(entries: Sequence[tuple[str, Pattern]]) -> None:
    shapes = {(pattern.levels, pattern.open) for _, pattern in entries}
    for place, (whose, one) in enumerate(entries):
        for other_whose, other in entries[:place]:
            meeting = _meet(one, other)
            if meeting is None:
                continue
            mine, theirs = (one.levels, one.open), (other.levels, other.open)
            if mine == theirs or (meeting not in (mine, theirs) and meeting not in shapes):
                shown = _shown(meeting)
                raise ConfigError(
                    f"{other_whose} ({other.text}) and {whose} ({one.text}) both take topics such as {shown}",
                    hint=f"make one of them more specific, or declare a source for {shown}",
                )


_Shape = tuple[tuple[str | None, ...], bool]


def _meet(one: Pattern, other: Pattern) -> _Shape | None:
    """The topics that both have, as levels and whether more may follow; None where there are none."""
    longer, shorter = (one, other) if len(one.levels) >= len(other.levels) else (other, one)
    if len(longer.levels) > len(shorter.levels) and not shorter.open:
        return None
    levels = list(longer.levels)
    for place, level in enumerate(shorter.levels):
        if levels[place] is None:
            levels[place] = level
        elif level not in (None, levels[place]):
            return None
    return tuple(levels), longer.open and shorter.open


def _shown(shape: _Shape) -> str:
    levels = ["+" if level is None else level for level in shape[0]]
    return "/".join([*levels, "#"] if shape[1] else levels)
