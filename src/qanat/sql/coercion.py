"""Which types become which by themselves: common types, implicit casts, the types of decimal arithmetic.

Source of the rules: Flink's LogicalTypeMerging and LogicalTypeCasts (2.x). Nothing here looks at SQL text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from qanat.model.types import BIGINT, DOUBLE, Kind, Type, decimal
from qanat.sql.expressions import Cast, Expression, Literal

INTEGERS = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
APPROXIMATE = (Kind.FLOAT, Kind.DOUBLE)
NUMERIC = (*INTEGERS, Kind.DECIMAL, *APPROXIMATE)
TIMESTAMPS = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)

_DIGITS = {Kind.TINYINT: 3, Kind.SMALLINT: 5, Kind.INT: 10, Kind.BIGINT: 19}
_MAX_PRECISION = 38


def any_null(types: Sequence[Type]) -> bool:
    """Whether any of the values may be NULL."""
    return any(one.nullable or one.kind is Kind.NULL for one in types)


def as_decimal(sql_type: Type) -> Type:
    """The DECIMAL that holds an exact number."""
    return decimal(_DIGITS[sql_type.kind], 0) if sql_type.kind in INTEGERS else sql_type


def _digits(sql_type: Type) -> tuple[int, int]:
    exact = as_decimal(sql_type)
    return exact.precision or 10, exact.scale or 0


def _fit(precision: int, scale: int) -> Type:
    """Flink's adjustPrecisionScale: digits before the point are kept, at most 6 after it are given up last."""
    if precision <= _MAX_PRECISION:
        return decimal(precision, scale)
    whole = precision - scale
    return decimal(_MAX_PRECISION, max(_MAX_PRECISION - whole, min(scale, 6)))


def arithmetic_type(operator: str, left: Type, right: Type) -> Type:
    """The type of `left operator right` for numbers; nullability is not looked at.

    >>> str(arithmetic_type("/", decimal(10, 2), decimal(5, 0)))
    'DECIMAL(16, 8)'
    """
    if left.kind in APPROXIMATE and right.kind in APPROXIMATE:
        # Flink takes the type of the left one
        return Type(left.kind)
    if Kind.DECIMAL not in (left.kind, right.kind) or left.kind in APPROXIMATE or right.kind in APPROXIMATE:
        return wider_number(left, right)
    (p1, s1), (p2, s2) = _digits(left), _digits(right)
    match operator:
        case "*":
            return _fit(p1 + p2 + 1, s1 + s2)
        case "/":
            scale = max(6, s1 + p2 + 1)
            return _fit(p1 - s1 + s2 + scale, scale)
        case "%":
            scale = max(s1, s2)
            return _fit(min(p1 - s1, p2 - s2) + scale, scale)
        case _:
            scale = max(s1, s2)
            return _fit(max(p1 - s1, p2 - s2) + scale + 1, scale)


def wider_number(left: Type, right: Type) -> Type:
    """The number type that both become: the wider integer, DECIMAL, or the approximate one."""
    kinds = (left.kind, right.kind)
    if Kind.DOUBLE in kinds or (Kind.FLOAT in kinds and Kind.DECIMAL in kinds):
        return DOUBLE
    if Kind.FLOAT in kinds:
        return Type(Kind.FLOAT)
    if Kind.DECIMAL in kinds:
        (p1, s1), (p2, s2) = _digits(left), _digits(right)
        scale = max(s1, s2)
        return decimal(min(_MAX_PRECISION, max(p1 - s1, p2 - s2) + scale), scale)
    return Type(max(kinds, key=INTEGERS.index))


def common_type(types: Sequence[Type]) -> Type | None:
    """The type that values of all these types become in CASE, COALESCE, UNION ALL, comparisons; None: there is none."""
    found: Type | None = None
    for one in types:
        if one.kind is Kind.NULL:
            continue
        found = one if found is None else _merge(found, one)
        if found is None:
            return None
    if found is None:
        return Type(Kind.NULL)
    return found.with_nullable(any_null(types))


def _merge(left: Type, right: Type) -> Type | None:
    if left.kind in NUMERIC and right.kind in NUMERIC:
        return left if left.with_nullable(True) == right.with_nullable(True) else wider_number(left, right)
    if left.kind is not right.kind:
        if {left.kind, right.kind} == set(TIMESTAMPS):
            digits = max(left.precision or 0, right.precision or 0)
            return Type(Kind.TIMESTAMP_LTZ, precision=digits)
        return None
    match left.kind:
        case Kind.STRING:
            lengths = (left.precision, right.precision)
            return replace(left, precision=None if None in lengths else max(left.precision or 0, right.precision or 0))
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ | Kind.TIME:
            return replace(left, precision=max(left.precision or 0, right.precision or 0))
        case Kind.ARRAY:
            element = common_type([left.element or left, right.element or right])
            return None if element is None else replace(left, element=element)
        case Kind.MAP:
            key = common_type([left.key or left, right.key or right])
            element = common_type([left.element or left, right.element or right])
            return None if key is None or element is None else replace(left, key=key, element=element)
        case Kind.ROW:
            return _merge_rows(left, right)
        case _:
            return left


def _merge_rows(left: Type, right: Type) -> Type | None:
    if len(left.fields) != len(right.fields):
        return None
    fields: list[tuple[str, Type]] = []
    for (name, one), (_, other) in zip(left.fields, right.fields, strict=True):
        kind = common_type([one, other])
        if kind is None:
            return None
        fields.append((name, kind))
    return replace(left, fields=tuple(fields))


def is_implicit(source: Type, target: Type) -> bool:
    """Whether a value of `source` may be stored in a column of `target` without CAST (Flink's implicit casts)."""
    if source.kind is Kind.NULL or source.with_nullable(True) == target.with_nullable(True):
        return True
    match source.kind, target.kind:
        case (a, b) if a in INTEGERS and b in INTEGERS:
            return INTEGERS.index(a) <= INTEGERS.index(b)
        case (a, b) if a in INTEGERS and b in (Kind.DECIMAL, *APPROXIMATE):
            return True
        case Kind.DECIMAL, (Kind.DECIMAL | Kind.FLOAT | Kind.DOUBLE):
            return True
        case Kind.FLOAT, Kind.DOUBLE:
            return True
        case (Kind.STRING, Kind.STRING) | (Kind.TIME, Kind.TIME) | (Kind.DATE, Kind.TIMESTAMP):
            return True
        case (a, b) if a in TIMESTAMPS and b in TIMESTAMPS:
            return True
        case Kind.ARRAY, Kind.ARRAY:
            return is_implicit(source.element or source, target.element or target)
        case Kind.MAP, Kind.MAP:
            inner = ((source.key, target.key), (source.element, target.element))
            return all(a is not None and b is not None and is_implicit(a, b) for a, b in inner)
        case Kind.ROW, Kind.ROW:
            same = len(source.fields) == len(target.fields)
            return same and all(is_implicit(a, b) for (_, a), (_, b) in zip(source.fields, target.fields, strict=True))
        case _:
            return False


def is_castable(source: Type, target: Type) -> bool:
    """Whether CAST exists between the two types."""
    if is_implicit(source, target):
        return True
    a, b = source.kind, target.kind
    plain = (*NUMERIC, Kind.BOOLEAN, Kind.STRING)
    if a in plain and b in plain:
        return True
    times = (Kind.DATE, Kind.TIME, *TIMESTAMPS)
    if b is Kind.STRING or (a is Kind.STRING and b in (*times, Kind.BYTES)):
        return True
    if (a in (*TIMESTAMPS, Kind.DATE, Kind.TIME) and b in TIMESTAMPS) or (a in TIMESTAMPS and b in times):
        return True
    if a is Kind.ARRAY and b is Kind.ARRAY:
        return is_castable(source.element or source, target.element or target)
    if a is Kind.ROW and b is Kind.ROW and len(source.fields) == len(target.fields):
        return all(is_castable(x, y) for (_, x), (_, y) in zip(source.fields, target.fields, strict=True))
    return False


def coerce(expression: Expression, target: Type) -> Expression:
    """The expression as a value of `target`: itself, a literal of that type, or a Cast. NULL stays possible."""
    source = expression.type
    if source.with_nullable(True) == target.with_nullable(True):
        return expression
    wanted = target.with_nullable(source.nullable or source.kind is Kind.NULL)
    if isinstance(expression, Literal):
        value = _literal_value(expression.value, target)
        if value is not None:
            return Literal(value, wanted)
        if expression.value is None:
            return Literal(None, wanted)
    if source.kind is Kind.STRING and target.kind is Kind.STRING and target.precision is None:
        return expression
    return Cast(expression, wanted)


def _literal_value(value: object, target: Type) -> object:
    if isinstance(value, datetime) and target.kind is Kind.TIMESTAMP:
        step = int(10 ** max(6 - (target.precision or 0), 0))
        return value.replace(microsecond=value.microsecond // step * step)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if target.kind in APPROXIMATE:
        return float(value)
    if target.kind is Kind.DECIMAL:
        return Decimal(value).quantize(Decimal(1).scaleb(-(target.scale or 0)))
    if target.kind in INTEGERS and isinstance(value, int):
        bits = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}[target.kind]
        return value if -(1 << bits) <= value < 1 << bits else None
    return None


def integer_literal_type(value: int) -> Type:
    """INT, BIGINT or DECIMAL: the first that holds the number."""
    if -(2**31) <= value < 2**31:
        return Type(Kind.INT, nullable=False)
    if -(2**63) <= value < 2**63:
        return BIGINT.with_nullable(False)
    return decimal(len(str(abs(value))), 0).with_nullable(False)
