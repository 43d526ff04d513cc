"""A table that a pipeline reads twice is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qanat.sql.expressions import Column, columns
from qanat.sql.plan import Filter, Node, Project, Scan
from qanat.sql.tree import map_inputs, walk


def share_scans(root: Node) -> Node:
    """Scans of one table become equal, so that the engine can give all of them the rows of one; each has what any
    of them needs, and where something else than a projection reads it, one that takes away what it does not.

    before: Join(Scan t[a, b], Scan t[a, c])
    after:  Join(Project[a, b](Scan t[a, b, c]), Project[a, c](Scan t[a, b, c]))

    >>> from qanat.model.types import INT
    >>> from qanat.sql.plan import Field, Table, Union
    >>> a, b, c = fields = tuple(Field(name, INT) for name in "abc")
    >>> table = Table("t", fields, fields)
    >>> plan = share_scans(Union((Scan(table, (a, b)), Scan(table, (a, c))), (a, b)))
    >>> [[field.name for field in one.input.schema] for one in plan.inputs]
    [['a', 'b', 'c'], ['a', 'b', 'c']]
    """
    scans: dict[str, list[Scan]] = {}
    for node in walk(root):
        if isinstance(node, Scan):
            scans.setdefault(node.table.name, []).append(node)
    wide = {name: _widest(found) for name, found in scans.items() if len(found) > 1}
    return _replaced(root, wide) if wide else root


def _widest(scans: Sequence[Scan]) -> Scan:
    names = {field.name for scan in scans for field in scan.schema}
    table = scans[0].table
    schema = tuple(field for field in table.schema if field.name in names)
    return Scan(table, schema, _all_reads(scans))


def _all_reads(scans: Sequence[Scan]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The fields that any scan reads; a column that one of them reads as a whole is not among them."""
    found = []
    for column in scans[0].table.physical:
        reads = [dict(scan.reads).get(column.name) for scan in scans if _has(scan, column.name)]
        if reads and all(one is not None for one in reads):
            names = {name for one in reads for name in one or ()}
            found.append((column.name, tuple(name for name, _ in column.type.fields if name in names)))
    return tuple(found)


def _has(scan: Scan, column: str) -> bool:
    mark = scan.table.watermark
    names = {field.name for field in scan.schema} | ({mark.column} if mark else set())
    return column in names or any(column in columns(one) for name, one in scan.table.computed if name in names)


def _replaced(node: Node, wide: Mapping[str, Scan]) -> Node:
    match node:
        case Project(input=Scan() | Filter()):
            return replace(node, input=_widened(node.input, wide))
        case Scan():
            scan = _widened(node, wide)
            if scan.schema == node.schema:
                return scan
            return Project(scan, tuple(Column(field.name, field.type) for field in node.schema), node.schema)
        case _:
            return map_inputs(node, lambda one: _replaced(one, wide))


def _widened(node: Node, wide: Mapping[str, Scan]) -> Node:
    """A scan, or filters on it, with columns that the projection above passes over."""
    match node:
        case Scan():
            return wide.get(node.table.name, node)
        case Filter():
            below = _widened(node.input, wide)
            return replace(node, input=below, schema=below.schema)
        case _:
            return _replaced(node, wide)
