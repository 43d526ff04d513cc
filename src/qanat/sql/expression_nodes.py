"""Nodes of expressions that sqlglot has not."""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp


class TypedCast(exp.Expression):
    """CAST, TRY_CAST (`safe`) or a literal such as DATE '2026-01-01' (`literal`); `to` is a `model.types.Type`."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "to": True, "safe": False, "literal": False}
