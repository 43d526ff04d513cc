"""Hints, `/*+ ... */` behind SELECT: STATE_TTL is read, others are refused."""

from __future__ import annotations

import re

from sqlglot import exp

from qanat.sql.options import duration_ms
from qanat.sql.scope import place
from qanat.sql.source import Source

_CALL = re.compile(r"(\w+)\s*\(([^)]*)\)")
_PAIR = re.compile(r"'([^']*)'\s*=\s*'([^']*)'")
_USAGE = "/*+ STATE_TTL('orders' = '1 d', 'payments' = '12 h') */"


def state_ttl(node: exp.Expr, source: Source) -> dict[str, int]:
    """Names of tables or their aliases -> how long (ms) their state lives. Raises `SqlError` for other hints."""
    found: dict[str, int] = {}
    for comment in node.comments or []:
        if not comment.startswith("+"):
            continue
        calls = _CALL.findall(comment[1:])
        for name, arguments in calls:
            if name.upper() != "STATE_TTL":
                raise source.unsupported(f"the hint {name.upper()} is not supported", place(node), _USAGE)
            pairs = _PAIR.findall(arguments)
            for table, text in pairs:
                try:
                    found[table] = duration_ms(text)
                except ValueError as error:
                    raise source.error(f"STATE_TTL is {error}, found '{text}'", place(node), _USAGE) from None
            if not pairs:
                raise source.error("STATE_TTL names tables and how long their state lives", place(node), _USAGE)
        if not calls:
            raise source.error("cannot read the hint", place(node), _USAGE)
    return found
