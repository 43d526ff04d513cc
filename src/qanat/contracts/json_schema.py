"""JSON Schemas as documents: parsed, checked against their own language, `$ref` followed. Compares nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qanat.codec.json_schema import in_dialect
from qanat.errors import ConfigError, SchemaError


@dataclass(frozen=True, slots=True, eq=False)
class JsonSchema:
    """A document and those that it names, by the name it calls them."""

    document: Any
    others: Mapping[str, Any] = field(default_factory=dict)

    def follow(self, schema: Any) -> Any:
        """The schema behind `$ref`, however many there are in a row. Raises `SchemaError` where it leads nowhere."""
        seen: set[str] = set()
        root = self.document
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            reference = schema["$ref"]
            if reference in seen:
                raise SchemaError(f"$ref {reference!r} leads to itself")
            seen.add(reference)
            name, _, pointer = reference.partition("#")
            if name:
                root = self._document(name)
            schema = _at(root, pointer, reference)
        return schema

    def _document(self, name: str) -> Any:
        if name in self.others:
            return self.others[name]
        if isinstance(self.document, dict) and self.document.get("$id", self.document.get("id")) == name:
            return self.document
        raise SchemaError(f"$ref {name!r} is neither in the schema nor one of its references")


def parse_json_schema(text: str, references: Mapping[str, str]) -> JsonSchema:
    """Raises `SchemaError` for what is not JSON or not a schema."""
    made = JsonSchema(_load(text), {name: _load(one) for name, one in references.items()})
    _check(made)
    _follow_all(made, made.document)
    return made


def _load(text: str) -> Any:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"this is not JSON: {error}") from error
    if not isinstance(document, dict | bool):
        raise SchemaError("a JSON Schema is an object, or true or false")
    return document


def _check(made: JsonSchema) -> None:
    """Against the language that the schema says it is written in."""
    try:
        import jsonschema_rs
    except ImportError as error:
        raise ConfigError(
            "JSON Schemas are checked by jsonschema-rs, which is not installed", hint="pip install 'qanat[json-schema]'"
        ) from error
    try:
        jsonschema_rs.meta.validate(in_dialect(made.document))
    except jsonschema_rs.ValidationError as error:
        place = "/".join(map(str, error.instance_path))
        raise SchemaError(f"this is no JSON Schema: {error.message} at #/{place}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"this is no JSON Schema: {error}") from error


def _follow_all(made: JsonSchema, part: Any) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            made.follow(part)
        for key, value in part.items():
            if key not in ("enum", "const", "default", "examples"):
                _follow_all(made, value)
    elif isinstance(part, list):
        for one in part:
            _follow_all(made, one)


def _at(root: Any, pointer: str, reference: str) -> Any:
    """RFC 6901; without a slash it is an anchor."""
    if not pointer:
        return root
    if not pointer.startswith("/"):
        found = _anchor(root, pointer)
        if found is None:
            raise SchemaError(f"$ref {reference!r} leads nowhere")
        return found
    for raw in pointer[1:].split("/"):
        key = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(root, dict) and key in root:
            root = root[key]
        elif isinstance(root, list) and key.isdigit() and int(key) < len(root):
            root = root[int(key)]
        else:
            raise SchemaError(f"$ref {reference!r} leads nowhere")
    return root


def _anchor(part: Any, name: str) -> Any:
    if isinstance(part, dict):
        if part.get("$anchor") == name or part.get("$id") == f"#{name}":
            return part
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            found = _anchor(one, name)
            if found is not None:
                return found
    return None
