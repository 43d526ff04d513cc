"""Rows as tables of text, `| a | b |`: reading them, and writing them aligned. Knows no types and no YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

from qanat.trial.cases import Row, Rows, Written

#: Called with a line and a message.
Fail = Callable[[int, str], NoReturn]

_RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")
_BAR = re.compile(r"(?<!\\)\|")


def parse_table(lines: Sequence[str], first: int, fail: Fail) -> Rows:
    """The rows of a table that begins at line `first` of its file. Blank lines and `# comments` are passed over."""
    header: list[str] | None = None
    rows: list[Row] = []
    for line, text in enumerate(lines, first):
        if is_aside(text):
            continue
        if not (text.strip().startswith("|") and text.strip().endswith("|")) or len(text.strip()) < 2:
            fail(line, f"a row of a table begins and ends with |, found {text.strip()!r}")
        if header is None:
            header = _header(text, line, fail)
        elif not (not rows and is_rule(text)):
            cells = split_row(text)
            if len(cells) != len(header):
                fail(line, f"expected {len(header)} cells ({', '.join(header)}), found {len(cells)}")
            rows.append(Row(line, dict(zip(header, map(Written, cells), strict=True))))
    if header is None:
        fail(first, "expected a table: first a line with the names of the columns, | like | this |")
    return Rows(first, tuple(header), tuple(rows))


def _header(text: str, line: int, fail: Fail) -> list[str]:
    names = split_row(text)
    for place, name in enumerate(names):
        if not name:
            fail(line, f"column {place + 1} of the table has no name")
        if name in names[:place]:
            fail(line, f"column {name} stands here twice")
    return names


def is_aside(text: str) -> bool:
    """Whether a line of a table is blank or a comment."""
    return not text.strip() or text.lstrip().startswith("#")


def is_rule(text: str) -> bool:
    """Whether a line is the rule that Markdown draws under a header."""
    return _RULE.fullmatch(text.strip()) is not None


def split_row(text: str) -> list[str]:
    r"""The cells of `| a | b |`; `\|` is a bar inside a cell.

    >>> split_row(r"| a | b\|c |  |")
    ['a', 'b|c', '']
    """
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(text.strip())[1:-1]]


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """The lines of a table, header first, aligned; columns whose places are in `right` to the right.

    >>> write_table(["k", "n"], [["a", "10"], ["bcd", "1"]], {1})
    ['| k   |  n |', '| a   | 10 |', '| bcd |  1 |']
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return [line(row) for row in cells]


def write_rule(header: str) -> str:
    """The rule of Markdown under a header line.

    >>> write_rule("| k   |  n |")
    '|-----|----|'
    """
    return re.sub(r"[^|]", "-", re.sub(r"\\\|", "--", header))
