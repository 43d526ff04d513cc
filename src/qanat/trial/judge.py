"""One case, run once per cut and judged. No files, no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from qanat.errors import QanatError
from qanat.model.streams import DEAD_LETTERS, LATE
from qanat.model.types import TIMESTAMP
from qanat.trial.cases import END, NO_WATERMARK, OPS, Crash, Idle, Restart
from qanat.trial.cells import arrow_of, show, values_of
from qanat.trial.compare import Diff, Values, compare, within
from qanat.trial.contents import Found, found_rows, kinds_of
from qanat.trial.drive import WHOLE, Contents, Drive, Look
from qanat.trial.script import Expected, ExpectedWatermark, Finish, Judge, Put, Script
from qanat.trial.splice import Change
from qanat.trial.stage import Stage
from qanat.trial.verdict import Failure, Result, Touched

#: Rows of a micro-batch; None: as many as there are.
Cut = int | None
#: Years 1 and 9999: a watermark beyond them is none, or the end.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class _Run:
    """What was there at each point, rows in and out per pipeline, and pipelines that failed."""

    looks: list[Look]
    rows: dict[str, tuple[int, int]]
    failures: dict[str, Exception]


def run_script(script: Script, stage: Stage, cuts: Sequence[Cut]) -> Result:
    """Run a case with every cut; the widest is judged, the others are compared with it."""
    started = time.perf_counter()
    widest, *others = sorted(cuts, key=lambda cut: -(WHOLE if cut is None else cut))
    case = script.case
    run = _run(script, stage, widest)
    failures, changes = _judge_all(script, run.looks)
    failures = [*_broken(case.line, run, widest), *failures]
    for cut in others:
        failures += _compare_cut(script, stage, run, cut, widest)
    touched = Touched(run.rows, script.fed, _judged(script))
    notes = _notes(script, run.looks[-1])
    seconds = time.perf_counter() - started
    return Result(script.file, case.line, case.name, tuple(failures), notes, seconds, touched, tuple(changes))


def _run(script: Script, stage: Stage, cut: Cut) -> _Run:
    drive = Drive(stage, cut or WHOLE)
    looks: list[Look] = []
    try:
        for action in script.actions:
            match action:
                case Put():
                    drive.put(action.appends)
                case Crash():
                    drive.crash()
                case Restart():
                    drive.restart()
                case Idle():
                    drive.leave_out(action.stream, action.partition)
                case Finish():
                    drive.end()
                case Judge():
                    looks.append(drive.look())
        return _Run(looks, drive.counted(), drive.failures())
    finally:
        drive.close()


def _broken(line: int, run: _Run, cut: Cut) -> list[Failure]:
    return [
        Failure(line, f"pipeline {name} failed ({_cut_text(cut)}): {_why(error)}")
        for name, error in run.failures.items()
    ]


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, QanatError) else f"{type(error).__name__}: {error}"


def _cut_text(cut: Cut) -> str:
    return "all rows at once" if cut is None else f"micro-batches of {cut} row{'s' if cut > 1 else ''}"


# -- expectations -----------------------------------------------------------------------------------------------------


def _judges(script: Script) -> list[Judge]:
    return [action for action in script.actions if isinstance(action, Judge)]


def _judged(script: Script) -> frozenset[str]:
    """Streams and pipelines that the case says something about."""
    streams = {one.target.name for judge in _judges(script) for one in judge.streams}
    return frozenset(streams | {one.source.pipeline for judge in _judges(script) for one in judge.watermarks})


def _judge_all(script: Script, looks: Sequence[Look]) -> tuple[list[Failure], list[Change]]:
    failures: list[Failure] = []
    changes: list[Change] = []
    for judge, look in zip(_judges(script), looks, strict=True):
        for one in judge.streams:
            failure, change = _judge(one, look.contents[one.target.name], script.case.date)
            failures += [failure] if failure is not None else []
            changes += [change] if change is not None else []
        for mark in judge.watermarks:
            found = look.watermarks[mark.source.pipeline]
            if mark.value != _clipped(found):
                failures.append(_watermark_failure(mark, found, script.case.date))
                word = _watermark_word(found, script.case.date)
                changes.append(Change(mark.source.spot, None, word=word))
    return failures, changes


def _judge(one: Expected, contents: Contents, date: str | None) -> tuple[Failure | None, Change | None]:
    found = found_rows(one.target, contents, one.columns, changes=one.changes)
    source, kinds = one.source, tuple(kinds_of(one.target, one.columns))
    count = len(found.rows)
    if source.rows is None:
        if source.count == count:
            return None, None
        if source.count is not None:
            title = f"{one.target.name}: expected {_rows(source.count)}, found {count}"
            diff = compare(one.columns, (), found.rows, within(0), ordered=False)
            return Failure(source.line, title, diff, kinds, date, True), Change(source.spot, None, word=str(count))
        title = f"{one.target.name}: nothing is expected yet; --update writes what it holds ({_rows(count)})"
        return Failure(source.line, title, mendable=True), Change(source.spot, found, kinds, date)
    unordered = source.unordered
    if unordered is None:
        unordered = found.changing or one.target.name == LATE
    wanted = _with_ops(one.values, one.ops)
    diff = compare(one.columns, wanted, _with_ops(found.rows, found.ops), within(one.tolerance), ordered=not unordered)
    if diff is None:
        return None, None
    title = f"{one.target.name}: {_summary(diff)}"
    return Failure(source.line, title, diff, kinds, date, True), Change(source.spot, found, kinds, date)


def _with_ops(rows: Sequence[Values], ops: Sequence[str]) -> list[Values]:
    return [(op, *row) for op, row in zip(ops, rows, strict=True)] if ops else list(rows)


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _summary(diff: Diff) -> str:
    if diff.reordered:
        return "the rows are right, their order is not (`unordered: true` where it does not matter)"
    changed = sum(bool(entry.changed) for entry in diff.entries) // 2
    missing, unexpected = diff.count("-") - changed, diff.count("+") - changed
    parts = [(changed, "different"), (missing, "missing"), (unexpected, "unexpected")]
    said = [f"{count} {what}" for count, what in parts if count]
    return f"{_rows(len(diff.entries) - changed)}: {', '.join(said)}"


def _clipped(found: int) -> int | str:
    if found < _FIRST:
        return NO_WATERMARK
    return END if found > _LAST else found


def _watermark_word(found: int, date: str | None) -> str:
    """A watermark as a case writes it."""
    clipped = _clipped(found)
    if isinstance(clipped, str):
        return clipped
    text = values_of(arrow_of([_instant(clipped)], TIMESTAMP), TIMESTAMP)[0]
    return show(text, TIMESTAMP, date)


def _instant(milliseconds: int) -> str:
    whole, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}.{rest:03d}"


def _watermark_failure(mark: ExpectedWatermark, found: int, date: str | None) -> Failure:
    name, word = mark.source.pipeline, _watermark_word(found, date)
    title = f"the watermark of {name}: expected {mark.source.text}, found {word}"
    return Failure(mark.source.line, title, mendable=True)


# -- cuts -------------------------------------------------------------------------------------------------------------


def _compare_cut(script: Script, stage: Stage, run: _Run, cut: Cut, widest: Cut) -> list[Failure]:
    """Law 1: how the input is cut changes nothing. The first look that differs is shown."""
    other_run = _run(script, stage, cut)
    if set(other_run.failures) != set(run.failures):
        return _broken(script.case.line, other_run, cut) or [
            Failure(script.case.line, f"law 1: with {_cut_text(cut)} no pipeline fails")
        ]
    for judge, look, other in zip(_judges(script), run.looks, other_run.looks, strict=True):
        failures = [
            failure
            for name in stage.targets
            if (failure := _differing(name, stage, judge.line, look, other, cut, widest)) is not None
        ]
        marks = [name for name in look.watermarks if look.watermarks[name] != other.watermarks[name]]
        failures += [
            Failure(judge.line, f"law 1: the watermark of {name} depends on the cut ({_cut_text(cut)})")
            for name in marks
        ]
        if failures:
            return failures
    return []


def _differing(  # the two looks and how they came about
    name: str, stage: Stage, line: int, look: Look, other: Look, cut: Cut, widest: Cut
) -> Failure | None:
    target = stage.targets[name]
    columns = tuple(target.types)
    first, second = (_all(name, stage, one) for one in (look, other))
    ordered = name not in (LATE, DEAD_LETTERS)
    diff = compare(columns, first, second, within(0), ordered=ordered)
    if diff is None:
        return None
    title = f"law 1: {name} depends on how the input is cut: - {_cut_text(widest)}, + {_cut_text(cut)}"
    return Failure(line, title, diff, tuple(kinds_of(target, columns)))


def _all(name: str, stage: Stage, look: Look) -> list[Values]:
    target = stage.targets[name]
    found: Found = found_rows(target, look.contents[name], tuple(target.types), changes=True)
    changing = any(op != OPS[0] for op in found.ops)
    return _with_ops(found.rows, found.ops if changing else ())


def _notes(script: Script, look: Look) -> tuple[str, ...]:
    """Rows that went aside without the case saying a word about it."""
    judged, notes = _judged(script), []
    for name, what in ((LATE, "late row"), (DEAD_LETTERS, "dead letter")):
        count = look.contents[name].rows.num_rows
        if count and name not in judged:
            notes.append(f"{count} {what}{'' if count == 1 else 's'}, of which the case says nothing ({name}:)")
    return tuple(notes)
