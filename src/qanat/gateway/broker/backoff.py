"""How long to wait before the next try. Pure: the draw is a parameter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling from `first_ms` to `longest_ms`, half of it drawn, so that a fleet does not come at once."""

    first_ms: int = 500
    longest_ms: int = 60_000

    def delay_ms(self, failures: int, draw: float) -> int:
        """The wait after so many failures in a row (from 1); `draw` is in [0, 1)."""
        full = min(self.longest_ms, self.first_ms * 2 ** min(failures - 1, 32))
        return int(full * (0.5 + draw / 2))
