"""All cases of a project: found, read, bound, run, judged, and written back where that was asked for.

Files are read first and all of them; a mistake in one raises `ConfigError` before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from qanat.errors import ConfigError
from qanat.sql.plan import Program
from qanat.trial.cases import CaseFile
from qanat.trial.coverage import Coverage, cover
from qanat.trial.judge import Cut, run_script
from qanat.trial.reader import read_cases
from qanat.trial.script import Script, bind
from qanat.trial.splice import Change, splice
from qanat.trial.stage import Stage, build_stage
from qanat.trial.verdict import Result

#: Where the cases of a project lie.
FOLDER = "tests"
#: Every case runs with micro-batches of one row, and with all rows at once.
CUTS: tuple[Cut, ...] = (1, None)


@dataclass(frozen=True, slots=True)
class Tested:
    """The project whose cases run. `compile`: the program with these parameters; `sql`: all of its text."""

    path: Path
    compile: Callable[[Mapping[str, str]], Program]
    sql: str
    max_future_skew_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to run. `pattern`: cases whose `FILE: NAME` holds it (or matches, with `*` and `?`); `stop`: after the first
    that fails; `update`: write what was found in the place of what was expected."""

    pattern: str | None = None
    stop: bool = False
    update: bool = False
    cuts: Sequence[Cut] = CUTS


@dataclass(frozen=True, slots=True)
class Report:
    """What became of all cases. `files`: of cases, `deselected`: cases that `pattern` left out, `updated`: files that
    were rewritten; `coverage` None where no case ran."""

    results: tuple[Result, ...]
    files: tuple[str, ...]
    deselected: int
    updated: tuple[str, ...]
    coverage: Coverage | None

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(not result.passed for result in self.results)


def case_files(path: Path) -> list[Path]:
    """The case files of a project, in order of name."""
    found = [*(path / FOLDER).rglob("*.yaml"), *(path / FOLDER).rglob("*.yml")]
    return sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts))


def run_suite(tested: Tested, wanted: Wanted, on_result: Callable[[Result], None] = lambda _: None) -> Report:
    """Run the cases. Raises `ConfigError` for a mistake in a case file, `SqlError` for one in the SQL."""
    files = [_read(path, tested.path) for path in case_files(tested.path)]
    stages: dict[tuple[tuple[str, str], ...], tuple[Program, Stage]] = {}
    scripts: list[tuple[CaseFile, Script, Stage]] = []
    total = 0
    for file in files:
        key = tuple(sorted(file.parameters.items()))
        if key not in stages:
            program = tested.compile(file.parameters)
            stages[key] = (program, build_stage(program))
        for case in file.cases:
            script = bind(case, file.name, stages[key][1], tested.max_future_skew_ms)
            total += 1
            if _selected(f"{file.name}: {case.name}", wanted.pattern):
                scripts.append((file, script, stages[key][1]))
    results = _run_all(scripts, wanted, on_result)
    updated = _update(tested.path, files, results) if wanted.update else ()
    if wanted.update:
        results = [_accepted(result) for result in results]
    coverage = cover(*next(iter(stages.values())), tested.sql, results) if results else None
    return Report(tuple(results), tuple(file.name for file in files), total - len(scripts), updated, coverage)


def _read(path: Path, root: Path) -> CaseFile:
    name = str(path.relative_to(root))
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return read_cases(file.read().removeprefix("\ufeff"), name)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error


def _selected(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    wanted, given = pattern.lower(), name.lower()
    if any(one in wanted for one in "*?"):
        return fnmatchcase(given, f"*{wanted}*")
    return wanted in given


def _run_all(
    scripts: Sequence[tuple[CaseFile, Script, Stage]], wanted: Wanted, on_result: Callable[[Result], None]
) -> list[Result]:
    results = []
    for _, script, stage in scripts:
        results.append(run_script(script, stage, wanted.cuts))
        seen = _accepted(results[-1]) if wanted.update else results[-1]
        on_result(seen)
        if wanted.stop and not seen.passed:
            break
    return results


def _accepted(result: Result) -> Result:
    """The case after its expectations were rewritten: what is left are failures that no golden row can mend."""
    return replace(result, failures=tuple(failure for failure in result.failures if not failure.mendable))


def _update(root: Path, files: Sequence[CaseFile], results: Sequence[Result]) -> tuple[str, ...]:
    """Rewrite what differs."""
    updated = []
    for file in files:
        changes: dict[tuple[int, int], Change] = {}
        for result in results:
            for change in result.changes if result.file == file.name else ():
                changes[change.spot.start, change.spot.end] = change
        if changes:
            text = splice(file.text, list(changes.values()))
            with (root / file.name).open("w", encoding="utf-8", newline="") as out:
                out.write(text)
            updated.append(file.name)
    return tuple(updated)
