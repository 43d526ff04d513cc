"""What became of a case: failures with their diffs, notes, what it touched, and what `--update` would write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.model.types import Type
from qanat.trial.compare import Diff
from qanat.trial.render import Paint, render
from qanat.trial.splice import Change


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that does not hold. `line` of the file; `kinds`: the types of the columns of the diff;
    `mendable`: `--update` makes it hold."""

    line: int
    title: str
    diff: Diff | None = None
    kinds: tuple[Type | None, ...] = ()
    date: str | None = None
    mendable: bool = False

    def lines(self, paint: Paint) -> list[str]:
        """The failure for people; the first line is the title."""
        return [self.title, *(render(self.diff, self.kinds, self.date, paint) if self.diff is not None else [])]


@dataclass(frozen=True, slots=True)
class Touched:
    """What a case exercised: rows into and out of each pipeline, tables that got rows, names that were judged."""

    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    fed: frozenset[str] = frozenset()
    judged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Result:
    """One case that ran. `file` and `line`: where it stands; `notes`: what is worth a look and no failure."""

    file: str
    line: int
    name: str
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    seconds: float
    touched: Touched
    changes: tuple[Change, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.failures

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def text(self, *, colour: bool = False) -> str:
        """The case and, where it failed, why: for people."""
        lines = [f"{self.file}:{self.line}: {self.name}"]
        for failure in self.failures:
            title, *rest = failure.lines(Paint(colour))
            lines += [f"  line {failure.line}: {title}", *(f"    {line}" for line in rest)]
        return "\n".join(lines)
