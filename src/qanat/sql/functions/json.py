"""Functions of JSON: the rules of their types. What SQL writes in words (RETURNING, ON EMPTY, WITH WRAPPER) comes as
further literals, in the order that the docstrings say."""

from __future__ import annotations

from qanat.model.types import BOOLEAN, STRING, Kind, Type, array
from qanat.sql.coercion import coerce
from qanat.sql.expressions import Expression, Literal
from qanat.sql.functions.signature import (
    Arguments,
    Mismatch,
    Row,
    constant_text,
    fits,
    fixed,
    never_null,
    nullable,
    want,
)
from qanat.sql.jsonpath import parse_path

_RETURNED = (Kind.STRING, Kind.INT, Kind.DOUBLE, Kind.BOOLEAN)
_WRITTEN = (
    Kind.BOOLEAN, Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL,
    Kind.STRING, Kind.BYTES, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.ARRAY, Kind.MAP, Kind.ROW,
)  # fmt: skip


def _path(argument: Expression) -> None:
    text = constant_text(argument, "the path")
    try:
        parse_path(text)
    except ValueError as error:
        raise Mismatch(str(error), "a path such as '$.a.b[0]', 'lax $.a'") from None


def _value(arguments: Arguments) -> tuple[Arguments, Type]:
    """text, path, then where given: type as a typed NULL, what is done if empty, its default, on error, its default."""
    text, path, *rest = arguments
    _path(path)
    result = rest[0].type if rest else STRING
    if result.kind not in _RETURNED:
        raise Mismatch(
            f"RETURNING takes STRING, INT, DOUBLE or BOOLEAN, found {result}", f"CAST(JSON_VALUE(...) AS {result})"
        )
    result = result.with_nullable(True)
    cast = [coerce(one, result) if i in (2, 4) else one for i, one in enumerate(rest)]
    return (fits(text, STRING), path, *cast), result


def _query(arguments: Arguments) -> tuple[Arguments, Type]:
    """text, path, then where given: type as a typed NULL, wrapper, empty behaviour, error behaviour."""
    text, path, *rest = arguments
    _path(path)
    result = rest[0].type if rest else STRING
    if result.with_nullable(True) not in (STRING, array(STRING)):
        raise Mismatch(f"RETURNING takes STRING or ARRAY<STRING>, found {result}")
    return (fits(text, STRING), path, *rest), result.with_nullable(True)


def _exists(arguments: Arguments) -> tuple[Arguments, Type]:
    """text, path, and what an error gives."""
    _path(arguments[1])
    return (fits(arguments[0], STRING), *arguments[1:]), BOOLEAN


def _written(argument: Expression) -> None:
    want(argument, _WRITTEN, "a value that JSON has")
    for inner in (argument.type.element, argument.type.key, *(kind for _, kind in argument.type.fields)):
        if inner is not None:
            _written(Literal(None, inner))


def _object(arguments: Arguments) -> tuple[Arguments, Type]:
    """What NULL does (a literal), then key, value, ..."""
    for key in arguments[1::2]:
        constant_text(key, "a key")
    for value in arguments[2::2]:
        _written(value)
    return arguments, STRING.with_nullable(False)


def _array(arguments: Arguments) -> tuple[Arguments, Type]:
    """What NULL does (a literal), then the values."""
    for value in arguments[1:]:
        _written(value)
    return arguments, STRING.with_nullable(False)


def _string(arguments: Arguments) -> tuple[Arguments, Type]:
    _written(arguments[0])
    return arguments, nullable(STRING, arguments)


JSON: list[Row] = [
    (
        "IS JSON",
        "x IS [NOT] JSON [VALUE|SCALAR|ARRAY|OBJECT]",
        "Whether it is JSON, of that kind.",
        never_null(fixed(STRING, returns=BOOLEAN)),
        2,
        2,
    ),
    (
        "JSON_EXISTS",
        "JSON_EXISTS(x, '$.path' [TRUE|FALSE|UNKNOWN|ERROR ON ERROR])",
        "Whether there is something.",
        _exists,
        2,
        3,
    ),
    (
        "JSON_VALUE",
        "JSON_VALUE(x, '$.path' [RETURNING type] [NULL|ERROR|DEFAULT v ON EMPTY] [... ON ERROR])",
        "A scalar in a JSON text, or NULL.",
        _value,
        2,
        7,
    ),
    (
        "JSON_QUERY",
        "JSON_QUERY(x, '$.path' [RETURNING ARRAY<STRING>] [WITH WRAPPER] [EMPTY ARRAY ON EMPTY] [... ON ERROR])",
        "An object or an array in a JSON text, or NULL.",
        _query,
        2,
        6,
    ),
    ("AS JSON", "JSON(x)", "Inside JSON_OBJECT and JSON_ARRAY: the text as JSON.", fixed(STRING, returns=STRING), 1, 1),
    ("JSON_OBJECT", "JSON_OBJECT('key' VALUE x, ... [ABSENT ON NULL])", "A JSON object.", _object, 1, None),
    ("JSON_ARRAY", "JSON_ARRAY(x, ... [NULL ON NULL])", "A JSON array.", _array, 1, None),
    ("JSON_STRING", "JSON_STRING(x)", "The value as JSON.", _string, 1, 1),
    ("JSON_QUOTE", "JSON_QUOTE(x)", "The text as a JSON string.", fixed(STRING, returns=STRING), 1, 1),
    ("JSON_UNQUOTE", "JSON_UNQUOTE(x)", "The text of a JSON string.", fixed(STRING, returns=STRING), 1, 1),
]
