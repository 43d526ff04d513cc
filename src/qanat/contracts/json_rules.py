"""Whether a JSON Schema takes every document that another one takes, keyword by keyword.

Pure. The rules, and what counts as open and closed, are those of the Confluent Schema Registry's documentation, "JSON
Schema compatibility rules"; they are stricter than logic demands where that would take a proof: an open content model
does not take a new property, since documents may already have one of that name with any content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qanat.contracts.json_schema import JsonSchema
from qanat.contracts.schema import Problem

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_COMBINED = ("allOf", "anyOf", "oneOf")
#: Keywords that say nothing about which documents are taken.
_NOTES = {
    "title",
    "description",
    "default",
    "examples",
    "$id",
    "id",
    "$schema",
    "$comment",
    "$anchor",
    "definitions",
    "$defs",
    "deprecated",
    "readOnly",
    "writeOnly",
    "connect.index",
    "connect.type",
}
#: Keyword, name in the rules, and whether a smaller value takes fewer documents.
_BOUNDS = (
    ("maxLength", "MAX_LENGTH", True),
    ("minLength", "MIN_LENGTH", False),
    ("maximum", "MAXIMUM", True),
    ("minimum", "MINIMUM", False),
    ("exclusiveMaximum", "EXCLUSIVE_MAXIMUM", True),
    ("exclusiveMinimum", "EXCLUSIVE_MINIMUM", False),
    ("maxProperties", "MAX_PROPERTIES", True),
    ("minProperties", "MIN_PROPERTIES", False),
    ("maxItems", "MAX_ITEMS", True),
    ("minItems", "MIN_ITEMS", False),
)


def problems(reader: JsonSchema, writer: JsonSchema) -> list[Problem]:
    """Why `reader` does not take everything that `writer` takes; nothing where it does."""
    return list(_Check(reader, writer).compare(reader.document, writer.document, "#"))


class _Check:
    """`now` is the reader's part, `before` the writer's."""

    def __init__(self, reader: JsonSchema, writer: JsonSchema) -> None:
        self._reader, self._writer = reader, writer
        self._open: set[tuple[int, int]] = set()

    def compare(self, now: Any, before: Any, path: str) -> list[Problem]:
        """Everything that `now` refuses and `before` takes."""
        now, before = self._reader.follow(now), self._writer.follow(before)
        if _takes_all(now) or before is False:
            return []
        if now is False:
            return [Problem("TYPE_NARROWED", path, "nothing is taken any more")]
        if _takes_all(before):
            return [Problem("TYPE_NARROWED", path, "everything was taken, and now not")]
        pair = (id(now), id(before))
        if pair in self._open:
            return []
        self._open.add(pair)
        try:
            return self._objects(now, before, path)
        finally:
            self._open.discard(pair)

    def _objects(self, now: dict[str, Any], before: dict[str, Any], path: str) -> list[Problem]:
        ours, theirs = _branches(now), _branches(before)
        if (ours is None) != (theirs is None):
            ours, theirs = ours or _by_type(now), theirs or _by_type(before)
        if ours is not None or theirs is not None:
            return self._combined(now, ours, before, theirs, path)
        return [problem for rule in _RULES for problem in rule(self, now, before, path)]

    # --- allOf, anyOf, oneOf and lists of types ----------------------------------------------------------------------

    def _combined(
        self,
        now: dict[str, Any],
        ours: tuple[str, list[Any]] | None,
        before: dict[str, Any],
        theirs: tuple[str, list[Any]] | None,
        path: str,
    ) -> list[Problem]:
        if theirs is None:
            assert ours is not None
            return self._into(ours, before, path)
        if ours is None:
            if len(theirs[1]) == 1 or theirs[0] == "allOf":
                attempts = [self.compare(now, one, path) for one in theirs[1]]
                return min(attempts, key=len)
            return [found for one in theirs[1] for found in self.compare(now, one, path)][:1] and [
                Problem("TYPE_CHANGED", path, f"{theirs[0]} of {len(theirs[1])} became a single schema")
            ]
        changed = _criterion(ours, theirs, path)
        if changed:
            return changed
        return self._match(ours, theirs, path)

    def _into(self, ours: tuple[str, list[Any]], before: Any, path: str) -> list[Problem]:
        """One schema became several: any of them may take it, or all of them have to."""
        attempts = [self.compare(one, before, f"{path}/{ours[0]}/{place}") for place, one in enumerate(ours[1])]
        if ours[0] == "allOf":
            wrong = [problem for one in attempts for problem in one]
            return [Problem("PRODUCT_TYPE_EXTENDED", path, "allOf asks for more"), *wrong] if wrong else []
        if any(not one for one in attempts):
            return []
        nearest = min(attempts, key=len, default=[])
        return [Problem("TYPE_CHANGED", path, f"no schema of {ours[0]} takes what was taken"), *nearest]

    def _match(self, ours: tuple[str, list[Any]], theirs: tuple[str, list[Any]], path: str) -> list[Problem]:
        """Each old branch needs a new one of its own (of allOf: each new one an old one)."""
        fits = [[not self.compare(one, other, path) for one in ours[1]] for other in theirs[1]]
        matched = _matching(fits)
        if ours[0] == "allOf":
            if len(ours[1]) > len(theirs[1]):
                return [Problem("PRODUCT_TYPE_EXTENDED", path, "allOf asks for more")]
        elif len(ours[1]) < len(theirs[1]):
            return [Problem("SUM_TYPE_NARROWED", path, f"{ours[0]} has fewer choices")]
        if matched < min(len(ours[1]), len(theirs[1])):
            return [
                Problem("COMBINED_TYPE_SUBSCHEMAS_CHANGED", path, f"the schemas of {ours[0]} take less than before")
            ]
        return []

    # --- keywords ----------------------------------------------------------------------------------------------------

    def types(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        lost = _types(before) - _types(now)
        if lost:
            names = ", ".join(sorted(lost))
            rule = "TYPE_CHANGED" if not _types(before) & _types(now) else "TYPE_NARROWED"
            yield Problem(rule, path, f"{names} is not taken any more, only {', '.join(sorted(_types(now)))}")

    def values(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = _values(now), _values(before)
        if ours is None:
            return
        if theirs is None:
            yield Problem("ENUM_ARRAY_ADDED", path, "only some values are taken, where all were")
        elif lost := [one for one in theirs if one not in ours]:
            rule = "ENUM_ARRAY_NARROWED" if all(one in theirs for one in ours) else "ENUM_ARRAY_CHANGED"
            yield Problem(rule, path, f"{', '.join(map(repr, lost))} is not taken any more")

    def bounds(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        for key, name, is_upper in _BOUNDS:
            ours, theirs = now.get(key), before.get(key)
            if ours is None or isinstance(ours, bool) or isinstance(theirs, bool):
                if ours is True and theirs is not True:  # draft 4 writes exclusive bounds as flags
                    yield Problem(f"{name}_ADDED", f"{path}/{key}", f"{key} is new")
            elif theirs is None:
                yield Problem(f"{name}_ADDED", f"{path}/{key}", f"{key} {ours} is new")
            elif (ours < theirs) if is_upper else (ours > theirs):
                change = "DECREASED" if is_upper else "INCREASED"
                yield Problem(f"{name}_{change}", f"{path}/{key}", f"{key} was {theirs} and is {ours}")

    def texts(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = now.get("pattern"), before.get("pattern")
        if ours is not None and ours != theirs:
            rule = "PATTERN_ADDED" if theirs is None else "PATTERN_CHANGED"
            yield Problem(rule, f"{path}/pattern", f"the pattern is {ours!r}, was {theirs!r}")

    def multiples(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = now.get("multipleOf"), before.get("multipleOf")
        if ours is None or ours == theirs:
            return
        if theirs is None:
            yield Problem("MULTIPLE_OF_ADDED", f"{path}/multipleOf", f"multipleOf {ours} is new")
        elif theirs % ours:
            rule = "MULTIPLE_OF_CHANGED" if ours % theirs else "MULTIPLE_OF_EXPANDED"
            yield Problem(rule, f"{path}/multipleOf", f"multipleOf was {theirs} and is {ours}")

    def required(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = _properties(now), _properties(before)
        demanded = set(now.get("required", [])) - set(before.get("required", []))
        for name in sorted(demanded):
            new_in_closed = name in ours and name not in theirs and not _is_open(before)  # `_added` says it better
            if not new_in_closed and not _has_default(ours.get(name)):
                place = f"{path}/properties/{name}"
                yield Problem("REQUIRED_ATTRIBUTE_ADDED", place, f"{name} is demanded now and has no default")

    def properties(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = _properties(now), _properties(before)
        for name in sorted({*ours, *theirs}):
            place = f"{path}/properties/{name}"
            if name in ours and name in theirs:
                yield from self.compare(ours[name], theirs[name], place)
            elif name in theirs:
                yield from self._removed(now, theirs[name], name, place)
            else:
                yield from self._added(now, before, name, place)

    def _removed(self, now: dict[str, Any], was: Any, name: str, path: str) -> Iterator[Problem]:
        if _is_open(now) or was is False:
            return
        cover = _cover(now, name)
        if cover is None:
            message = f"{name} is gone, and the content model is closed (additionalProperties: false)"
            yield Problem("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, message)
        elif wrong := self.compare(cover, was, path):
            message = f"{name} is gone, and what is left for it does not take what it was"
            yield Problem("PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path, message)
            yield from wrong

    def _added(self, now: dict[str, Any], before: dict[str, Any], name: str, path: str) -> Iterator[Problem]:
        new = _properties(now)[name]
        if _is_open(before):
            if not _takes_all(self._reader.follow(new)):
                message = f"{name} is new, and the content model was open: documents may have any {name} already"
                yield Problem("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path, message)
            return
        cover = _cover(before, name)
        if cover is not None and (wrong := self.compare(new, cover, path)):
            message = f"{name} is new and does not take all that could stand there before"
            yield Problem("PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path, message)
            yield from wrong
        if name in now.get("required", []) and not _has_default(new):
            message = f"{name} is new and demanded, without a default"
            yield Problem("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", path, message)

    def others(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        """additionalProperties, and the patterns beside it."""
        ours, theirs = now.get("additionalProperties", True), before.get("additionalProperties", True)
        place = f"{path}/additionalProperties"
        if ours is False and theirs is not False:
            yield Problem("ADDITIONAL_PROPERTIES_REMOVED", place, "other properties are not taken any more")
        elif _takes_all(theirs) and not _takes_all(ours):
            yield Problem("ADDITIONAL_PROPERTIES_NARROWED", place, "other properties have a schema now")
        elif theirs is not False:
            yield from self.compare(ours, theirs, place)
        old = before.get("patternProperties", {})
        for pattern, schema in now.get("patternProperties", {}).items():
            if pattern in old:
                yield from self.compare(schema, old[pattern], f"{path}/patternProperties/{pattern}")
            elif theirs is not False:
                yield from self.compare(schema, theirs, f"{path}/patternProperties/{pattern}")

    def dependencies(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        ours, theirs = _dependencies(now), _dependencies(before)
        for name, one in ours.items():
            place, was = f"{path}/dependencies/{name}", theirs.get(name)
            if isinstance(one, list):
                yield from _dependency(one, was, name, place)
            elif was is None or isinstance(was, list):
                yield Problem("DEPENDENCY_SCHEMA_ADDED", place, f"{name} demands a schema now")
            else:
                yield from self.compare(one, was, place)

    def items(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        if now.get("uniqueItems") and not before.get("uniqueItems"):
            yield Problem("UNIQUE_ITEMS_ADDED", f"{path}/uniqueItems", "items must be different now")
        (first, rest), (was_first, was_rest) = _items(now), _items(before)
        if rest is False and was_rest is not False:
            yield Problem("ADDITIONAL_ITEMS_REMOVED", f"{path}/items", "further items are not taken any more")
        elif was_rest is not False:
            yield from self.compare(rest, was_rest, f"{path}/items")
        for place in range(max(len(first), len(was_first))):
            here = f"{path}/items/{place}"
            if place < len(first) and place < len(was_first):
                yield from self.compare(first[place], was_first[place], here)
            elif place < len(first) and was_rest is not False and (wrong := self.compare(first[place], was_rest, here)):
                rule = (
                    "ITEM_ADDED_TO_OPEN_CONTENT_MODEL"
                    if _takes_all(was_rest)
                    else ("ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL")
                )
                yield Problem(rule, here, "the item has a schema of its own now")
                yield from wrong
            elif place >= len(first):
                yield from self._item_gone(rest, was_first[place], here)

    def _item_gone(self, rest: Any, was: Any, path: str) -> Iterator[Problem]:
        if rest is False:
            if was is not False:
                yield Problem("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, "the item is not taken any more")
        elif wrong := self.compare(rest, was, path):
            message = "the item has no schema of its own any more"
            yield Problem("ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path, message)
            yield from wrong

    def negation(self, now: dict[str, Any], before: dict[str, Any], path: str) -> Iterator[Problem]:
        """What is ruled out now must have been ruled out before."""
        if "not" not in now:
            return
        if "not" not in before:
            yield Problem("NOT_TYPE_ADDED", f"{path}/not", "something is ruled out now")
        elif _Check(self._writer, self._reader).compare(before["not"], now["not"], f"{path}/not"):
            yield Problem("NOT_TYPE_EXTENDED", f"{path}/not", "more is ruled out than before")


_RULES: Sequence[Callable[[_Check, dict[str, Any], dict[str, Any], str], Iterator[Problem]]] = (
    _Check.types,
    _Check.values,
    _Check.bounds,
    _Check.texts,
    _Check.multiples,
    _Check.required,
    _Check.properties,
    _Check.others,
    _Check.dependencies,
    _Check.items,
    _Check.negation,
)


def _takes_all(schema: Any) -> bool:
    return schema is True or (isinstance(schema, dict) and not set(schema) - _NOTES)


def _has_default(schema: Any) -> bool:
    return isinstance(schema, dict) and "default" in schema


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        return _TYPES
    named = {given} if isinstance(given, str) else set(given)
    return frozenset(named | {"integer"} if "number" in named else named)


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema.get("properties", {})
    return found


def _is_open(schema: Mapping[str, Any]) -> bool:
    return not schema.get("patternProperties") and _takes_all(schema.get("additionalProperties", True))


def _cover(schema: Mapping[str, Any], name: str) -> Any:
    """What a property without a schema of its own has to fit; None where it may not be there."""
    for pattern, one in schema.get("patternProperties", {}).items():
        try:
            if re.search(pattern, name):
                return one
        except re.error:
            continue
    other = schema.get("additionalProperties", True)
    return None if other is False else other


def _dependencies(schema: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("dependencies", "dependentRequired", "dependentSchemas")
    return {name: one for key in keys for name, one in schema.get(key, {}).items()}


def _dependency(now: Sequence[str], before: Any, name: str, path: str) -> Iterator[Problem]:
    if not isinstance(before, list):
        yield Problem("DEPENDENCY_ARRAY_ADDED", path, f"{name} demands {', '.join(now)} now")
    elif set(now) - set(before):
        rule = "DEPENDENCY_ARRAY_EXTENDED" if set(before) <= set(now) else "DEPENDENCY_ARRAY_CHANGED"
        yield Problem(rule, path, f"{name} demands {', '.join(sorted(set(now) - set(before)))} as well")


def _items(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Schemas of the first items, and of those after them."""
    if isinstance(schema.get("items"), list):
        return schema["items"], schema.get("additionalItems", True)
    return schema.get("prefixItems", []), schema.get("items", True)


def _branches(schema: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """What is combined, and how; several types are one schema each. None for a plain schema."""
    used = [key for key in _COMBINED if key in schema]
    if not used:
        return None
    rest = {key: value for key, value in schema.items() if key not in _COMBINED and key not in _NOTES}
    if len(used) == 1 and not rest:
        return used[0], schema[used[0]]
    parts = [one for key in used for one in (schema[key] if key == "allOf" else [{key: schema[key]}])]
    return "allOf", ([rest] if rest else []) + parts


def _by_type(schema: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    """A list of types as a schema for each."""
    types = schema.get("type")
    if not isinstance(types, list) or len(types) < 2:
        return None
    return "anyOf", [{**schema, "type": one} for one in types]


def _criterion(ours: tuple[str, list[Any]], theirs: tuple[str, list[Any]], path: str) -> list[Problem]:
    alone = len(theirs[1]) == 1 and (ours[0] == "oneOf" or len(ours[1]) == 1)
    if ours[0] in (theirs[0], "anyOf") or alone:
        return []
    return [Problem("COMBINED_TYPE_CHANGED", path, f"{theirs[0]} became {ours[0]}")]


def _matching(fits: list[list[bool]]) -> int:
    """The size of the largest matching of old branches with new ones (augmenting paths)."""
    holder: dict[int, int] = {}

    def place(old: int, tried: set[int]) -> bool:
        for new, fit in enumerate(fits[old]):
            if fit and new not in tried:
                tried.add(new)
                if new not in holder or place(holder[new], tried):
                    holder[new] = old
                    return True
        return False

    return sum(place(old, set()) for old in range(len(fits)))
