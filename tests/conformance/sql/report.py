"""Every case in one line: pass, refused, different or broken. `python -m tests.conformance.sql.report [-v] [NAMES]`."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.conformance.sql.cases import Case, all_cases, differences, pending
from tests.conformance.sql.checks import check


def main(arguments: list[str]) -> None:
    """Print a line per case that does not pass, and per exception that is no longer one; then how many there are."""
    names = [one for one in arguments if one != "-v"]
    known = {**pending(), **differences()}
    counts: Counter[str] = Counter()
    for case in all_cases():
        if names and case.name not in names and case.name.split("/")[0] not in names:
            continue
        text = _outcome(case, "-v" in arguments)
        counts[text.split(":")[0].split()[0]] += 1
        if text != "pass":
            mark = " (known)" if case.name in known else ""
            sys.stdout.write(f"{case.name}{mark}: {text if '-v' in arguments else text.splitlines()[0]}\n")
        elif case.name in known:
            sys.stdout.write(f"{case.name}: passes, but is listed: {known[case.name]}\n")
    sys.stdout.write(f"{dict(counts)}\n")


def _outcome(case: Case, verbose: bool) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return check(case, Path(folder)) or "pass"
    except Exception as error:  # noqa: BLE001 - the report goes on
        where = traceback.format_exc() if verbose else ""
        return f"broken: {type(error).__name__}: {error}\n{where}"


if __name__ == "__main__":
    main(sys.argv[1:])
