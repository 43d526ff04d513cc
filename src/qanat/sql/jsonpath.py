"""Paths into JSON (`$.a[0].b`, `lax $['a b']`): parsed and walked, as Jayway's JsonPath does for Flink. Filters are not
known. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_MODE = re.compile(r"\s*(strict|lax)\s+(.+)", re.IGNORECASE | re.DOTALL)
_STEP = re.compile(
    r"""(?P<deep>\.\.)?(?:\.?\[\s*(?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<slice>-?\d*:-?\d*)"""
    r"""|(?P<index>-?\d+)|(?P<all>\*))\s*\]|(?<=\.)(?P<deepname>\*|[^.\[\]()'"\s]+)|\.(?P<name>\*|[^.\[\]()'"\s]+))"""
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a key, an index, `*` (every=True), a slice; `deep`: at any depth."""

    key: str | None = None
    index: int | None = None
    every: bool = False
    part: slice | None = None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """A path. `lax`: what is missing is empty, not an error; `length`: `.length()` at its end."""

    steps: tuple[Step, ...]
    lax: bool
    length: bool = False

    @property
    def definite(self) -> bool:
        """Whether it leads to one place at most."""
        return not any(one.every or one.part or one.deep for one in self.steps)


class Missing(Exception):  # noqa: N818  # an answer, not a failure
    """There is nothing at the path."""


@lru_cache(maxsize=512)
def parse_path(text: str) -> Path:
    """The path. Raises ValueError.

    >>> parse_path("lax $.a[0]")
    Path(steps=(Step(key='a', index=None, every=False, part=None, deep=False), Step(key=None, index=0, every=False, \
part=None, deep=False)), lax=True, length=False)
    """
    match = _MODE.fullmatch(text)
    mode, spec = (match.group(1).lower(), match.group(2)) if match else ("strict", text)
    spec = spec.strip()
    # JsonPath puts the root in front of what has none
    spec = spec if spec.startswith("$") else "$." + spec
    length = spec.endswith(".length()")
    at, end = 1, len(spec) - (len(".length()") if length else 0)
    steps: list[Step] = []
    while at < end:
        found = _STEP.match(spec, at, end)
        if found is None or found.end() == at:
            raise ValueError(f"`{text}` is no path that is known here, at `{spec[at:]}`")
        steps.append(_step(found))
        at = found.end()
    return Path(tuple(steps), mode == "lax", length)


def _step(found: re.Match[str]) -> Step:
    deep = bool(found.group("deep"))
    name = found.group("name") or found.group("deepname")
    quoted = next((one for one in (found.group("single"), found.group("double")) if one is not None), None)
    if quoted is not None:
        return Step(key=re.sub(r"\\(.)", r"\1", quoted), deep=deep)
    if found.group("index"):
        return Step(index=int(found.group("index")), deep=deep)
    if found.group("slice"):
        low, _, high = found.group("slice").partition(":")
        return Step(part=slice(int(low) if low else None, int(high) if high else None), deep=deep)
    if found.group("all") or name == "*":
        return Step(every=True, deep=deep)
    return Step(key=name, deep=deep)


def walk(value: Any, path: Path) -> Any:
    """What lies at the path; a list for paths that lead to several places. Raises `Missing`."""
    if not path.definite:
        return list(_all(value, path.steps))
    for step in path.steps:
        value = _one(value, step)
    if path.length:
        if not isinstance(value, list | dict | str):
            raise Missing
        return len(value)
    return value


def _one(value: Any, step: Step) -> Any:
    if step.key is not None and isinstance(value, dict) and step.key in value:
        return value[step.key]
    if step.index is not None and isinstance(value, list) and -len(value) <= step.index < len(value):
        return value[step.index]
    raise Missing


def _all(value: Any, steps: tuple[Step, ...]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    for inner in _descendants(value) if step.deep else (value,):
        children: Iterable[Any]
        if step.every:
            children = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
        elif step.part is not None:
            children = inner[step.part] if isinstance(inner, list) else ()
        else:
            try:
                children = (_one(inner, step),)
            except Missing:
                children = ()
        for child in children:
            yield from _all(child, rest)


def _descendants(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _descendants(child)
