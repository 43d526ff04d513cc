"""Changing a project that has run: what is declared against what the log holds.

    declared (Program) ─┐
                        ├─ diff ─► stages ─┬─ render   says what would be done
    actual (log) ───────┘                  └─ apply    does it

A plan is a list of frozen values; who prints it and who does it know nothing of each other. See
docs/design/changing.md.
"""

from __future__ import annotations

from qanat.control.actual import Actual, read_actual
from qanat.control.apply import Changes, apply
from qanat.control.diff import diff
from qanat.control.replay import Replay, ReplayPlan, Window
from qanat.control.stages import PipelineStage, Stage, StreamStage, is_change

__all__ = [
    "Actual",
    "Changes",
    "PipelineStage",
    "Replay",
    "ReplayPlan",
    "Stage",
    "StreamStage",
    "Window",
    "apply",
    "diff",
    "is_change",
    "read_actual",
]
