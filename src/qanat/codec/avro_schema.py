"""Avro schemas: their JSON -> a tree with every name resolved, and back to one canonical text.

Knows the schema only: what payloads hold is `avro`, which schema may follow which is `contracts.avro_rules`.
Apache Avro specification 1.12, "Schema Declaration", "Names", "Aliases", "Parsing Canonical Form".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qanat.errors import SchemaError

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
#: A field without a default. (None would be a default of null.)
MISSING = object()

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOGICAL = {
    "decimal": ("bytes", "fixed"),
    "uuid": ("string", "fixed"),
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "duration": ("fixed",),
    **{f"{local}timestamp-{unit}": ("long",) for local in ("", "local-") for unit in ("millis", "micros", "nanos")},
}
_EMPTY_CRC = 0xC15D213AA4D7A795
_MAX_DEPTH = 100


@dataclass(slots=True, eq=False)
class AvroField:
    """A field of a record; `default` is JSON, or `MISSING`."""

    name: str
    type: AvroType
    default: Any = MISSING
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class AvroType:
    """A type. Not frozen, since a record may hold itself: its `fields` are set once they are known.

    `name` is the full name of a record, enum or fixed; `items` what an array or map holds. `logical` only where the
    annotation is valid; others are passed over, as the specification wants.
    """

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    fields: tuple[AvroField, ...] = ()
    symbols: tuple[str, ...] = ()
    default_symbol: str | None = None
    items: AvroType | None = None
    branches: tuple[AvroType, ...] = ()
    size: int = 0
    logical: str | None = None
    precision: int = 0
    scale: int = 0

    @property
    def short_name(self) -> str:
        """The name without its namespace."""
        return self.name.rpartition(".")[2]

    @property
    def inside(self) -> AvroType:
        """What an array or map holds."""
        assert self.items is not None
        return self.items

    def __str__(self) -> str:
        if self.kind == "union":
            return "[" + ", ".join(map(str, self.branches)) + "]"
        if self.kind in ("array", "map"):
            return f"{self.kind}<{self.items}>"
        kind = f"{self.kind} {self.name}" if self.name else self.kind
        return f"{kind} ({self.logical})" if self.logical else kind


@dataclass(slots=True)
class _Names:
    """Named types so far, by full name; `space` is the namespace that short names are looked up in."""

    known: dict[str, AvroType] = field(default_factory=dict)

    def find(self, name: str, space: str) -> AvroType | None:
        if "." not in name and space and f"{space}.{name}" in self.known:
            return self.known[f"{space}.{name}"]
        return self.known.get(name)


def load_json(text: str) -> Any:
    """The JSON of a schema. Raises `SchemaError`; a bare name (`string`) is taken as that name."""
    stripped = text.strip()
    if _NAME.fullmatch(stripped.replace(".", "_")) and stripped not in ("true", "false", "null"):
        return stripped
    try:
        return json.loads(text)
    except ValueError as error:
        raise SchemaError(f"this is not JSON: {error}") from error


def parse_avro(text: str, references: Sequence[str] = ()) -> AvroType:
    """The tree of a schema; `references` are the texts of the schemas that it names, those named first coming first.

    Raises `SchemaError` that names the place.
    """
    names = _Names()
    for other in references:
        _parse(load_json(other), "", names, "$")
    raw = load_json(text)
    if raw is None:
        raw = "null"
    return _parse(raw, "", names, "$")


def _parse(raw: Any, space: str, names: _Names, path: str) -> AvroType:
    if path.count(".") + path.count("[") > _MAX_DEPTH:
        raise SchemaError(f"{path}: nested too deeply")
    match raw:
        case str():
            return _named_or_primitive(raw, space, names, path)
        case list():
            return _union(raw, space, names, path)
        case dict():
            return _object(raw, space, names, path)
        case _:
            raise SchemaError(f"{path}: a type is a name, an object or a list of types, found {json.dumps(raw)}")


def _named_or_primitive(name: str, space: str, names: _Names, path: str) -> AvroType:
    if name in PRIMITIVES:
        return AvroType(name)
    found = names.find(name, space)
    if found is None:
        raise SchemaError(f"{path}: no type {name!r} is defined before this place")
    return found


def _union(raw: list[Any], space: str, names: _Names, path: str) -> AvroType:
    branches = tuple(_parse(one, space, names, f"{path}[{place}]") for place, one in enumerate(raw))
    if not branches:
        raise SchemaError(f"{path}: a union needs at least one type")
    seen: set[str] = set()
    for branch in branches:
        if branch.kind == "union":
            raise SchemaError(f"{path}: a union may not hold a union")
        mark = branch.name or branch.kind
        if mark in seen:
            raise SchemaError(f"{path}: the union holds {mark} twice")
        seen.add(mark)
    return AvroType("union", branches=branches)


def _object(raw: dict[str, Any], space: str, names: _Names, path: str) -> AvroType:
    kind = raw.get("type")
    if kind is None:
        raise SchemaError(f"{path}: the type is missing")
    builder = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if builder is not None:
        return _with_logical(builder(raw, space, names, path), raw)
    inner = _parse(kind, space, names, path)
    if inner.kind in PRIMITIVES and inner.logical is None:
        inner = AvroType(inner.kind)
    return _with_logical(inner, raw) if not inner.name else inner


def _with_logical(made: AvroType, raw: Mapping[str, Any]) -> AvroType:
    logical = raw.get("logicalType")
    if not isinstance(logical, str) or made.kind not in _LOGICAL.get(logical, ()):
        return made
    if logical == "decimal":
        precision, scale = raw.get("precision"), raw.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision or precision < 1:
            return made
        made.precision, made.scale = precision, scale
    if (logical == "uuid" and made.kind == "fixed" and made.size != 16) or (logical == "duration" and made.size != 12):
        return made
    made.logical = logical
    return made


def _full_name(raw: Mapping[str, Any], space: str, path: str) -> str:
    name, own = raw.get("name"), raw.get("namespace")
    if not isinstance(name, str) or not all(map(_NAME.fullmatch, name.split("."))):
        raise SchemaError(f"{path}: {name!r} is no name: letters, digits and _, beginning with a letter or _")
    if "." in name:
        return name
    given = own if isinstance(own, str) else space
    return f"{given}.{name}" if given else name


def _declare(raw: Mapping[str, Any], kind: str, space: str, names: _Names, path: str) -> AvroType:
    name = _full_name(raw, space, path)
    if name in PRIMITIVES:
        raise SchemaError(f"{path}: {name} is a primitive type and cannot be defined")
    if name in names.known:
        raise SchemaError(f"{path}: the type {name} is defined twice")
    home = name.rpartition(".")[0]
    aliases = tuple(one if "." in one or not home else f"{home}.{one}" for one in _texts(raw, "aliases", path))
    made = AvroType(kind, name, aliases)
    names.known[name] = made
    return made


def _texts(raw: Mapping[str, Any], key: str, path: str) -> list[str]:
    given = raw.get(key, [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise SchemaError(f"{path}: {key} must be a list of names")
    return given


def _record(raw: dict[str, Any], space: str, names: _Names, path: str) -> AvroType:
    made = _declare(raw, "record", space, names, path)
    home = made.name.rpartition(".")[0]
    given = raw.get("fields")
    if not isinstance(given, list):
        raise SchemaError(f"{path}: the record {made.name} has no list of fields")
    fields: dict[str, AvroField] = {}
    for place, one in enumerate(given):
        if not isinstance(one, dict) or "type" not in one:
            raise SchemaError(f"{path}.fields[{place}]: a field needs a name and a type")
        name = one.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SchemaError(f"{path}.fields[{place}]: {name!r} is no name")
        if name in fields:
            raise SchemaError(f"{path}: the field {name} stands in {made.name} twice")
        kind = _parse(one["type"], home, names, f"{path}.{name}")
        default = one.get("default", MISSING)
        fields[name] = AvroField(name, kind, default, tuple(_texts(one, "aliases", f"{path}.{name}")))
    made.fields = tuple(fields.values())
    for one in made.fields:
        if one.default is not MISSING and not is_value(one.type, one.default):
            raise SchemaError(f"{path}.{one.name}: the default {json.dumps(one.default)} is not of type {one.type}")
    return made


def _enum(raw: dict[str, Any], space: str, names: _Names, path: str) -> AvroType:
    made = _declare(raw, "enum", space, names, path)
    symbols = _texts(raw, "symbols", path)
    if "symbols" not in raw or len(set(symbols)) != len(symbols) or not all(map(_NAME.fullmatch, symbols)):
        raise SchemaError(f"{path}: the symbols of {made.name} must be different names")
    default = raw.get("default")
    if default is not None and default not in symbols:
        raise SchemaError(f"{path}: the default {default!r} is no symbol of {made.name}")
    made.symbols, made.default_symbol = tuple(symbols), default
    return made


def _fixed(raw: dict[str, Any], space: str, names: _Names, path: str) -> AvroType:
    made = _declare(raw, "fixed", space, names, path)
    size = raw.get("size")
    if type(size) is not int or size < 0:
        raise SchemaError(f"{path}: the fixed {made.name} needs a size in bytes")
    made.size = size
    return made


def _collection(key: str) -> Callable[[dict[str, Any], str, _Names, str], AvroType]:
    kind = "array" if key == "items" else "map"

    def build(raw: dict[str, Any], space: str, names: _Names, path: str) -> AvroType:
        if key not in raw:
            raise SchemaError(f"{path}: the {kind} does not say its {key}")
        return AvroType(kind, items=_parse(raw[key], space, names, f"{path}.{key}"))

    return build


_BUILDERS: dict[str, Callable[[dict[str, Any], str, _Names, str], AvroType]] = {
    "record": _record,
    "error": _record,
    "enum": _enum,
    "fixed": _fixed,
    "array": _collection("items"),
    "map": _collection("values"),
}


def is_value(kind: AvroType, value: Any) -> bool:
    """Whether the JSON `value` can be the default of a field of this type; of a union it is of the first branch."""
    match kind.kind:
        case "union":
            return is_value(kind.branches[0], value)
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int":
            return type(value) is int and -(1 << 31) <= value < 1 << 31
        case "long":
            return type(value) is int and -(1 << 63) <= value < 1 << 63
        case "float" | "double":
            return type(value) in (int, float) or value in ("NaN", "Infinity", "-Infinity")
        case "string":
            return isinstance(value, str)
        case "bytes" | "fixed":
            size = kind.size if kind.kind == "fixed" else None
            return isinstance(value, str) and all(ord(one) < 256 for one in value) and size in (None, len(value))
        case "enum":
            return value in kind.symbols
        case "array":
            return isinstance(value, list) and all(is_value(kind.inside, one) for one in value)
        case "map":
            return isinstance(value, dict) and all(is_value(kind.inside, one) for one in value.values())
        case _:
            return isinstance(value, dict) and all(
                is_value(one.type, value[one.name]) if one.name in value else one.default is not MISSING
                for one in kind.fields
            )


def canonical(root: AvroType) -> str:
    """Avro's Parsing Canonical Form: only what matters to readers of data. Fingerprints are made of it."""
    return json.dumps(_plain(root, set()), separators=(",", ":"), ensure_ascii=False)


def _plain(kind: AvroType, seen: set[str]) -> Any:
    if kind.name in seen:
        return kind.name
    if kind.name:
        seen.add(kind.name)
    match kind.kind:
        case "union":
            return [_plain(one, seen) for one in kind.branches]
        case "array":
            return {"type": "array", "items": _plain(kind.inside, seen)}
        case "map":
            return {"type": "map", "values": _plain(kind.inside, seen)}
        case "record":
            fields = [{"name": one.name, "type": _plain(one.type, seen)} for one in kind.fields]
            return {"name": kind.name, "type": "record", "fields": fields}
        case "enum":
            return {"name": kind.name, "type": "enum", "symbols": list(kind.symbols)}
        case "fixed":
            return {"name": kind.name, "type": "fixed", "size": kind.size}
        case primitive:
            return primitive


def fingerprint(root: AvroType) -> bytes:
    """CRC-64-AVRO of the canonical form, eight bytes with the least significant first, as single objects carry it."""
    value = _EMPTY_CRC
    for byte in canonical(root).encode():
        value = (value >> 8) ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(8, "little")


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_EMPTY_CRC if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()
