"""Queries -> plan nodes: FROM, WHERE, GROUP BY, HAVING, SELECT, DISTINCT, UNION, ORDER BY with LIMIT, WITH, views.

What a clause means is in its own module (`tables`, `windows`, `joins`, `subqueries`, `aggregates`, `over`, `ranking`,
`scalars`); here they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from sqlglot import exp

from qanat.sql import hints, joins, subqueries, temporal, windows
from qanat.sql.aggregates import Grouping, has_aggregates
from qanat.sql.coercion import coerce, common_type
from qanat.sql.dialect import WindowTable
from qanat.sql.expressions import Column, Expression
from qanat.sql.options import CONNECTORS, duration_ms
from qanat.sql.over import Overs, has_over, named_windows
from qanat.sql.plan import (
    AggregateCall,
    Field,
    GroupAggregate,
    JoinKind,
    Node,
    Ordering,
    Project,
    Rank,
    Session,
    Table,
    Union,
    WindowAssign,
)
from qanat.sql.ranking import filtered, settled
from qanat.sql.scalars import Scalars
from qanat.sql.scope import Attribute, Relation, Role, place, relation_of, unique
from qanat.sql.source import Source, near
from qanat.sql.statements import CreateView
from qanat.sql.tables import correlate, no_processing_time, scan_of
from qanat.sql.tree import walk

_JOIN_KINDS: dict[str, JoinKind] = {
    "": "INNER", "INNER": "INNER", "CROSS": "INNER", "LEFT": "LEFT", "LEFT OUTER": "LEFT", "RIGHT": "RIGHT",
    "RIGHT OUTER": "RIGHT", "FULL": "FULL", "FULL OUTER": "FULL",
}  # fmt: skip
#: Where sqlglot puts grouping sets.
_SETS = ("grouping_sets", "rollup", "cube")

#: Clauses of a query that are refused, with what to write instead.
_REFUSED_CLAUSES = {
    "order": ("ORDER BY", "rows come out in event-time order; ORDER BY x LIMIT n keeps the first n"),
    "offset": ("OFFSET", "number the rows: WHERE row_num BETWEEN 11 AND 20"),
    "limit": ("FETCH", "LIMIT n, where n is a number"),
    "laterals": ("LATERAL VIEW", "CROSS JOIN UNNEST(arr) AS t (x)"),
    "when": ("FOR SYSTEM_TIME AS OF", "JOIN versions FOR SYSTEM_TIME AS OF a.ts ON a.id = versions.id"),
    "version": ("FOR SYSTEM_TIME AS OF", "JOIN versions FOR SYSTEM_TIME AS OF a.ts ON a.id = versions.id"),
    "db": ("a name with several parts", "names have one part: catalogs and databases are not supported"),
    "except_": ("* EXCEPT", "name the columns"),
    "replace": ("* REPLACE", "name the columns"),
    "rename": ("* RENAME", "name the columns"),
    "match": ("MATCH_RECOGNIZE", "use SESSION windows or joins on time"),
    "sample": ("TABLESAMPLE", "write a condition in WHERE"),
    "hint": ("hints", "remove the hint"),
}
_KNOWN_CLAUSES = {
    "expressions", "from_", "joins", "where", "group", "having", "with_", "distinct", "windows", "qualify", "order",
    "limit",
}  # fmt: skip


class Catalog(Protocol):
    """Where names of tables and views come from."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """Declared tables by name."""

    @property
    def views(self) -> Mapping[str, tuple[CreateView, Source]]:
        """Views by name, with the text each was read from."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What SET says."""


@dataclass(slots=True)
class Queries:
    """Binds the queries of one text. `inside`: views that are being expanded; `ctes`: those of WITH."""

    catalog: Catalog
    source: Source
    inside: tuple[str, ...] = ()
    ctes: dict[str, tuple[exp.Expr, tuple[str, ...]]] = field(default_factory=dict)

    def bind(self, node: exp.Expr) -> Relation:
        """A whole query: only the columns it shows, no window function left open."""
        relation = visible_only(self.query(node))
        relation = replace(relation, node=settled(relation.node))
        no_processing_time(relation, self.source, place(node))
        if _open_session(relation.node):
            hint = "add GROUP BY key, window_start, window_end; to keep the rows use ARRAY_AGG"
            at = next((place(one) for one in node.find_all(WindowTable)), place(node))
            raise self.source.unsupported("SESSION without GROUP BY is not supported", at, hint)
        return relation

    def query(self, node: exp.Expr) -> Relation:
        """SELECT, UNION ALL or a query in parentheses."""
        match node:
            case exp.Select():
                return self._with(node)._select(node)
            case exp.Union():
                return self._with(node)._union(node)
            case exp.Subquery():
                self._known_args(node, {"this", "alias", "with_"})
                return self._with(node).query(node.this)
            case exp.SetOperation():
                hint = f"WHERE x {'NOT ' if isinstance(node, exp.Except) else ''}IN (SELECT ...)"
                raise self.source.unsupported(f"{type(node).__name__.upper()} is not supported", place(node), hint)
            case exp.Values():
                raise self.source.unsupported(
                    "VALUES is not supported", place(node), "read the rows from a file: 'connector' = 'filesystem'"
                )
            case _:
                raise self.source.unsupported("expected SELECT", place(node))

    def _with(self, node: exp.Expr) -> Queries:
        with_ = node.args.get("with_")
        if not with_:
            return self
        if with_.args.get("recursive"):
            raise self.source.unsupported("WITH RECURSIVE is not supported", place(with_))
        ctes = dict(self.ctes)
        for one in with_.expressions:
            ctes[one.alias] = (one.this, tuple(column.name for column in one.args["alias"].columns))
        return replace(self, ctes=ctes)

    def _known_args(self, node: exp.Expr, known: set[str]) -> None:
        for name, value in node.args.items():
            if value and name not in known:
                what, hint = _REFUSED_CLAUSES.get(name, (name.strip("_").upper().replace("_", " "), None))
                found = value[0] if isinstance(value, list) else value
                raise self.source.unsupported(f"{what} is not supported", place(found) or place(node), hint)

    # --- FROM ------------------------------------------------------------------------------------------------

    def source_of(self, node: exp.Expr) -> Relation:
        """One item of FROM, under its alias."""
        alias = node.args.get("alias")
        match node:
            case WindowTable():
                relation = windows.assign(node, self.source_of(node.args["source"]), self.source).qualified(None)
            case exp.Table():
                relation = self._table(node)
            case exp.Subquery():
                relation = self.query(node).qualified(None)
            case exp.Unnest() | exp.Lateral():
                hint = "put the table first: FROM t CROSS JOIN UNNEST(t.arr) AS u (x)"
                raise self.source.error("UNNEST and LATERAL need a table in front", place(node), hint)
            case _:
                return self.query(node)
        return self._aliased(relation, alias) if alias else relation

    def _aliased(self, relation: Relation, alias: exp.Expr) -> Relation:
        relation = relation.qualified(alias.name)
        names = [one.name for one in alias.args.get("columns") or []]
        return self._renamed(relation, names, place(alias)) if names else relation

    def _renamed(self, relation: Relation, names: list[str], at: int | None) -> Relation:
        shown = relation.visible
        if len(names) != len(shown):
            raise self.source.error(f"{len(names)} names for {len(shown)} columns", at)
        renaming = dict(zip(shown, names, strict=True))
        attributes = tuple(replace(one, name=renaming.get(one, one.name)) for one in relation.attributes)
        return replace(relation, attributes=attributes)

    def _table(self, node: exp.Expr) -> Relation:
        at = place(node)
        self._known_args(node, {"this", "alias"})
        if not isinstance(node.this, exp.Identifier):
            name = node.this.name if isinstance(node.this, exp.Expr) else str(node.this)
            raise self.source.unsupported(
                f"the table function {name} is not supported", at, "TUMBLE, HOP, CUMULATE, SESSION"
            )
        name = node.name
        if name in self.ctes:
            query, names = self.ctes[name]
            outer = {key: value for key, value in self.ctes.items() if key != name}
            relation = replace(self, ctes=outer).query(query)
            relation = self._renamed(relation, list(names), at) if names else relation
            return relation.qualified(name)
        if name in self.catalog.views:
            return self._view(name, at).qualified(name)
        table = self.catalog.tables.get(name)
        if table is None:
            known = [*self.ctes, *self.catalog.views, *self.catalog.tables]
            raise self.source.error(f"no table or view is called `{name}`", at, near(name, known) or _create_hint(name))
        if not CONNECTORS[table.connector].reads:
            raise self.source.error(f"`{name}` cannot be read: the connector '{table.connector}' only writes", at)
        return scan_of(table, name)

    def _view(self, name: str, at: int | None) -> Relation:
        if name in self.inside:
            raise self.source.error(f"the view `{name}` reads itself", at)
        view, source = self.catalog.views[name]
        inner = Queries(self.catalog, source, (*self.inside, name))
        relation = inner.query(view.query)
        names = [one.text for one in view.columns]
        return inner._renamed(relation, names, view.name.at) if names else relation

    def rows_of(self, node: exp.Expr, where: list[exp.Expr]) -> tuple[Relation, list[exp.Expr]]:
        """FROM with its joins, and what is left of WHERE."""
        relation = self.source_of(node.args["from_"].this)
        for item in node.args.get("joins") or []:
            kind = self._join_kind(item)
            if isinstance(item.this, exp.Unnest | exp.Lateral):
                relation = correlate(item, relation, kind, self.source)
                continue
            at = place(item.this)
            version = item.this.args.get("version") if isinstance(item.this, exp.Table) else None
            on = joins.conjuncts(item.args.get("on"))
            if version is not None:
                relation = temporal.join(self, relation, item.this, on, kind)
                continue
            right = self.source_of(item.this)
            self._distinct_names(relation, right, at)
            ttls = (self.ttl(node, relation), self.ttl(node, right))
            relation, where = joins.join(relation, right, on, where, self.source, at, kind, ttls)
        return relation, where

    def _distinct_names(self, left: Relation, right: Relation, at: int | None) -> None:
        taken = {one.qualifier for one in left.visible if one.qualifier}
        if any(one.qualifier in taken for one in right.visible):
            raise self.source.error("both sides of the join have the same name", at, "give one an alias: t AS other")

    def _join_kind(self, node: exp.Expr) -> JoinKind:
        words = [str(node.args.get(key) or "").upper() for key in ("method", "side", "kind")]
        kind = " ".join(word for word in words if word)
        if node.args.get("using"):
            raise self.source.unsupported("USING is not supported", place(node), "ON a.id = b.id AND ...")
        found = _JOIN_KINDS.get(kind)
        if found is None:
            hint = "WHERE id IN (SELECT id FROM other)" if "SEMI" in kind or "ANTI" in kind else "ON a.id = b.id"
            raise self.source.unsupported(f"{kind} JOIN is not supported", place(node.this), hint)
        return found

    def ttl(self, node: exp.Expr, relation: Relation | None = None) -> int | None:
        """How long (ms) the state of this query's join side or aggregate lives: its STATE_TTL hint, or the setting."""
        hinted = hints.state_ttl(node, self.source)
        names = {one.qualifier for one in relation.visible} if relation else set()
        for name, lifetime in hinted.items():
            if relation is None or name in names:
                return lifetime
        default = self.catalog.settings.get("table.exec.state.ttl")
        return duration_ms(default) or None if default else None

    # --- SELECT ----------------------------------------------------------------------------------------------

    def _select(self, node: exp.Expr) -> Relation:
        self._known_args(node, _KNOWN_CLAUSES)
        if not node.expressions:
            raise self.source.error("SELECT without columns", place(node), "SELECT * FROM table")
        if not node.args.get("from_"):
            raise self.source.unsupported("a query without FROM is not supported", place(node), "SELECT ... FROM table")
        where = node.args.get("where")
        relation, conditions = self.rows_of(node, joins.conjuncts(where.this) if where else [])
        relation, conditions = subqueries.restrict(self, relation, conditions)
        scalars = Scalars(self.source, relation)
        found = joins.conjunction([scalars.condition(one, "WHERE") for one in conditions])
        relation = _filtered(relation, found, self.ttl(node))
        group, having = node.args.get("group"), node.args.get("having")
        if group or having or has_aggregates(node.expressions, self.source):
            made = self._grouped(node, relation)
        else:
            made = self._projected(node, relation)
        return self._limited(node, self._distinct(node, made))

    def _distinct(self, node: exp.Expr, relation: Relation) -> Relation:
        """SELECT DISTINCT: one row per value of all columns."""
        distinct = node.args.get("distinct")
        if not distinct:
            return relation
        if distinct.args.get("on"):
            raise self.source.unsupported("DISTINCT ON is not supported", place(node), "SELECT DISTINCT a, b")
        return distinct_rows(relation, self.ttl(node))

    def _limited(self, node: exp.Expr, relation: Relation) -> Relation:
        """ORDER BY x LIMIT n: the first n rows, kept up to date."""
        order, limit = node.args.get("order"), node.args.get("limit")
        if not order and not limit:
            return relation
        relation = visible_only(relation)
        count = limit.expression if limit else None
        if count is None or not isinstance(count, exp.Literal) or count.is_string:
            self._known_args(node, _KNOWN_CLAUSES - {"order", "limit"})
        assert count is not None
        keys = [] if order is None else [self._ordering(one, relation) for one in order.expressions]
        schema = tuple(replace(one, time_attribute=False) for one in relation.node.schema)
        rank = Rank(relation.node, (), tuple(keys), 1, int(count.name), None, schema, self.ttl(node))
        if int(count.name) < 1:
            raise self.source.error("LIMIT 0 gives no row", place(count))
        return relation_of(rank, schema)

    def _ordering(self, node: exp.Expr, relation: Relation) -> Ordering:
        bound = Scalars(self.source, relation).bind(node.this)
        if not isinstance(bound, Column):
            hint = "name the expression in SELECT and order by its name"
            raise self.source.unsupported("ORDER BY an expression", place(node), hint)
        return Ordering(bound.name, bool(node.args.get("desc")), not node.args.get("nulls_first"))

    def _grouped(self, node: exp.Expr, relation: Relation) -> Relation:
        group, having = node.args.get("group"), node.args.get("having")
        nodes: list[exp.Expr] = []
        if group:
            nodes = [*group.expressions, *(one for key in _SETS for one in group.args.get(key) or [])]
            self._known_args(group, {"expressions", *_SETS})
        at = place(group) or place(node)
        older = windows.group_window(nodes)
        if older is not None:
            nodes = [one for one in nodes if one is not older]
            relation = windows.assign_group(older, nodes, relation, self.source)
        grouping = Grouping(self.source, relation, at, group_window=older.name.upper() if older else None)
        grouping.ttl = self.ttl(node)
        grouping.add_keys(nodes)
        groups = Scalars(self.source, relation, grouping.special)
        over = Overs(self.source, relation, groups.bind, self._no_over_groups, named_windows(node))
        scalars = Scalars(self.source, relation, lambda one: over.special(one) or grouping.special(one))
        items = self._items(node.expressions, scalars, relation, grouped=True)
        over.taken |= {one.name for _, one in grouping.calls}
        condition = scalars.condition(having.this, "HAVING") if having else None
        qualified = self._qualify(node, scalars)
        grouped = over.attach(_filtered(grouping.build(), condition))
        return _project(items, _filtered(grouped, qualified))

    def _projected(self, node: exp.Expr, relation: Relation) -> Relation:
        plain = Scalars(self.source, relation)
        grouping = Grouping(self.source, relation, place(node))
        over = Overs(self.source, relation, plain.bind, grouping.call, named_windows(node))
        scalars = Scalars(self.source, relation, over.special) if has_over([node]) else plain
        items = self._items(node.expressions, scalars, relation)
        qualified = self._qualify(node, scalars)
        return _project(items, _filtered(over.attach(relation), qualified))

    def _no_over_groups(self, node: exp.Expr) -> AggregateCall:
        hint = "aggregate in a subquery, and compute OVER on its rows"
        raise self.source.unsupported("an aggregate OVER groups", place(node), hint)

    def _qualify(self, node: exp.Expr, scalars: Scalars) -> Expression | None:
        qualify = node.args.get("qualify")
        return scalars.condition(qualify.this, "QUALIFY") if qualify else None

    def _items(
        self, nodes: list[exp.Expr], scalars: Scalars, relation: Relation, *, grouped: bool = False
    ) -> list[tuple[str, Expression]]:
        items: list[tuple[str, Expression]] = []
        for node in nodes:
            star = self._star(node, relation)
            if star is not None:
                if grouped:
                    raise self.source.error("`*` in a query with GROUP BY", place(node), "name the columns")
                items += [(one.name, one.column) for one in star]
                continue
            inner = node.this if isinstance(node, exp.Alias) else node
            name = node.alias if isinstance(node, exp.Alias) else _implicit_name(inner, len(items))
            items.append((name, scalars.bind(inner)))
        return items

    def _star(self, node: exp.Expr, relation: Relation) -> list[Attribute] | None:
        """The columns of `*` or `t.*`; None for anything else."""
        if isinstance(node, exp.Star):
            self._known_args(node, set())
            return list(relation.visible)
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            owner = node.args["table"].name
            found = [one for one in relation.visible if one.qualifier == owner]
            if not found:
                raise self.source.error(f"no table is called `{owner}` here", place(node))
            return found
        return None

    # --- UNION ALL -------------------------------------------------------------------------------------------

    def _union(self, node: exp.Expr) -> Relation:
        self._known_args(node, {"this", "expression", "with_", "distinct"})
        inputs = [visible_only(self.query(one)) for one in (node.this, node.expression)]
        first, second = inputs
        if len(first.visible) != len(second.visible):
            message = f"UNION ALL of {len(first.visible)} and {len(second.visible)} columns"
            raise self.source.error(message, place(node.expression))
        fields: list[Field] = []
        for one, other in zip(first.visible, second.visible, strict=True):
            common = common_type([one.field.type, other.field.type])
            if common is None:
                found = f"{one.field.type.with_nullable(True)} and {other.field.type.with_nullable(True)}"
                raise self.source.error(f"column `{one.name}` of UNION ALL is {found}", place(node.expression))
            is_time = one.field.time_attribute and other.field.time_attribute
            fields.append(Field(one.name, common, is_time and one.field.type.kind is other.field.type.kind))
        schema = tuple(
            replace(one, name=name) for one, name in zip(fields, unique(one.name for one in fields), strict=True)
        )
        flat: list[Node] = []
        for branch in (_cast_to(one, schema) for one in inputs):
            flat += branch.inputs if isinstance(branch, Union) and branch.schema == schema else [branch]
        whole = relation_of(Union(tuple(flat), schema), schema)
        return distinct_rows(whole, None) if node.args.get("distinct") else whole


def _cast_to(relation: Relation, schema: tuple[Field, ...]) -> Node:
    """The relation's node with exactly these columns."""
    expressions = tuple(coerce(one.column, wanted.type) for one, wanted in zip(relation.visible, schema, strict=True))
    fields = tuple(
        replace(wanted, time_attribute=one.field.time_attribute and isinstance(expression, Column))
        for one, wanted, expression in zip(relation.visible, schema, expressions, strict=True)
    )
    same = [one.name for one in relation.node.schema] == [one.name for one in fields]
    if same and all(isinstance(one, Column) for one in expressions):
        return relation.node
    return Project(relation.node, expressions, fields)


def _filtered(relation: Relation, condition: Expression | None, ttl: int | None = None) -> Relation:
    if condition is None:
        return relation
    return replace(relation, node=filtered(relation.node, condition, ttl))


def distinct_rows(relation: Relation, ttl: int | None) -> Relation:
    """One row per value of all columns."""
    relation = visible_only(relation)
    schema = tuple(replace(one, time_attribute=False) for one in relation.node.schema)
    keys = tuple(Column(one.name, one.type) for one in schema)
    return relation_of(GroupAggregate(relation.node, keys, (), schema, ttl), schema)


def _implicit_name(node: exp.Expr, position: int) -> str:
    if isinstance(node, exp.Column):
        return str(node.name)
    if isinstance(node, exp.Dot):
        return str(node.expression.name)
    return f"EXPR${position}"


def _project(items: list[tuple[str, Expression]], relation: Relation) -> Relation:
    """The SELECT list over a relation. window_time goes along unseen where the window's other columns stay."""
    names = unique(name for name, _ in items)
    attributes: list[Attribute] = []
    for (name, expression), field_name in zip(items, names, strict=True):
        of = relation.by_field(expression.name) if isinstance(expression, Column) else None
        is_time = of.field.time_attribute if of else False
        is_now = of.field.processing_time if of else False
        role = of.role if of else None
        attributes.append(Attribute(None, name, Field(field_name, expression.type, is_time, is_now), role))
    expressions = [expression for _, expression in items]
    roles = {one.role for one in attributes}
    time = relation.by_role(Role.TIME)
    if time is not None and Role.TIME not in roles and {Role.START, Role.END} <= roles:
        hidden = unique([time.field.name], names)[0]
        attributes.append(Attribute(None, "", replace(time.field, name=hidden), Role.TIME, hidden=True))
        expressions.append(time.column)
    schema = tuple(one.field for one in attributes)
    untouched = expressions == [Column(one.name, one.type) for one in relation.node.schema]
    if untouched and [(one.name, one.field) for one in attributes] == [(one.name, one) for one in relation.node.schema]:
        return replace(relation, attributes=tuple(attributes))
    node = Project(relation.node, tuple(expressions), schema)
    return Relation(node, tuple(attributes), relation.window)


def visible_only(relation: Relation) -> Relation:
    """Without the columns that no name reaches, so that the plan's columns are the query's."""
    shown = relation.visible
    if [one.field.name for one in shown] == [one.name for one in relation.node.schema]:
        return relation
    node = relation.node
    if isinstance(node, Project):
        keep = {one.field.name for one in shown}
        pairs = [(e, f) for e, f in zip(node.expressions, node.schema, strict=True) if f.name in keep]
        node = Project(node.input, tuple(e for e, _ in pairs), tuple(f for _, f in pairs))
    else:
        node = Project(node, tuple(one.column for one in shown), tuple(one.field for one in shown))
    return replace(relation, node=node, attributes=shown)


def _open_session(node: Node) -> bool:
    """Whether a SESSION window was left without its aggregate."""
    return any(isinstance(one, WindowAssign) and isinstance(one.window, Session) for one in walk(node))


def _create_hint(name: str) -> str:
    return f"CREATE TABLE {name} (...)"
