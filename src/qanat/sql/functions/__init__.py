"""Every scalar function and operator: what it takes, what it gives, and one line that says what it does.

    signature     a row of the table, shared rules
    numbers, logic, texts, times, collections, json   the rows by topic

How a function is computed is in `embedded/kernels`; a test holds the two tables together. Aggregates are in
`aggregates.py`.
"""

from __future__ import annotations

from qanat.model.types import Type
from qanat.sql.functions.collections import COLLECTIONS
from qanat.sql.functions.json import JSON
from qanat.sql.functions.logic import LOGIC
from qanat.sql.functions.numbers import NUMBERS
from qanat.sql.functions.signature import (
    INTERVALS,
    TIMES,
    Arguments,
    Function,
    Mismatch,
    Row,
    Rule,
    common,
    comparable,
    fits,
)
from qanat.sql.functions.texts import CODINGS, PATTERNS, TEXTS
from qanat.sql.functions.times import TIME_FUNCTIONS

__all__ = [
    "ALIASES",
    "EXTRACT_UNITS",
    "FUNCTIONS",
    "INTERVALS",
    "TIMES",
    "TIME_UNITS",
    "UNIT_FIRST",
    "Arguments",
    "Function",
    "Mismatch",
    "Row",
    "Rule",
    "apply",
    "common",
    "comparable",
    "fits",
]

#: name -> function. Operators are named as they are written; `FIELD` and `ELEMENT` are `.` and `[]`.
FUNCTIONS: dict[str, Function] = {
    name: Function(usage, doc, rule, least, most)
    for table in (NUMBERS, LOGIC, TEXTS, PATTERNS, CODINGS, TIME_FUNCTIONS, COLLECTIONS, JSON)
    for name, usage, doc, rule, least, most in table
}

#: Other names of the same function.
ALIASES: dict[str, str] = {
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "CEILING": "CEIL",
    "LENGTH": "CHAR_LENGTH",
    "SUBSTR": "SUBSTRING",
    "TRANSLATE3": "TRANSLATE",
}

#: Functions whose first argument is a unit of time.
UNIT_FIRST = ("TIMESTAMPDIFF", "TIMESTAMPADD", "EXTRACT")

#: Units that TIMESTAMPDIFF, TIMESTAMPADD, FLOOR and CEIL know.
TIME_UNITS = ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
#: Units that EXTRACT knows.
EXTRACT_UNITS = (
    "NANOSECOND",
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "DOW",
    "ISODOW",
    "DOY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "ISOYEAR",
    "DECADE",
    "CENTURY",
    "MILLENNIUM",
    "EPOCH",
)


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
