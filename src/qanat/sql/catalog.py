"""CREATE TABLE -> `plan.Table`: columns, computed columns, the watermark, the key, and the stream in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model import streams
from qanat.model.types import TIMESTAMP_LTZ, Kind
from qanat.sql.archiving import check_archive
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.options import check_options
from qanat.sql.plan import Field, Scan, Schema, Table, Watermark
from qanat.sql.scalars import Scalars
from qanat.sql.scope import place, relation_of
from qanat.sql.source import Source, near
from qanat.sql.statements import CreateTable, CreateView, Name

_RESERVED = (streams.DEAD_LETTERS, streams.LATE)
#: PROCTIME() marks a column; it has no value.
_NOW = Literal(None, TIMESTAMP_LTZ)
_WATERMARK = "WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND"


@dataclass(slots=True)
class Catalog:
    """Tables, views and settings of all texts of a project."""

    tables: dict[str, Table] = field(default_factory=dict)
    views: dict[str, tuple[CreateView, Source]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def add_table(self, statement: CreateTable, source: Source) -> None:
        """Declare a table. Raises `SqlError`."""
        if self._is_new(statement.name, statement.if_not_exists, source):
            self.tables[statement.name.text] = bind_table(statement, source)

    def add_view(self, statement: CreateView, source: Source) -> None:
        """Declare a view; its query is bound where it is used."""
        if self._is_new(statement.name, statement.if_not_exists, source):
            self.views[statement.name.text] = (statement, source)

    def _is_new(self, name: Name, may_exist: bool, source: Source) -> bool:
        if name.text not in self.tables and name.text not in self.views:
            return True
        if may_exist:
            return False
        hint = "choose another name, or write IF NOT EXISTS"
        raise source.error(f"`{name.text}` is declared twice", name.at, hint)


def bind_table(statement: CreateTable, source: Source) -> Table:
    """The declared table, checked. Raises `SqlError` with the place of what is wrong."""
    name = statement.name
    if name.text in _RESERVED:
        raise source.error(f"every project has a stream `{name.text}`; it cannot be declared", name.at)
    _no_duplicates([one.name for one in statement.columns], "column", source)
    key = _names(statement.key, [one.name.text for one in statement.columns if one.type], "PRIMARY KEY", source)
    physical = tuple(
        Field(one.name.text, one.type.with_nullable(one.type.nullable and one.name.text not in key))
        for one in statement.columns
        if one.type
    )
    if not physical:
        raise source.error(f"the table `{name.text}` has no physical column", name.at)
    connector, values = check_options(statement, source)
    partition_by = _names(statement.partition_by, [one.name for one in physical], "PARTITIONED BY", source)
    scalars = Scalars(source, relation_of(_scan_of(name.text, physical), physical))
    now = tuple(one.name.text for one in statement.columns if _is_proctime(one.expression))
    computed = tuple(
        (one.name.text, _NOW if one.name.text in now else scalars.bind(one.expression))
        for one in statement.columns
        if one.expression
    )
    types = {one.name: one for one in physical}
    types |= {column: Field(column, value.type, processing_time=column in now) for column, value in computed}
    schema = tuple(types[one.name.text] for one in statement.columns)
    watermark = _watermark(statement, schema, values, source)
    if watermark:
        schema = tuple(replace(one, time_attribute=one.name == watermark.column) for one in schema)
    table = Table(
        name.text, schema, physical, computed, watermark, key, connector,
        {one.key.text: one.value for one in statement.options if one.key.text != "connector"}, None, partition_by, now,
    )  # fmt: skip
    return table if connector else replace(table, stream=_stream(table, values, statement, source))


def _is_proctime(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).upper() == "PROCTIME" and not node.expressions


def _scan_of(name: str, physical: Schema) -> Scan:
    return Scan(Table(name, physical, physical), physical)


def _no_duplicates(names: Sequence[Name], what: str, source: Source) -> None:
    seen: set[str] = set()
    for one in names:
        if one.text in seen:
            raise source.error(f"{what} `{one.text}` is declared twice", one.at)
        seen.add(one.text)


def _names(wanted: Sequence[Name], known: list[str], clause: str, source: Source) -> tuple[str, ...]:
    for one in wanted:
        if one.text not in known:
            hint = near(one.text, known) or "physical columns: " + ", ".join(known)
            raise source.error(f"{clause}: no physical column is called `{one.text}`", one.at, hint)
    return tuple(one.text for one in wanted)


# --- watermark ---------------------------------------------------------------------------------------------------


def _watermark(
    statement: CreateTable, schema: Schema, values: Mapping[str, object], source: Source
) -> Watermark | None:
    declared = statement.watermark
    if declared is None:
        return None
    column = declared.column
    found = next((one for one in schema if one.name == column.text), None)
    if found is None:
        raise source.error(
            f"WATERMARK: no column is called `{column.text}`",
            column.at,
            near(column.text, [one.name for one in schema]),
        )
    if not found.type.is_time_attribute_type:
        hint = "TIMESTAMP(3) or TIMESTAMP_LTZ(3); from a number: ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3)"
        raise source.error(f"WATERMARK on `{column.text}`, which is {found.type.with_nullable(True)}", column.at, hint)
    bound = Scalars(source, relation_of(_scan_of(statement.name.text, schema), schema)).bind(declared.expression)
    delay = _delay(bound, column.text)
    if delay is None:
        message = "a watermark is the column less a constant"
        raise source.unsupported(message, place(declared.expression), _WATERMARK.format(column.text))
    idle = values.get("scan.watermark.idle-timeout")
    return Watermark(column.text, delay, idle if isinstance(idle, int) and idle > 0 else None)


def _delay(expression: Expression, column: str) -> int | None:
    match expression:
        case Column(name=name) if name == column:
            return 0
        case Call(function="-" | "+" as sign, args=(inner, Literal(value=int(amount), type=kind))):
            if kind.kind is not Kind.INTERVAL_DAY:
                return None
            below = _delay(inner, column)
            delay = None if below is None else below + (amount if sign == "-" else -amount)
            return delay if delay is None or delay >= 0 else None
        case _:
            return None


# --- the stream in the log -----------------------------------------------------------------------------------------


def _stream(table: Table, values: Mapping[str, object], statement: CreateTable, source: Source) -> streams.Stream:
    compact = bool(values.get("compact"))
    if compact and not table.key:
        at = next(one.key.at for one in statement.options if one.key.text == "compact")
        hint = "PRIMARY KEY (column) NOT ENFORCED"
        raise source.error("'compact' keeps the last row per key, and the table has no key", at, hint)
    check_archive(table, values, statement, source)
    partitions, retention, size = (values.get(one) for one in ("partitions", "retention", "retention.bytes"))
    return streams.Stream(
        table.name,
        tuple(streams.Column(one.name, one.type) for one in table.physical),
        event_time=arrival_column(table),
        key=table.key,
        partitions=partitions if isinstance(partitions, int) else 1,
        retention_ms=retention if isinstance(retention, int) else None,
        retention_bytes=size if isinstance(size, int) else None,
        compact=compact,
        options=dict(table.options),
        upsert=bool(table.key),
    )


def arrival_column(table: Table) -> streams.ArrivalColumn | None:
    """The physical column that event time comes from, and its unit; None where that cannot be told."""
    if table.watermark is None:
        return None
    expression = dict(table.computed).get(table.watermark.column)
    if expression is None:
        return streams.ArrivalColumn(table.watermark.column, None)
    found = _origin(expression)
    if found is None:
        return None
    name, per_second = found
    origin = next(one for one in table.physical if one.name == name)
    if origin.type.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return streams.ArrivalColumn(name, None)
    return streams.ArrivalColumn(name, per_second) if per_second and origin.type.kind is not Kind.STRING else None


def _origin(expression: Expression) -> tuple[str, int | None] | None:
    """(column, its units per second) for a time made of one column; None per second: the column is a time itself."""
    match expression:
        case Column(name=name, type=kind):
            return name, None if kind.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ) else 0
        case Cast(arg=inner):
            return _origin(inner)
        case Call(function="TO_TIMESTAMP_LTZ", args=(value, Literal(value=digits))):
            return _number_origin(value, 1 if digits == 0 else 1000)
        case Call(function="TO_TIMESTAMP", args=(Call(function="FROM_UNIXTIME", args=(value,)),)):
            return _number_origin(value, 1)
        case _:
            return None


def _number_origin(expression: Expression, per_second: int) -> tuple[str, int] | None:
    """The column of a number of which `per_second` make a second, through casts and whole factors."""
    match expression:
        case Column(name=name):
            return name, per_second
        case Cast(arg=inner):
            return _number_origin(inner, per_second)
        case Call(function="*", args=(inner, Literal(value=int(factor)))) if factor > 0:
            return _number_origin(inner, per_second // factor) if per_second % factor == 0 else None
        case Call(function="*", args=(Literal(value=int(factor)), inner)) if factor > 0:
            return _number_origin(inner, per_second // factor) if per_second % factor == 0 else None
        case Call(function="/", args=(inner, Literal(value=int(factor)))) if factor > 0:
            return _number_origin(inner, per_second * factor)
        case _:
            return None
