"""IN (SELECT ...), EXISTS (SELECT ...) and their contraries in WHERE -> SEMI and ANTI joins."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from sqlglot import exp

from qanat.model.types import BOOLEAN
from qanat.sql import joins
from qanat.sql.coercion import any_null
from qanat.sql.expressions import Call, Column, Expression
from qanat.sql.functions import comparable
from qanat.sql.plan import Field, Filter, JoinKind, Project
from qanat.sql.scalars import Scalars, try_bind
from qanat.sql.scope import Attribute, Relation, place, unique
from qanat.sql.source import Source


class Binder(Protocol):
    """What is needed of `bind.Queries`."""

    source: Source

    def query(self, node: exp.Expr) -> Relation:
        """A query."""

    def rows_of(self, node: exp.Expr, where: list[exp.Expr]) -> tuple[Relation, list[exp.Expr]]:
        """FROM of a SELECT with its joins, and what is left of the conditions."""


def restrict(binder: Binder, relation: Relation, conditions: list[exp.Expr]) -> tuple[Relation, list[exp.Expr]]:
    """The rows that pass the conditions with a query in them, and the other conditions."""
    rest: list[exp.Expr] = []
    for condition in conditions:
        inner, negated = condition, False
        while isinstance(inner, exp.Not | exp.Paren):
            negated ^= isinstance(inner, exp.Not)
            inner = inner.this
        kind: JoinKind = "ANTI" if negated else "SEMI"
        if isinstance(inner, exp.In) and inner.args.get("query"):
            relation = _joined(binder, relation, _select(inner.args["query"]), inner.this, kind)
        elif isinstance(inner, exp.Exists):
            relation = _joined(binder, relation, _select(inner.this), None, kind)
        else:
            rest.append(condition)
    return relation, rest


def _select(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Subquery):
        node = node.this
    return node


def _joined(binder: Binder, outer: Relation, query: exp.Expr, value: exp.Expr | None, kind: JoinKind) -> Relation:
    """`outer` rows that have (SEMI) or lack (ANTI) a row of the query, whose first column equals `value`."""
    source = binder.source
    inner, correlated = _inner(binder, query, value)
    at = place(query)
    both = joins.side_by_side(outer, inner)
    found = joins.Join(source, outer, inner, both, at, kind)
    scalars = Scalars(source, both)
    for condition in correlated:
        found.take(scalars.condition(condition, "WHERE"))
    if value is not None:
        wanted = Scalars(source, outer).bind(value)
        last = both.attributes[len(outer.attributes)].column
        found.take(_equal(wanted, last, kind))
    return found.build()


def _equal(left: Expression, right: Expression, kind: JoinKind) -> Expression:
    """Equality; of NOT IN it also holds where either is NULL, so that no row is taken for certain."""
    one, other = comparable(left, right)
    nullable = any_null([one.type, other.type])
    equal: Expression = Call("=", (one, other), BOOLEAN.with_nullable(nullable))
    sure = BOOLEAN.with_nullable(False)
    if kind == "ANTI" and nullable:
        for part in (one, other):
            equal = Call("OR", (equal, Call("IS NULL", (part,), sure)), BOOLEAN)
    return equal


def _inner(binder: Binder, query: exp.Expr, value: exp.Expr | None) -> tuple[Relation, list[exp.Expr]]:
    """The query's rows with the column that is compared first, and the conditions that also read the outer rows."""
    simple = isinstance(query, exp.Select) and not any(query.args.get(key) for key in _WHOLE)
    if not simple or not _reads_outer(binder, query):
        relation = binder.query(query)
        if value is not None and len(relation.visible) != 1:
            message = f"IN takes a query of one column, found {len(relation.visible)}"
            raise binder.source.error(message, place(query))
        return _first(relation, relation.visible[0].column), []
    where = query.args.get("where")
    relation, conditions = binder.rows_of(query, joins.conjuncts(where.this) if where else [])
    scalars = Scalars(binder.source, relation)
    own: list[Expression] = []
    correlated: list[exp.Expr] = []
    for condition in conditions:
        bound = try_bind(scalars, condition)
        if bound is None:
            correlated.append(condition)
        else:
            own.append(scalars.condition(condition, "WHERE"))
    predicate = joins.conjunction(own)
    if predicate is not None:
        relation = replace(relation, node=Filter(relation.node, predicate, relation.node.schema))
    if value is None:
        return relation, correlated
    item = query.expressions[0]
    return _first(relation, scalars.bind(item.this if isinstance(item, exp.Alias) else item)), correlated


_WHOLE = ("group", "having", "distinct", "limit", "order", "qualify", "with_")


def _reads_outer(binder: Binder, query: exp.Expr) -> bool:
    """Whether a condition of the query reads columns that its own FROM does not have."""
    where = query.args.get("where")
    if not where:
        return False
    relation, conditions = binder.rows_of(query, joins.conjuncts(where.this))
    scalars = Scalars(binder.source, relation)
    return any(try_bind(scalars, one) is None for one in conditions)


def _first(relation: Relation, value: Expression) -> Relation:
    """The relation with the compared value as its first column."""
    name = unique(["compared"], [one.name for one in relation.node.schema])[0]
    field = Field(name, value.type)
    passed = tuple(Column(one.field.name, one.field.type) for one in relation.attributes)
    schema = (field, *(one.field for one in relation.attributes))
    node = Project(relation.node, (value, *passed), schema)
    return Relation(node, (Attribute(None, name, field, hidden=True), *relation.attributes), relation.window)
