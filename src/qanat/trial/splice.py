"""`--update`: found rows in the place of expected ones, and nothing else in the file changed by a byte.

Comments inside a table or list stay before the row that they stood before, as far as it is still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from qanat.model.types import Type
from qanat.trial.cases import OP, Spot
from qanat.trial.cells import NUMBERS, as_yaml, show
from qanat.trial.contents import Found
from qanat.trial.tables import is_aside, is_rule, write_rule, write_table


@dataclass(frozen=True, slots=True)
class Change:
    """What is to stand at a spot: rows, or a word (a count, a watermark)."""

    spot: Spot
    rows: Found | None
    kinds: tuple[Type | None, ...] = ()
    date: str | None = None
    word: str = ""


def splice(text: str, changes: Sequence[Change]) -> str:
    """The text of a case file with every change made."""
    newline = "\r\n" if "\r\n" in text else "\n"
    for change in sorted(changes, key=lambda one: one.spot.start, reverse=True):
        start, end = change.spot.start, change.spot.end
        made, below = _made(text[start:end], change)
        if start == end and not text[:start].endswith((" ", "\n")):
            made = f" {made}"
        if below:  # behind a comment that stands on the line
            rest = text[end:].split(newline, 1)[0]
            made, end = "\n".join([made + rest, *below]), end + len(rest)
        text = text[:start] + made.replace("\n", newline) + text[end:]
    return text


def _made(old: str, change: Change) -> tuple[str, list[str]]:
    """The new text of a spot, and lines to stand below the line that it is on."""
    spot, rows = change.spot, change.rows
    if rows is None:
        return change.word, []
    inner = " " * (spot.indent + 2)
    if spot.form == "table":
        return "\n".join(_table_lines(old, change, rows)), []
    if spot.form == "list":
        return "\n".join(_list_lines(old, change, rows)), []
    if not rows.rows:
        return "[]", []
    if spot.flow:
        return "[" + ", ".join(_flow(change, rows, number) for number in range(len(rows.rows))) + "]", []
    return "|", [inner + line for line in _fresh_table(change, rows)]


def _fresh_table(change: Change, rows: Found) -> list[str]:
    columns = [*([OP] if rows.ops else []), *rows.columns]
    cells = [
        [show(value, kind, change.date) for value, kind in zip(row, change.kinds, strict=True)] for row in rows.rows
    ]
    if rows.ops:
        cells = [[op, *row] for op, row in zip(rows.ops, cells, strict=True)]
    first = len(columns) - len(rows.columns)
    right = {first + n for n, kind in enumerate(change.kinds) if kind is not None and kind.kind in NUMBERS}
    return write_table(columns, cells, right)


def _table_lines(old: str, change: Change, rows: Found) -> list[str]:
    """The table anew, aligned; its comments, blank lines and rule where they were."""
    before = [line.rstrip("\r") for line in old.split("\n")]
    filled = [line for line in before if not is_aside(line)]
    indent = filled[0][: len(filled[0]) - len(filled[0].lstrip())]
    header, *fresh = _fresh_table(change, rows)
    body = [line for line in filled[1:] if not is_rule(line)]
    moved = _moved([_bare(line) for line in body], [_bare(line) for line in fresh])
    asides: dict[int, list[str]] = {}
    number = -1  # of the row that follows; the header is row -1
    for line in before:
        if is_aside(line):
            asides.setdefault(-1 if number < 0 else moved[number], []).append(line)
        elif not is_rule(line) or number < 0:
            number += 1
    ruled = any(is_rule(line) for line in filled[1:2])
    lines = [*asides.get(-1, []), indent + header, *([indent + write_rule(header)] if ruled else [])]
    for place, line in enumerate(fresh):
        lines += [*asides.get(place, []), indent + line]
    return [*lines, *(line for place, some in asides.items() if place >= len(fresh) for line in some)]


def _bare(line: str) -> str:
    """A row of a table without the blanks that align it."""
    return "|".join(part.strip() for part in line.strip().split("|"))


def _moved(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """For each old row (and the end) the new one whose place it takes."""
    places = [0] * (len(before) + 1)
    for _, first, last, start, stop in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for place in range(first, last):
            places[place] = min(start + place - first, stop)
    places[-1] = len(after)
    return places


def _list_lines(old: str, change: Change, rows: Found) -> list[str]:
    """The list anew: items that stay keep their lines (and comments), others are flow mappings on a line each."""
    lines = [line.rstrip("\r") for line in old.split("\n")]
    first = change.spot.items[0]
    starts = [item - first for item in change.spot.items]
    spans = [lines[start:stop] for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True)]
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    fresh = [f"{indent}- {_flow(change, rows, number)}" for number in range(len(rows.rows))]
    known = [_tidy(span) for span in spans]
    made: list[str] = []
    for tag, a, b, c, d in SequenceMatcher(None, known, [_tidy([one]) for one in fresh], autojunk=False).get_opcodes():
        if tag == "equal":
            made += [line for span in spans[a:b] for line in span]
            continue
        made += fresh[c:d]
        made += [line for span in spans[a:b] for line in span if line.lstrip().startswith("#")]
    return made or [f"{indent}[]"]


def _tidy(span: Sequence[str]) -> str:
    """An item without comments and blanks, to tell whether it is the same."""
    kept = [line for line in span if line.strip() and not line.lstrip().startswith("#")]
    text = "".join(kept).partition(" #")[0] if len(kept) == 1 else "".join(kept)
    return "".join(text.split())


def _flow(change: Change, rows: Found, number: int) -> str:
    cells = [
        f"{name}: {as_yaml(value, kind, change.date)}"
        for name, value, kind in zip(rows.columns, rows.rows[number], change.kinds, strict=True)
    ]
    return "{" + ", ".join([*([f"{OP}: {rows.ops[number]}"] if rows.ops else []), *cells]) + "}"
