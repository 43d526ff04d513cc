"""LIKE, SIMILAR TO and the functions of regular expressions. A constant pattern is translated once, and runs over whole
columns where Rust's engine gives the same answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import polars as pl

from qanat.errors import DataError
from qanat.sql.embedded.kernels.base import Kernel, constant, dtype_of, is_constant, row_by_row
from qanat.sql.expressions import Call
from qanat.sql.java_regex import NotTranslatedError, Regex, compiled

_ANY = r"[^\n\r\x{85}\x{2028}\x{2029}]"
_SIMILAR_SPECIALS = "[]()|^-+*_%?{}"
_JAVA_SPECIALS = "[]()|^-+*?{}$\\."


def like_regex(pattern: str, escape: str | None = None) -> str:
    """A LIKE pattern as a regular expression of Rust's; `_` is no line end, as in Flink. Raises `DataError`.

    >>> like_regex("a%.", None)
    '^a(?s:.*)\\\\.$'
    """
    parts: list[str] = []
    characters = iter(pattern)
    for one in characters:
        if escape and one == escape:
            following = next(characters, "")
            if following not in ("%", "_", escape):
                raise DataError(f"LIKE: `{pattern}` has {escape} before what needs none", hint="escape %, _ and it")
            parts.append(re.escape(following))
        else:
            parts.append({"%": "(?s:.*)", "_": _ANY}.get(one) or re.escape(one))
    return "^" + "".join(parts) + "$"


def _like(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if all(is_constant(one) for one in call.args[1:]):
        pattern = str(constant(call.args[1]))
        escape = str(constant(call.args[2])) if len(call.args) > 2 else None
        middle = pattern.strip("%")
        if escape is None and not set(middle) & set("%_"):
            return _plain_like(args[0], pattern, middle)
        return args[0].str.contains(like_regex(pattern, escape))
    return row_by_row(lambda text, *rest: _liked(*rest).match(text) is not None)(call, args, guard)


def _plain_like(text: pl.Expr, pattern: str, middle: str) -> pl.Expr:
    """Patterns with % at their ends only need no regular expression."""
    before, behind = pattern.startswith("%"), pattern.endswith("%")
    if not middle:
        return (text == "") if not pattern else text.is_not_null() | pl.lit(None, dtype=pl.Boolean)
    if before and behind:
        return text.str.contains(middle, literal=True)
    if before:
        return text.str.ends_with(middle)
    return text.str.starts_with(middle) if behind else text == middle


@lru_cache(maxsize=512)
def _liked(pattern: str, escape: str | None = None) -> re.Pattern[str]:
    rust = like_regex(pattern, escape)
    return re.compile(rust.removesuffix("$").replace(_ANY, r"[^\n\r\x85\u2028\u2029]") + r"\Z")


@lru_cache(maxsize=512)
def _similar(pattern: str, escape: str | None = None) -> Regex:
    """A pattern of SIMILAR TO as a regular expression of Java's, as Calcite makes it."""
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        one = pattern[index]
        if escape and one == escape:
            following = pattern[index + 1 : index + 2]
            if following not in (*_SIMILAR_SPECIALS, escape) or not following:
                raise DataError(f"SIMILAR TO: `{pattern}` has {escape} before what needs none")
            parts.append(("\\" if following in _JAVA_SPECIALS else "") + following)
            index += 2
            continue
        if one == "[":
            end = pattern.index("]", index + 1) if "[:" not in pattern[index:] else pattern.index(":]]", index) + 2
            parts.append(_enumeration(pattern[index : end + 1]))
            index = end + 1
            continue
        parts.append({"%": "[\\s\\S]*", "_": ".", "\\": "\\\\", "$": "\\$"}.get(one, one))
        index += 1
    found = compiled("(?:" + "".join(parts) + ")\\z")
    if found is None:
        raise DataError(f"SIMILAR TO: `{pattern}` is no pattern")
    return found


_NAMED = {"ALPHA": "Alpha", "UPPER": "Upper", "LOWER": "Lower", "DIGIT": "Digit", "ALNUM": "Alnum", "SPACE": "Blank"}
_NAMED |= {"WHITESPACE": "Space"}


def _enumeration(text: str) -> str:
    return re.sub(r"\[:(\w+):\]", lambda match: f"\\p{{{_NAMED.get(match.group(1), 'none')}}}", text)


def _similar_to(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    return row_by_row(lambda text, *rest: _similar(*rest).pattern.match(text) is not None)(call, args, guard)


def find(pattern: str) -> Regex | None:
    """The regular expression; None where Java refuses it. Raises `DataError` for what is not translated."""
    try:
        return compiled(pattern)
    except NotTranslatedError as error:
        raise DataError(f"the regular expression `{pattern}`: {error}", hint="write it in another way") from None


def _regex(fast: Callable[[pl.Expr, str, Call, list[pl.Expr]], pl.Expr] | None, slow: Callable[..., object]) -> Kernel:
    """`fast` where the second argument is constant and Rust gives the same; `slow` with the regex for every row."""

    def kernel(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
        if fast is not None and all(is_constant(one) for one in call.args[1:]):
            found = find(str(constant(call.args[1])))
            if found is None or (len(call.args) > 2 and _outside(call, found)):
                missing = pl.lit(False) if call.function == "REGEXP" else pl.lit(None, dtype=dtype_of(call.type))
                return pl.when(args[0].is_not_null()).then(missing)
            if found.rust is not None:
                return fast(args[0], found.rust, call, args)
        return row_by_row(lambda text, pattern, *rest: slow(text, find(pattern), *rest))(call, args, guard)

    return kernel


def _outside(call: Call, regex: Regex) -> bool:
    group = constant(call.args[2])
    return call.function == "REGEXP_EXTRACT" and isinstance(group, int) and not 0 <= group <= regex.groups


def _fast_extract(text: pl.Expr, rust: str, call: Call, _: list[pl.Expr]) -> pl.Expr:
    return text.str.extract(rust, int(str(constant(call.args[2]))) if len(call.args) > 2 else 0)


def _fast_replace(text: pl.Expr, rust: str, call: Call, _: list[pl.Expr]) -> pl.Expr:
    return text.str.replace_all(rust, str(constant(call.args[2])).replace("$", "$$"))


def _extract(text: str, regex: Regex | None, group: int = 0) -> str | None:
    if regex is None or not 0 <= group <= regex.groups:
        return None
    match = regex.pattern.search(text)
    return None if match is None else match.group(group)


def _extract_all(text: str, regex: Regex | None, group: int = 1) -> list[str | None] | None:
    if regex is None or not 0 <= group <= regex.groups:
        return None
    return [match.group(group) for match in regex.pattern.finditer(text)]


def _count(text: str, regex: Regex | None) -> int | None:
    return None if regex is None else sum(1 for _ in regex.pattern.finditer(text))


def _position(text: str, regex: Regex | None) -> int | None:
    """In UTF-16 units, as Java counts."""
    if regex is None:
        return None
    match = regex.pattern.search(text)
    return 0 if match is None else len(text[: match.start()].encode("utf-16-le")) // 2 + 1


def _replace(text: str, regex: Regex | None, new: str) -> str | None:
    return None if regex is None else regex.pattern.sub(lambda _: new, text)


def _matches(text: str, regex: Regex | None) -> bool:
    return regex is not None and regex.pattern.pattern != "" and regex.pattern.search(text) is not None


def _fast_matches(text: pl.Expr, rust: str, _call: Call, _args: list[pl.Expr]) -> pl.Expr:
    return text.str.contains(rust) if rust else text.is_null() & pl.lit(None, dtype=pl.Boolean)


#: Kernels that may raise for a row.
RAISES = ("LIKE", "SIMILAR TO")

KERNELS: dict[str, Kernel] = {
    "LIKE": _like,
    "SIMILAR TO": _similar_to,
    "REGEXP": _regex(_fast_matches, _matches),
    "REGEXP_COUNT": _regex(None, _count),
    "REGEXP_EXTRACT": _regex(_fast_extract, _extract),
    "REGEXP_EXTRACT_ALL": _regex(None, _extract_all),
    "REGEXP_INSTR": _regex(None, _position),
    "REGEXP_REPLACE": _regex(_fast_replace, _replace),
    "REGEXP_SUBSTR": _regex(_fast_extract, _extract),
}
