"""The options `archive` and `archive.sort` of a stream: whether its columns can be archived, and sorted by."""

from __future__ import annotations

from collections.abc import Mapping

from qanat.model.lake import ARCHIVE, SORT
from qanat.model.types import Kind
from qanat.sql.plan import Table
from qanat.sql.source import Source, near
from qanat.sql.statements import CreateTable

_UNSORTED = (Kind.ARRAY, Kind.MAP, Kind.ROW)
#: What Delta Lake does not take in the name of a column.
_FORBIDDEN = " ,;{}()\n\t="


def check_archive(table: Table, values: Mapping[str, object], statement: CreateTable, source: Source) -> None:
    """Raises `SqlError` at the option or column that is wrong."""
    at = {one.key.text: one for one in statement.options}
    if SORT in values and not values.get(ARCHIVE):
        raise source.error(
            f"'{SORT}' sorts an archive, and the table has none", at[SORT].key.at, f"'{ARCHIVE}' = 'true'"
        )
    if not values.get(ARCHIVE):
        return
    types = {one.name: one.type for one in table.physical}
    wanted = values.get(SORT, ())
    for name in wanted if isinstance(wanted, tuple) else ():
        if name not in types:
            hint = near(name, list(types)) or "physical columns: " + ", ".join(types)
            raise source.error(f"'{SORT}': no physical column is called `{name}`", at[SORT].value_at, hint)
        if types[name].kind in _UNSORTED:
            raise source.error(f"'{SORT}': `{name}` is {types[name]}, which has no order", at[SORT].value_at)
    _check_names(table, statement, source)


def _check_names(table: Table, statement: CreateTable, source: Source) -> None:
    """Names that Delta Lake and its readers can tell apart."""
    seen: dict[str, str] = {}
    physical = {one.name for one in table.physical}
    for one in statement.columns:
        name = one.name.text
        if name not in physical:
            continue
        if name.startswith("__"):
            raise source.error(
                f"an archived table cannot have the column `{name}`", one.name.at, "names with __ are the archive's own"
            )
        if any(c in _FORBIDDEN for c in name):
            raise source.error(
                f"an archived table cannot have the column `{name}`", one.name.at, "without blanks and any of ,;{}()="
            )
        if name.lower() in seen:
            other = seen[name.lower()]
            message = f"an archive cannot tell `{name}` from `{other}`: Delta Lake reads both alike"
            raise source.error(message, one.name.at, "choose another name")
        seen[name.lower()] = name
