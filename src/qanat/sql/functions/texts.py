"""Functions of texts, patterns, codings and digests: the rules of their types."""

from __future__ import annotations

from qanat.model.types import BIGINT, BOOLEAN, BYTES, INT, STRING, Kind, Type, array
from qanat.sql.coercion import INTEGERS, NUMERIC, coerce
from qanat.sql.expressions import Literal
from qanat.sql.functions.signature import (
    TEXT_TO_TEXT,
    Arguments,
    Mismatch,
    Row,
    Rule,
    fits,
    fixed,
    never_null,
    nullable,
    want,
)
from qanat.sql.java_regex import NotTranslatedError, compiled


def _texts(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments:
        want(one, (Kind.STRING,), "STRING")
    return tuple(coerce(one, STRING) for one in arguments), nullable(STRING, arguments)


def _joined(arguments: Arguments) -> tuple[Arguments, Type]:
    """CONCAT_WS: NULLs are left out, only a NULL separator gives NULL."""
    return _texts(arguments)[0], nullable(STRING, arguments)


def _split_index(arguments: Arguments) -> tuple[Arguments, Type]:
    """The separator is a text, or the number of its character."""
    text, separator, index = arguments
    if separator.type.kind in INTEGERS and isinstance(separator, Literal):
        separator = Literal(chr(int(str(separator.value))), STRING.with_nullable(False))
    return (fits(text, STRING), fits(separator, STRING), fits(index, INT)), STRING


def _choice(arguments: Arguments) -> tuple[Arguments, Type]:
    """ELT(index, a, b, ...)."""
    index, *values = arguments
    if isinstance(index, Literal) and isinstance(index.value, int) and index.value < 0:
        raise Mismatch(f"the index counts from 1, found {index.value}")
    return (fits(index, INT), *(fits(one, STRING) for one in values)), STRING


def _printf(arguments: Arguments) -> tuple[Arguments, Type]:
    for one in arguments[1:]:
        want(one, (*NUMERIC, Kind.STRING, Kind.BOOLEAN), "numbers, texts and BOOLEANs")
    return (fits(arguments[0], STRING), *arguments[1:]), STRING


def _is_decimal(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (*NUMERIC, Kind.STRING), "a text or a number")
    return arguments, BOOLEAN.with_nullable(False)


def _decode(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (Kind.BYTES,), "BYTES")
    return (arguments[0], fits(arguments[1], STRING)), nullable(STRING, arguments)


def _sha2(arguments: Arguments) -> tuple[Arguments, Type]:
    text, size = arguments
    if isinstance(size, Literal) and size.value not in (None, 224, 256, 384, 512):
        raise Mismatch(f"the length of a digest is 224, 256, 384 or 512, found {size.value}")
    return (fits(text, STRING), fits(size, INT)), nullable(STRING, arguments)


def _regex(rule: Rule) -> Rule:
    """A regular expression that is written down is looked at here; one that Java refuses gives NULL later."""

    def checked(arguments: Arguments) -> tuple[Arguments, Type]:
        pattern = arguments[1]
        if isinstance(pattern, Literal) and isinstance(pattern.value, str):
            try:
                compiled(pattern.value)
            except NotTranslatedError as error:
                raise Mismatch(f"`{pattern.value}`: {error}", "write the regular expression in another way") from None
        return rule(arguments)

    return checked


_TO_FLAG = fixed(STRING, returns=BOOLEAN)
_TEXTS_FAIL = fixed(STRING, returns=STRING, fails=True)
_CUT = fixed(STRING, INT, returns=STRING, fails=True)
_PAD = fixed(STRING, INT, STRING, returns=STRING)
_PARTS = fixed(STRING, returns=array(STRING))
_FIND = fixed(STRING, STRING, INT, returns=INT)
_MAPPED = Type(Kind.MAP, key=STRING, element=STRING)

TEXTS: list[Row] = [
    ("||", "a || b", "One text after the other; NULL if any is NULL.", _texts, 2, 2),
    ("CONCAT", "CONCAT(a, b, ...)", "The texts in a row; NULL if any is NULL.", _texts, 1, None),
    ("CONCAT_WS", "CONCAT_WS(separator, a, ...)", "The texts that are not NULL, separated.", _joined, 2, None),
    ("UPPER", "UPPER(x)", "In capitals.", TEXT_TO_TEXT, 1, 1),
    ("LOWER", "LOWER(x)", "In small letters.", TEXT_TO_TEXT, 1, 1),
    ("INITCAP", "INITCAP(x)", "Each word with a capital; words are of ASCII letters and digits.", TEXT_TO_TEXT, 1, 1),
    ("TRIM", "TRIM([BOTH|LEADING|TRAILING] [chars FROM] x)", "Without those at its ends.", TEXT_TO_TEXT, 3, 3),
    ("LTRIM", "LTRIM(x [, chars])", "Without blanks, or those, in front.", TEXT_TO_TEXT, 1, 2),
    ("RTRIM", "RTRIM(x [, chars])", "Without blanks, or those, behind.", TEXT_TO_TEXT, 1, 2),
    ("BTRIM", "BTRIM(x [, chars])", "Without blanks, or those, at both ends.", TEXT_TO_TEXT, 1, 2),
    ("CHAR_LENGTH", "CHAR_LENGTH(x)", "How many characters.", fixed(STRING, returns=INT), 1, 1),
    ("SUBSTRING", "SUBSTRING(x FROM start [FOR length])", "A part; the first character is 1.", _CUT, 2, 3),
    ("LEFT", "LEFT(x, n)", "The first n characters.", _CUT, 2, 2),
    ("RIGHT", "RIGHT(x, n)", "The last n characters.", _CUT, 2, 2),
    ("REPLACE", "REPLACE(x, old, new)", "Every `old` by `new`.", TEXT_TO_TEXT, 3, 3),
    (
        "OVERLAY",
        "OVERLAY(x PLACING new FROM start [FOR length])",
        "`new` in place of a part.",
        fixed(STRING, STRING, INT, returns=STRING),
        3,
        4,
    ),
    ("TRANSLATE", "TRANSLATE(x, old, new)", "Each character of `old` by that of `new`.", TEXT_TO_TEXT, 3, 3),
    ("REVERSE", "REVERSE(x)", "Back to front.", _TEXTS_FAIL, 1, 1),
    ("REPEAT", "REPEAT(x, n)", "n times in a row.", fixed(STRING, INT, returns=STRING), 2, 2),
    ("LPAD", "LPAD(x, length, pad)", "Filled up in front, or cut.", _PAD, 3, 3),
    ("RPAD", "RPAD(x, length, pad)", "Filled up behind, or cut.", _PAD, 3, 3),
    ("SPLIT", "SPLIT(x, separator)", "An array of the parts.", _PARTS, 2, 2),
    ("SPLIT_INDEX", "SPLIT_INDEX(x, separator, n)", "The part n, from 0; NULL if there is none.", _split_index, 3, 3),
    (
        "STR_TO_MAP",
        "STR_TO_MAP(x [, ',', '='])",
        "Pairs of a text as a map.",
        fixed(STRING, returns=_MAPPED, fails=True),
        1,
        3,
    ),
    ("ELT", "ELT(n, a, b, ...)", "The text n, from 1; NULL if there is none.", _choice, 2, None),
    ("POSITION", "POSITION(part IN x)", "Where `part` begins, from 1; 0 if nowhere.", fixed(STRING, returns=INT), 2, 2),
    ("INSTR", "INSTR(x, part [, start [, n]])", "Where the n-th `part` begins; start < 0: backwards.", _FIND, 2, 4),
    ("LOCATE", "LOCATE(part, x [, start])", "Where `part` begins at or after `start`.", _FIND, 2, 3),
    ("STARTSWITH", "STARTSWITH(x, start)", "Whether it begins so.", _TO_FLAG, 2, 2),
    ("ENDSWITH", "ENDSWITH(x, end)", "Whether it ends so.", _TO_FLAG, 2, 2),
    ("ASCII", "ASCII(x)", "The first byte, signed; 0 of no text.", fixed(STRING, returns=INT), 1, 1),
    ("CHR", "CHR(n)", "The character of the number, modulo 256.", fixed(BIGINT, returns=STRING, fails=True), 1, 1),
    ("PRINTF", "PRINTF(format, a, ...)", "Values in a format of Java's; NULL where they do not fit.", _printf, 1, None),
    ("IS_ALPHA", "IS_ALPHA(x)", "Whether there are letters only.", never_null(_TO_FLAG), 1, 1),
    ("IS_DIGIT", "IS_DIGIT(x)", "Whether there are digits only.", never_null(_TO_FLAG), 1, 1),
    ("IS_DECIMAL", "IS_DECIMAL(x)", "Whether it is a number.", _is_decimal, 1, 1),
]
_TO_COUNT = _regex(fixed(STRING, returns=INT, fails=True))
PATTERNS: list[Row] = [
    ("LIKE", "x LIKE 'a%_' [ESCAPE '\\']", "Matches the pattern.", _TO_FLAG, 2, 3),
    ("SIMILAR TO", "x SIMILAR TO '(a|b)%' [ESCAPE '\\']", "Matches the pattern of SQL and regex.", _TO_FLAG, 2, 3),
    ("REGEXP", "REGEXP(x, regex)", "Whether there is a match.", _regex(_TO_FLAG), 2, 2),
    (
        "REGEXP_COUNT",
        "REGEXP_COUNT(x, regex)",
        "How many matches.",
        _regex(fixed(STRING, returns=INT, fails=True)),
        2,
        2,
    ),
    (
        "REGEXP_EXTRACT",
        "REGEXP_EXTRACT(x, regex [, group])",
        "The first match, or NULL.",
        _regex(fixed(STRING, STRING, INT, returns=STRING, fails=True)),
        2,
        3,
    ),
    (
        "REGEXP_EXTRACT_ALL",
        "REGEXP_EXTRACT_ALL(x, regex [, group])",
        "The group (1 unless told) of every match.",
        _regex(fixed(STRING, STRING, INT, returns=array(STRING), fails=True)),
        2,
        3,
    ),
    (
        "REGEXP_INSTR",
        "REGEXP_INSTR(x, regex)",
        "Where the first match begins.",
        _regex(fixed(STRING, returns=INT, fails=True)),
        2,
        2,
    ),
    ("REGEXP_REPLACE", "REGEXP_REPLACE(x, regex, new)", "Every match by `new`, as it is.", _regex(TEXT_TO_TEXT), 3, 3),
    ("REGEXP_SUBSTR", "REGEXP_SUBSTR(x, regex)", "The first match, or NULL.", _regex(_TEXTS_FAIL), 2, 2),
]
CODINGS: list[Row] = [
    ("TO_BASE64", "TO_BASE64(x)", "The text in base 64.", TEXT_TO_TEXT, 1, 1),
    ("FROM_BASE64", "FROM_BASE64(x)", "The text of base 64.", TEXT_TO_TEXT, 1, 1),
    ("UNHEX", "UNHEX(x)", "The bytes of base 16; NULL if it is not.", fixed(STRING, returns=BYTES, fails=True), 1, 1),
    ("ENCODE", "ENCODE(x, charset)", "The text as bytes.", fixed(STRING, returns=BYTES), 2, 2),
    ("DECODE", "DECODE(bytes, charset)", "The bytes as text.", _decode, 2, 2),
    ("URL_ENCODE", "URL_ENCODE(x)", "As part of a URL.", _TEXTS_FAIL, 1, 1),
    ("URL_DECODE", "URL_DECODE(x)", "The text of a part of a URL; NULL if it is not.", _TEXTS_FAIL, 1, 1),
    ("PARSE_URL", "PARSE_URL(url, 'HOST' [, key])", "A part of a URL: HOST, PATH, QUERY, REF, ...", _TEXTS_FAIL, 2, 3),
    ("INET_ATON", "INET_ATON(x)", "An IPv4 address as a number.", fixed(STRING, returns=BIGINT, fails=True), 1, 1),
    ("INET_NTOA", "INET_NTOA(n)", "The IPv4 address of a number.", fixed(BIGINT, returns=STRING, fails=True), 1, 1),
    ("MD5", "MD5(x)", "The MD5 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA1", "SHA1(x)", "The SHA-1 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA224", "SHA224(x)", "The SHA-224 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA256", "SHA256(x)", "The SHA-256 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA384", "SHA384(x)", "The SHA-384 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA512", "SHA512(x)", "The SHA-512 digest in hexadecimal.", TEXT_TO_TEXT, 1, 1),
    ("SHA2", "SHA2(x, 256)", "The SHA-2 digest of 224, 256, 384 or 512 bits.", _sha2, 2, 2),
]
