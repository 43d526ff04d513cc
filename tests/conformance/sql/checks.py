"""What every case must do in the one-process runtime. Returns what is wrong, so that tests and reports can use it."""

from __future__ import annotations

from pathlib import Path

from qanat.errors import SqlError
from tests.conformance.sql.cases import Case, read_rows
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
    for name, other in {
        "batches of 7": run(pipeline, 7),
        "batches of 1": run(pipeline, 1),
        "a crash after every 3 rows": run(pipeline, 3, crashes=True),
        "restarts of the engine": run_with_restarts(pipeline, folder),
    }.items():
        if other != whole:
            found = difference(whole, other, case.key, final_only=False) or "the same changes in another order"
            return f"different with {name} (want: all at once): {found}"
    return None


def _refusal(case: Case) -> str | None:
    try:
        compiled(case.sql)
    except SqlError as error:
        return None if str(case.fails) in error.message else f"refused in other words: {error}"
    return "not refused"
