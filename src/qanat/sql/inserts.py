"""INSERT INTO: the query's columns against the table's, with the casts that Flink makes by itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from qanat.model.types import Type
from qanat.sql.changelog import changes_of, sink_takes
from qanat.sql.coercion import coerce, is_castable, is_implicit
from qanat.sql.expressions import Column, Expression, Literal
from qanat.sql.plan import Field, Filter, Materialize, Node, Project, RegularJoin, Table, Union
from qanat.sql.scope import Attribute, Relation, place
from qanat.sql.source import Source, near
from qanat.sql.statements import Insert, Name
from qanat.sql.tree import walk


def into(statement: Insert, relation: Relation, table: Table, source: Source) -> Node:
    """The query's node, with the table's physical columns in their order. Raises `SqlError`."""
    targets = _targets(statement.columns, table, source)
    given = relation.visible
    if len(given) != len(targets):
        found = ", ".join(one.name for one in given)
        wanted = ", ".join(one.name for one in targets)
        message = f"`{table.name}` takes {len(targets)} columns ({wanted}), the query has {len(given)} ({found})"
        raise source.error(message, place(statement.query), None)
    items = _select_items(statement.query, len(given))
    values: dict[str, Expression] = {}
    times: dict[str, bool] = {}
    for attribute, target, item in zip(given, targets, items, strict=True):
        _check_type(attribute, target, table, source, place(item))
        values[target.name] = coerce(attribute.column, target.type)
        times[target.name] = attribute.field.time_attribute
    for field in table.physical:
        if field.name not in values:
            if not field.type.nullable:
                message = f"column `{field.name}` of `{table.name}` is NOT NULL and gets no value"
                raise source.error(message, statement.table.at)
            values[field.name] = Literal(None, field.type)
    return _project(relation.node, table, values, times)


def keyed(node: Node, table: Table, statement: Insert, source: Source) -> Node:
    """The changes of the query as the sink takes them. Raises `SqlError` where it takes inserts only."""
    changes = changes_of(node)
    if not changes.updates:
        return node
    if not sink_takes(table):
        culprit = next(type(one).__name__ for one in walk(node) if changes_of(one).updates and not _passes(one))
        hint = (
            "'format' = 'debezium-json'"
            if table.connector
            else f"PRIMARY KEY ({', '.join(changes.key or ('id',))}) NOT ENFORCED in CREATE TABLE {table.name}"
        )
        message = f"`{table.name}` takes inserts only, the query changes its rows ({culprit})"
        raise source.error(message, statement.table.at, hint)
    if table.key and (changes.key is None or not set(changes.key) <= set(table.key)):
        return Materialize(node, table.key, node.schema)
    return node


def _passes(node: Node) -> bool:
    """Whether a node only passes the changes of its input on."""
    return isinstance(node, Project | Filter | Union) or (isinstance(node, RegularJoin) and node.kind == "INNER")


def _project(node: Node, table: Table, values: dict[str, Expression], times: dict[str, bool]) -> Node:
    expressions = tuple(values[one.name] for one in table.physical)
    schema = tuple(
        Field(one.name, value.type, times.get(one.name, False) and isinstance(value, Column))
        for one, value in zip(table.physical, expressions, strict=True)
    )
    if all(isinstance(one, Column) for one in expressions):
        names = [one.name for one in expressions if isinstance(one, Column)]
        if names == [one.name for one in node.schema] == [one.name for one in schema]:
            return node
        if isinstance(node, Project):
            # one projection over another that only renames or reorders: keep one
            found = {field.name: expression for field, expression in zip(node.schema, node.expressions, strict=True)}
            return Project(node.input, tuple(found[name] for name in names), schema)
    return Project(node, expressions, schema)


def _targets(columns: Sequence[Name], table: Table, source: Source) -> list[Field]:
    if not columns:
        return list(table.physical)
    known = {one.name: one for one in table.physical}
    for i, one in enumerate(columns):
        if one.text not in known:
            computed = one.text in dict(table.computed)
            message = (
                f"`{one.text}` is computed; it takes no value"
                if computed
                else f"`{table.name}` has no column `{one.text}`"
            )
            raise source.error(message, one.at, near(one.text, list(known)))
        if one.text in [other.text for other in columns[:i]]:
            raise source.error(f"column `{one.text}` is named twice", one.at)
    return [known[one.text] for one in columns]


def _select_items(query: exp.Expr, count: int) -> list[exp.Expr]:
    """The SELECT items, for places; the query itself where stars hide which is which."""
    inner = query
    while isinstance(inner, exp.Subquery):
        inner = inner.this
    items = inner.expressions if isinstance(inner, exp.Select) else []
    return list(items) if len(items) == count else [query] * count


def _check_type(attribute: Attribute, target: Field, table: Table, source: Source, at: int | None) -> None:
    found, wanted = attribute.field.type, target.type
    if not is_implicit(found, wanted):
        shown: Type = found.with_nullable(True)
        message = f"column `{target.name}` of `{table.name}` is {wanted.with_nullable(True)}, the query gives {shown}"
        hint = f"CAST({_written(attribute)} AS {wanted.with_nullable(True)})"
        raise source.error(message, at, hint if is_castable(found, wanted) else None)


def _written(attribute: Attribute) -> str:
    return "..." if attribute.name.startswith("EXPR$") else attribute.name
