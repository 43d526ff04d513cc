"""Typed expressions: what the binder makes of sqlglot's nodes and the engines compile. Pure values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qanat.model.functions import UserFunction
from qanat.model.types import Type

#: The zone of a session that has set none.
UTC = "UTC"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the node's input, by its (unique) name."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: bool, int, float, Decimal, str, bytes, None; dates and times as `datetime` objects;
    INTERVAL DAY TO SECOND as int milliseconds, INTERVAL YEAR TO MONTH as int months."""

    value: object
    type: Type


@dataclass(frozen=True, slots=True)
class Call:
    """A scalar function or operator. `function` is a name of `functions.FUNCTIONS` (upper case; operators as `+`, `=`,
    `AND`, `CASE`, `FIELD`, `ELEMENT`, ...). `user`: the user's scalar function that this calls (then `function` is its
    name). `zone`: the session's time zone, as `zones.zone_of` names it."""

    function: str
    args: tuple[Expression, ...]
    type: Type
    user: UserFunction | None = None
    zone: str = UTC


@dataclass(frozen=True, slots=True)
class Cast:
    """CAST, or TRY_CAST where `safe`. `zone`: as in `Call`."""

    arg: Expression
    type: Type
    safe: bool = False
    zone: str = UTC


Expression = Column | Literal | Call | Cast


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, outermost first."""
    yield expression
    match expression:
        case Call(args=args):
            for arg in args:
                yield from walk(arg)
        case Cast(arg=arg):
            yield from walk(arg)
        case Column() | Literal():
            return


def columns(expression: Expression) -> set[str]:
    """Names of all columns that the expression reads."""
    return {part.name for part in walk(expression) if isinstance(part, Column)}
