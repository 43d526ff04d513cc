"""Whether one Avro schema can read what another wrote: Avro's schema resolution, decided without any data.

Pure. Apache Avro specification 1.12, "Schema Resolution"; the rules have the names that Avro's own checker gives them.
"""

from __future__ import annotations

from qanat.codec.avro_schema import MISSING, AvroField, AvroType
from qanat.contracts.schema import Problem

#: What a reader's type also takes, beside itself.
_PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "bytes": {"string"},
    "string": {"bytes"},
}
_Seen = set[tuple[int, int]]


def problems(reader: AvroType, writer: AvroType) -> list[Problem]:
    """Why `reader` cannot read what `writer` wrote; nothing where it can."""
    return _compare(reader, writer, "", set())


def _compare(reader: AvroType, writer: AvroType, path: str, seen: _Seen) -> list[Problem]:
    pair = (id(reader), id(writer))
    if pair in seen:
        return []
    seen.add(pair)
    if writer.kind == "union":
        return _written_union(reader, writer, path, seen)
    if reader.kind == "union":
        return _read_union(reader, writer, path, seen)
    if reader.kind == writer.kind:
        return _same_kind(reader, writer, path, seen)
    if writer.kind in _PROMOTIONS.get(reader.kind, ()):
        return []
    return [_wrong_type(reader, writer, path)]


def _wrong_type(reader: AvroType, writer: AvroType, path: str) -> Problem:
    return Problem("TYPE_MISMATCH", path or "/", f"{reader} does not read {writer}")


def _written_union(reader: AvroType, writer: AvroType, path: str, seen: _Seen) -> list[Problem]:
    """Each branch that may have been written has to be read."""
    found: list[Problem] = []
    for branch in writer.branches:
        wrong = _compare(reader, branch, path, set(seen))
        if wrong and reader.kind == "union":
            found.append(_no_branch(reader, branch, path, wrong))
        else:
            found += wrong
    return found


def _read_union(reader: AvroType, writer: AvroType, path: str, seen: _Seen) -> list[Problem]:
    attempts = [_compare(branch, writer, path, set(seen)) for branch in reader.branches]
    if any(not one for one in attempts):
        return []
    return [_no_branch(reader, writer, path, min(attempts, key=len, default=[]))]


def _no_branch(reader: AvroType, writer: AvroType, path: str, nearest: list[Problem]) -> Problem:
    why = ""
    if writer.name and nearest and nearest[0].rule not in ("TYPE_MISMATCH", "MISSING_UNION_BRANCH"):
        why = f": {nearest[0].message}"
    return Problem("MISSING_UNION_BRANCH", path or "/", f"no branch of {reader} reads {writer}{why}")


def _same_kind(reader: AvroType, writer: AvroType, path: str, seen: _Seen) -> list[Problem]:
    match reader.kind:
        case "record":
            return _names(reader, writer, path) + _fields(reader, writer, path, seen)
        case "enum":
            return _names(reader, writer, path) + _symbols(reader, writer, path)
        case "fixed":
            return _names(reader, writer, path) + _size(reader, writer, path) + _decimal(reader, writer, path)
        case "array":
            return _compare(reader.inside, writer.inside, f"{path}/items", seen)
        case "map":
            return _compare(reader.inside, writer.inside, f"{path}/values", seen)
        case _:
            return _decimal(reader, writer, path)


def _names(reader: AvroType, writer: AvroType, path: str) -> list[Problem]:
    if reader.short_name == writer.short_name or writer.name in reader.aliases:
        return []
    message = f"the {reader.kind} is called {reader.name}, was {writer.name}, and has no alias for it"
    return [Problem("NAME_MISMATCH", path or "/", message)]


def _fields(reader: AvroType, writer: AvroType, path: str, seen: _Seen) -> list[Problem]:
    wrote = {one.name: one for one in writer.fields}
    found: list[Problem] = []
    for one in reader.fields:
        place = f"{path}/{one.name}"
        match_ = next((wrote[name] for name in (one.name, *one.aliases) if name in wrote), None)
        if match_ is not None:
            found += _compare(one.type, match_.type, place, seen)
        elif not _has_default(one):
            message = f"the field {one.name} is missing in the data and has no default"
            found.append(Problem("READER_FIELD_MISSING_DEFAULT_VALUE", place, message))
    return found


def _has_default(one: AvroField) -> bool:
    return one.default is not MISSING


def _symbols(reader: AvroType, writer: AvroType, path: str) -> list[Problem]:
    gone = [one for one in writer.symbols if one not in reader.symbols]
    if not gone or reader.default_symbol is not None:
        return []
    message = f"the enum {reader.name} lacks {', '.join(gone)} and has no default"
    return [Problem("MISSING_ENUM_SYMBOLS", path or "/", message)]


def _size(reader: AvroType, writer: AvroType, path: str) -> list[Problem]:
    if reader.size == writer.size:
        return []
    message = f"the fixed {reader.name} has {reader.size} bytes, the data {writer.size}"
    return [Problem("FIXED_SIZE_MISMATCH", path or "/", message)]


def _decimal(reader: AvroType, writer: AvroType, path: str) -> list[Problem]:
    """Another scale would read other numbers out of the same bytes."""
    if reader.logical != "decimal" or writer.logical != "decimal" or reader.scale == writer.scale:
        return []
    message = f"a decimal of scale {reader.scale} does not read one of scale {writer.scale}"
    return [Problem("TYPE_MISMATCH", path or "/", message)]
