"""Diffs as text for people: aligned tables, `-` before missing rows, `+` before unexpected ones, changed cells marked.

With colours, missing is red, unexpected green, changed cells are inverted; without, a line of `^` stands below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qanat.model.types import Type
from qanat.trial.cells import NUMBERS, show
from qanat.trial.compare import Diff, Entry

_RED, _GREEN, _DIM, _INVERSE, _BOLD, _RESET = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[7m", "\x1b[1m", "\x1b[0m"
#: So many rows that agree are shown around rows that do not.
_AROUND = 3
#: A cell is cut after so many characters, and a diff after so many lines.
_WIDEST, _LONGEST = 60, 200


@dataclass(frozen=True, slots=True)
class Paint:
    """How text is dressed."""

    colour: bool

    def dress(self, text: str, *styles: str) -> str:
        """The text in these styles, or as it is."""
        return f"{''.join(styles)}{text}{_RESET}" if self.colour and styles else text

    def red(self, text: str) -> str:
        """What is missing, or failed."""
        return self.dress(text, _RED)

    def green(self, text: str) -> str:
        """What was not expected, or passed."""
        return self.dress(text, _GREEN)

    def dim(self, text: str) -> str:
        """What may be passed over."""
        return self.dress(text, _DIM)

    def bold(self, text: str) -> str:
        """What should be read first."""
        return self.dress(text, _BOLD)


def render(diff: Diff, kinds: Sequence[Type | None], date: str | None, paint: Paint) -> list[str]:
    """The lines of a diff."""
    shown = [_cut(entry, kinds, date) for entry in diff.entries]
    header = [*(["op"] if any(entry.op for entry in diff.entries) else []), *diff.columns]
    widths = [max(len(row[place]) for row in (header, *shown)) for place in range(len(header))]
    first = len(header) - len(diff.columns)
    right = {first + place for place, kind in enumerate(kinds) if kind is not None and kind.kind in NUMBERS}
    lines = [paint.dim("  " + _line(header, widths, right))]
    kept = _near(diff.entries)
    for place, (entry, row) in enumerate(zip(diff.entries, shown, strict=True)):
        if place not in kept:
            if place - 1 in kept or place == 0:
                lines.append(paint.dim("  ..."))
            continue
        lines += _entry_lines(entry, row, widths, right, first, paint)
        if len(lines) > _LONGEST:
            return [*lines, paint.dim(f"  ... {len(diff.entries) - place - 1} more")]
    return lines


def _cut(entry: Entry, kinds: Sequence[Type | None], date: str | None) -> list[str]:
    texts = [show(value, kind, date) for value, kind in zip(entry.values, kinds, strict=True)]
    texts = [text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…" for text in texts]
    return [entry.op, *texts] if entry.op else texts


def _near(entries: Sequence[Entry]) -> set[int]:
    """Places of rows that differ, and of those around them."""
    differing = [place for place, entry in enumerate(entries) if entry.mark != " "]
    return {near for place in differing for near in range(place - _AROUND, place + _AROUND + 1)}


def _line(cells: Sequence[str], widths: Sequence[int], right: set[int]) -> str:
    return "| " + " | ".join(_pad(cell, widths[n], n in right) for n, cell in enumerate(cells)) + " |"


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _entry_lines(
    entry: Entry, row: Sequence[str], widths: Sequence[int], right: set[int], first: int, paint: Paint
) -> list[str]:
    if entry.mark == " ":
        return ["  " + _line(row, widths, right)]
    style = _RED if entry.mark == "-" else _GREEN
    changed = {first + place for place in entry.changed}
    cells = []
    for place, cell in enumerate(row):
        padded = _pad(cell, widths[place], place in right)
        marked = place in changed and paint.colour
        cells.append(paint.dress(padded, style, _INVERSE) if marked else paint.dress(padded, style))
    bar = paint.dress(" | ", style)
    text = paint.dress(f"{entry.mark} | ", style) + bar.join(cells) + paint.dress(" |", style)
    if not changed or entry.mark == "-" or paint.colour:
        return [text]
    below = [("^" * max(len(row[n]), 1) if n in changed else "") for n in range(len(row))]
    return [text, ("    " + "   ".join(_pad(one, widths[n], n in right) for n, one in enumerate(below))).rstrip()]
