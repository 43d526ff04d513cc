"""`qanat test`: the cases of a project. Prints and watches; what a case is and whether it holds is `trial`'s."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Directory, Json, Params

if TYPE_CHECKING:
    from qanat.trial.coverage import Coverage, PipelineCoverage
    from qanat.trial.judge import Cut
    from qanat.trial.render import Paint
    from qanat.trial.suite import Report, Tested, Wanted
    from qanat.trial.verdict import Result

#: Exit code where a case failed.
FAILED = 1
#: Seconds between two looks at the files of a project.
_LOOK = 0.3
_EXAMPLE = """\
no cases in {folder}. A case is a few rows in and the rows that should come out; {folder}/first.yaml:

  - case: what it shows
    given:
      {stream}: |
        | {columns} |
        | ... |
    expect:
      {sink}:              # qanat test --update fills it in

see docs/testing.md"""


def run_tests(
    directory: Directory = Path(),
    pattern: Annotated[
        str | None, typer.Option("-k", "--only", metavar="PATTERN", help="Cases whose FILE: NAME holds this.")
    ] = None,
    stop: Annotated[bool, typer.Option("-x", "--stop", help="Stop at the first case that fails.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Write what was found in the place of what was expected.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Run again whenever a file of the project changes.")] = False,
    cuts: Annotated[
        str, typer.Option("--cuts", metavar="N,...", help="Sizes of micro-batches to run each case with.")
    ] = "1,all",
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Run the cases of a project."""
    from qanat.cli.project import parse_params
    from qanat.trial.suite import Wanted

    wanted = Wanted(pattern, stop, update, _cuts(cuts))
    params = parse_params(param or [])

    def once() -> bool:
        return _run(directory, params, wanted, junit, as_json)

    if watch:
        keep_running(once, _changes(directory))
    elif not once():
        raise typer.Exit(FAILED)


def _cuts(text: str) -> tuple[Cut, ...]:
    from qanat.errors import ConfigError

    found: dict[Cut, None] = {}
    for part in text.split(","):
        word = part.strip()
        if word != "all" and (not word.isdecimal() or int(word) == 0):
            raise ConfigError(
                f"--cuts {text!r}: {word!r} is no size of a micro-batch", hint="for example --cuts 1,7,all"
            )
        found[None if word == "all" else int(word)] = None
    return tuple(found)


def load(directory: Path, params: Mapping[str, str]) -> Tested:
    """The project in a folder, ready to be tested. `params` go before those of a case file."""
    from qanat.cli.project import compile_folder, open_folder, read_text
    from qanat.trial.suite import Tested

    folder = open_folder(directory)
    sql = "\n".join(read_text(path) for path in folder.scripts)
    skew = int(folder.project.max_future_skew)
    return Tested(directory, lambda own: compile_folder(folder, {**own, **params}), sql, skew)


def _run(directory: Path, params: Mapping[str, str], wanted: Wanted, junit: Path | None, as_json: bool) -> bool:
    """One run of all cases. Whether all passed."""
    from qanat.trial.junit import junit as as_junit
    from qanat.trial.suite import run_suite

    tested = load(directory, params)
    printer = _Printer(as_json)
    started = time.perf_counter()
    report = run_suite(tested, wanted, printer.result)
    printer.summary(report, time.perf_counter() - started, wanted)
    if not report.files:
        typer.echo(_how_to_begin(tested), err=as_json)
    if junit is not None:
        junit.write_bytes(as_junit(report.results))
    return not report.failed


def keep_running(once: Callable[[], bool], changes: Iterator[None]) -> None:
    """Run now and after each change; a mistake in a file is shown and waited out."""
    from qanat.errors import QanatError

    for _ in changes:
        try:
            once()
        except QanatError as error:
            typer.echo(f"qanat: {error}", err=True)
        typer.echo("waiting for changes; Ctrl-C ends", err=True)


def _changes(directory: Path) -> Iterator[None]:
    """Once at the start, then whenever a file of the project was written, added or removed."""
    seen: dict[Path, int] | None = None
    while True:
        found = stamps(directory)
        if found != seen:
            seen = found
            yield
        else:
            time.sleep(_LOOK)


def stamps(directory: Path) -> dict[Path, int]:
    """The files that a run depends on, and when each was last written (ns)."""
    from qanat.cli.project import CONFIG
    from qanat.trial.suite import case_files

    found = {}
    for path in (*directory.glob("*.sql"), directory / CONFIG, *case_files(directory)):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:  # it has just gone, or was never there
            continue
    return found


def _how_to_begin(tested: Tested) -> str:
    from qanat.trial.stage import build_stage
    from qanat.trial.suite import FOLDER

    stage = build_stage(tested.compile({}))
    read = next(iter(stage.reads[stage.pipelines[0].name]))
    columns = " | ".join(stage.targets[read].types)
    sink = stage.sink_of(stage.pipelines[0]).name
    return _EXAMPLE.format(folder=tested.path / FOLDER, stream=read, columns=columns, sink=sink)


class _Printer:
    """Results as they come, and the summary: text for people, or JSON lines."""

    def __init__(self, as_json: bool) -> None:
        from qanat.cli.output import for_people
        from qanat.trial.render import Paint

        self._json = as_json
        self._paint: Paint = Paint(for_people() and not as_json)
        self._file = ""

    def result(self, result: Result) -> None:
        """One case."""
        from qanat.cli.output import say_json

        if self._json:
            say_json(_as_dict(result))
            return
        if result.file != self._file:
            self._file = result.file
            typer.echo(self._paint.bold(result.file))
        mark = self._paint.green("ok    ") if result.passed else self._paint.red("FAILED")
        typer.echo(f"  {mark} {result.name}")
        for failure in result.failures:
            title, *rest = failure.lines(self._paint)
            typer.echo(f"         {result.file}:{failure.line}: {title}")
            for line in rest:
                typer.echo(f"         {line}")
        for note in result.notes:
            typer.echo(self._paint.dim(f"         {note}"))

    def summary(self, report: Report, seconds: float, wanted: Wanted) -> None:
        """All cases together, and what they exercised."""
        from qanat.cli.output import say_json

        if self._json:
            say_json(_summary_dict(report, seconds))
            return
        if not report.files:
            return
        passed = len(report.results) - report.failed
        parts = [self._paint.green(f"{passed} passed")] if passed else []
        parts += [self._paint.red(f"{report.failed} failed")] if report.failed else []
        parts += [f"{report.deselected} left out by -k"] if report.deselected else []
        typer.echo(f"\n{', '.join(parts) or 'no case'} in {seconds:.1f} s")
        for name in report.updated:
            typer.echo(f"updated {name}")
        if report.coverage is not None and not report.deselected and not (wanted.stop and report.failed):
            for line in _coverage_lines(report.coverage, self._paint):
                typer.echo(line)


def _coverage_lines(coverage: Coverage, paint: Paint) -> Iterator[str]:
    judged = sum(bool(one.judged) for one in coverage.pipelines)
    yield f"{judged} of {len(coverage.pipelines)} pipelines tested"
    width = max(len(one.name) for one in coverage.pipelines)
    for one in coverage.pipelines:
        line = f"  {one.name.ljust(width)}  {_said(one)}"
        yield line if one.judged else paint.red(line)
    for what, names in (("tables", coverage.unused_tables), ("views", coverage.unused_views)):
        if names:
            yield f"{what} that no case uses: {', '.join(names)}"


def _said(one: PipelineCoverage) -> str:
    if not one.cases:
        return "no case gives it rows"
    cases = f"{one.cases} case{'' if one.cases == 1 else 's'}, {one.rows_in:,} rows in, {one.rows_out:,} out"
    return cases if one.judged else f"{cases}; no case says what should come out"


def _as_dict(result: Result) -> dict[str, object]:
    from qanat.trial.render import Paint

    failures = [
        {"line": failure.line, "message": failure.title, "diff": failure.lines(Paint(False))[1:]}
        for failure in result.failures
    ]
    place = {"file": result.file, "line": result.line, "case": result.name}
    return {**place, "passed": result.passed, "seconds": round(result.seconds, 4), "failures": failures} | {
        "notes": list(result.notes)
    }


def _summary_dict(report: Report, seconds: float) -> dict[str, object]:
    counts = {"cases": len(report.results), "failed": report.failed, "deselected": report.deselected}
    found: dict[str, object] = {**counts, "seconds": round(seconds, 3), "updated": list(report.updated)}
    if report.coverage is not None:
        fields = ("name", "cases", "judged", "rows_in", "rows_out")
        found["pipelines"] = [{name: getattr(one, name) for name in fields} for one in report.coverage.pipelines]
        found["unused_tables"] = list(report.coverage.unused_tables)
        found["unused_views"] = list(report.coverage.unused_views)
    return found
