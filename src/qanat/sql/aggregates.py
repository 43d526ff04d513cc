"""GROUP BY over windows -> `WindowAggregate`, with HAVING above it and the SELECT list bound to its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model.types import BIGINT, STRING, TIMESTAMP, Kind, Type, array, decimal
from qanat.sql.coercion import NUMERIC
from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.plan import AggregateCall, Field, Node, Session, Window, WindowAggregate
from qanat.sql.scalars import AGGREGATES, Scalars, try_bind
from qanat.sql.scope import Attribute, Relation, Role, place, unique
from qanat.sql.source import Source
from qanat.sql.windows import Detached, detach, group_window_role

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


@dataclass(slots=True)
class Grouping:
    """The state of binding one query with GROUP BY. Used as `Scalars.special` for SELECT and HAVING."""

    source: Source
    input: Relation
    at: int | None
    keys: list[tuple[Expression, Attribute]] = field(default_factory=list)
    roles: dict[Role, Attribute] = field(default_factory=dict)
    calls: list[tuple[AggregateCall, Field]] = field(default_factory=list)
    #: the older form: GROUP BY TUMBLE(ts, ...) and so on
    group_window: str | None = None

    @property
    def scalars(self) -> Scalars:
        """Binds over the rows that are grouped."""
        return Scalars(self.source, self.input)

    def add_keys(self, nodes: list[exp.Expr]) -> None:
        """Read the GROUP BY list."""
        grouped = {Role.START, Role.END} if self.group_window else set()
        for node in nodes:
            if isinstance(node, exp.Tuple | exp.GroupingSets | exp.Rollup | exp.Cube):
                hint = "write one query for each, and UNION ALL"
                raise self.source.unsupported("GROUPING SETS are not supported yet", place(node) or self.at, hint)
            if isinstance(node, exp.Literal):
                raise self.source.unsupported("GROUP BY takes columns, not positions", place(node), "write the column")
            bound = self.scalars.bind(node)
            attribute = self.input.by_field(bound.name) if isinstance(bound, Column) else None
            if attribute is not None and attribute.role is not None:
                grouped.add(attribute.role)
            else:
                self._add_key(bound, attribute)
        self._check_window(grouped)
        taken = [one.field.name for _, one in self.keys]
        time = self.input.by_role(Role.TIME)
        kinds = (TIMESTAMP.with_nullable(False),) * 2 + ((time.field.type if time else TIMESTAMP).with_nullable(False),)
        for role, name, kind in zip(Role, unique([one.value for one in Role], taken), kinds, strict=True):
            self.roles[role] = Attribute(None, role.value, Field(name, kind, role is Role.TIME), role)
        if Role.TIME not in grouped:
            self.roles[Role.TIME] = replace(self.roles[Role.TIME], hidden=True)

    def _add_key(self, bound: Expression, attribute: Attribute | None) -> None:
        name = attribute.name if attribute else f"key{len(self.keys)}"
        column = Field(unique([name], [one.field.name for _, one in self.keys])[0], bound.type)
        self.keys.append((bound, Attribute(attribute.qualifier if attribute else None, name, column)))

    def _check_window(self, grouped: set[Role]) -> None:
        if self.input.window is None:
            raise self.source.unsupported("GROUP BY without a window is not supported yet", self.at, _WINDOWLESS)
        missing = [role.value for role in (Role.START, Role.END) if role not in grouped]
        if missing:
            present = [one.name for one in self.input.visible if one.role]
            if not {"window_start", "window_end"} <= set(present):
                hint = "keep window_start and window_end in the inner query, or apply a window function to window_time"
            else:
                hint = "GROUP BY ..., window_start, window_end"
            raise self.source.unsupported(f"GROUP BY lacks {' and '.join(missing)}", self.at, hint)

    # --- expressions over the groups ------------------------------------------------------------------------

    def special(self, node: exp.Expr) -> Expression | None:
        """An aggregate or a key; None: look inside. A column that is neither raises."""
        if isinstance(node, exp.Window):
            return None
        if _aggregate_name(node):
            return self._aggregate(node)
        if group_window_role(node) is not None:
            return self._role_column(group_window_role(node), node)
        if isinstance(node, exp.Column):
            return self._key_column(node)
        if any(not isinstance(key, Column) for key, _ in self.keys) and not any(map(_aggregate_name, node.walk())):
            bound = try_bind(self.scalars, node)
            for key, attribute in self.keys:
                if key == bound:
                    return attribute.column
        return None

    def _key_column(self, node: exp.Expr) -> Expression | None:
        bound = self.scalars.bind(node)
        inner = bound
        while not isinstance(inner, Column):
            # a field of a row that is a key, or a key that is a field
            for key, attribute in self.keys:
                if key == inner:
                    return attribute.column if inner is bound else None
            if not isinstance(inner, Call):
                return bound
            inner = inner.args[0]
        for key, attribute in self.keys:
            if key in (bound, inner):
                return attribute.column if key == bound else _replaced(bound, inner, attribute.column)
        attribute_in = self.input.by_field(inner.name)
        if attribute_in is not None and attribute_in.role is not None:
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

    def _aggregate(self, node: exp.Expr) -> Expression:
        condition: Expression | None = None
        if isinstance(node, exp.Filter):
            condition = self.scalars.condition(node.expression.this, "FILTER")
            node = node.this
        call = self._call(node, condition)
        for known, column in self.calls:
            if known == call:
                return Column(column.name, column.type)
        taken = [one.field.name for _, one in self.keys] + [one.field.name for one in self.roles.values()]
        taken += [one.name for _, one in self.calls]
        column = Field(unique([call.function.lower()], taken)[0], call.type)
        self.calls.append((call, column))
        return Column(column.name, column.type)

    def _call(self, node: exp.Expr, condition: Expression | None) -> AggregateCall:
        name = _ALIASES.get(_aggregate_name(node), _aggregate_name(node))
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

    def _argument(self, node: exp.Expr, outer: str) -> Expression:
        nested = next((part for part in node.walk() if _aggregate_name(part)), None)
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
        used = set().union(*(columns(key) for key, _ in self.keys))
        for call, _ in self.calls:
            used = used.union(*(columns(one) for one in call.args), columns(call.filter) if call.filter else set())
        detached = detach(self.input.node)
        if detached is not None and used & detached.gone:
            detached = None
        schema = (
            *(one.field for _, one in self.keys),
            *(one for _, one in self.calls),
            *(self.roles[role].field for role in Role),
        )
        keys = tuple(key for key, _ in self.keys)
        calls = tuple(call for call, _ in self.calls)
        if detached is not None:
            node = self._direct(detached, keys, calls, schema)
        else:
            node = self._attached(keys, calls, schema)
        attributes = (
            *(one for _, one in self.keys),
            *(Attribute(None, one.name, one, hidden=True) for _, one in self.calls),
            *self.roles.values(),
        )
        return Relation(node, attributes, self.input.window)

    def _direct(
        self, found: Detached, keys: tuple[Expression, ...], calls: tuple[AggregateCall, ...], schema: tuple[Field, ...]
    ) -> Node:
        window: Window = found.window
        if isinstance(window, Session):
            names = [key.name if isinstance(key, Column) else "" for key in keys]
            if sorted(names) != sorted(found.partition):
                wanted = ", ".join(one.name for _, one in self.keys)
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
            and detach(self.input.node) is None
            and _over_session(self.input.node)
        ):
            hint = "filter in a view and give it to SESSION: SESSION(TABLE filtered PARTITION BY key, ...)"
            message = "a filter, or use of the window's columns, between SESSION and its GROUP BY"
            raise self.source.unsupported(message, self.at, hint)
        if start is None or end is None or time is None:
            raise self.source.unsupported("the window's columns are not all here", self.at, _WINDOWLESS)
        attached = (start.field.name, end.field.name)
        return WindowAggregate(self.input.node, None, time.field.name, keys, calls, schema, attached)


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


def _aggregate_name(node: exp.Expr) -> str:
    """The aggregate that this node calls, or an empty string."""
    if isinstance(node, exp.Filter):
        node = node.this
    if isinstance(node, exp.Anonymous) and isinstance(node.this, str) and node.this.upper() in AGGREGATES:
        return node.this.upper()
    return ""


def has_aggregates(nodes: list[exp.Expr]) -> bool:
    """Whether any of the expressions calls an aggregate (those of OVER are none)."""
    return any(_aggregate_name(part) and not part.find_ancestor(exp.Window) for node in nodes for part in node.walk())
