"""What a function's row in the table is made of, and the rules that many functions share.

A rule gets the bound arguments and gives back the arguments with the casts they need, and the result's type; it raises
`Mismatch` with the words for the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qanat.model.types import BOOLEAN, STRING, Kind, Type
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC, TIMESTAMPS, any_null, coerce, common_type
from qanat.sql.expressions import Expression, Literal

Arguments = tuple[Expression, ...]
Rule = Callable[[Arguments], tuple[Arguments, Type]]
#: name, usage, doc, rule, least and most arguments
Row = tuple[str, str, str, Rule, int, int | None]

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


def types_of(arguments: Sequence[Expression]) -> list[Type]:
    """The types of the arguments."""
    return [one.type for one in arguments]


def nullable(result: Type, arguments: Sequence[Expression]) -> Type:
    """The type, NULL allowed where an argument may be NULL."""
    return result.with_nullable(any_null(types_of(arguments)))


def want(argument: Expression, kinds: Sequence[Kind], what: str) -> None:
    """Refuse an argument of another kind; NULL is of every kind."""
    if argument.type.kind not in (*kinds, Kind.NULL):
        raise Mismatch(f"expected {what}, found {argument.type.with_nullable(True)}")


def fits(argument: Expression, wanted: Type) -> Expression:
    """The argument as the wanted type, where Flink casts by itself."""
    kind = argument.type.kind
    if kind is wanted.kind or kind is Kind.NULL:
        return coerce(argument, wanted) if kind is not wanted.kind else argument
    if kind in INTEGERS and wanted.kind in (*INTEGERS, *APPROXIMATE):
        if wanted.kind not in INTEGERS or INTEGERS.index(kind) <= INTEGERS.index(wanted.kind):
            return coerce(argument, wanted)
    elif kind in NUMERIC and wanted.kind in APPROXIMATE:
        return coerce(argument, wanted)
    raise Mismatch(f"expected {wanted}, found {argument.type.with_nullable(True)}", f"CAST(... AS {wanted})")


def fixed(*wanted: Type, returns: Type, fails: bool = False) -> Rule:
    """Arguments of these types (the last repeats), a result of one type; `fails`: NULL also where no argument is."""

    def rule(arguments: Arguments) -> tuple[Arguments, Type]:
        cast = tuple(fits(one, wanted[min(i, len(wanted) - 1)]) for i, one in enumerate(arguments))
        return cast, returns if fails else nullable(returns, arguments)

    return rule


def never_null(rule: Rule) -> Rule:
    """The same, but NULL gives a value, too."""

    def changed(arguments: Arguments) -> tuple[Arguments, Type]:
        cast, result = rule(arguments)
        return cast, result.with_nullable(False)

    return changed


def common(arguments: Sequence[Expression]) -> Type:
    """The common type of the arguments, or `Mismatch`."""
    found = common_type(types_of(arguments))
    if found is None:
        shown = ", ".join(str(one.type.with_nullable(True)) for one in arguments)
        raise Mismatch(f"no common type for {shown}", "CAST the values to one type")
    return found


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
    return (b if a.kind in (Kind.STRING, Kind.DATE) else a).with_nullable(True)


def conditions(arguments: Arguments) -> tuple[Arguments, Type]:
    """BOOLEANs, and a BOOLEAN of them."""
    for one in arguments:
        want(one, (Kind.BOOLEAN,), "a condition (BOOLEAN)")
    return tuple(coerce(one, BOOLEAN) for one in arguments), nullable(BOOLEAN, arguments)


def constant_text(argument: Expression, what: str) -> str:
    """The value of an argument that must be a string literal."""
    if not (isinstance(argument, Literal) and isinstance(argument.value, str)):
        raise Mismatch(f"{what} must be a string literal")
    return argument.value


TEXT_TO_TEXT = fixed(STRING, returns=STRING)
