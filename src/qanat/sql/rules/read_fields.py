"""Of a ROW only the fields that something reads are decoded."""

from __future__ import annotations

from dataclasses import replace

from qanat.model.types import Kind
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import Filter, Node, Project, Scan
from qanat.sql.tree import map_inputs


def read_fields(root: Node) -> Node:
    """Note in each scan which fields of its ROW columns are read, where no column is read as a whole.

    before: Project[bid.price](Scan[bid])
    after:  Project[bid.price](Scan[bid, reads bid: price])

    >>> from qanat.model.types import BIGINT, STRING, Type
    >>> from qanat.sql.plan import Field, Table
    >>> bid = Type(Kind.ROW, fields=(("price", BIGINT), ("extra", STRING)))
    >>> fields = (Field("bid", bid),)
    >>> price = Call("FIELD", (Column("bid", bid), Literal("price", STRING)), BIGINT)
    >>> plan = Project(Scan(Table("t", fields, fields), fields), (price,), (Field("price", BIGINT),))
    >>> read_fields(plan).input.reads
    (('bid', ('price',)),)
    """
    return _visit(root, None)


def _visit(node: Node, above: tuple[Expression, ...] | None) -> Node:
    """`above`: all expressions that read the node's columns; None: some columns are passed on."""
    match node:
        case Scan():
            return node if above is None else replace(node, reads=_reads(node, above))
        case Filter():
            read = None if above is None else (*above, node.predicate)
            return replace(node, input=_visit(node.input, read))
        case Project():
            return replace(node, input=_visit(node.input, node.expressions))
        case _:
            return map_inputs(node, lambda one: _visit(one, None))


def _reads(scan: Scan, above: tuple[Expression, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    fields: dict[str, set[str]] = {}
    whole: set[str] = set()
    names = {field.name for field in scan.schema} | ({scan.table.watermark.column} if scan.table.watermark else set())
    for expression in (*above, *(computed for name, computed in scan.table.computed if name in names)):
        _note(expression, fields, whole)
    return tuple(
        (column.name, tuple(name for name, _ in column.type.fields if name in fields[column.name]))
        for column in scan.table.physical
        if column.type.kind is Kind.ROW and column.name in fields and column.name not in whole
    )


def _note(expression: Expression, fields: dict[str, set[str]], whole: set[str]) -> None:
    match expression:
        case Call(function="FIELD", args=(Column(name=column), Literal(value=str(name)))):
            fields.setdefault(column, set()).add(name)
        case Call(args=args):
            for arg in args:
                _note(arg, fields, whole)
        case Cast(arg=arg):
            _note(arg, fields, whole)
        case Column(name=name):
            whole.add(name)
        case Literal():
            return
