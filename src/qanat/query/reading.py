"""What a SELECT reads: the tables that it names, their columns, and which rows it cannot do without.

Works on the tree that DuckDB's own parser gives (`json_serialize_sql`), so it understands a statement as DuckDB will.
Conservative: what it does not understand bounds nothing. Pure: no I/O, no clock; values are computed in `constants`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qanat.query.conditions import Conditions, Domain, both, condition_of, either, range_of
from qanat.query.constants import Values, value_of

Node = dict[str, Any]

#: Joins through which a condition of WHERE may be applied to a table before it is joined: such a condition is never
#: true of NULL, so rows that an outer join pads are refused by it in either case. ASOF and POSITIONAL are not: they
#: choose among all rows.
_JOINS = frozenset({"INNER", "LEFT", "RIGHT", "OUTER", "FULL"})
_REFERENCES = frozenset({"REGULAR", "CROSS", "NATURAL"})
_CATALOGUE = ("information_schema", "pg_catalog", "duckdb_", "sqlite_master", "pragma_", "pg_")
_MIRRORED = {
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_EQUAL": "COMPARE_EQUAL",
}


@dataclass(frozen=True, slots=True)
class Use:
    """A table where a statement names it. `where`: the conjuncts that its rows must meet, from the SELECT around it;
    `hidden`: names that mean something else there than the table's columns."""

    name: str
    alias: str
    where: tuple[Node, ...] = ()
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement. Names are casefolded, as DuckDB compares them.

    `uses`: every place that names a table (or a common table expression of that name, which loosens its bounds and does
    no harm). `functions`: table functions. `words`: whatever the statement has in it. `whole`: all columns are wanted.
    `lists`: it asks for what tables there are.
    """

    uses: Mapping[str, tuple[Use, ...]]
    functions: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    whole: bool = True
    lists: bool = False

    def names(self, table: str) -> bool:
        """Whether a table is named."""
        return table.casefold() in self.uses

    def wanted(self, columns: list[str]) -> list[str]:
        """Those of a table's columns that the statement may read."""
        return columns if self.whole else [one for one in columns if one.casefold() in self.words]

    def conditions(self, table: str, domains: Mapping[str, Domain], values: Values) -> Conditions:
        """What all rows of a table that matter have in common. `domains`: the columns that may be bounded."""
        found: Conditions | None = None
        for use in self.uses.get(table.casefold(), ()):
            here: Conditions = {}
            for node in use.where:
                here = both(here, _conditions(node, use, domains, values))
            found = here if found is None else either(found, here)
        return found or {}


def read(tree: Node | None) -> Reading | None:
    """What DuckDB's serialised statement reads; None where DuckDB serialised nothing (EXPLAIN, PIVOT)."""
    if tree is None or tree.get("error") or not tree.get("statements"):
        return None
    gathered = _Gathered()
    gathered.take(tree["statements"])
    aliases = {use.alias for uses in gathered.uses.values() for use in uses} | set(gathered.uses)
    whole = gathered.whole or any(name in aliases for name in gathered.single)
    lists = gathered.lists or any(word.startswith(_CATALOGUE) for word in gathered.words)
    uses = {name: tuple(found) for name, found in gathered.uses.items()}
    return Reading(uses, frozenset(gathered.functions), frozenset(gathered.words), whole, lists)


@dataclass(slots=True)
class _Gathered:
    uses: dict[str, list[Use]] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    single: set[str] = field(default_factory=set)  # column references of one part: may be a whole row
    whole: bool = False
    lists: bool = False

    def take(self, node: Any) -> None:
        """A node and all below it."""
        match node:
            case {"type": "SELECT_NODE"}:
                self._select(node)
            case {"type": "BASE_TABLE"}:
                self._use(Use(_table(node), _alias(node)))
                self._below(node)
            case dict():
                self._note(node)
                self._below(node)
            case list():
                for one in node:
                    self.take(one)
            case str():
                self.words.add(node.casefold())

    def _below(self, node: Node) -> None:
        for value in node.values():
            self.take(value)

    def _use(self, use: Use) -> None:
        self.uses.setdefault(use.name, []).append(use)

    def _note(self, node: Node) -> None:
        kind, way = str(node.get("class", "")), str(node.get("type", ""))
        if kind == "STAR" or "POSITIONAL" in way or node.get("ref_type") in ("NATURAL", "POSITIONAL"):
            self.whole = True
        if kind == "COLUMN_REF" and len(node["column_names"]) == 1:
            self.single.add(str(node["column_names"][0]).casefold())
        if way == "SHOW_REF":
            self.whole = True
            self.lists |= node.get("query") is None
        if way == "TABLE_FUNCTION":
            self.functions.add(str(node["function"]["function_name"]).casefold())

    def _select(self, node: Node) -> None:
        """A SELECT: tables of its FROM get the conditions of its WHERE."""
        leaves = list(_leaves(node["from_table"])) if node.get("sample") is None else None
        bounded: set[int] = set()
        if leaves is not None and all(leaf is not None for leaf in leaves):
            where = tuple(_conjuncts(node.get("where_clause")))
            hidden = _hidden(node)
            for leaf in leaves:
                if leaf is not None and leaf["type"] == "BASE_TABLE" and _plain(leaf):
                    self._use(Use(_table(leaf), _alias(leaf), where, hidden))
                    bounded.add(id(leaf))
        for key, value in node.items():
            if key == "from_table":
                self._source(value, bounded)
            else:
                self.take(value)

    def _source(self, node: Any, bounded: set[int]) -> None:
        if not isinstance(node, dict):
            return
        if id(node) in bounded:
            self._below(node)
        elif node.get("type") == "JOIN":
            self._note(node)
            for key, value in node.items():
                if key in ("left", "right"):
                    self._source(value, bounded)
                else:
                    self.take(value)
        else:
            self.take(node)


def _leaves(node: Node) -> Iterator[Node | None]:
    """What a FROM joins; None where a join is of another kind than those that conditions may pass."""
    if node["type"] != "JOIN":
        yield node
    elif node["join_type"] in _JOINS and node["ref_type"] in _REFERENCES:
        yield from _leaves(node["left"])
        yield from _leaves(node["right"])
    else:
        yield None


def _plain(leaf: Node) -> bool:
    return leaf.get("sample") is None and not leaf.get("column_name_alias") and leaf.get("at_clause") is None


def _table(node: Node) -> str:
    path = node.get("qualified_name", {}).get("path") or [node["table_name"]]
    return str(path[-1]).casefold()


def _alias(node: Node) -> str:
    return str(node.get("alias") or "").casefold() or _table(node)


def _hidden(node: Node) -> frozenset[str]:
    """Names that the SELECT list gives to something else: DuckDB lets WHERE use them."""
    aliases = set()
    for item in node["select_list"]:
        alias = str(item.get("alias") or "").casefold()
        if alias and not (item["class"] == "COLUMN_REF" and str(item["column_names"][-1]).casefold() == alias):
            aliases.add(alias)
    return frozenset(aliases)


def _conjuncts(node: Node | None) -> Iterator[Node]:
    if node is None:
        return
    if node.get("type") == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _conjuncts(child)
    else:
        yield node


def _conditions(node: Node, use: Use, domains: Mapping[str, Domain], values: Values) -> Conditions:
    match node:
        case {"type": "CONJUNCTION_AND", "children": children}:
            found: Conditions = {}
            for child in children:
                found = both(found, _conditions(child, use, domains, values))
            return found
        case {"type": "CONJUNCTION_OR", "children": children}:
            sides = [_conditions(child, use, domains, values) for child in children]
            joined = sides[0]
            for side in sides[1:]:
                joined = either(joined, side)
            return joined
        case {"class": "COMPARISON", "type": kind, "left": left, "right": right} if kind in _MIRRORED:
            straight = _compared(left, kind, right, use, domains, values)
            return straight or _compared(right, _MIRRORED[kind], left, use, domains, values)
        case {"class": "BETWEEN", "type": "COMPARE_BETWEEN", "input": column, "lower": low, "upper": high}:
            above = _compared(column, "COMPARE_GREATERTHANOREQUALTO", low, use, domains, values)
            return both(above, _compared(column, "COMPARE_LESSTHANOREQUALTO", high, use, domains, values))
        case {"type": "COMPARE_IN", "children": [column, *given]}:
            return _among(column, given, use, domains, values)
    return {}


def _compared(
    column: Node, kind: str, given: Node, use: Use, domains: Mapping[str, Domain], values: Values
) -> Conditions:
    name = _column(column, use, domains)
    if name is None:
        return {}
    value = value_of(given, values)
    if value is None:
        return {}
    domain = domains[name]
    match kind:
        case "COMPARE_EQUAL":
            found = condition_of(domain, value)
        case "COMPARE_GREATERTHAN" | "COMPARE_GREATERTHANOREQUALTO":
            found = range_of(domain, low=value)
        case _:
            found = range_of(domain, high=value)
    return {} if found is None else {name: found}


def _among(column: Node, given: list[Node], use: Use, domains: Mapping[str, Domain], values: Values) -> Conditions:
    found: Conditions | None = None
    for one in given:
        here = _compared(column, "COMPARE_EQUAL", one, use, domains, values)
        found = here if found is None else either(found, here)
    return found or {}


def _column(node: Node, use: Use, domains: Mapping[str, Domain]) -> str | None:
    """The column of the table that an expression is, if it is one."""
    if node.get("class") != "COLUMN_REF":
        return None
    path = [str(part).casefold() for part in node["column_names"]]
    match path:
        case [name] if name not in use.hidden:
            found = name
        case [alias, name] if alias == use.alias and alias not in domains:
            found = name
        case _:
            return None
    return found if found in domains else None


def unbounded(reading: Reading) -> Reading:
    """The same reading, of all rows and columns: what a test compares answers with."""
    uses = {name: tuple(replace(use, where=()) for use in uses) for name, uses in reading.uses.items()}
    return replace(reading, uses=uses, whole=True)
