"""What a query sees: the columns of its FROM by name and qualifier, and where a node stands in the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from sqlglot import exp

from qanat.sql.expressions import Column
from qanat.sql.plan import Field, Node, Schema, Window
from qanat.sql.source import Source, near


class Role(Enum):
    """What a column of a window function stands for; it stays with the column through projections."""

    START = "window_start"
    END = "window_end"
    TIME = "window_time"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column as the query sees it. `field`: its unique name and type in the plan. Hidden ones carry window_time along
    for windows over windows; no name reaches them."""

    qualifier: str | None
    name: str
    field: Field
    role: Role | None = None
    hidden: bool = False

    @property
    def column(self) -> Column:
        """The expression that reads it."""
        return Column(self.field.name, self.field.type)


@dataclass(frozen=True, slots=True)
class Relation:
    """A bound FROM item or query. `window`: the one that its rows carry, where they carry one."""

    node: Node
    attributes: tuple[Attribute, ...]
    window: Window | None = None

    @property
    def visible(self) -> tuple[Attribute, ...]:
        """The columns that `*` gives."""
        return tuple(one for one in self.attributes if not one.hidden)

    def by_role(self, role: Role) -> Attribute | None:
        """The first column with this role."""
        return next((one for one in self.attributes if one.role is role), None)

    def by_field(self, name: str) -> Attribute | None:
        """The column with this unique name."""
        return next((one for one in self.attributes if one.field.name == name), None)

    def qualified(self, qualifier: str | None) -> Relation:
        """The same rows under another name."""
        return replace(self, attributes=tuple(replace(one, qualifier=qualifier) for one in self.attributes))

    def time_attributes(self) -> list[Attribute]:
        """Columns that carry event time."""
        return [one for one in self.attributes if one.field.time_attribute]


def place(node: object) -> int | None:
    """Where a node begins, as an offset: its own token, or the first one inside it."""
    if not isinstance(node, exp.Expr):
        return None
    starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
    return min(starts) if starts else None


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names, with a number behind those that are taken already.

    >>> unique(["id", "ts"], taken=["id"])
    ['id0', 'ts']
    """
    used = set(taken)
    found: list[str] = []
    for name in names:
        candidate, number = name, 0
        while candidate in used:
            candidate, number = f"{name}{number}", number + 1
        used.add(candidate)
        found.append(candidate)
    return found


def relation_of(node: Node, schema: Schema, qualifier: str | None = None) -> Relation:
    """A relation whose columns are called as in the schema."""
    return Relation(node, tuple(Attribute(qualifier, field.name, field) for field in schema))


def resolve(parts: list[str], relation: Relation, source: Source, at: int | None) -> tuple[Attribute, list[str]]:
    """The column that `a.b.c` means, and the names left over: fields of a row. Raises `SqlError`."""
    if len(parts) > 1:
        of_table = [one for one in relation.visible if one.qualifier == parts[0] and one.name == parts[1]]
        if of_table:
            return _only(of_table, f"{parts[0]}.{parts[1]}", source, at), parts[2:]
    found = [one for one in relation.visible if one.name == parts[0]]
    if found:
        return _only(found, parts[0], source, at), parts[1:]
    raise source.error(*_unknown(parts, relation, at))


def _only(found: list[Attribute], name: str, source: Source, at: int | None) -> Attribute:
    if len(found) > 1:
        owners = " or ".join(f"{one.qualifier}.{one.name}" for one in found if one.qualifier)
        raise source.error(f"column `{name}` is ambiguous", at, f"write {owners}" if owners else None)
    return found[0]


def _unknown(parts: list[str], relation: Relation, at: int | None) -> tuple[str, int | None, str | None]:
    qualifiers = {one.qualifier for one in relation.visible if one.qualifier}
    names = [one.name for one in relation.visible]
    if len(parts) > 1 and parts[0] in qualifiers:
        inside = [one.name for one in relation.visible if one.qualifier == parts[0]]
        hint = near(parts[1], inside) or f"columns of {parts[0]}: {', '.join(inside)}"
        return f"{parts[0]} has no column `{parts[1]}`", at, hint
    if len(parts) > 1:
        hint = near(parts[0], [*sorted(qualifiers), *names]) or f"tables here: {', '.join(sorted(qualifiers))}"
        return f"no table or column is called `{parts[0]}` here", at, hint
    listed = "columns here: " + ", ".join(names) if names else None
    return f"no column is called `{parts[0]}` here", at, near(parts[0], names) or listed
