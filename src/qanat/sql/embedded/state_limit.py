"""How much state a pipeline holds, and the error when that is too much. Measures and says; stops nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from qanat.errors import StateLimitError
from qanat.sql.embedded.operators import Operator
from qanat.sql.fingerprint import Part

#: Keys that the error names.
_KEYS = 5


def check_state(pipeline: str, parts: Sequence[Part], operators: Sequence[Operator], limit: int | None) -> int:
    """Bytes of state, about. Raises `StateLimitError` where that is more than `limit`."""
    held = [_held(operator) for operator in operators]
    total = sum(held)
    if limit is None or total <= limit:
        return total
    most = max(range(len(held)), key=held.__getitem__)
    keys = ", ".join(f"{key} ({size_text(size)})" for key, size in operators[most].largest(_KEYS))
    raise StateLimitError(
        f"pipeline {pipeline} holds {size_text(total)} of state, {size_text(limit)} is its limit; "
        f"{size_text(held[most])} of it in {parts[most].kind}" + (f"; its largest keys: {keys}" if keys else ""),
        hint=f"raise it: SET 'qanat.state.limit' = '{_raised(total)}', or (qanat.yaml) "
        f"pipelines.{pipeline}.state_limit; "
        "or bound the state: a shorter window or gap, a STATE_TTL, fewer keys",
    )


def _held(operator: Operator) -> int:
    """What an operator holds; 0 for one that cannot tell."""
    ask = getattr(operator, "held", None)
    return int(ask()) if ask is not None else 0


def size_text(size: int) -> str:
    """Bytes as people write them: `1.5 GB`, by steps of 1024 as Flink counts."""
    amount, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"


def _raised(total: int) -> str:
    """A limit with room to grow, in whole megabytes."""
    return f"{max(2 * total >> 20, 1)} mb"
