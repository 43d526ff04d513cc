"""Expressions whose result differs from Flink's on purpose, with the reason."""

from __future__ import annotations

_FOLDED = "only where Flink computes a constant beforehand; of a column it gives what is given here"
_NULL = "Flink infers NOT NULL and its sink then fails on the NULL, of which the value is"
_BEFORE_1970 = "a fault of Flink: before 1970 it cuts towards zero and gives times of day that there are not"
_CEIL = "a fault of Flink: CEIL to a unit of days gives a time before its argument"
_CLASS = "a fault of Flink: a ClassCastException stops the job; here it is the error that ON ERROR speaks of"
_CHAR = "refused: lengths that are filled up are no part of the types"
_MONTHS = "a fault of Flink: backwards it counts a month more"
_REFUSED = "refused with a hint"

DIFFERENT: dict[str, str] = {
    "CAST('3.4e39' AS FLOAT)": _FOLDED,
    "CAST(CAST(0.1 AS FLOAT) AS DOUBLE)": _FOLDED,
    "CAST(CAST(0.1 AS FLOAT) AS DECIMAL(20, 15))": _FOLDED,
    "CAST(-0e0 AS STRING)": _FOLDED,
    "1e0 / 0": _FOLDED,
    "0e0 / 0": _FOLDED,
    "CAST('NaN' AS DOUBLE) = CAST('NaN' AS DOUBLE)": _FOLDED,
    "CASE WHEN TRUE THEN TO_TIMESTAMP_LTZ(0, 3) ELSE TIMESTAMP '1970-01-01 01:00:00' END": _FOLDED,
    "CAST(12345 AS DECIMAL(4, 0))": _NULL,
    "CAST(123.45e0 AS DECIMAL(4, 2))": _NULL,
    "CAST(99.995 AS DECIMAL(4, 2))": _NULL,
    "CAST('99999999999999999999.999999999999999999' AS DECIMAL(38, 18))"
    " * CAST('99999999999999999999.999999999999999999' AS DECIMAL(38, 18))": _NULL,
    "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) / CAST('7' AS DECIMAL(38, 0))": _NULL,
    "CAST('abc' AS CHAR(5))": _CHAR,
    "CAST('abc' AS CHAR(2))": _CHAR,
    "CAST(12 AS CHAR(5))": _CHAR,
    "CAST('abc' AS BINARY(2))": _CHAR,
    "CAST('abc' AS BINARY(5))": _CHAR,
    "CAST('abc' AS VARBINARY(2))": _CHAR,
    "TYPEOF('abc')": "text literals are STRING here, CHAR(n) in Flink",
    "CAST(5 AS INTERVAL DAY)": _REFUSED,
    "MAP[1, 'x', 2, 'yy']": "Flink's SQL Gateway cannot write maps whose keys are no texts as JSON",
    "ARRAY_APPEND(ARRAY['a'], 'bcd')": "a fault of Flink: it cuts the text to the length of the first literal",
    "MAP_UNION(MAP['a', 1, 'b', 2], MAP['b', 3])": "Flink gives the entries in no order",
    "MAP_UNION(MAP['a', 1], MAP['b', 2.5])": "Flink gives the entries in no order",
    "JSON_VALUE('{\"a\": \"1\"}', '$.a' RETURNING INTEGER)": _CLASS,
    "JSON_VALUE('{\"a\": 1}', '$.a' RETURNING DOUBLE)": _CLASS,
    "JSON_VALUE('{\"a\": \"x\"}', '$.a' RETURNING INTEGER)": _CLASS,
    "JSON_VALUE('{\"a\": \"x\"}', '$.a' RETURNING INTEGER DEFAULT 5 ON ERROR)": _CLASS,
    "JSON_VALUE('{\"a\": 12345678901}', '$.a' RETURNING INTEGER)": _CLASS,
    "JSON_VALUE('{\"a\": 1.9}', '$.a' RETURNING INTEGER)": _CLASS,
    "JSON_VALUE('{\"a\": [{\"b\": 1}, {\"b\": 2}]}', '$.a[?(@.b > 1)].b')": "refused: filters in paths",
    "'😀' > '\uffff'": "Flink compares UTF-16 or UTF-8, depending on where the text comes from; here it is UTF-8",
    "TRUE = 'true'": "refused: Flink compares BOOLEAN and STRING and gives FALSE",
    "CASE 2 WHEN 1, 2 THEN 'a' END": _REFUSED,
    ".5": "the parser reads 0.5, which has a digit more",
    ".05": "the parser reads 0.05, which has a digit more",
    "PI": "refused: write PI()",
    "ACOS(0.5)": "the last digit, which is that of the machine's library",
    "COSH(1)": "the last digit, which is that of the machine's library",
    "REGEXP_REPLACE('foobar', '(?<x>o+)', '<${x}>')": "${x} is a parameter of the script",
    "UNHEX('6')": "a fault of Flink: it gives 00",
    "EXTRACT(EPOCH FROM TIMESTAMP '1969-12-31 23:59:59.500')": _BEFORE_1970,
    "EXTRACT(HOUR FROM TIMESTAMP '1969-12-31 23:59:59.500')": _BEFORE_1970,
    "EXTRACT(SECOND FROM TIMESTAMP '1969-12-31 23:59:59.500')": _BEFORE_1970,
    "EXTRACT(MILLISECOND FROM TIMESTAMP '1969-12-31 23:59:59.500')": _BEFORE_1970,
    "FLOOR(TIMESTAMP '2026-05-31 12:34:56.789' TO DECADE)": _REFUSED,
    "FLOOR(TIMESTAMP '2026-05-31 12:34:56.789' TO MILLISECOND)": _REFUSED,
    "CEIL(TIMESTAMP '2026-05-31 12:34:56.789' TO WEEK)": _CEIL,
    "CEIL(TIMESTAMP '2026-05-01 00:00:00.5' TO MONTH)": _CEIL,
    "CEIL(TO_TIMESTAMP_LTZ(1774742400000, 3) TO WEEK)": _CEIL,
    "TIMESTAMPDIFF(MILLISECOND, TIMESTAMP '2026-01-31 12:34:56', TIMESTAMP '2026-01-31 12:35:00.999')":
        "refused: Flink gives whole seconds, times 1000",
    "TIMESTAMPADD(MONTH, 1, TIME '12:00:00')": "refused: a time of day has no months",
    "TIMESTAMPDIFF(MONTH, TIMESTAMP '2026-02-15 12:00:00', TIMESTAMP '2026-01-15 11:00:00')": _MONTHS,
    "TIMESTAMPDIFF(MONTH, TIMESTAMP '2026-02-15 11:59:59', TIMESTAMP '2026-01-15 12:00:00')": _MONTHS,
}  # fmt: skip
