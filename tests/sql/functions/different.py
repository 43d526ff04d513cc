"""Expressions whose result differs from Flink's on purpose, with the reason."""

from __future__ import annotations

DIFFERENT: dict[str, str] = {}
