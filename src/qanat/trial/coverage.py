"""Which pipelines, tables and views the cases exercised, and which they did not. Counts only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qanat.sql.plan import Program
from qanat.trial.stage import Stage
from qanat.trial.verdict import Result

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PipelineCoverage:
    """One pipeline: `cases` that gave it rows, `judged` of them that say what it writes; rows in and out of all."""

    name: str
    cases: int
    judged: int
    rows_in: int
    rows_out: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """`unused_tables` got no row in any case and are not judged, `unused_views` are read by no pipeline that did."""

    pipelines: tuple[PipelineCoverage, ...]
    unused_tables: tuple[str, ...]
    unused_views: tuple[str, ...]


def cover(program: Program, stage: Stage, sql: str, results: Sequence[Result]) -> Coverage:
    """What these cases exercised of a program whose text is `sql`."""
    pipelines = tuple(_pipeline(name, stage, results) for name in (one.name for one in program.pipelines))
    ran = {one.name for one in pipelines if one.rows_in}
    wrote = {stage.sink_of(one).name for one in stage.pipelines for c in pipelines if c.name == one.name and c.rows_out}
    fed = frozenset().union(*(result.touched.fed for result in results))
    judged = frozenset().union(*(result.touched.judged for result in results))
    tables = tuple(name for name in program.tables if name not in fed | wrote | judged)
    texts = _view_texts(program, sql)
    used: set[str] = set()
    for pipeline in program.pipelines:
        if pipeline.name in ran:
            _follow(pipeline.text, texts, used)
    return Coverage(pipelines, tables, tuple(name for name in program.views if name not in used))


def _pipeline(name: str, stage: Stage, results: Sequence[Result]) -> PipelineCoverage:
    pipeline = next(one for one in stage.pipelines if one.name == name)
    sink = stage.sink_of(pipeline).name
    ran = [result for result in results if result.touched.rows.get(name, (0, 0))[0]]
    judged = sum(bool({name, sink} & result.touched.judged) for result in ran)
    rows_in, rows_out = (sum(result.touched.rows[name][side] for result in ran) for side in (0, 1))
    return PipelineCoverage(name, len(ran), judged, rows_in, rows_out)


def _view_texts(program: Program, sql: str) -> dict[str, str]:
    """The text of each view, up to the end of its statement."""
    text = _COMMENT.sub(" ", sql)
    found = {}
    for name in program.views:
        match = re.search(rf"\bVIEW\s+(IF\s+NOT\s+EXISTS\s+)?`?{re.escape(name)}\b", text, re.IGNORECASE)
        found[name] = text[match.end() :].partition(";")[0] if match else ""
    return found


def _follow(text: str, views: Mapping[str, str], used: set[str]) -> None:
    """Add the views that a text names, and those that they name."""
    bare = _COMMENT.sub(" ", text)
    for name in views:
        if name not in used and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", bare):
            used.add(name)
            _follow(views[name], views, used)
