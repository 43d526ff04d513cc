"""Window table functions -> `WindowAssign`, and taking the window off again for the aggregate that is built on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from qanat.model.types import TIMESTAMP, Kind
from qanat.sql.dialect import WindowTable
from qanat.sql.expressions import Column, Expression, Literal, columns
from qanat.sql.plan import (
    Cumulate,
    Expand,
    Field,
    Filter,
    Hop,
    Node,
    Project,
    Schema,
    Session,
    Tumble,
    Window,
    WindowAssign,
)
from qanat.sql.scalars import Scalars
from qanat.sql.scope import Attribute, Relation, Role, place, resolve, unique
from qanat.sql.source import Source

#: The window functions of GROUP BY: their arguments after the time.
_GROUP_WINDOWS = {"TUMBLE": ("SIZE",), "HOP": ("SLIDE", "SIZE"), "SESSION": ("GAP",)}
_GROUP_WINDOW_ROLES = {"START": Role.START, "END": Role.END, "ROWTIME": Role.TIME}
_NO_TIME = "declare it in CREATE TABLE: WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND"


def assign(node: WindowTable, relation: Relation, source: Source) -> Relation:
    """The rows of `relation` with window_start, window_end and window_time behind them."""
    time = _time_attribute(node, relation, source)
    window = _window(node, relation, source)
    clash = next(
        (one.name for one in relation.visible if one.name in ("window_start", "window_end", "window_time")), None
    )
    if clash:
        hint = f"rename it in the inner query: {clash} AS inner_{clash.removeprefix('window_')}"
        raise source.error(f"the input of {node.name} has a column `{clash}` already", place(node), hint)
    names = unique(["window_start", "window_end", "window_time"], [one.field.name for one in relation.attributes])
    kept = [replace(one, role=None, field=replace(one.field, time_attribute=False)) for one in relation.visible]
    plain = TIMESTAMP.with_nullable(False)
    added = [
        Attribute(None, "window_start", Field(names[0], plain), Role.START),
        Attribute(None, "window_end", Field(names[1], plain), Role.END),
        Attribute(None, "window_time", Field(names[2], time.field.type.with_nullable(False), True), Role.TIME),
    ]
    hidden = [replace(one.field, time_attribute=False) for one in relation.attributes if one.hidden]
    schema = (*(one.field for one in kept), *hidden, *(one.field for one in added))
    assigned = WindowAssign(relation.node, window, time.field.name, (names[0], names[1], names[2]), schema)
    return Relation(assigned, (*kept, *added), window)


def _time_attribute(node: WindowTable, relation: Relation, source: Source) -> Attribute:
    time = node.args["time"]
    if len(time) != 1:
        raise source.error("DESCRIPTOR names one column", place(node))
    name = time[0].name
    attribute, _ = resolve([name], relation, source, place(time[0]))
    if not attribute.field.time_attribute:
        known = [one.name for one in relation.time_attributes() if not one.hidden]
        hint = f"time attributes here: {', '.join(known)}" if known else _NO_TIME.format(name=name)
        raise source.error(f"`{name}` is not a time attribute", place(time[0]), hint)
    return attribute


def _window(node: WindowTable, relation: Relation, source: Source) -> Window:
    params: dict[str, exp.Expr] = node.args["params"]
    lengths = {key: _length(key, value, source) for key, value in params.items()}
    partition = node.args.get("partition") or []
    if partition and node.name != "SESSION":
        hint = "put the key into GROUP BY; only SESSION takes PARTITION BY"
        raise source.unsupported(f"PARTITION BY in {node.name}", place(partition[0]), hint)
    offset = lengths.get("OFFSET", 0)
    match node.name:
        case "TUMBLE":
            return Tumble(lengths["SIZE"], offset)
        case "HOP":
            _divides("slide", lengths["SLIDE"], lengths["SIZE"], params["SLIDE"], source)
            return Hop(lengths["SIZE"], lengths["SLIDE"], offset)
        case "CUMULATE":
            _divides("step", lengths["STEP"], lengths["SIZE"], params["STEP"], source)
            return Cumulate(lengths["SIZE"], lengths["STEP"], offset)
        case _:
            fields = [resolve([one.name], relation, source, place(one))[0].field.name for one in partition]
            return Session(lengths["GAP"], tuple(fields))


def _length(key: str, node: exp.Expr, source: Source) -> int:
    bound = Scalars(source, None).bind(node)
    if not isinstance(bound, Literal) or bound.type.kind is not Kind.INTERVAL_DAY or not isinstance(bound.value, int):
        raise source.error(f"{key} is a length of days, hours, minutes or seconds", place(node), "INTERVAL '1' DAY")
    if key != "OFFSET" and bound.value <= 0:
        raise source.error(f"{key} must be longer than nothing", place(node))
    return bound.value


def group_window_role(node: exp.Expr) -> Role | None:
    """What TUMBLE_START, HOP_END, SESSION_ROWTIME ... stand for; None for anything else."""
    if not isinstance(node, exp.Anonymous) or not isinstance(node.this, str):
        return None
    window, _, what = node.this.upper().partition("_")
    return _GROUP_WINDOW_ROLES.get(what) if window in _GROUP_WINDOWS else None


def group_window(nodes: list[exp.Expr]) -> exp.Expr | None:
    """The window among the GROUP BY expressions: `TUMBLE(ts, INTERVAL '1' MINUTE)`, the older form."""
    calls = [one for one in nodes if isinstance(one, exp.Anonymous) and isinstance(one.this, str)]
    return next((one for one in calls if one.this.upper() in _GROUP_WINDOWS), None)


def assign_group(node: exp.Expr, keys: list[exp.Expr], relation: Relation, source: Source) -> Relation:
    """The older form as a window function: the same plan, with the window's columns hidden."""
    name, arguments = node.name.upper(), node.expressions
    wanted = _GROUP_WINDOWS[name]
    if len(arguments) != len(wanted) + 1 or not isinstance(arguments[0], exp.Column):
        usage = ", ".join(["ts", *(f"INTERVAL '1' {unit}" for unit in ("MINUTE", "HOUR")[: len(wanted)])])
        raise source.error(
            f"{name} takes a time attribute and {len(wanted)} interval(s)", place(node), f"{name}({usage})"
        )
    params = dict(zip(wanted, arguments[1:], strict=True))
    partition = [key.this for key in keys if isinstance(key, exp.Column)] if name == "SESSION" else []
    if name == "SESSION" and len(partition) != len(keys):
        raise source.unsupported("SESSION by an expression", place(node), "compute the key in a subquery")
    table = WindowTable(this=name, source=None, time=[arguments[0].this], partition=partition, params=params)
    assigned = assign(table.update_positions(node), relation, source)
    count = len(assigned.attributes) - 3
    hidden = tuple(replace(one, hidden=True) for one in assigned.attributes[count:])
    return replace(assigned, attributes=(*assigned.attributes[:count], *hidden))


def _divides(what: str, part: int, size: int, node: exp.Expr, source: Source) -> None:
    if size % part:
        message = f"the size must be a whole multiple of the {what}: {size} ms is not one of {part} ms"
        raise source.error(message, place(node))


@dataclass(frozen=True, slots=True)
class Detached:
    """A plan without its window function. `time` and `partition` name columns of `node`; `gone`: the window columns
    that were part of the schema and are not any more."""

    node: Node
    window: Window
    time: str
    partition: tuple[str, ...]
    gone: frozenset[str]


def detach(node: Node) -> Detached | None:
    """Take the window function out from below filters and projections; None where they use the window's columns."""
    match node:
        case WindowAssign(input=inner, window=window, time=time, names=names):
            partition = window.partition if isinstance(window, Session) else ()
            return Detached(inner, window, time, partition, frozenset(names))
        case Filter(input=below, predicate=predicate):
            found = detach(below)
            # a filter above SESSION sees sessions of all rows, so it may not move below it
            if found is None or isinstance(found.window, Session) or columns(predicate) & found.gone:
                return None
            return replace(found, node=Filter(found.node, predicate, found.node.schema))
        case Project():
            found = detach(node.input)
            return None if found is None else _detach_project(node, found)
        case Expand(input=below):
            found = detach(below)
            if found is None or isinstance(found.window, Session):
                return None
            return replace(found, node=replace(node, input=found.node, schema=(*found.node.schema, node.schema[-1])))
        case _:
            return None


def _detach_project(node: Project, below: Detached) -> Detached | None:
    kept: list[tuple[Expression, Field]] = []
    gone: set[str] = set()
    for expression, field in zip(node.expressions, node.schema, strict=True):
        if isinstance(expression, Column) and expression.name in below.gone:
            gone.add(field.name)
        elif columns(expression) & below.gone:
            return None
        else:
            kept.append((expression, field))
    carried = [_carry(name, kept, below.node.schema) for name in (below.time, *below.partition)]
    time, partition = carried[0], tuple(carried[1:])
    fields = [replace(field, time_attribute=field.name == time) for _, field in kept]
    project = Project(below.node, tuple(expression for expression, _ in kept), tuple(fields))
    return Detached(project, below.window, time, partition, frozenset(gone))


def _carry(name: str, kept: list[tuple[Expression, Field]], schema: Schema) -> str:
    """The name under which a column passes the projection; it is added where it does not."""
    for expression, field in kept:
        if isinstance(expression, Column) and expression.name == name:
            return field.name
    field = next(one for one in schema if one.name == name)
    renamed = unique([name], [one.name for _, one in kept])[0]
    kept.append((Column(name, field.type), replace(field, name=renamed)))
    return renamed
