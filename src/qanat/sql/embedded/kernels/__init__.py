"""Typed expressions -> polars expressions, with Flink's meaning: three-valued logic, wrapping integers, division cut
towards zero, errors where Flink has errors.

    __init__   dispatch, constants, the branches that must not fail when they are not taken
    casts      CAST and TRY_CAST
    numbers (with decimals), logic, texts, patterns, codings, times (with clock, zones), collections,
    json           one kernel per function of `qanat.sql.functions`

Columns of frames: `dtype_of(type)`. TIMESTAMP(3) is Datetime("ms"), TIMESTAMP_LTZ(3) Datetime("ms", "UTC"), ARRAY List,
ROW Struct, MAP List(Struct{key, value}), INTERVAL DAY TO SECOND Duration("ms"), INTERVAL YEAR TO MONTH Int32 (months).
"""

from __future__ import annotations

import polars as pl

from qanat.model.functions import UserFunction
from qanat.model.types import Kind, Type
from qanat.sql.embedded.kernels import casts, codings, collections, json, logic, numbers, patterns, texts, times, user
from qanat.sql.embedded.kernels.base import Kernel, dtype_of, literal
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal, columns, walk

__all__ = ["KERNELS", "dtype_of", "to_polars"]

#: name of a function -> its kernel. AND, OR, CASE and COALESCE are below: their arguments are not all looked at.
KERNELS: dict[str, Kernel] = {
    **logic.KERNELS,
    **numbers.KERNELS,
    **texts.KERNELS,
    **patterns.KERNELS,
    **codings.KERNELS,
    **times.KERNELS,
    **collections.KERNELS,
    **json.KERNELS,
}
#: Functions that raise `DataError` for some values.
_RAISES = {
    *("/", "%", "MOD"),
    *(name for module in (texts, patterns, codings, times, collections, json) for name in module.RAISES),
}


def to_polars(expression: Expression) -> pl.Expr:
    """The expression over a frame whose columns are the node's input. Evaluating it raises `DataError` (wrapped by
    polars as ComputeError where it must) for what Flink refuses: division by zero, CAST of a text that is no number."""
    return _compile(expression, None)


def _compile(expression: Expression, guard: pl.Expr | None) -> pl.Expr:
    """`guard`: rows for which the value matters; an error in another row is none."""
    match expression:
        case Column(name=name, type=kind):
            # maps that come out of Arrow are of polars' type Map, which has no functions of its own
            return pl.col(name).cast(dtype_of(kind)) if _has_map(kind) else pl.col(name)
        case Literal(value=value, type=kind):
            return literal(value, kind)
        case Cast() | Call() if guard is None and not columns(expression) and not _calls_user(expression):
            return _constant(expression)
        case Cast(arg=arg):
            return casts.cast(_compile(arg, guard), expression, guard)
        case Call(function="AND" | "OR"):
            return _logic(expression, guard)
        case Call(function="CASE"):
            return _case(expression, guard)
        case Call(function="COALESCE" | "IFNULL"):
            return _coalesce(expression, guard)
        case Call(user=UserFunction() as function, args=args):
            return user.call(function, [_compile(one, guard) for one in args])
        case Call(function=name, args=args):
            return KERNELS[name](expression, [_compile(one, guard) for one in args], guard)


def _has_map(kind: Type) -> bool:
    inner = (kind.element, *(one for _, one in kind.fields))
    return kind.kind is Kind.MAP or any(one is not None and _has_map(one) for one in inner)


def _calls_user(expression: Expression) -> bool:
    return any(isinstance(part, Call) and part.user is not None for part in walk(expression))


def _constant(expression: Cast | Call) -> pl.Expr:
    """Computed once, not once a batch."""
    dtype = dtype_of(expression.type)
    # a guard that is always TRUE keeps this from coming back here
    value = pl.DataFrame({"": [True]}).select(_compile(expression, pl.col("")).cast(dtype)).to_series()
    return pl.lit(value).first() if dtype.is_nested() else pl.lit(value.item(), dtype=dtype)


def _can_fail(expression: Expression) -> bool:
    for part in walk(expression):
        if isinstance(part, Call) and part.function in _RAISES:
            return True
        if isinstance(part, Cast) and not part.safe:
            return True
    return False


def _and(guard: pl.Expr | None, condition: pl.Expr) -> pl.Expr:
    return condition if guard is None else guard & condition


def _logic(call: Call, guard: pl.Expr | None) -> pl.Expr:
    left = _compile(call.args[0], guard)
    right_guard = guard
    if _can_fail(call.args[1]):
        decided = left.fill_null(call.function == "AND")
        right_guard = _and(guard, decided if call.function == "AND" else ~decided)
    right = _compile(call.args[1], right_guard)
    return left & right if call.function == "AND" else left | right


def _case(call: Call, guard: pl.Expr | None) -> pl.Expr:
    fails = _can_fail(call)
    rest = guard
    branches: list[tuple[pl.Expr, pl.Expr]] = []
    for i in range(0, len(call.args) - 1, 2):
        condition = _compile(call.args[i], rest).fill_null(False)
        taken = _and(rest, condition) if fails else guard
        branches.append((condition, _compile(call.args[i + 1], taken)))
        rest = _and(rest, ~condition) if fails else guard
    found = _compile(call.args[-1], rest)
    for condition, value in reversed(branches):
        found = pl.when(condition).then(value).otherwise(found)
    return found


def _coalesce(call: Call, guard: pl.Expr | None) -> pl.Expr:
    values: list[pl.Expr] = []
    rest = guard
    for one in call.args:
        value = _compile(one, rest)
        values.append(value)
        rest = _and(rest, value.is_null()) if _can_fail(call) else guard
    return pl.coalesce(values)
