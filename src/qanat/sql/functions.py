"""Every scalar function and operator: what it takes, what it gives, and one line that says what it does.

A rule gets the bound arguments and gives back the arguments with the casts they need, and the result's type; it raises
`Mismatch` with the words for the error. How a function is computed is in `embedded/kernels.py`; a test holds the two
tables together. Aggregates are in `aggregates.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qanat.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, INT, STRING, Kind, Type, array, decimal
from qanat.sql.coercion import (
    APPROXIMATE,
    INTEGERS,
    NUMERIC,
    TIMESTAMPS,
    any_null,
    arithmetic_type,
    coerce,
    common_type,
)
from qanat.sql.expressions import Expression, Literal

Arguments = tuple[Expression, ...]
Rule = Callable[[Arguments], tuple[Arguments, Type]]

INTERVALS = (Kind.INTERVAL_DAY, Kind.INTERVAL_YEAR)
TIMES = (Kind.DATE, *TIMESTAMPS)


class Mismatch(Exception):  # noqa: N818  # never leaves this room: the binder makes a SqlError of it
    """The arguments do not fit; the text says what was found and expected."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True, slots=True)
class Function:
    """One function. `usage`: how it is written; `least`/`most`: how many arguments (None: any number)."""

    usage: str
    doc: str
    rule: Rule
    least: int
    most: int | None


def apply(name: str, arguments: Arguments) -> tuple[Arguments, Type]:
    """Arguments with casts, and the type of the call. Raises `Mismatch`; KeyError for a name not in the table."""
    function = FUNCTIONS[name]
    count = len(arguments)
    if count < function.least or (function.most is not None and count > function.most):
        raise Mismatch(f"{name} does not take {count} argument{'' if count == 1 else 's'}", f"write {function.usage}")
    try:
        return function.rule(arguments)
    except Mismatch as error:
        shown = name if name[0].isalpha() else f"`{name}`"
        raise Mismatch(f"{shown}: {error.message}", error.hint or f"write {function.usage}") from None


def _types(arguments: Sequence[Expression]) -> list[Type]:
    return [one.type for one in arguments]


def _nullable(result: Type, arguments: Sequence[Expression]) -> Type:
    return result.with_nullable(any_null(_types(arguments)))


def _want(argument: Expression, kinds: Sequence[Kind], what: str) -> None:
    if argument.type.kind not in (*kinds, Kind.NULL):
        raise Mismatch(f"expected {what}, found {argument.type.with_nullable(True)}")


def _fits(argument: Expression, wanted: Type) -> Expression:
    kind = argument.type.kind
    if kind is wanted.kind or kind is Kind.NULL:
        return coerce(argument, wanted) if kind is not wanted.kind else argument
    if kind in INTEGERS and wanted.kind in (*INTEGERS, *APPROXIMATE):
        if wanted.kind not in INTEGERS or INTEGERS.index(kind) <= INTEGERS.index(wanted.kind):
            return coerce(argument, wanted)
    elif kind in NUMERIC and wanted.kind in APPROXIMATE:
        return coerce(argument, wanted)
    raise Mismatch(f"expected {wanted}, found {argument.type.with_nullable(True)}", f"CAST(... AS {wanted})")


# --- rules -----------------------------------------------------------------------------------------------------


def _fixed(*wanted: Type, returns: Type, fails: bool = False) -> Rule:
    """Arguments of these types (the last repeats), a result of one type; `fails`: NULL also where it cannot be done."""

    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        cast = tuple(_fits(one, wanted[min(i, len(wanted) - 1)]) for i, one in enumerate(arguments))
        return cast, returns if fails else _nullable(returns, arguments)

    return rule


def _arithmetic(operator: str) -> Rule:
    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        left, right = arguments
        kinds = (left.type.kind, right.type.kind)
        if operator in "+-" and (set(kinds) & {*TIMES, *INTERVALS}):
            return _time_arithmetic(operator, left, right)
        if operator == "*" and Kind.INTERVAL_DAY in kinds:
            return _scaled_interval(left, right)
        for one in arguments:
            _want(one, NUMERIC, "a number")
        a, b = (one.type if one.type.kind is not Kind.NULL else INT for one in arguments)
        result = arithmetic_type(operator, a, b)
        if result.kind is Kind.DECIMAL:
            return arguments, _nullable(result, arguments)
        return tuple(coerce(one, result) for one in arguments), _nullable(result, arguments)

    return rule


def _time_arithmetic(operator: str, left: Expression, right: Expression) -> tuple[Arguments, Type]:
    arguments = (left, right)
    a, b = left.type.kind, right.type.kind
    if a in INTERVALS and b is a:
        return arguments, _nullable(Type(a), arguments)
    if a in TIMES and b in INTERVALS:
        return arguments, _nullable(left.type, arguments)
    if operator == "+" and a in INTERVALS and b in TIMES:
        return (right, left), _nullable(right.type, arguments)
    if operator == "-" and a in TIMESTAMPS and b is a:
        hint = "TIMESTAMPDIFF(SECOND, earlier, later)"
        raise Mismatch(f"{left.type.with_nullable(True)} - {right.type.with_nullable(True)} has no result type", hint)
    raise Mismatch(f"cannot compute {left.type.with_nullable(True)} {operator} {right.type.with_nullable(True)}")


def _scaled_interval(left: Expression, right: Expression) -> tuple[Arguments, Type]:
    interval, number = (left, right) if left.type.kind is Kind.INTERVAL_DAY else (right, left)
    if number.type.kind not in INTEGERS:
        raise Mismatch("an interval is multiplied by an integer")
    return (interval, coerce(number, BIGINT)), _nullable(Type(Kind.INTERVAL_DAY), (left, right))


def _negate(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[0], (*NUMERIC, *INTERVALS), "a number")
    return arguments, arguments[0].type


def comparable(left: Expression, right: Expression) -> tuple[Expression, Expression]:
    """Both sides as values of one type. Raises `Mismatch` where there is none."""
    a, b = left.type, right.type
    for text, time in ((left, b), (right, a)):
        if isinstance(text, Literal) and text.type.kind is Kind.STRING and time.kind in TIMES:
            return coerce(left, time.with_nullable(True)), coerce(right, time.with_nullable(True))
    both = common_type([a, b])
    if both is None:
        found = f"{a.with_nullable(True)} and {b.with_nullable(True)}"
        raise Mismatch(f"cannot compare {found}", f"CAST(... AS {_plain(a, b)})")
    return coerce(left, both), coerce(right, both)


def _plain(a: Type, b: Type) -> Type:
    return (b if a.kind is Kind.STRING else a).with_nullable(True)


def _compare(ordered: bool) -> Rule:
    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        cast = comparable(*arguments)
        if ordered and cast[0].type.kind in (Kind.ARRAY, Kind.MAP, Kind.ROW):
            raise Mismatch(f"values of {cast[0].type.kind.value} have no order")
        return cast, _nullable(BOOLEAN, arguments)

    return rule


def _distinct(arguments: Arguments) -> tuple[Arguments, Type]:
    return comparable(*arguments), BOOLEAN.with_nullable(False)


def _logic(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        _want(one, (Kind.BOOLEAN,), "a condition (BOOLEAN)")
    return tuple(coerce(one, BOOLEAN) for one in arguments), _nullable(BOOLEAN, arguments)


def _test(arguments: Arguments) -> tuple[Arguments, Type]:
    return arguments, BOOLEAN.with_nullable(False)


def _truth(arguments: Arguments) -> tuple[Arguments, Type]:
    return _logic(arguments)[0], BOOLEAN.with_nullable(False)


def _one_of(arguments: Arguments) -> tuple[Arguments, Type]:
    common = common_type(_types(arguments))
    if common is None:
        comparable(arguments[0], next(one for one in arguments if common_type([arguments[0].type, one.type]) is None))
        raise Mismatch("the values have no common type")
    return tuple(coerce(one, common) for one in arguments), _nullable(BOOLEAN, arguments)


def _common(arguments: Arguments) -> Type:
    common = common_type(_types(arguments))
    if common is None:
        found = ", ".join(str(one.type.with_nullable(True)) for one in arguments)
        raise Mismatch(f"no common type for {found}", "CAST the values to one type")
    return common


def _coalesce(arguments: Arguments) -> tuple[Arguments, Type]:
    common = _common(arguments)
    nullable = all(one.type.nullable or one.type.kind is Kind.NULL for one in arguments)
    return tuple(coerce(one, common) for one in arguments), common.with_nullable(nullable)


def _extreme(arguments: Arguments) -> tuple[Arguments, Type]:
    common = _common(arguments)
    return tuple(coerce(one, common) for one in arguments), _nullable(common, arguments)


def _nullif(arguments: Arguments) -> tuple[Arguments, Type]:
    comparable(*arguments)
    return arguments, arguments[0].type.with_nullable(True)


def _case(arguments: Arguments) -> tuple[Arguments, Type]:
    """condition, value, condition, value, ..., else."""
    last = len(arguments) - 1
    values = [one for i, one in enumerate(arguments) if i % 2 == 1 or i == last]
    common = _common(tuple(values))
    cast: list[Expression] = []
    for i, one in enumerate(arguments):
        if i % 2 == 1 or i == last:
            cast.append(coerce(one, common))
        else:
            _want(one, (Kind.BOOLEAN,), "a condition (BOOLEAN)")
            cast.append(coerce(one, BOOLEAN))
    return tuple(cast), common


def _same(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[0], NUMERIC, "a number")
    return arguments, arguments[0].type


def _round(arguments: Arguments) -> tuple[Arguments, Type]:
    value = arguments[0]
    _want(value, NUMERIC, "a number")
    rest = tuple(_fits(one, INT) for one in arguments[1:])
    kind = value.type
    if kind.kind is Kind.DECIMAL:
        places = rest[0].value if rest and isinstance(rest[0], Literal) else 0
        scale = min(max(int(str(places)), 0), kind.scale or 0)
        kind = decimal(min((kind.precision or 10) - (kind.scale or 0) + 1 + scale, 38), scale)
    return (value, *rest), _nullable(kind, arguments)


def _round_to(arguments: Arguments) -> tuple[Arguments, Type]:
    """FLOOR and CEIL of a number, or of a time TO a unit."""
    value = arguments[0]
    if len(arguments) == 2:
        _want(value, TIMES, "a time")
        return arguments, value.type
    _want(value, NUMERIC, "a number")
    if value.type.kind is Kind.DECIMAL:
        precision, scale = value.type.precision or 10, value.type.scale or 0
        whole = precision if scale == 0 else min(precision - scale + 1, 38)
        return arguments, decimal(whole, 0).with_nullable(value.type.nullable)
    return arguments, value.type


def _modulo(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        _want(one, NUMERIC, "a number")
    result = arithmetic_type("%", arguments[0].type, arguments[1].type)
    if result.kind is Kind.DECIMAL:
        return arguments, _nullable(result, arguments)
    return tuple(coerce(one, result) for one in arguments), _nullable(result, arguments)


def _texts(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        _want(one, (Kind.STRING,), "STRING")
    return tuple(coerce(one, STRING) for one in arguments), _nullable(STRING, arguments)


def _joined_texts(arguments: Arguments) -> tuple[Arguments, Type]:
    """CONCAT_WS: NULLs are left out, only a NULL separator gives NULL."""
    cast, _ = _texts(arguments)
    return cast, STRING.with_nullable(arguments[0].type.nullable)


def _to_ltz(arguments: Arguments) -> tuple[Arguments, Type]:
    value = arguments[0]
    _want(value, (*NUMERIC, Kind.STRING), "a number (and 0 or 3) or a string")
    result = Type(Kind.TIMESTAMP_LTZ, precision=3)
    if value.type.kind is Kind.STRING:
        return _fixed(STRING, returns=result, fails=True)(arguments)
    digits = arguments[1] if len(arguments) > 1 else Literal(3, INT.with_nullable(False))
    if not (isinstance(digits, Literal) and digits.value in (0, 3)):
        raise Mismatch("the precision is 0 (seconds) or 3 (milliseconds)", "TO_TIMESTAMP_LTZ(x, 3)")
    number = value if value.type.kind in (Kind.BIGINT, *APPROXIMATE, Kind.DECIMAL) else coerce(value, BIGINT)
    if number.type.kind is Kind.FLOAT:
        number = coerce(number, DOUBLE)
    return (number, digits), result


def _unit_difference(arguments: Arguments) -> tuple[Arguments, Type]:
    """TIMESTAMPDIFF(unit, from, to)."""
    for one in arguments[1:]:
        _want(one, TIMES, "a time")
    return arguments, _nullable(INT, arguments[1:])


def _unit_add(arguments: Arguments) -> tuple[Arguments, Type]:
    """TIMESTAMPADD(unit, count, time)."""
    unit, count, time = arguments
    _want(time, TIMES, "a time")
    result = time.type
    if time.type.kind is Kind.DATE and isinstance(unit, Literal) and unit.value in ("SECOND", "MINUTE", "HOUR"):
        result = Type(Kind.TIMESTAMP, precision=3)
        time = coerce(time, result)
    return (unit, _fits(count, BIGINT), time), _nullable(result, (count, time))


def _extract(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[1], (*TIMES, Kind.TIME), "a time")
    return arguments, _nullable(BIGINT, arguments[1:])


def _part_of_time(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[0], (*TIMES, Kind.TIME), "a time")
    return arguments, _nullable(BIGINT, arguments)


def _date_format(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[0], (*TIMESTAMPS, Kind.STRING), "a time")
    return (arguments[0], _fits(arguments[1], STRING)), _nullable(STRING, arguments)


def _to_date(arguments: Arguments) -> tuple[Arguments, Type]:
    return _fixed(STRING, returns=DATE, fails=True)(arguments)


def _cardinality(arguments: Arguments) -> tuple[Arguments, Type]:
    _want(arguments[0], (Kind.ARRAY, Kind.MAP), "an array or a map")
    return arguments, _nullable(INT, arguments)


def _array(arguments: Arguments) -> tuple[Arguments, Type]:
    common = _common(arguments)
    if common.kind is Kind.NULL:
        raise Mismatch("the type of the elements is not known", "ARRAY[CAST(NULL AS INT)]")
    return tuple(coerce(one, common) for one in arguments), array(common).with_nullable(False)


def _map(arguments: Arguments) -> tuple[Arguments, Type]:
    if len(arguments) % 2:
        raise Mismatch("keys and values come in pairs")
    key, value = _common(arguments[0::2]), _common(arguments[1::2])
    cast = tuple(coerce(one, value if i % 2 else key) for i, one in enumerate(arguments))
    return cast, Type(Kind.MAP, nullable=False, key=key, element=value)


def _row(arguments: Arguments) -> tuple[Arguments, Type]:
    fields = tuple((f"EXPR${i}", one.type) for i, one in enumerate(arguments))
    return arguments, Type(Kind.ROW, nullable=False, fields=fields)


def _field(arguments: Arguments) -> tuple[Arguments, Type]:
    row, name = arguments
    for field, kind in row.type.fields:
        if isinstance(name, Literal) and field == name.value:
            return arguments, kind.with_nullable(kind.nullable or row.type.nullable)
    raise Mismatch("no such field")


def _element(arguments: Arguments) -> tuple[Arguments, Type]:
    """array[index from 1], or map[key]."""
    whole, index = arguments
    _want(whole, (Kind.ARRAY, Kind.MAP), "an array or a map")
    result = (whole.type.element or whole.type).with_nullable(True)
    if whole.type.kind is Kind.MAP:
        return (whole, _fits(index, whole.type.key or STRING)), result
    if isinstance(index, Literal) and isinstance(index.value, int) and index.value < 1:
        raise Mismatch(f"an array's first element is 1, found {index.value}")
    return (whole, _fits(index, INT)), result


def _contains(arguments: Arguments) -> tuple[Arguments, Type]:
    whole, needle = arguments
    _want(whole, (Kind.ARRAY,), "an array")
    element = whole.type.element or whole.type
    both = common_type([element, needle.type])
    if both is None or both.with_nullable(True) != element.with_nullable(True):
        raise Mismatch(f"the array holds {element.with_nullable(True)}, found {needle.type.with_nullable(True)}")
    return (whole, coerce(needle, element)), BOOLEAN.with_nullable(whole.type.nullable)


def _json_value(arguments: Arguments) -> tuple[Arguments, Type]:
    path = arguments[1]
    if not isinstance(path, Literal) or not str(path.value).startswith(("$", "lax $", "strict $")):
        raise Mismatch("the path is a string such as '$.a.b[0]'")
    return (_fits(arguments[0], STRING), path), STRING


def _unix_timestamp(arguments: Arguments) -> tuple[Arguments, Type]:
    if not arguments:
        raise Mismatch("reads the wall clock, which a replay cannot repeat", "UNIX_TIMESTAMP(text)")
    return _fixed(STRING, returns=BIGINT)(arguments)


# --- the table --------------------------------------------------------------------------------------------------

_NUMBER: list[tuple[str, str, str, Rule, int, int | None]] = [
    ("+", "a + b", "Sum; integers wrap around. Also time + interval.", _arithmetic("+"), 2, 2),
    ("-", "a - b", "Difference. Also time - interval.", _arithmetic("-"), 2, 2),
    ("*", "a * b", "Product.", _arithmetic("*"), 2, 2),
    ("/", "a / b", "Quotient; of integers: an integer, cut towards zero.", _arithmetic("/"), 2, 2),
    ("%", "a % b", "Remainder, with the sign of a.", _modulo, 2, 2),
    ("NEGATE", "-a", "The number with its sign changed.", _negate, 1, 1),
    ("ABS", "ABS(x)", "Absolute value.", _same, 1, 1),
    ("SIGN", "SIGN(x)", "-1, 0 or 1, of the type of x.", _same, 1, 1),
    ("CEIL", "CEIL(x), CEIL(time TO unit)", "The next whole number, or unit of time.", _round_to, 1, 2),
    ("FLOOR", "FLOOR(x), FLOOR(time TO unit)", "The whole number, or unit of time, before.", _round_to, 1, 2),
    ("ROUND", "ROUND(x [, places])", "Rounded, halves away from zero.", _round, 1, 2),
    ("MOD", "MOD(a, b)", "Remainder, with the sign of a.", _modulo, 2, 2),
    ("SQRT", "SQRT(x)", "Square root.", _fixed(DOUBLE, returns=DOUBLE), 1, 1),
    ("POWER", "POWER(x, y)", "x to the power of y.", _fixed(DOUBLE, returns=DOUBLE), 2, 2),
    ("EXP", "EXP(x)", "e to the power of x.", _fixed(DOUBLE, returns=DOUBLE), 1, 1),
    ("LN", "LN(x)", "Natural logarithm.", _fixed(DOUBLE, returns=DOUBLE), 1, 1),
    ("LOG10", "LOG10(x)", "Logarithm to base 10.", _fixed(DOUBLE, returns=DOUBLE), 1, 1),
    ("LOG2", "LOG2(x)", "Logarithm to base 2.", _fixed(DOUBLE, returns=DOUBLE), 1, 1),
    ("GREATEST", "GREATEST(a, b, ...)", "The largest; NULL if any is NULL.", _extreme, 1, None),
    ("LEAST", "LEAST(a, b, ...)", "The smallest; NULL if any is NULL.", _extreme, 1, None),
]
_LOGIC: list[tuple[str, str, str, Rule, int, int | None]] = [
    ("=", "a = b", "Equal.", _compare(False), 2, 2),
    ("<>", "a <> b", "Not equal.", _compare(False), 2, 2),
    ("<", "a < b", "Less.", _compare(True), 2, 2),
    ("<=", "a <= b", "Less or equal.", _compare(True), 2, 2),
    (">", "a > b", "Greater.", _compare(True), 2, 2),
    (">=", "a >= b", "Greater or equal.", _compare(True), 2, 2),
    ("AND", "a AND b", "Both; NULL where that is not known.", _logic, 2, 2),
    ("OR", "a OR b", "Either; NULL where that is not known.", _logic, 2, 2),
    ("NOT", "NOT a", "The contrary; NULL stays NULL.", _logic, 1, 1),
    ("IS NULL", "x IS NULL", "Whether there is no value.", _test, 1, 1),
    ("IS NOT NULL", "x IS NOT NULL", "Whether there is a value.", _test, 1, 1),
    ("IS TRUE", "x IS TRUE", "TRUE; neither FALSE nor NULL.", _truth, 1, 1),
    ("IS FALSE", "x IS FALSE", "FALSE; neither TRUE nor NULL.", _truth, 1, 1),
    ("IS DISTINCT FROM", "a IS DISTINCT FROM b", "Not equal, where NULL equals NULL.", _distinct, 2, 2),
    ("IS NOT DISTINCT FROM", "a IS NOT DISTINCT FROM b", "Equal, where NULL equals NULL.", _distinct, 2, 2),
    ("IN", "x IN (a, b, ...)", "One of the values.", _one_of, 2, None),
    ("CASE", "CASE WHEN a THEN b ELSE c END", "The value of the first condition that holds.", _case, 3, None),
    ("COALESCE", "COALESCE(a, b, ...)", "The first that is not NULL.", _coalesce, 1, None),
    ("IFNULL", "IFNULL(a, b)", "a, or b where a is NULL.", _coalesce, 2, 2),
    ("NULLIF", "NULLIF(a, b)", "a, or NULL where a equals b.", _nullif, 2, 2),
]
_TEXT: list[tuple[str, str, str, Rule, int, int | None]] = [
    ("LIKE", "x LIKE 'a%_' [ESCAPE '\\']", "Matches the pattern.", _fixed(STRING, returns=BOOLEAN), 2, 3),
    ("||", "a || b", "One text after the other; NULL if any is NULL.", _texts, 2, 2),
    ("CONCAT", "CONCAT(a, b, ...)", "The texts in a row; NULL if any is NULL.", _texts, 1, None),
    ("CONCAT_WS", "CONCAT_WS(separator, a, ...)", "The texts that are not NULL, separated.", _joined_texts, 2, None),
    ("UPPER", "UPPER(x)", "In capitals.", _fixed(STRING, returns=STRING), 1, 1),
    ("LOWER", "LOWER(x)", "In small letters.", _fixed(STRING, returns=STRING), 1, 1),
    (
        "TRIM",
        "TRIM([BOTH|LEADING|TRAILING] [chars FROM] x)",
        "Without those at its ends.",
        _fixed(STRING, returns=STRING),
        3,
        3,
    ),
    ("LTRIM", "LTRIM(x)", "Without blanks in front.", _fixed(STRING, returns=STRING), 1, 1),
    ("RTRIM", "RTRIM(x)", "Without blanks behind.", _fixed(STRING, returns=STRING), 1, 1),
    ("CHAR_LENGTH", "CHAR_LENGTH(x)", "How many characters.", _fixed(STRING, returns=INT), 1, 1),
    (
        "SUBSTRING",
        "SUBSTRING(x FROM start [FOR length])",
        "A part; the first character is 1.",
        _fixed(STRING, INT, returns=STRING),
        2,
        3,
    ),
    ("LEFT", "LEFT(x, n)", "The first n characters.", _fixed(STRING, INT, returns=STRING), 2, 2),
    ("RIGHT", "RIGHT(x, n)", "The last n characters.", _fixed(STRING, INT, returns=STRING), 2, 2),
    ("REPLACE", "REPLACE(x, old, new)", "Every `old` by `new`.", _fixed(STRING, returns=STRING), 3, 3),
    ("REVERSE", "REVERSE(x)", "Back to front.", _fixed(STRING, returns=STRING), 1, 1),
    (
        "SPLIT_INDEX",
        "SPLIT_INDEX(x, separator, n)",
        "The part n, from 0; NULL if there is none.",
        _fixed(STRING, STRING, INT, returns=STRING, fails=True),
        3,
        3,
    ),
    (
        "REGEXP_EXTRACT",
        "REGEXP_EXTRACT(x, regex [, group])",
        "The first match, or NULL.",
        _fixed(STRING, STRING, INT, returns=STRING, fails=True),
        2,
        3,
    ),
    ("REGEXP_REPLACE", "REGEXP_REPLACE(x, regex, new)", "Every match by `new`.", _fixed(STRING, returns=STRING), 3, 3),
    ("LPAD", "LPAD(x, length, pad)", "Filled up in front, or cut.", _fixed(STRING, INT, STRING, returns=STRING), 3, 3),
    ("RPAD", "RPAD(x, length, pad)", "Filled up behind, or cut.", _fixed(STRING, INT, STRING, returns=STRING), 3, 3),
    (
        "POSITION",
        "POSITION(part IN x)",
        "Where `part` begins, from 1; 0 if nowhere.",
        _fixed(STRING, returns=INT),
        2,
        2,
    ),
    ("STARTSWITH", "STARTSWITH(x, start)", "Whether it begins so.", _fixed(STRING, returns=BOOLEAN), 2, 2),
    ("ENDSWITH", "ENDSWITH(x, end)", "Whether it ends so.", _fixed(STRING, returns=BOOLEAN), 2, 2),
    ("MD5", "MD5(x)", "The MD5 digest in hexadecimal.", _fixed(STRING, returns=STRING), 1, 1),
    ("SHA256", "SHA256(x)", "The SHA-256 digest in hexadecimal.", _fixed(STRING, returns=STRING), 1, 1),
    ("JSON_VALUE", "JSON_VALUE(x, '$.path')", "A scalar in a JSON text, or NULL.", _json_value, 2, 2),
]
_TIMESTAMP = Type(Kind.TIMESTAMP, precision=3)
_TIME: list[tuple[str, str, str, Rule, int, int | None]] = [
    ("TO_TIMESTAMP_LTZ", "TO_TIMESTAMP_LTZ(x, 0 or 3)", "The instant of an epoch in seconds or ms.", _to_ltz, 1, 2),
    (
        "TO_TIMESTAMP",
        "TO_TIMESTAMP(text [, format])",
        "The time that a text says, or NULL.",
        _fixed(STRING, returns=_TIMESTAMP, fails=True),
        1,
        2,
    ),
    ("TO_DATE", "TO_DATE(text [, format])", "The day that a text says, or NULL.", _to_date, 1, 2),
    (
        "FROM_UNIXTIME",
        "FROM_UNIXTIME(seconds [, format])",
        "The time as text, in UTC.",
        _fixed(BIGINT, STRING, returns=STRING),
        1,
        2,
    ),
    ("UNIX_TIMESTAMP", "UNIX_TIMESTAMP(text [, format])", "Seconds since 1970.", _unix_timestamp, 0, 2),
    ("EXTRACT", "EXTRACT(unit FROM time)", "One field of a time.", _extract, 2, 2),
    *[
        (unit, f"{unit}(time)", f"EXTRACT({unit} FROM time).", _part_of_time, 1, 1)
        for unit in (
            "YEAR",
            "QUARTER",
            "MONTH",
            "WEEK",
            "DAYOFYEAR",
            "DAYOFMONTH",
            "DAYOFWEEK",
            "HOUR",
            "MINUTE",
            "SECOND",
        )
    ],
    ("DATE_FORMAT", "DATE_FORMAT(time, 'yyyy-MM-dd HH:mm:ss')", "The time as text.", _date_format, 2, 2),
    ("TIMESTAMPDIFF", "TIMESTAMPDIFF(unit, from, to)", "Whole units between two times.", _unit_difference, 3, 3),
    ("TIMESTAMPADD", "TIMESTAMPADD(unit, count, time)", "The time, so many units later.", _unit_add, 3, 3),
]
_COLLECTION: list[tuple[str, str, str, Rule, int, int | None]] = [
    ("ARRAY", "ARRAY[a, b, ...]", "An array.", _array, 1, None),
    ("MAP", "MAP[key, value, ...]", "A map.", _map, 2, None),
    ("ROW", "ROW(a, b, ...)", "A row.", _row, 1, None),
    ("FIELD", "row.name", "A field of a row.", _field, 2, 2),
    ("ELEMENT", "array[1], map['key']", "An element; NULL if there is none.", _element, 2, 2),
    ("CARDINALITY", "CARDINALITY(x)", "How many elements.", _cardinality, 1, 1),
    ("ARRAY_CONTAINS", "ARRAY_CONTAINS(array, x)", "Whether x is in it.", _contains, 2, 2),
]

#: name -> function. Operators are named as they are written; `FIELD` and `ELEMENT` are `.` and `[]`.
FUNCTIONS: dict[str, Function] = {
    name: Function(usage, doc, rule, least, most)
    for name, usage, doc, rule, least, most in [*_NUMBER, *_LOGIC, *_TEXT, *_TIME, *_COLLECTION]
}

#: Other names of the same function.
ALIASES: dict[str, str] = {
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "CEILING": "CEIL",
    "LENGTH": "CHAR_LENGTH",
    "SUBSTR": "SUBSTRING",
}

#: Functions whose first argument is a unit of time.
UNIT_FIRST = ("TIMESTAMPDIFF", "TIMESTAMPADD", "EXTRACT")

#: Units that TIMESTAMPDIFF, TIMESTAMPADD, FLOOR and CEIL know.
TIME_UNITS = ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
#: Units that EXTRACT knows.
EXTRACT_UNITS = (
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "DOW",
    "DOY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "EPOCH",
)
