"""Java's regular expressions as Python's, and where it means the same as Rust's, which polars runs over whole columns.

What differs and is translated: classes (nested, `&&`, properties), `\\d \\w \\s` (ASCII in Java), `.` and `$` (which
know more line ends), `\\Q..\\E`, `\\h \\R \\z \\Z`, named groups, look-behinds of several lengths, a leading `(?ims)`.
Not translated: flags in the middle, `\\G`, `\\X`. Source: the documentation of java.util.regex.Pattern.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

Ranges = tuple[tuple[int, int], ...]

_LINE_ENDS = ((0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029))
_END = r"(?=(?:\r\n|[\n\r\x85\u2028\u2029])?\Z)"
_DIGIT: Ranges = ((0x30, 0x39),)
_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Ranges = ((0x09, 0x0D), (0x20, 0x20))
_HORIZONTAL: Ranges = (
    (0x09, 0x09), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200A),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
_VERTICAL: Ranges = ((0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE, "h": _HORIZONTAL, "v": _VERTICAL}
_CHARACTERS = {"t": 9, "n": 10, "r": 13, "f": 12, "a": 7, "e": 27}
_POSIX: dict[str, Ranges] = {
    "Lower": ((0x61, 0x7A),),
    "Upper": ((0x41, 0x5A),),
    "ASCII": ((0, 0x7F),),
    "Alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "Digit": _DIGIT,
    "Alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "Punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "Graph": ((0x21, 0x7E),),
    "Print": ((0x20, 0x7E),),
    "Blank": ((0x09, 0x09), (0x20, 0x20)),
    "Cntrl": ((0, 0x1F), (0x7F, 0x7F)),
    "XDigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
    "Space": _SPACE,
}
_BINARY = {
    "Alphabetic": ("L", "Nl"),
    "Letter": ("L",),
    "Lowercase": ("Ll",),
    "Uppercase": ("Lu",),
    "Titlecase": ("Lt",),
    "Digit": ("Nd",),
    "Punctuation": ("P",),
    "White_Space": ("Z",),
    "Control": ("Cc",),
}
_META = set("\\^$.|?*+()[]{}")


class NotTranslatedError(ValueError):
    """Right in Java, not known here."""


@dataclass(frozen=True, slots=True)
class Regex:
    """One pattern. `rust`: the same for polars; None where Rust's engine has no such thing."""

    pattern: re.Pattern[str]
    rust: str | None

    @property
    def groups(self) -> int:
        """How many groups it has."""
        return self.pattern.groups


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Regex | None:
    """The pattern, or None where Java refuses it. Raises `NotTranslatedError`."""
    try:
        translation = _Translation(pattern)
        translation.run()
        made = re.compile(translation.flagged("".join(translation.python)))
    except NotTranslatedError:
        raise
    except (ValueError, IndexError, re.error):
        return None
    rust = (
        translation.flagged("".join(translation.rust)) if translation.plain and "i" not in translation.flags else None
    )
    return Regex(made, rust)


@dataclass(slots=True)
class _Translation:
    text: str
    at: int = 0
    flags: str = ""
    plain: bool = True
    #: Whether the last part was a quantifier.
    repeated: bool = False
    python: list[str] = field(default_factory=list)
    rust: list[str] = field(default_factory=list)

    def flagged(self, body: str) -> str:
        """With the flags in front; without `u`, Java's `i` knows ASCII letters only."""
        return f"(?ai:{body})" if "i" in self.flags else body

    def run(self) -> None:
        """The whole pattern."""
        match = re.match(r"\(\?([a-zA-Z]+)\)", self.text)
        if match:
            self.flags, self.at = match.group(1), match.end()
            if set(self.flags) - set("ims"):
                raise NotTranslatedError(f"the flags (?{self.flags}) are not known")
        while self.at < len(self.text):
            self._next()

    def _emit(self, python: str, rust: str | None = None) -> None:
        self.python.append(python)
        if rust is None:
            self.plain = False
        else:
            self.rust.append(rust)

    def _both(self, text: str) -> None:
        self._emit(text, text)

    def _ranges(self, ranges: Ranges) -> None:
        if not ranges:
            self._emit(r"(?!)")
            return
        self._emit(_class(ranges, r"\U{:08x}"), _class(ranges, r"\x{{{:x}}}"))

    def _character(self, code: int) -> None:
        one = chr(code)
        if one.isascii() and one.isprintable():
            self._both("\\" + one if one in _META else one)
        else:
            self._emit(rf"\U{code:08x}", rf"\x{{{code:x}}}")

    def _next(self) -> None:
        one, repeated = self.text[self.at], self.repeated
        self.repeated = False
        if one == "\\":
            self._escape()
        elif one == "[":
            self.at += 1
            self._ranges(self._set())
        elif one == "(":
            self._group()
        else:
            self.at += 1
            if one == ".":
                self._ranges(((0, sys.maxunicode),) if "s" in self.flags else negated(_LINE_ENDS))
            elif one == "$":
                self._emit(r"(?=[\n\r\x85\u2028\u2029]|\Z)" if "m" in self.flags else _END)
            elif one == "^":
                self._emit(r"(?:\A|(?<=[\n\r\x85\u2028\u2029])(?!\Z))" if "m" in self.flags else r"\A", "^")
                self.plain = self.plain and "m" not in self.flags
            elif one in "*+?|)":
                self._both(one)
                if one == "+" and repeated:
                    self.plain = False  # possessive
                self.repeated = one in "*+?"
            elif one == "{":
                end = self.text.index("}", self.at)
                self._both("{" + self.text[self.at : end + 1])
                self.at, self.repeated = end + 1, True
            else:
                self._character(ord(one))

    def _group(self) -> None:
        rest = self.text[self.at :]
        for opening in ("(?<=", "(?<!"):
            if rest.startswith(opening):
                self._behind(opening)
                return
        for opening in ("(?=", "(?!", "(?>"):
            if rest.startswith(opening):
                self.at += 3
                self._emit(opening)
                return
        name = re.match(r"\(\?<([A-Za-z][A-Za-z0-9]*)>", rest)
        if name:
            self.at += name.end()
            self._both(f"(?P<{name.group(1)}>")
        elif rest.startswith("(?:"):
            self.at += 3
            self._both("(?:")
        elif rest.startswith("(?"):
            raise NotTranslatedError("flags in the middle of a regular expression are not known")
        else:
            self.at += 1
            self._both("(")

    def _behind(self, opening: str) -> None:
        """Each alternative as a look-behind of its own: Python wants one length."""
        start, depth, index = self.at + 4, 0, self.at + 4
        cuts = [start]
        while depth >= 0:
            one = self.text[index]
            if one == "\\":
                index += 1
            elif one == "|" and depth == 0:
                cuts.append(index + 1)
            depth += (one == "(") - (one == ")")
            index += 1
        parts = [self.text[a : b - 1] for a, b in zip(cuts, [*cuts[1:], index], strict=True)]
        inner: list[str] = []
        for part in parts:
            translation = _Translation(part, flags=self.flags)
            while translation.at < len(part):
                translation._next()
            inner.append(opening + "".join(translation.python) + ")")
        self.at = index
        self._emit("(?:" + "|".join(inner) + ")" if opening == "(?<=" else "".join(inner))

    def _escape(self) -> None:
        one = self.text[self.at + 1]
        if one == "Q":
            end = self.text.find("\\E", self.at + 2)
            end = len(self.text) if end < 0 else end
            for character in self.text[self.at + 2 : end]:
                self._character(ord(character))
            self.at = end + 2
        elif one in "123456789":
            self.at += 2
            self._emit(rf"(?:\{one})")
        elif one in "bBA":
            self.at += 2
            self._both("\\" + one)
        elif one in "zZ":
            self.at += 2
            self._emit(r"\Z" if one == "z" else _END, r"\z" if one == "z" else None)
        elif one == "R":
            self.at += 2
            self._emit(r"(?:\r\n|[\n\x0b\f\r\x85\u2028\u2029])")
        elif one == "k":
            match = re.match(r"\\k<([A-Za-z][A-Za-z0-9]*)>", self.text[self.at :])
            if match is None:
                raise ValueError
            self.at += match.end()
            self._emit(f"(?P={match.group(1)})")
        elif one in "GX":
            raise NotTranslatedError(f"\\{one} is not known")
        else:
            found = self._escaped()
            if isinstance(found, int):
                self._character(found)
            else:
                self._ranges(found)

    def _escaped(self) -> int | Ranges:
        """What a backslash makes of the next characters, inside a class or not."""
        one = self.text[self.at + 1]
        self.at += 2
        if one.lower() in _CLASSES:
            return _CLASSES[one] if one.islower() else negated(_CLASSES[one.lower()])
        if one in "pP":
            found = self._property()
            return found if one == "p" else negated(found)
        if one in _CHARACTERS:
            return _CHARACTERS[one]
        for letter, pattern, base in (
            ("x", r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2})", 16),
            ("u", r"([0-9A-Fa-f]{4})()", 16),
            ("0", r"([0-3][0-7]{2}|[0-7]{1,2})()", 8),
        ):
            if one == letter:
                match = re.match(pattern, self.text[self.at :])
                if match is None:
                    raise ValueError
                self.at += match.end()
                return int(match.group(1) or match.group(2), base)
        if one.isascii() and one.isalnum():
            raise ValueError
        return ord(one)

    def _property(self) -> Ranges:
        match = re.match(r"\{(\w+)(?:=(\w+))?\}|(\w)", self.text[self.at :])
        if match is None:
            raise ValueError
        self.at += match.end()
        name = match.group(2) or match.group(1) or match.group(3)
        if name in _POSIX:
            return _POSIX[name]
        short = name.removeprefix("Is")
        if name.startswith("Is") and short in _BINARY:
            return _category(_BINARY[short])
        if re.fullmatch(r"[LMNPSZC][a-z]?", short):
            return _category((short,))
        raise NotTranslatedError(f"\\p{{{name}}} is not known")

    def _set(self) -> Ranges:
        """What follows `[`, up to its `]`."""
        negative = self.text[self.at] == "^"
        self.at += negative
        found: Ranges | None = None
        union: list[tuple[int, int]] = []
        first = True
        while first or self.text[self.at] != "]":
            if self.text.startswith("&&", self.at):
                self.at += 2
                found = tuple(union) if found is None else intersected(found, tuple(union))
                union = []
                continue
            first = False
            union += self._member()
        self.at += 1
        whole = merged(tuple(union)) if found is None else intersected(found, tuple(union)) if union else merged(found)
        return negated(whole) if negative else whole

    def _member(self) -> Ranges:
        one = self.text[self.at]
        if one == "[":
            self.at += 1
            return self._set()
        low = self._single()
        if not isinstance(low, int):
            return low
        following = self.text[self.at + 1 : self.at + 2]
        if self.text[self.at] != "-" or following in ("]", "[", "") or self.text.startswith("-&&", self.at):
            return ((low, low),)
        self.at += 1
        high = self._single()
        if not isinstance(high, int) or high < low:
            raise ValueError
        return ((low, high),)

    def _single(self) -> int | Ranges:
        if self.text[self.at] == "\\":
            if self.text[self.at + 1] == "Q":
                raise NotTranslatedError("\\Q inside [] is not known")
            return self._escaped()
        self.at += 1
        return ord(self.text[self.at - 1])


def merged(ranges: Ranges) -> Ranges:
    """In order, without overlaps."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def negated(ranges: Ranges) -> Ranges:
    """All other characters.

    >>> negated(((0, 9), (11, 0x10FFFF)))
    ((10, 10),)
    """
    found: list[tuple[int, int]] = []
    start = 0
    for low, high in merged(ranges):
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    if start <= sys.maxunicode:
        found.append((start, sys.maxunicode))
    return tuple(found)


def intersected(one: Ranges, other: Ranges) -> Ranges:
    """Characters in both."""
    return negated((*negated(one), *negated(other)))


@lru_cache(maxsize=32)
def _category(prefixes: tuple[str, ...]) -> Ranges:
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(prefixes))
    return merged(tuple((code, code) for code in codes))


def _class(ranges: Ranges, form: str) -> str:
    """Rust cannot name surrogates; no text has them."""
    parts: list[str] = []
    for low, high in ranges:
        for a, b in ((low, min(high, 0xD7FF)), (max(low, 0xE000), high)):
            if a <= b:
                parts.append(form.format(a) if a == b else form.format(a) + "-" + form.format(b))
    return "[" + "".join(parts) + "]"
