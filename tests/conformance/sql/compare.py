"""Are two results the same? What is compared, and why not more:

- Columns: names and types, in order.
- Inserts only: the same rows, as often. The order in which keys fire together is Flink's hash order, so it is not.
- Changelogs: the same changes, as often; per `key` (a directive of the case) in the same order; the same final rows.
- `order: final` (operators with two inputs): which input Flink reads first is chance, and with it the changes; the
  final rows are compared, and that every row taken back was there.

For the same reason no case with two inputs has late rows: what is late there depends on who reads first. Sums of floats
are compared with 12 digits: Flink adds what it buffered between two watermarks before it adds that to the window.
ARRAY_AGG(DISTINCT x) has the order of a hash table in Flink, so that no case has more than one value in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import orjson

from tests.conformance.sql.cases import Change, Result


def difference(want: Result, got: Result, key: tuple[str, ...], *, final_only: bool) -> str | None:
    """What differs, in words and rows; None where nothing does."""
    if want.columns != got.columns:
        return f"columns\n  want {_columns(want)}\n  got  {_columns(got)}"
    try:
        final = final_rows(want.changes), final_rows(got.changes)
    except ValueError as error:
        return str(error)
    if not final_only and (found := _uneven(Counter(map(_text, want.changes)), Counter(map(_text, got.changes)))):
        return f"changes\n{found}"
    if found := _uneven(*final):
        return f"final rows\n{found}"
    if not final_only and key:
        names = [name for name, _ in want.columns]
        places = [names.index(one) for one in key]
        ordered = _by_key(want.changes, places), _by_key(got.changes, places)
        for one, changes in ordered[0].items():
            if ordered[1][one] != changes:
                return f"order of changes of {one}\n  want {changes}\n  got  {ordered[1][one]}"
    return None


def final_rows(changes: Iterable[Change]) -> Counter[str]:
    """What is left when all changes are applied. Raises ValueError where a row is taken back that was not there."""
    rows: Counter[str] = Counter()
    for change in changes:
        row = _text((" ", change[1]))
        if change[0] in ("+I", "+U"):
            rows[row] += 1
        elif rows[row] > 0:
            rows[row] -= 1
        else:
            raise ValueError(f"{_text(change)} takes back a row that is not there")
    return +rows


def _uneven(want: Counter[str], got: Counter[str]) -> str:
    lines = [f"  missing {n} x {row}" for row, n in sorted((want - got).items())]
    lines += [f"  surplus {n} x {row}" for row, n in sorted((got - want).items())]
    return "\n".join(lines)


def _by_key(changes: Iterable[Change], places: list[int]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        found[_text(("", tuple(change[1][place] for place in places)))].append(_text(change))
    return found


def _text(change: Change) -> str:
    return " | ".join([change[0], *(orjson.dumps(value).decode() for value in change[1])])


def _columns(result: Result) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in result.columns)
