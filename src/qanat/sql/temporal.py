"""JOIN ... FOR SYSTEM_TIME AS OF -> `TemporalJoin` over versions in the log, or `LookupJoin` over an outside table."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from sqlglot import exp

from qanat.sql.changelog import changes_of
from qanat.sql.expressions import Column, Expression
from qanat.sql.joins import Join, conjunction, side_by_side
from qanat.sql.plan import Field, JoinKind, LookupJoin, Node, Normalize, Scan, TemporalJoin
from qanat.sql.scalars import Scalars
from qanat.sql.scope import Relation, place
from qanat.sql.source import Source

#: Connectors whose tables are asked row by row.
LOOKUPS = ("filesystem", "jdbc")
_EXAMPLE = "JOIN rates FOR SYSTEM_TIME AS OF o.ts ON o.currency = rates.currency"
_VERSIONED = "PRIMARY KEY (id) NOT ENFORCED and WATERMARK FOR ts AS ts, or a view that keeps the last row per key"


class Binder(Protocol):
    """What is needed of `bind.Queries`."""

    source: Source

    def source_of(self, node: exp.Expr) -> Relation:
        """One item of FROM."""


def join(binder: Binder, left: Relation, node: exp.Expr, on: list[exp.Expr], kind: JoinKind) -> Relation:
    """`left` joined with the version of `node` (a table of FROM with AS OF) that was valid at a time of `left`."""
    source, at = binder.source, place(node)
    if kind not in ("INNER", "LEFT"):
        raise source.unsupported(f"{kind} JOIN with FOR SYSTEM_TIME AS OF", at, f"JOIN or LEFT {_EXAMPLE}")
    time = _time(left, node.args["version"].expression, source)
    plain = node.copy()
    plain.set("version", None)
    right = binder.source_of(plain)
    if changes_of(left.node).updates:
        hint = "join before the rows change"
        raise source.unsupported("FOR SYSTEM_TIME AS OF with a left side that changes", at, hint)
    found = _conditions(left, right, on, source, at, kind)
    base = right.node.input if isinstance(right.node, Normalize) else right.node
    if time.processing_time and isinstance(base, Scan) and base.table.connector in LOOKUPS:
        return _lookup(found, base)
    return _versions(found, time, base)


def _time(left: Relation, node: exp.Expr, source: Source) -> Field:
    bound = Scalars(source, left).bind(node)
    attribute = left.by_field(bound.name) if isinstance(bound, Column) else None
    if attribute is None or not (attribute.field.time_attribute or attribute.field.processing_time):
        raise source.error("AS OF names a time attribute of the left side", place(node), _EXAMPLE)
    return attribute.field


def _conditions(
    left: Relation, right: Relation, on: list[exp.Expr], source: Source, at: int | None, kind: JoinKind
) -> Join:
    both = side_by_side(left, right)
    scalars = Scalars(source, both)
    found = Join(source, left, right, both, at, kind)
    for node in on:
        found.take_plain(scalars.condition(node, "ON"))
    if not found.left_keys:
        raise source.error("FOR SYSTEM_TIME AS OF needs an equality of keys", at, _EXAMPLE)
    return found


def _fields(found: Join) -> tuple[Field, ...]:
    split = len(found.left.attributes)
    optional = found.kind == "LEFT"
    return tuple(
        one.field
        if place_ < split
        else replace(
            one.field, time_attribute=False, type=one.field.type.with_nullable(one.field.type.nullable or optional)
        )
        for place_, one in enumerate(found.both.attributes)
    )


def _relation(found: Join, node: Node) -> Relation:
    """The left side's window goes on: each row comes at most once per version."""
    split = len(found.left.attributes)
    attributes = tuple(
        replace(one, field=made, role=one.role if i < split else None)
        for i, (one, made) in enumerate(zip(found.both.attributes, node.schema, strict=True))
    )
    return Relation(node, attributes, found.left.window)


def _versions(found: Join, time: Field, right: Node) -> Relation:
    source = found.source
    right_relation = found.right
    known = changes_of(right)
    keys = {one.name for one in found.right_keys if isinstance(one, Column)}
    if known.key is None or not known.updates:
        raise source.unsupported("the right side of FOR SYSTEM_TIME AS OF has no versions", found.at, _VERSIONED)
    if not set(known.key) <= keys:
        hint = " AND ".join(f"a.{one} = versions.{one}" for one in known.key)
        raise source.error("FOR SYSTEM_TIME AS OF joins on the whole key", found.at, f"ON {hint}")
    versions = next((one.field.name for one in right_relation.time_attributes()), None)
    if not time.processing_time and versions is None:
        raise source.unsupported("the right side of FOR SYSTEM_TIME AS OF has no event time", found.at, _VERSIONED)
    by_event = not time.processing_time
    pairs = [
        (left, right)
        for left, right in zip(found.left_keys, found.right_keys, strict=True)
        if isinstance(right, Column) and right.name in known.key
    ]
    pairs.sort(key=lambda pair: known.key.index(pair[1].name) if known.key and isinstance(pair[1], Column) else 0)
    node = TemporalJoin(
        found.left.node, right, tuple(left for left, _ in pairs), tuple(key for _, key in pairs),
        time.name if by_event else None, versions if by_event else None, _residual(found, set(known.key)),
        _fields(found), found.kind,
    )  # fmt: skip
    return _relation(found, node)


def _residual(found: Join, keys: set[str]) -> Expression | None:
    """What is left of the conditions: equalities with columns that are not of the key, and all others."""
    rest = list(found.residual)
    for condition, right in found.equalities:
        if not (isinstance(right, Column) and right.name in keys):
            rest.append(condition)
    return conjunction(rest)


def _lookup(found: Join, scan: Scan) -> Relation:
    table, source = scan.table, found.source
    pairs = [
        (left, right.name)
        for left, right in zip(found.left_keys, found.right_keys, strict=True)
        if isinstance(right, Column)
    ]
    physical = {one.name for one in table.physical}
    if table.computed:
        hint = "compute it in the query"
        raise source.unsupported(f"the computed column `{table.computed[0][0]}` of a lookup table", found.at, hint)
    if not pairs or any(name not in physical for _, name in pairs):
        raise source.error("a lookup needs an equality with a column of the table", found.at, _EXAMPLE)
    node = LookupJoin(
        found.left.node, table, tuple(one.name for one in scan.schema), tuple(left for left, _ in pairs),
        tuple(name for _, name in pairs), _residual(found, {name for _, name in pairs}), _fields(found), found.kind,
    )  # fmt: skip
    return _relation(found, node)
