"""Java's patterns for times (`yyyy-MM-dd HH:mm:ss`) as strftime's. Raises ValueError for unknown letters."""

from __future__ import annotations

import re

_LETTERS = {
    "yyyy": "%Y", "uuuu": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "MMM": "%b", "MMMM": "%B",
    "dd": "%d", "d": "%-d", "DDD": "%j", "EEE": "%a", "EEEE": "%A", "e": "%u",
    "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "a": "%p", "mm": "%M", "m": "%-M",
    "ss": "%S", "s": "%-S", "SSS": "%3f", "SSSSSS": "%6f",
}  # fmt: skip


def strftime(pattern: str) -> str:
    """The pattern for polars.

    >>> strftime("yyyy-MM-dd'T'HH:mm:ss.SSS")
    '%Y-%m-%dT%H:%M:%S.%3f'
    """
    parts: list[str] = []
    for part in _tokens(pattern):
        if part == "''":
            parts.append("'")
        elif part.startswith("'"):
            parts.append(part[1:-1].replace("''", "'").replace("%", "%%"))
        elif part[0].isalpha():
            if part not in _LETTERS:
                raise ValueError(f"the pattern letters `{part}` are not known")
            parts.append(_LETTERS[part])
        else:
            parts.append(part.replace("%", "%%"))
    return "".join(parts)


def _tokens(pattern: str) -> list[str]:
    return [match.group(0) for match in re.finditer(r"'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']+", pattern)]
