"""Arithmetic and functions of numbers: the rules of their types."""

from __future__ import annotations

from qanat.model.types import BIGINT, DOUBLE, INT, STRING, Kind, Type, decimal
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC, arithmetic_type, coerce
from qanat.sql.expressions import Expression, Literal
from qanat.sql.functions.signature import INTERVALS, TIMES, Arguments, Mismatch, Row, Rule, fits, fixed, nullable, want


def _arithmetic(operator: str) -> Rule:
    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        left, right = arguments
        kinds = (left.type.kind, right.type.kind)
        if operator in "+-" and (set(kinds) & {*TIMES, *INTERVALS, Kind.TIME}):
            return _time_arithmetic(operator, left, right)
        if operator in "*/" and set(kinds) & set(INTERVALS):
            return _scaled_interval(operator, left, right)
        for one in arguments:
            want(one, NUMERIC, "a number")
        a, b = (one.type if one.type.kind is not Kind.NULL else INT for one in arguments)
        result = arithmetic_type(operator, a, b)
        if result.kind is Kind.DECIMAL:
            return arguments, nullable(result, arguments)
        return tuple(coerce(one, result) for one in arguments), nullable(result, arguments)

    return rule


def _time_arithmetic(operator: str, left: Expression, right: Expression) -> tuple[Arguments, Type]:
    arguments = (left, right)
    a, b = left.type.kind, right.type.kind
    if a in INTERVALS and b is a:
        return arguments, nullable(Type(a), arguments)
    if a in (*TIMES, Kind.TIME) and b in INTERVALS:
        if a is Kind.TIME and b is Kind.INTERVAL_YEAR:
            raise Mismatch("a time of day has no months")
        return arguments, nullable(left.type, arguments)
    if operator == "+" and a in INTERVALS and b in (*TIMES, Kind.TIME):
        return (right, left), nullable(right.type, arguments)
    if operator == "-" and a in TIMES and b in TIMES:
        hint = "TIMESTAMPDIFF(SECOND, earlier, later)"
        raise Mismatch(f"{left.type.with_nullable(True)} - {right.type.with_nullable(True)} has no result type", hint)
    raise Mismatch(f"cannot compute {left.type.with_nullable(True)} {operator} {right.type.with_nullable(True)}")


def _scaled_interval(operator: str, left: Expression, right: Expression) -> tuple[Arguments, Type]:
    interval, number = (left, right) if left.type.kind in INTERVALS else (right, left)
    if operator == "/":
        raise Mismatch("an interval is not divided")
    if number.type.kind not in INTEGERS:
        raise Mismatch("an interval is multiplied by an integer")
    return (interval, coerce(number, BIGINT)), nullable(Type(interval.type.kind), (left, right))


def _negate(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (*NUMERIC, *INTERVALS), "a number")
    return arguments, arguments[0].type


def _same(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], NUMERIC, "a number")
    return arguments, arguments[0].type


def _cut(arguments: Arguments) -> tuple[Arguments, Type]:
    """ROUND and TRUNCATE: there may be a digit more before the point."""
    value = arguments[0]
    want(value, NUMERIC, "a number")
    rest = tuple(fits(one, INT) for one in arguments[1:])
    if rest and not (isinstance(rest[0], Literal) and isinstance(rest[0].value, int)):
        raise Mismatch("the places must be a literal")
    kind = value.type
    if kind.kind is Kind.DECIMAL:
        places = int(str(rest[0].value)) if rest and isinstance(rest[0], Literal) else 0
        precision, scale = kind.precision or 10, kind.scale or 0
        if places < scale:
            left = max(places, 0)
            kind = decimal(min(precision - scale + 1 + left, 38), left)
    return (value, *rest), nullable(kind, arguments)


def _round_to(arguments: Arguments) -> tuple[Arguments, Type]:
    """FLOOR and CEIL of a number, or of a time TO a unit."""
    value = arguments[0]
    if len(arguments) == 2:
        want(value, (*TIMES, Kind.TIME), "a time")
        return arguments, value.type
    want(value, NUMERIC, "a number")
    if value.type.kind is Kind.DECIMAL:
        return arguments, decimal(value.type.precision or 10, 0).with_nullable(value.type.nullable)
    return arguments, value.type


def _modulo(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        want(one, NUMERIC, "a number")
        if one.type.kind in APPROXIMATE:
            raise Mismatch("a remainder is that of exact numbers", "CAST(x AS DECIMAL(20, 6))")
    result = arithmetic_type("%", *(one.type if one.type.kind is not Kind.NULL else INT for one in arguments))
    if result.kind is Kind.DECIMAL:
        return arguments, nullable(result, arguments)
    # Flink's result is of the type of the divisor, whatever the type of the dividend
    result = Type(result.kind) if arguments[1].type.kind is Kind.NULL else Type(arguments[1].type.kind)
    return arguments, nullable(result, arguments)


def _logarithm(arguments: Arguments) -> tuple[Arguments, Type]:
    return fixed(DOUBLE, returns=DOUBLE)(arguments)


def _in_base(arguments: Arguments) -> tuple[Arguments, Type]:
    """BIN(integer), HEX(integer or text)."""
    if arguments[0].type.kind is Kind.STRING:
        return arguments, nullable(STRING, arguments)
    return fixed(BIGINT, returns=STRING)(arguments)


_REAL = fixed(DOUBLE, returns=DOUBLE)

NUMBERS: list[Row] = [
    ("+", "a + b", "Sum; integers wrap around. Also time + interval.", _arithmetic("+"), 2, 2),
    ("-", "a - b", "Difference. Also time - interval.", _arithmetic("-"), 2, 2),
    ("*", "a * b", "Product. Also interval * integer.", _arithmetic("*"), 2, 2),
    ("/", "a / b", "Quotient; of integers: an integer, cut towards zero.", _arithmetic("/"), 2, 2),
    ("%", "a % b", "Remainder of exact numbers, with the sign of a.", _modulo, 2, 2),
    ("NEGATE", "-a", "The number with its sign changed.", _negate, 1, 1),
    ("ABS", "ABS(x)", "Absolute value.", _same, 1, 1),
    ("SIGN", "SIGN(x)", "-1, 0 or 1, of the type of x.", _same, 1, 1),
    ("CEIL", "CEIL(x), CEIL(time TO unit)", "The next whole number, or unit of time.", _round_to, 1, 2),
    ("FLOOR", "FLOOR(x), FLOOR(time TO unit)", "The whole number, or unit of time, before.", _round_to, 1, 2),
    ("ROUND", "ROUND(x [, places])", "Rounded, halves away from zero.", _cut, 1, 2),
    ("TRUNCATE", "TRUNCATE(x [, places])", "Cut towards zero.", _cut, 1, 2),
    ("MOD", "MOD(a, b)", "Remainder of exact numbers, with the sign of a.", _modulo, 2, 2),
    ("SQRT", "SQRT(x)", "Square root.", _REAL, 1, 1),
    ("POWER", "POWER(x, y)", "x to the power of y.", _REAL, 2, 2),
    ("EXP", "EXP(x)", "e to the power of x.", _REAL, 1, 1),
    ("LN", "LN(x)", "Natural logarithm.", _REAL, 1, 1),
    ("LOG", "LOG([base,] x)", "Logarithm to the base, or the natural one.", _logarithm, 1, 2),
    ("LOG10", "LOG10(x)", "Logarithm to base 10.", _REAL, 1, 1),
    ("LOG2", "LOG2(x)", "Logarithm to base 2.", _REAL, 1, 1),
    ("SIN", "SIN(x)", "Sine of an angle in radians.", _REAL, 1, 1),
    ("COS", "COS(x)", "Cosine.", _REAL, 1, 1),
    ("TAN", "TAN(x)", "Tangent.", _REAL, 1, 1),
    ("COT", "COT(x)", "Cotangent.", _REAL, 1, 1),
    ("ASIN", "ASIN(x)", "Arc sine.", _REAL, 1, 1),
    ("ACOS", "ACOS(x)", "Arc cosine.", _REAL, 1, 1),
    ("ATAN", "ATAN(x)", "Arc tangent.", _REAL, 1, 1),
    ("ATAN2", "ATAN2(y, x)", "The angle of the point (x, y).", _REAL, 2, 2),
    ("SINH", "SINH(x)", "Hyperbolic sine.", _REAL, 1, 1),
    ("COSH", "COSH(x)", "Hyperbolic cosine.", _REAL, 1, 1),
    ("TANH", "TANH(x)", "Hyperbolic tangent.", _REAL, 1, 1),
    ("DEGREES", "DEGREES(x)", "Radians as degrees.", _REAL, 1, 1),
    ("RADIANS", "RADIANS(x)", "Degrees as radians.", _REAL, 1, 1),
    ("PI", "PI()", "3.141592653589793.", _REAL, 0, 0),
    ("E", "E()", "2.718281828459045.", _REAL, 0, 0),
    ("BIN", "BIN(n)", "The integer in base 2.", fixed(BIGINT, returns=STRING), 1, 1),
    ("HEX", "HEX(x)", "The integer, or the bytes of the text, in base 16.", _in_base, 1, 1),
]
