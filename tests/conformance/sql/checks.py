"""What every case must do in the one-process runtime. Returns what is wrong, so that tests and reports can use it."""

from __future__ import annotations

from pathlib import Path

from qanat.errors import SqlError
from qanat.sql.plan import Pipeline
from tests.conformance.sql.cases import Case, Result, read_rows
from tests.conformance.sql.compare import difference
from tests.conformance.sql.embedded import compiled, run, run_with_restarts

#: More than any input has rows.
ALL = 10_000


def check(case: Case, folder: Path) -> str | None:
    """None, or what is wrong: `refused ...`, `different ...`. Raises what the runtime raises."""
    if case.fails is not None:
        return _refusal(case)
    try:
        pipeline = compiled(case.sql)
    except SqlError as error:
        return f"refused: {error}"
    whole = run(pipeline, ALL)
    if found := difference(read_rows(case.golden), whole, case.key, final_only=case.final_only):
        return f"different: {found}"
    if found := cut_differently(pipeline, whole, case.key):
        return found
    return _other("restarts of the engine", whole, run_with_restarts(pipeline, folder), case.key)


def cut_differently(pipeline: Pipeline, whole: Result, key: tuple[str, ...]) -> str | None:
    """Whether the same rows come, in the same order, in smaller batches and with crashes; None where they do."""
    return (
        _other("batches of 7", whole, run(pipeline, 7), key)
        or _other("batches of 1", whole, run(pipeline, 1), key)
        or _other("a crash after every 3 rows", whole, run(pipeline, 3, crashes=True), key)
    )


def _other(name: str, whole: Result, other: Result, key: tuple[str, ...]) -> str | None:
    if other == whole:
        return None
    found = difference(whole, other, key, final_only=False) or "the same changes in another order"
    return f"different with {name} (want: all at once): {found}"


def _refusal(case: Case) -> str | None:
    try:
        compiled(case.sql)
    except SqlError as error:
        return None if str(case.fails) in error.message else f"refused in other words: {error}"
    return "not refused"
