"""What a pipeline means, as a short text: equal for plans that give the same rows and keep the same state.

Each column is known by what computes it, down to the columns of tables. So projections vanish, and neither alias nor
formatting, neither the order of conditions nor a column that was pruned changes anything. Compares nothing; see
docs/design/changing.md.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from qanat.model.functions import UserFunction
from qanat.sql.expressions import Call, Cast, Column, Expression, Literal
from qanat.sql.plan import (
    AggregateCall,
    Correlate,
    Deduplicate,
    Expand,
    Filter,
    GroupAggregate,
    IntervalJoin,
    LookupJoin,
    Materialize,
    Node,
    Normalize,
    Ordering,
    Over,
    Pipeline,
    Project,
    Rank,
    RegularJoin,
    Scan,
    Session,
    Table,
    TemporalJoin,
    Union,
    WindowAggregate,
    WindowAssign,
    WindowJoin,
    WindowRank,
)
from qanat.sql.tree import inputs_of

#: Nodes that run without state.
STATELESS = (Scan, Project, Filter, Union, WindowAssign, Expand, Correlate, LookupJoin)
_Join = IntervalJoin | WindowJoin | RegularJoin | TemporalJoin


@dataclass(frozen=True, slots=True)
class Part:
    """One operator: its kind, what its state depends on (None: it keeps none), and the names that columns have in it,
    in an order that is the same for equal states."""

    kind: str
    state: str | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`whole`: the pipeline with its sink. `parts`: its operators in the order in which `embedded.Flow` builds them.
    `scans`: (table, what it reads of it and its watermark) in order."""

    whole: str
    parts: tuple[Part, ...]
    scans: tuple[tuple[str, str], ...]

    @property
    def states(self) -> tuple[str, ...]:
        """What the operators with state are, in order."""
        return tuple(part.state for part in self.parts if part.state is not None)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a node: `base`, the conditions on top of it, and what each column means by name."""

    base: str
    columns: Mapping[str, str]
    conditions: frozenset[str] = frozenset()

    @property
    def core(self) -> str:
        return _hash(self.base, *sorted(self.conditions)) if self.conditions else self.base


def fingerprint(pipeline: Pipeline) -> Fingerprint:
    """The fingerprint of a pipeline."""
    walk = _Walk()
    shape = walk.shape(pipeline.root)
    rows = [shape.columns[field.name] + str(field.type) for field in pipeline.root.schema]
    whole = _hash("pipeline", shape.core, *rows, *_sink(pipeline.sink))
    return Fingerprint(whole, tuple(walk.parts), tuple(walk.scans))


def _sink(table: Table | None) -> list[str]:
    if table is None:
        return ["caller"]
    columns = [f"{field.name} {field.type}" for field in table.physical]
    options = [] if table.connector is None else [f"{key}={value}" for key, value in sorted(table.options.items())]
    return [table.name, table.connector or "log", *columns, "|", *table.key, "|", *table.partition_by, "|", *options]


def _hash(*parts: object) -> str:
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class _Walk:
    """Bottom-up over a plan, in the order of `embedded.Flow`."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.scans: list[tuple[str, str]] = []

    def shape(self, node: Node) -> _Shape:
        """The shape of a node; notes its operator."""
        if isinstance(node, Scan):
            return self._scan(node)
        inputs = [self.shape(child) for child in inputs_of(node)]
        shape = _shape(node, inputs)
        kept = not isinstance(node, STATELESS)
        self.parts.append(Part(type(node).__name__, shape.base if kept else None, _names(node) if kept else ()))
        return shape

    def _scan(self, node: Scan) -> _Shape:
        table = node.table
        physical = {f.name: f"{table.name}.{f.name} {f.type}" for f in table.physical}
        columns = dict(physical)
        for name, expression in table.computed:
            columns[name] = meaning(expression, physical)
        watermark = "none"
        if table.watermark is not None:
            mark = table.watermark
            watermark = f"{columns[mark.column]} - {mark.delay_ms} idle {mark.idle_timeout_ms}"
        outside = [] if table.connector is None else [f"{k}={v}" for k, v in sorted(table.options.items())]
        base = _hash("scan", table.name, table.connector, watermark, *table.key, "|", *outside)
        self.scans.append((table.name, base))
        number = len(self.scans) - 1  # two scans of one table are not one
        found = {f.name: f"{number}:{columns.get(f.name, f.name)}" for f in node.schema}
        return _Shape(base, found)


def _names(node: Node) -> tuple[str, ...]:
    """Names that columns may have in the state of a node."""
    names = [field.name for field in node.schema]
    if isinstance(node, WindowAggregate | GroupAggregate):
        window = getattr(node, "window", None)
        return (*names, *(window.partition if isinstance(window, Session) else ()))
    for child in inputs_of(node):
        names += [field.name for field in child.schema]
    return (*names, *(field.name for field in getattr(node, "joined", ())))


def _shape(node: Node, inputs: Sequence[_Shape]) -> _Shape:
    """What a node makes of its inputs."""
    first = inputs[0]
    match node:
        case Project():
            named = zip(node.schema, node.expressions, strict=True)
            return replace(first, columns={f.name: meaning(e, first.columns) for f, e in named})
        case Filter():
            return replace(first, conditions=first.conditions | set(_conditions(node.predicate, first.columns)))
        case WindowAggregate() | GroupAggregate():
            return _outputs(node, _aggregate(node, first))
        case IntervalJoin() | WindowJoin() | RegularJoin() | TemporalJoin():
            return _outputs(node, _join(node, *inputs))
        case Union():
            rows = [_hash(shape.core, *shape.columns.values()) for shape in inputs]
            return _outputs(node, _hash("Union", *rows))
        case WindowAssign() | Expand() | Correlate() | LookupJoin():
            return _more(node, first)
        case Deduplicate() | Rank() | WindowRank() | Over() | Normalize() | Materialize():
            return _outputs(node, _hash(_attributes(node, first), first.core, *first.columns.values()))
        case _:  # a node of which nothing is known here: any other name makes it another one
            return _outputs(node, _hash(_attributes(node, first), *(s.core for s in inputs), repr(node.schema)))


def _outputs(node: Node, base: str) -> _Shape:
    """A node whose columns are known by their place."""
    return _Shape(base, {field.name: f"{base}.{number}" for number, field in enumerate(node.schema)})


def _more(node: Node, first: _Shape) -> _Shape:
    """A node that repeats rows and adds columns."""
    base = _hash(_attributes(node, first), first.core)
    changed = set(node.keys) if isinstance(node, Expand) else set()
    made = {}
    for number, field in enumerate(node.schema):
        old = first.columns.get(field.name)
        made[field.name] = old if old is not None and field.name not in changed else f"{base}.{number}"
    return _Shape(base, made)


def _aggregate(node: WindowAggregate | GroupAggregate, first: _Shape) -> str:
    keys = [meaning(key, first.columns) for key in node.keys]
    calls = [_call(call, first.columns) for call in node.aggregates]
    if isinstance(node, GroupAggregate):
        return _hash("GroupAggregate", first.core, node.ttl, *keys, "|", *calls)
    window: object = node.window
    if isinstance(window, Session):
        window = f"Session {window.gap} {[first.columns[name] for name in window.partition]}"
    attached = [first.columns[name] for name in node.attached or ()]
    time = first.columns[node.time]
    types = [str(field.type) for field in node.schema[: len(keys)]]
    zone = [] if node.zone is None else [f"zone {node.zone}"]
    return _hash("WindowAggregate", first.core, window, time, *attached, *zone, "|", *keys, *types, "|", *calls)


def _join(node: _Join, left: _Shape, right: _Shape) -> str:
    width = len(left.columns)
    joined = getattr(node, "joined", ()) or node.schema
    meanings = [*(f"L{one}" for one in left.columns.values()), *(f"R{one}" for one in right.columns.values())]
    both = dict(zip((field.name for field in joined), meanings, strict=False))
    parts: list[object] = [type(node).__name__, node.kind, left.core, right.core, width, *meanings, "|"]
    parts += [meaning(key, left.columns) for key in node.left_keys]
    parts += [meaning(key, right.columns) for key in node.right_keys]
    parts.append(meaning(node.residual, both) if node.residual is not None else "-")
    shown = {"left", "right", "left_keys", "right_keys", "residual", "schema", "joined", "kind"}
    for one in fields(node):
        if one.name not in shown:
            sides = left if one.name.startswith("left") else right
            parts.append(f"{one.name}={_value(getattr(node, one.name), sides.columns)}")
    return _hash(*parts)


def _attributes(node: Node, first: _Shape) -> str:
    """Everything that a node says besides its inputs and the names of its columns."""
    hidden = {"input", "left", "right", "inputs", "schema", "names", "id", "number", "source", "at"}
    said = [f"{f.name}={_value(getattr(node, f.name), first.columns)}" for f in fields(node) if f.name not in hidden]
    numbered = getattr(node, "number", None) is not None
    return _hash(type(node).__name__, numbered, *said)


def _value(value: object, columns: Mapping[str, str]) -> str:
    """A value of a node; texts that are names of columns become what these mean."""
    match value:
        case Column() | Literal() | Call() | Cast():
            return meaning(value, columns)
        case AggregateCall():
            return _call(value, columns)
        case Ordering():
            return f"{columns.get(value.column, value.column)} {value.descending} {value.nulls_last}"
        case Table():
            return f"{value.name} {value.connector} {sorted(value.options.items())}"
        case UserFunction():
            return _user(value)
        case str():
            return columns.get(value, value)
        case tuple():
            return "(" + ", ".join(_value(one, columns) for one in value) + ")"
        case _:
            return repr(value)


def _call(call: AggregateCall, columns: Mapping[str, str]) -> str:
    inside = ", ".join(meaning(arg, columns) for arg in call.args)
    condition = meaning(call.filter, columns) if call.filter is not None else ""
    user = _user(call.user) if call.user is not None else ""
    return f"{call.function}({call.distinct} {inside}) {condition} {call.type} {user}"


def _conditions(predicate: Expression, columns: Mapping[str, str]) -> Iterable[str]:
    """The parts of an AND."""
    if isinstance(predicate, Call) and predicate.function == "AND":
        for arg in predicate.args:
            yield from _conditions(arg, columns)
    else:
        yield meaning(predicate, columns)


def meaning(expression: Expression, columns: Mapping[str, str]) -> str:
    """What an expression computes, by what its columns mean; long texts become a hash."""
    match expression:
        case Column(name=name):
            return columns.get(name, name)
        case Literal(value=value, type=kind):
            text = f"{value!r} {kind}"
        case Cast(arg=arg, type=kind, safe=safe):
            text = f"CAST({meaning(arg, columns)} {kind} {safe})"
        case Call(function=name, args=args, type=kind, user=user):
            called = _user(user) if user is not None else ""
            text = f"{name}({', '.join(meaning(one, columns) for one in args)} {kind} {called})"
    return text if len(text) <= 160 else _hash(text)


def _user(function: UserFunction) -> str:
    """A user's function is known by its name and its source, where that can be had."""
    body = inspect.unwrap(function.body)
    try:
        source = inspect.getsource(body)
    except (OSError, TypeError):
        source = ""
    return _hash(function.name, function.kind, function.result, *function.columns, source)
