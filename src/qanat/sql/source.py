"""The text of a script: parameters put in, and places kept so that errors show what the user wrote.

Does not parse SQL; it only knows offsets, lines and columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from qanat.errors import SqlError, UnsupportedError
from qanat.model.functions import UserFunction

_PARAMETER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_.\-]*)\}")


@dataclass(frozen=True, slots=True)
class Source:
    """One file or string of SQL. `text`: as written; `sql`: with parameters put in; `shifts`: for every parameter
    (start in `sql`, end in `sql`, start in `text`, end in `text`), in order."""

    name: str
    text: str
    sql: str
    shifts: tuple[tuple[int, int, int, int], ...] = field(default=())
    #: Where the statement begins that is looked at: the place of errors that have none of their own.
    start: int = 0
    #: The user's functions that this text may call, by name.
    functions: Mapping[str, UserFunction] = field(default_factory=dict)

    def original(self, offset: int) -> int:
        """The offset in the text as written of an offset in the substituted text."""
        shift = 0
        for start, end, first, last in self.shifts:
            if offset < start:
                break
            if offset < end:
                return first
            shift = last - end
        return offset + shift

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of an offset in the substituted text."""
        return _line_column(self.text, self.original(offset))

    def error(self, message: str, at: int | None, hint: str | None = None) -> SqlError:
        """The SQL is wrong at this offset."""
        line, column = self.place(self.start if at is None else at)
        return SqlError(message, sql=self.text, line=line, column=column, source=self.name, hint=hint)

    def unsupported(self, message: str, at: int | None, hint: str | None = None) -> UnsupportedError:
        """Right in Flink, refused here."""
        line, column = self.place(self.start if at is None else at)
        return UnsupportedError(message, sql=self.text, line=line, column=column, source=self.name, hint=hint)

    def excerpt(self, start: int, end: int) -> str:
        """The text as written between two offsets of the substituted text."""
        return self.text[self.original(start) : self.original(end)].strip()


def _line_column(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def read_source(text: str, params: Mapping[str, str], name: str) -> Source:
    """Put the parameters in. Raises `SqlError` at the first `${NAME}` that `params` lacks.

    >>> read_source("SELECT ${n}", {"n": "15"}, "q.sql").sql
    'SELECT 15'
    """
    parts: list[str] = []
    shifts: list[tuple[int, int, int, int]] = []
    length = last = 0
    for match in _PARAMETER.finditer(text):
        key = match.group(1)
        if key not in params:
            line, column = _line_column(text, match.start())
            message = f"parameter ${{{key}}} has no value"
            hint = near(key, params) or f"--param {key}=VALUE"
            raise SqlError(message, sql=text, line=line, column=column, source=name, hint=hint)
        parts += (text[last : match.start()], params[key])
        start = length + match.start() - last
        length, last = start + len(params[key]), match.end()
        shifts.append((start, length, match.start(), match.end()))
    parts.append(text[last:])
    return Source(name, text, "".join(parts), tuple(shifts))


def near(name: str, known: Mapping[str, object] | list[str]) -> str | None:
    """`did you mean ...` for a name that is not known, or None."""
    lowered = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.6)
    return "did you mean " + " or ".join(f"`{lowered[one]}`" for one in found) + "?" if found else None
