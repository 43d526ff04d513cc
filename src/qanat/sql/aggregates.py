"""GROUP BY -> `WindowAggregate` or, without a window, `GroupAggregate`, with HAVING above it and the SELECT list bound
to its output. GROUPING SETS, ROLLUP and CUBE put an `Expand` below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model.functions import UserFunction
from qanat.model.types import BIGINT, BOOLEAN, STRING, TIMESTAMP, Kind, Type, array, decimal
from qanat.sql.changelog import changes_of
from qanat.sql.coercion import NUMERIC
from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.plan import (
    AggregateCall,
    Expand,
    Field,
    GroupAggregate,
    Node,
    Project,
    Schema,
    Session,
    Window,
    WindowAggregate,
)
from qanat.sql.scalars import AGGREGATES, Scalars, try_bind
from qanat.sql.scope import Attribute, Relation, Role, place, unique
from qanat.sql.source import Source
from qanat.sql.windows import Detached, detach, group_window_role

#: Nodes of GROUP BY that stand for several grouping sets.
SETS = (exp.GroupingSets, exp.Rollup, exp.Cube)
#: The column that numbers the grouping set of a row.
_SET = "$set"
_WINDOWLESS = (
    "aggregate over a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) "
    "GROUP BY ..., window_start, window_end"
)
_ALIASES = {"STDDEV": "STDDEV_SAMP", "VARIANCE": "VAR_SAMP"}
_ORDERED = (
    *NUMERIC, Kind.STRING, Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ,
)  # fmt: skip


def _number(sql_type: Type) -> Type | None:
    return sql_type if sql_type.kind in NUMERIC else None


def _sum(sql_type: Type) -> Type | None:
    if sql_type.kind is Kind.DECIMAL:
        return decimal(38, sql_type.scale or 0)
    return _number(sql_type)


def _avg(sql_type: Type) -> Type | None:
    if sql_type.kind is Kind.DECIMAL:
        return decimal(38, max(6, sql_type.scale or 0))
    return _number(sql_type)


def _deviation(sql_type: Type) -> Type | None:
    return _avg(sql_type)


def _ordered(sql_type: Type) -> Type | None:
    return sql_type if sql_type.kind in _ORDERED else None


#: What an aggregate of a value of some type gives; None: it does not take that type.
_RESULTS: dict[str, tuple[Callable[[Type], Type | None], str]] = {
    "SUM": (_sum, "a number"),
    "AVG": (_avg, "a number"),
    "MIN": (_ordered, "a value that has an order"),
    "MAX": (_ordered, "a value that has an order"),
    "FIRST_VALUE": (lambda one: one, "a value"),
    "LAST_VALUE": (lambda one: one, "a value"),
    "ARRAY_AGG": (array, "a value"),
    "LISTAGG": (lambda one: STRING if one.kind is Kind.STRING else None, "STRING"),
    "STDDEV_POP": (_deviation, "a number"),
    "STDDEV_SAMP": (_deviation, "a number"),
    "VAR_POP": (_deviation, "a number"),
    "VAR_SAMP": (_deviation, "a number"),
}


@dataclass(frozen=True, slots=True)
class GroupKey:
    """One key: the expression over the rows that are grouped, the column of the result, and (with grouping sets) the
    name of the column of `Expand` that has it."""

    value: Expression
    attribute: Attribute
    copy: str | None = None

    @property
    def plan(self) -> Expression:
        """The key of the plan's node."""
        return self.value if self.copy is None else Column(self.copy, self.value.type.with_nullable(True))


@dataclass(slots=True)
class Grouping:
    """The state of binding one query with GROUP BY. Used as `Scalars.special` for SELECT and HAVING."""

    source: Source
    input: Relation
    at: int | None
    keys: list[GroupKey] = field(default_factory=list)
    roles: dict[Role, Attribute] = field(default_factory=dict)
    calls: list[tuple[AggregateCall, Field]] = field(default_factory=list)
    #: the older form: GROUP BY TUMBLE(ts, ...) and so on
    group_window: str | None = None
    #: of GROUPING SETS: for each set the places of its keys in `keys`
    sets: list[tuple[int, ...]] | None = None
    ttl: int | None = None
    _input_node: Node = field(init=False)

    @property
    def scalars(self) -> Scalars:
        """Binds over the rows that are grouped."""
        return Scalars(self.source, self.input)

    def add_keys(self, nodes: list[exp.Expr]) -> None:
        """Read the GROUP BY list."""
        grouped = {Role.START, Role.END} if self.group_window else set()
        bound = [(self._key(node), node) for node in nodes if not isinstance(node, SETS)]
        found = {attribute.role for (_, attribute), _ in bound if attribute is not None and attribute.role is not None}
        windowed = self.input.window is not None and {Role.START, Role.END} <= (grouped | found)
        for (value, attribute), _ in bound:
            if windowed and attribute is not None and attribute.role is not None:
                grouped.add(attribute.role)
            else:
                self._add_key(value, attribute)
        self._add_sets([node for node in nodes if isinstance(node, SETS)])
        if windowed:
            self._add_roles(grouped)

    def _key(self, node: exp.Expr) -> tuple[Expression, Attribute | None]:
        if isinstance(node, exp.Literal):
            raise self.source.unsupported("GROUP BY takes columns, not positions", place(node), "write the column")
        bound = self.scalars.bind(node)
        return bound, self.input.by_field(bound.name) if isinstance(bound, Column) else None

    def _add_roles(self, grouped: set[Role]) -> None:
        taken = [one.attribute.field.name for one in self.keys]
        time = self.input.by_role(Role.TIME)
        kinds = (TIMESTAMP.with_nullable(False),) * 2 + ((time.field.type if time else TIMESTAMP).with_nullable(False),)
        for role, name, kind in zip(Role, unique([one.value for one in Role], taken), kinds, strict=True):
            self.roles[role] = Attribute(None, role.value, Field(name, kind, role is Role.TIME), role)
        if Role.TIME not in grouped:
            self.roles[Role.TIME] = replace(self.roles[Role.TIME], hidden=True)

    def _add_key(self, bound: Expression, attribute: Attribute | None) -> int:
        for number, key in enumerate(self.keys):
            if key.value == bound:
                return number
        name = attribute.name if attribute else f"key{len(self.keys)}"
        column = Field(unique([name], [one.attribute.field.name for one in self.keys])[0], bound.type)
        self.keys.append(GroupKey(bound, Attribute(attribute.qualifier if attribute else None, name, column)))
        return len(self.keys) - 1

    # --- grouping sets --------------------------------------------------------------------------------------

    def _add_sets(self, nodes: list[exp.Expr]) -> None:
        if not nodes:
            return
        plain = tuple(range(len(self.keys)))
        sets = [plain]
        for node in nodes:
            own = self._sets(node)
            sets = [(*one, *(i for i in other if i not in one)) for one in sets for other in own]
        self.sets = sets
        copies = unique([f"group{i}" for i in range(len(self.keys))], [one.name for one in self.input.node.schema])
        for i, (key, copy) in enumerate(zip(self.keys, copies, strict=True)):
            # a key that is missing in some set may be NULL
            column = key.attribute.field
            kind = column.type if all(i in one for one in sets) else column.type.with_nullable(True)
            attribute = replace(key.attribute, field=replace(column, type=kind))
            self.keys[i] = replace(key, attribute=attribute, copy=copy)

    def _sets(self, node: exp.Expr) -> list[tuple[int, ...]]:
        """The sets that one GROUPING SETS, ROLLUP or CUBE stands for."""
        parts = [self._set(one) for one in node.expressions if not isinstance(one, SETS)]
        match node:
            case exp.GroupingSets():
                nested = [one for part in node.expressions if isinstance(part, SETS) for one in self._sets(part)]
                return [*parts, *nested]
            case exp.Rollup():
                return [tuple(i for part in parts[:n] for i in part) for n in range(len(parts), -1, -1)]
            case _:
                masks = range(2 ** len(parts) - 1, -1, -1)
                high = len(parts) - 1
                return [
                    tuple(i for n, part in enumerate(parts) if mask >> (high - n) & 1 for i in part) for mask in masks
                ]

    def _set(self, node: exp.Expr) -> tuple[int, ...]:
        inside = (
            node.expressions if isinstance(node, exp.Tuple) else [node.this if isinstance(node, exp.Paren) else node]
        )
        numbers = []
        for one in inside:
            bound, attribute = self._key(one)
            if attribute is not None and attribute.role is not None and self.input.window is not None:
                hint = "GROUP BY window_start, window_end, GROUPING SETS ((a), ())"
                raise self.source.unsupported("the window inside of grouping sets", place(one), hint)
            numbers.append(self._add_key(bound, attribute))
        return tuple(numbers)

    def _grouping(self, node: exp.Expr) -> Expression | None:
        """GROUPING(a), GROUPING_ID(a, b): a bit per argument, 1 where the set lacks it."""
        if not isinstance(node, exp.Anonymous) or str(node.this).upper() not in ("GROUPING", "GROUPING_ID"):
            return None
        if self.sets is None:
            raise self.source.error(f"{node.this.upper()} without GROUPING SETS, ROLLUP or CUBE", place(node))
        numbers = []
        for one in node.expressions:
            value = self.scalars.bind(one)
            known = next((i for i, key in enumerate(self.keys) if key.value == value), None)
            if known is None:
                raise self.source.error(f"`{one.sql()}` is not in GROUP BY", place(one))
            numbers.append(known)
        masks = [sum((i not in one) << (len(numbers) - 1 - n) for n, i in enumerate(numbers)) for one in self.sets]
        kind = BIGINT.with_nullable(False)
        number = Column(_SET, kind)
        arguments: list[Expression] = []
        for i, mask in enumerate(masks[:-1]):
            arguments += [Call("=", (number, Literal(i, kind)), BOOLEAN.with_nullable(False)), Literal(mask, kind)]
        return Call("CASE", (*arguments, Literal(masks[-1], kind)), kind) if arguments else Literal(masks[0], kind)

    # --- expressions over the groups ------------------------------------------------------------------------

    def special(self, node: exp.Expr) -> Expression | None:
        """An aggregate or a key; None: look inside. A column that is neither raises."""
        if isinstance(node, exp.Window):
            return None
        grouping = self._grouping(node)
        if grouping is not None:
            return grouping
        if _aggregate_name(node, self.source):
            return self._aggregate(node)
        if group_window_role(node) is not None:
            return self._role_column(group_window_role(node), node)
        if isinstance(node, exp.Column):
            return self._key_column(node)
        if any(not isinstance(key.value, Column) for key in self.keys) and not has_aggregates([node], self.source):
            bound = try_bind(self.scalars, node)
            for key in self.keys:
                if key.value == bound:
                    return key.attribute.column
        return None

    def _key_column(self, node: exp.Expr) -> Expression | None:
        bound = self.scalars.bind(node)
        inner = bound
        while not isinstance(inner, Column):
            # a field of a row that is a key, or a key that is a field
            for key in self.keys:
                if key.value == inner:
                    return key.attribute.column if inner is bound else None
            if not isinstance(inner, Call):
                return bound
            inner = inner.args[0]
        for key in self.keys:
            if key.value in (bound, inner):
                column = key.attribute.column
                return column if key.value == bound else _replaced(bound, inner, column)
        attribute_in = self.input.by_field(inner.name)
        if attribute_in is not None and attribute_in.role is not None and self.roles:
            found = self.roles[attribute_in.role]
            if not found.hidden:
                return found.column
        hint = f"put it into GROUP BY, or write an aggregate such as LAST_VALUE({node.sql(dialect='spark')})"
        raise self.source.error(f"`{node.name}` is neither a key nor inside an aggregate", place(node), hint)

    def _role_column(self, role: Role | None, node: exp.Expr) -> Expression:
        """TUMBLE_START(ts, ...) and the like."""
        if role is None or self.group_window is None or not node.name.upper().startswith(self.group_window):
            hint = "GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), or select window_start, window_end"
            raise self.source.error(f"{node.name.upper()} without its window in GROUP BY", place(node), hint)
        return self.roles[role].column

    def call(self, node: exp.Expr) -> AggregateCall:
        """The aggregate that a node calls, over the rows that are grouped. Raises `SqlError` where it is none."""
        condition: Expression | None = None
        if isinstance(node, exp.Filter):
            condition = self.scalars.condition(node.expression.this, "FILTER")
            node = node.this
        if not _aggregate_name(node, self.source):
            raise self.source.error(f"{node.name.upper()} is no aggregate", place(node), "SUM(x) OVER (...)")
        return self._call(node, condition)

    def _aggregate(self, node: exp.Expr) -> Expression:
        call = self.call(node)
        for known, column in self.calls:
            if known == call:
                return Column(column.name, column.type)
        taken = [one.attribute.field.name for one in self.keys] + [one.field.name for one in self.roles.values()]
        taken += [one.name for _, one in self.calls]
        column = Field(unique([call.function.lower()], taken)[0], call.type)
        self.calls.append((call, column))
        return Column(column.name, column.type)

    def _call(self, node: exp.Expr, condition: Expression | None) -> AggregateCall:
        called = _aggregate_name(node, self.source)
        function = self.source.functions.get(called)
        if function is not None:
            return self._user_call(function, node, condition)
        name = _ALIASES.get(called, called)
        arguments, distinct = node.expressions, False
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct) and not arguments[0].args.get("on"):
            arguments, distinct = arguments[0].expressions, True
        for one in arguments:
            if isinstance(one, exp.Order):
                raise self.source.unsupported(f"ORDER BY in {name}", place(one), "the values are in event-time order")
        if len(arguments) == 1 and isinstance(arguments[0], exp.Star):
            if name != "COUNT" or distinct:
                raise self.source.error(f"{name}(*) does not exist", place(node), "COUNT(*)")
            return AggregateCall("COUNT", (), BIGINT.with_nullable(False), False, condition)
        bound = tuple(self._argument(one, name) for one in arguments)
        return self._typed_call(name, bound, distinct, condition, node)

    def _user_call(self, function: UserFunction, node: exp.Expr, condition: Expression | None) -> AggregateCall:
        assert function.result is not None
        distinct = len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Distinct)
        if distinct:
            raise self.source.unsupported(f"DISTINCT in {function.name}", place(node), "SELECT DISTINCT in a subquery")
        bound = self.scalars.fitted(function, node)
        return AggregateCall(function.name, bound, function.result, False, condition, function)

    def _argument(self, node: exp.Expr, outer: str) -> Expression:
        nested = next((part for part in node.walk() if _aggregate_name(part, self.source)), None)
        if nested is not None:
            hint = "aggregate in a subquery, then aggregate its result over window_start, window_end"
            raise self.source.error(f"an aggregate inside {outer}", place(nested), hint)
        return self.scalars.bind(node)

    def _typed_call(
        self, name: str, bound: tuple[Expression, ...], distinct: bool, condition: Expression | None, node: exp.Expr
    ) -> AggregateCall:
        most = 2 if name == "LISTAGG" else 1
        if not 1 <= len(bound) <= most:
            raise self.source.error(f"{name} takes one argument, found {len(bound)}", place(node))
        if name == "COUNT":
            return AggregateCall("COUNT", bound, BIGINT.with_nullable(False), distinct, condition)
        rule, wanted = _RESULTS[name]
        result = rule(bound[0].type)
        if result is None or bound[0].type.kind is Kind.NULL:
            found = bound[0].type.with_nullable(True)
            raise self.source.error(f"{name} takes {wanted}, found {found}", place(node))
        if len(bound) == 2 and not (isinstance(bound[1], Literal) and bound[1].type.kind is Kind.STRING):
            raise self.source.error("the separator of LISTAGG is a string", place(node), "LISTAGG(x, ', ')")
        return AggregateCall(name, bound, result.with_nullable(True), distinct, condition)

    # --- the node -------------------------------------------------------------------------------------------

    def build(self) -> Relation:
        """The aggregate node and its columns; call it after SELECT and HAVING are bound."""
        self._input_node = self._expanded()
        keys = tuple(one.plan for one in self.keys)
        schema = [one.attribute.field for one in self.keys]
        if self.sets is not None:
            keys = (*keys, Column(_SET, BIGINT.with_nullable(False)))
            schema.append(Field(_SET, BIGINT.with_nullable(False)))
        calls = tuple(call for call, _ in self.calls)
        schema += [one for _, one in self.calls]
        node = self._windowed(keys, calls, schema) if self.roles else self._windowless(keys, calls, tuple(schema))
        attributes = (
            *(one.attribute for one in self.keys),
            *(Attribute(None, one.name, one, hidden=True) for _, one in self.calls),
            *self.roles.values(),
        )
        return Relation(node, attributes, self.input.window if self.roles else None)

    def _expanded(self) -> Node:
        node = self.input.node
        if self.sets is None:
            return node
        passed = tuple(Column(one.name, one.type) for one in node.schema)
        copies = tuple(one.copy or "" for one in self.keys)
        fields = tuple(
            Field(copy, key.value.type.with_nullable(True)) for copy, key in zip(copies, self.keys, strict=True)
        )
        below = Project(node, (*passed, *(one.value for one in self.keys)), (*node.schema, *fields))
        sets = tuple(tuple(copies[i] for i in one) for one in self.sets)
        return Expand(below, copies, sets, _SET, (*below.schema, Field(_SET, BIGINT.with_nullable(False))))

    def _windowless(self, keys: tuple[Expression, ...], calls: tuple[AggregateCall, ...], schema: Schema) -> Node:
        return GroupAggregate(self._input_node, keys, calls, schema, self.ttl)

    def _windowed(self, keys: tuple[Expression, ...], calls: tuple[AggregateCall, ...], fields: list[Field]) -> Node:
        if changes_of(self._input_node).updates:
            hint = "group the rows by window before they change"
            raise self.source.unsupported("a window over rows that change", self.at, hint)
        used = set().union(*(columns(key) for key in keys))
        for call in calls:
            used = used.union(*(columns(one) for one in call.args), columns(call.filter) if call.filter else set())
        detached = detach(self._input_node)
        if detached is not None and used & detached.gone:
            detached = None
        schema = (*fields, *(self.roles[role].field for role in Role))
        if detached is not None:
            return self._direct(detached, keys, calls, schema)
        return self._attached(keys, calls, schema)

    def _direct(
        self, found: Detached, keys: tuple[Expression, ...], calls: tuple[AggregateCall, ...], schema: tuple[Field, ...]
    ) -> Node:
        window: Window = found.window
        if isinstance(window, Session):
            names = [key.name if isinstance(key, Column) else "" for key in keys]
            if sorted(names) != sorted(found.partition):
                wanted = ", ".join(one.attribute.name for one in self.keys)
                hint = f"SESSION(TABLE t PARTITION BY ({wanted}), ...)" if wanted else "SESSION(TABLE t, ...)"
                message = "the keys of GROUP BY must be those of SESSION's PARTITION BY"
                raise self.source.unsupported(message, self.at, hint)
            window = Session(window.gap, tuple(names))
        return WindowAggregate(found.node, window, found.time, keys, calls, schema)

    def _attached(
        self, keys: tuple[Expression, ...], calls: tuple[AggregateCall, ...], schema: tuple[Field, ...]
    ) -> Node:
        start, end, time = (self.input.by_role(role) for role in Role)
        if (
            isinstance(self.input.window, Session)
            and detach(self._input_node) is None
            and _over_session(self._input_node)
        ):
            hint = "filter in a view and give it to SESSION: SESSION(TABLE filtered PARTITION BY key, ...)"
            message = "a filter, or use of the window's columns, between SESSION and its GROUP BY"
            raise self.source.unsupported(message, self.at, hint)
        if start is None or end is None or time is None:
            raise self.source.unsupported("the window's columns are not all here", self.at, _WINDOWLESS)
        attached = (start.field.name, end.field.name)
        return WindowAggregate(self._input_node, None, time.field.name, keys, calls, schema, attached)


def _over_session(node: object) -> bool:
    while node is not None and not isinstance(node, WindowAggregate):
        if isinstance(getattr(node, "window", None), Session):
            return True
        node = getattr(node, "input", None)
    return False


def _replaced(whole: Expression, part: Expression, by: Expression) -> Expression:
    if whole == part:
        return by
    if isinstance(whole, Call):
        return replace(whole, args=tuple(_replaced(one, part, by) for one in whole.args))
    return whole


def _aggregate_name(node: exp.Expr, source: Source) -> str:
    """The aggregate that this node calls, or an empty string."""
    if isinstance(node, exp.Filter):
        node = node.this
    if not isinstance(node, exp.Anonymous) or not isinstance(node.this, str):
        return ""
    function = source.functions.get(node.this)
    if function is not None:
        return node.this if function.kind == "AGGREGATE" else ""
    return node.this.upper() if node.this.upper() in AGGREGATES else ""


def has_aggregates(nodes: list[exp.Expr], source: Source) -> bool:
    """Whether any of the expressions calls an aggregate (those of OVER, and of queries inside, are none)."""
    return any(_aggregate_name(part, source) for node in nodes for part in node.walk(prune=_ends_query))


def _ends_query(node: exp.Expr) -> bool:
    """Whether what is inside belongs to another query or to OVER."""
    return isinstance(node, exp.Window | exp.Select)
