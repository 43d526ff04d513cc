"""What FROM reads besides queries: tables with their changes, UNNEST, table functions, and PROCTIME() columns."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from qanat.model.functions import UserFunction
from qanat.model.types import INT, Kind, Type
from qanat.sql.coercion import coerce
from qanat.sql.expressions import Expression
from qanat.sql.joins import conjunction, conjuncts
from qanat.sql.plan import Correlate, Field, Filter, JoinKind, Node, Normalize, Scan, Table
from qanat.sql.scalars import Scalars
from qanat.sql.scope import Attribute, Relation, place, relation_of, unique
from qanat.sql.source import Source

_UNNEST = "CROSS JOIN UNNEST(t.arr) AS u (x)"


def scan_of(table: Table, qualifier: str) -> Relation:
    """The rows of a table. One with a PRIMARY KEY in the log gives the changes of its latest rows."""
    node: Node = Scan(table, table.schema)
    if table.changes == "upsert":
        node = Normalize(node, table.key, table.schema)
    return relation_of(node, table.schema, qualifier)


def no_processing_time(relation: Relation, source: Source, at: int | None) -> None:
    """Refuse a result that shows a PROCTIME() column."""
    for one in relation.visible:
        if one.field.processing_time:
            message = f"`{one.name}` is PROCTIME(): it has no value that a replay could repeat"
            raise source.unsupported(message, at, "use it in FOR SYSTEM_TIME AS OF and ORDER BY; select the event time")


def correlate(item: exp.Expr, relation: Relation, kind: JoinKind, source: Source) -> Relation:
    """`relation` joined with UNNEST(...) or LATERAL TABLE(f(...)) of each of its rows."""
    node = item.this
    if kind not in ("INNER", "LEFT"):
        raise source.unsupported(f"{kind} JOIN with UNNEST or LATERAL", place(node), _UNNEST)
    alias = node.args.get("alias")
    names = [one.name for one in alias.columns] if alias else []
    if isinstance(node, exp.Unnest):
        function, arguments, columns, ordinality = _unnest(node, relation, source)
        offset = node.args.get("offset")
        names += [offset.name] if isinstance(offset, exp.Expr) and names else []
    else:
        function, arguments, columns = _table_function(node, relation, source)
        ordinality = False
    if names and len(names) != len(columns):
        raise source.error(f"{len(names)} names for {len(columns)} columns", place(alias) or place(node))
    shown = names or [name for name, _ in columns]
    fields = tuple(
        Field(name, kind_of.with_nullable(True) if kind == "LEFT" else kind_of)
        for name, (_, kind_of) in zip(unique(shown, [one.name for one in relation.node.schema]), columns, strict=True)
    )
    schema = (*relation.node.schema, *fields)
    made = Correlate(relation.node, function, arguments, ordinality, schema, kind)
    qualifier = alias.name if alias and alias.name else None
    added = tuple(Attribute(qualifier, name, one) for name, one in zip(shown, fields, strict=True))
    return _on(item, replace(relation, node=made, attributes=(*relation.attributes, *added)), kind, source)


def _on(item: exp.Expr, relation: Relation, kind: JoinKind, source: Source) -> Relation:
    conditions = [
        one for one in conjuncts(item.args.get("on")) if not (isinstance(one, exp.Boolean) and one.this is True)
    ]
    if not conditions:
        return relation
    if kind == "LEFT":
        hint = "ON TRUE, and the condition in WHERE"
        raise source.unsupported("a condition in LEFT JOIN with UNNEST or LATERAL", place(conditions[0]), hint)
    scalars = Scalars(source, relation)
    condition = conjunction([scalars.condition(one, "ON") for one in conditions])
    assert condition is not None
    return replace(relation, node=Filter(relation.node, condition, relation.node.schema))


Columns = list[tuple[str, Type]]


def _unnest(
    node: exp.Expr, relation: Relation, source: Source
) -> tuple[UserFunction | None, tuple[Expression, ...], Columns, bool]:
    if len(node.expressions) != 1:
        raise source.unsupported("UNNEST takes one array or map", place(node), _UNNEST)
    value = Scalars(source, relation).bind(node.expressions[0])
    columns = _elements(value.type)
    if columns is None:
        found = value.type.with_nullable(True)
        raise source.error(f"UNNEST takes an array or a map, found {found}", place(node), _UNNEST)
    ordinality = bool(node.args.get("offset"))
    if ordinality:
        columns = [*columns, ("ORDINALITY", INT.with_nullable(False))]
    return None, (value,), columns, ordinality


def _elements(kind: Type) -> Columns | None:
    if kind.kind is Kind.MAP and kind.key is not None and kind.element is not None:
        return [("KEY", kind.key), ("VALUE", kind.element)]
    if kind.kind is not Kind.ARRAY or kind.element is None:
        return None
    if kind.element.kind is Kind.ROW:
        return [(name, field.with_nullable(True)) for name, field in kind.element.fields]
    return [("EXPR$0", kind.element)]


def _table_function(
    node: exp.Expr, relation: Relation, source: Source
) -> tuple[UserFunction, tuple[Expression, ...], Columns]:
    call = node.this
    if isinstance(call, exp.Anonymous) and str(call.this).upper() == "TABLE" and len(call.expressions) == 1:
        call = call.expressions[0]
    if not isinstance(call, exp.Anonymous):
        raise source.unsupported("LATERAL takes a table function", place(node), "LATERAL TABLE(f(t.x)) AS u (a, b)")
    function = source.functions.get(str(call.this))
    if function is None or function.kind != "TABLE":
        known = [name for name, one in source.functions.items() if one.kind == "TABLE"]
        hint = f"table functions here: {', '.join(known)}" if known else "CREATE FUNCTION name AS 'module.function'"
        raise source.error(f"no table function is called {call.this}", place(call), hint)
    scalars = Scalars(source, relation)
    given = [scalars.bind(one) for one in call.expressions]
    if len(given) != len(function.arguments):
        raise source.error(
            f"{function.name} takes {len(function.arguments)} arguments, found {len(given)}", place(call)
        )
    arguments = tuple(coerce(one, wanted) for one, wanted in zip(given, function.arguments, strict=True))
    return function, arguments, list(function.columns)
