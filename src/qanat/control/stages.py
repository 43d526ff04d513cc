"""The stages of a plan: frozen values, one per stream and pipeline. Nothing is decided or done here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `refused`: the log cannot take the declaration over. `undeclared`: its rows stay, nobody declares it any more.
StreamAction = Literal["unchanged", "new", "changed", "refused", "undeclared"]
#: `kept`, `rebuilt` and `lost` say what becomes of the state of a changed pipeline.
PipelineAction = Literal["unchanged", "new", "kept", "rebuilt", "lost", "removed"]


@dataclass(frozen=True, slots=True)
class StreamStage:
    """One stream of the log; `changes` in words."""

    name: str
    action: StreamAction
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What a rebuild reads: rows of the log (or of files), how fast, and when the first of them arrived (ms).

    `measured`: whether `rate` (rows/s) is what this pipeline did before; else it is an assumption.
    """

    rows: int
    rate: float
    measured: bool
    since_ms: int | None = None

    @property
    def seconds(self) -> float:
        """About how long."""
        return self.rows / self.rate


@dataclass(frozen=True, slots=True)
class PipelineStage:
    """One pipeline. `reason`: why this happens to it; `history`: where it is rebuilt, also from what is left (`lost`);
    `note`: what to know beside that."""

    name: str
    action: PipelineAction
    reason: str = ""
    history: History | None = None
    note: str = ""


Stage = StreamStage | PipelineStage


def is_change(stage: Stage) -> bool:
    """Whether something would be done."""
    return stage.action not in ("unchanged", "undeclared")
