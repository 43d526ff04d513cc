"""JSON: paths into texts, and values as texts. Numbers keep the digits that they are written with."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import polars as pl

from qanat.errors import DataError
from qanat.model.types import Kind, Type
from qanat.sql.embedded.kernels.base import Kernel, constant, dtype_of, row_by_row
from qanat.sql.embedded.kernels.floats import java_text
from qanat.sql.expressions import Call, Literal
from qanat.sql.jsonpath import Missing, Path, parse_path, walk


class _NotJsonError(ValueError):
    """The text is no JSON."""


def _refuse(text: str) -> Any:
    raise ValueError(text)


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse, strict=True)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _loads_exactly(text)


def _loads_exactly(text: str) -> Any:
    """With decimals for floats; what follows the first value is not looked at, as in Jackson."""
    try:
        return _EXACT.raw_decode(text.lstrip(" \t\r\n"))[0]
    except (ValueError, RecursionError):
        raise _NotJsonError(text) from None


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_float(one) for one in value.values())
    return any(_has_float(one) for one in value) if isinstance(value, list) else isinstance(value, float)


def _at(text: str, path: Path) -> Any:
    """What lies at the path. Raises `Missing`, `_NotJsonError`."""
    found = walk(_loads(text), path)
    return walk(_loads_exactly(text), path) if _has_float(found) else found


# --- reading ------------------------------------------------------------------------------------------------------


def _is_json(text: str | None, kind: str) -> bool:
    if text is None:
        return False
    try:
        value = _loads(text)
    except _NotJsonError:
        return False
    match kind:
        case "OBJECT":
            return isinstance(value, dict)
        case "ARRAY":
            return isinstance(value, list)
        case "SCALAR":
            return not isinstance(value, dict | list)
        case _:
            return True


def _exists(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    path = parse_path(str(constant(call.args[1])))
    on_error = str(constant(call.args[2])) if len(call.args) > 2 else "FALSE"

    def exists(text: str) -> bool | None:
        try:
            return _at(text, path) is not None
        except (Missing, _NotJsonError):
            if path.lax:
                return False
        if on_error == "ERROR":
            raise DataError(f"JSON_EXISTS: nothing at `{constant(call.args[1])}` in `{text}`")
        return {"TRUE": True, "FALSE": False}.get(on_error)

    return row_by_row(exists)(call, args[:1], guard)


def _value(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    path = parse_path(str(constant(call.args[1])))
    rest = [one.value if isinstance(one, Literal) else None for one in call.args[2:]]
    on_empty, on_error = (str(rest[1]), str(rest[3])) if rest else ("NULL", "NULL")
    columns = [args[0], *([args[4], args[6]] if rest else [])]

    def value(text: str | None, if_empty: object = None, if_error: object = None) -> object:
        if text is None:
            return None
        try:
            found = _at(text, path)
        except (Missing, _NotJsonError):
            found = None
            if not path.lax:
                return _instead("JSON_VALUE", text, on_error, if_error)
        if path.lax and (found is None or isinstance(found, dict | list)):
            return _instead("JSON_VALUE", text, on_empty, if_empty)
        if isinstance(found, dict | list):
            return _instead("JSON_VALUE", text, on_error, if_error)
        try:
            return _returned(found, call.type.kind)
        except (ValueError, OverflowError):
            return _instead("JSON_VALUE", text, on_error, if_error)

    return row_by_row(value, nulls=True)(call, columns, guard)


def _instead(name: str, text: str, behaviour: str, default: object) -> object:
    if behaviour == "ERROR":
        raise DataError(f"{name}: no such value in `{text}`", hint="DEFAULT value ON EMPTY, DEFAULT value ON ERROR")
    return default if behaviour == "DEFAULT" else None


def _returned(value: Any, kind: Kind) -> object:
    if value is None:
        return None
    match kind:
        case Kind.STRING:
            return value if isinstance(value, str) else _written(value)
        case Kind.BOOLEAN if isinstance(value, bool):
            return value
        case Kind.INT if isinstance(value, int | Decimal) and not isinstance(value, bool):
            if value != int(value) or not -(2**31) <= value < 2**31:
                raise ValueError
            return int(value)
        case Kind.DOUBLE if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return float(value)
        case _:
            raise ValueError


def _query(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    path = parse_path(str(constant(call.args[1])))
    wrapper, on_empty, on_error = (
        [str(constant(one)) for one in call.args[3:]] if len(call.args) > 2 else ["WITHOUT", "NULL", "NULL"]
    )
    whole = call.type.kind is Kind.STRING

    def query(text: str) -> object:
        try:
            found = _at(text, path)
        except (Missing, _NotJsonError):
            found = None
            if not path.lax:
                return _empty(text, on_error)
        if found is None:
            return _empty(text, on_empty) if path.lax else None
        if wrapper == "UNCONDITIONAL" or (wrapper == "CONDITIONAL" and not isinstance(found, list)):
            found = [found]
        if not isinstance(found, list if not whole else (dict, list)):
            return _empty(text, on_empty if path.lax else on_error)
        if whole:
            return _written(found)
        return [one if one is None or isinstance(one, str) else _written(one) for one in found]

    def _empty(text: str, behaviour: str) -> object:
        if behaviour == "ERROR":
            raise DataError(f"JSON_QUERY: no such value in `{text}`", hint="EMPTY ARRAY ON EMPTY, NULL ON ERROR")
        if behaviour == "NULL":
            return None
        return ("[]" if behaviour == "ARRAY" else "{}") if whole else []

    return row_by_row(query)(call, args[:1], guard)


# --- writing ------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """A JSON string as Jackson writes it."""
    return json.dumps(text, ensure_ascii=False)


def _written(value: Any) -> str:
    """JSON of what was read from JSON; keys in order."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case dict():
            return "{" + ",".join(f"{quoted(key)}:{_written(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case _:
            return str(value)


def json_of(value: Any, kind: Type) -> str:
    """JSON of a value of a SQL type."""
    if value is None:
        return "null"
    match kind.kind:
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.STRING:
            return quoted(value)
        case Kind.FLOAT | Kind.DOUBLE:
            shown = java_text(repr(value), value)
            return str(Decimal(shown)) if value - value == 0 else f'"{shown}"'
        case Kind.BYTES:
            return f'"{base64.b64encode(value).decode()}"'
        case Kind.TIMESTAMP:
            return f'"{_iso(value)}"'
        case Kind.TIMESTAMP_LTZ:
            return f'"{_iso(value.astimezone(UTC).replace(tzinfo=None))}Z"'
        case Kind.ARRAY:
            inner = kind.element or kind
            return "[" + ",".join(json_of(one, inner) for one in value) + "]"
        case Kind.MAP:
            inner = kind.element or kind
            pairs = {str(one["key"]): json_of(one["value"], inner) for one in value}
            return "{" + ",".join(f"{quoted(key)}:{pairs[key]}" for key in sorted(pairs)) + "}"
        case Kind.ROW:
            return "{" + ",".join(f"{quoted(name)}:{json_of(value[name], one)}" for name, one in kind.fields) + "}"
        case _:
            return str(value)


def _iso(value: datetime) -> str:
    fraction = f"{value.microsecond:06d}".rstrip("0")
    return value.strftime("%Y-%m-%dT%H:%M:%S") + ("." + fraction if fraction else "")


_NESTED = ("JSON_OBJECT", "JSON_ARRAY", "AS JSON")


def _writers(call: Call, at: slice) -> list[Callable[[Any], str]]:
    """How each argument is written; JSON that is made in place stays JSON."""

    def writer(one: Any) -> Callable[[Any], str]:
        if isinstance(one, Call) and one.function in _NESTED:
            return lambda value: "null" if value is None else str(value)
        return lambda value: json_of(value, one.type)

    return [writer(one) for one in call.args[at]]


def _object(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    absent = constant(call.args[0]) == "ABSENT"
    keys = [str(constant(one)) for one in call.args[1::2]]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    writers = _writers(call, slice(2, None, 2))

    def made(*values: object) -> str:
        pairs = (f"{quoted(keys[i])}:{writers[i](values[i])}" for i in order if not (absent and values[i] is None))
        return "{" + ",".join(pairs) + "}"

    return _made(made, args[2::2], call, guard)


def _array(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    absent = constant(call.args[0]) == "ABSENT"
    writers = _writers(call, slice(1, None))

    def made(*values: object) -> str:
        parts = (write(one) for write, one in zip(writers, values, strict=True) if not (absent and one is None))
        return "[" + ",".join(parts) + "]"

    return _made(made, args[1:], call, guard)


def _made(function: Callable[..., str], args: list[pl.Expr], call: Call, guard: pl.Expr | None) -> pl.Expr:
    if not args:
        return pl.lit(function(), dtype=dtype_of(call.type))
    return row_by_row(function, nulls=True)(call, args, guard)


def _string(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    kind = call.args[0].type
    return row_by_row(lambda value: json_of(value, kind))(call, args, guard)


def _as_json(text: str) -> str:
    try:
        return _written(_loads_exactly(text))
    except _NotJsonError:
        raise DataError(f"JSON: `{text}` is no JSON") from None


def _quote(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


def _unquote(text: str) -> str:
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text
    try:
        found = json.loads(re.sub(r"[\x00-\x1f]", lambda match: f"\\u{ord(match.group()):04x}", text))
    except ValueError:
        return text
    return found if isinstance(found, str) else text


#: Kernels that may raise for a row.
RAISES = ("AS JSON", "JSON_EXISTS", "JSON_VALUE", "JSON_QUERY")

KERNELS: dict[str, Kernel] = {
    "IS JSON": row_by_row(_is_json, nulls=True),
    "JSON_EXISTS": _exists,
    "JSON_VALUE": _value,
    "JSON_QUERY": _query,
    "JSON_OBJECT": _object,
    "JSON_ARRAY": _array,
    "AS JSON": row_by_row(_as_json),
    "JSON_STRING": _string,
    "JSON_QUOTE": row_by_row(_quote),
    "JSON_UNQUOTE": row_by_row(_unquote),
}
