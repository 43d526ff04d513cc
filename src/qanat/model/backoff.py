"""How long to wait before the next try. Pure: the draw is a parameter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: doubling from `first` to `longest`, half of it drawn, so that a fleet does not come at once."""

    first: float = 0.5
    longest: float = 60.0

    def wait(self, failures: int, draw: float = 1.0) -> float:
        """The wait after so many failures in a row (from 1); `draw` is in [0, 1), or 1 for the whole of it."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 32))
        return full * (0.5 + draw / 2)
