"""Window functions with OVER in a SELECT list -> `Over` and `RowNumber` nodes below the projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model.types import BIGINT, Kind
from qanat.sql.changelog import changes_of
from qanat.sql.expressions import Column, Expression, Literal
from qanat.sql.plan import AggregateCall, Field, Node, Ordering, Over, Project, RowNumber
from qanat.sql.scope import Attribute, Relation, Role, place, unique
from qanat.sql.source import Source

_ORDER = "OVER (PARTITION BY key ORDER BY ts): ts is the time attribute, in ascending order"
_FRAME = "ROWS BETWEEN 5 PRECEDING AND CURRENT ROW, or RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW"
_RANKING = ("ROW_NUMBER", "RANK", "DENSE_RANK")

#: (partition, order, RANGE or ROWS, preceding)
_Spec = tuple[tuple[Expression, ...], tuple[tuple[Expression, bool, bool], ...], bool, int | None]


@dataclass(slots=True)
class _Window:
    """All calls with one OVER clause. `numbers`: ROW_NUMBER in an order that only a rank can have."""

    spec: _Spec
    at: int | None
    number: str | None = None
    calls: list[tuple[AggregateCall, str]] = field(default_factory=list)


@dataclass(slots=True)
class Overs:
    """The window functions of one SELECT. `bind` binds their parts over the rows of FROM or over the groups; `call`
    makes an aggregate of a call's node; `names`: columns that are taken."""

    source: Source
    relation: Relation
    bind: Callable[[exp.Expr], Expression]
    call: Callable[[exp.Expr], AggregateCall]
    named: dict[str, exp.Expr] = field(default_factory=dict)
    windows: list[_Window] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def special(self, node: exp.Expr) -> Expression | None:
        """The column that a window function becomes; None for any other node."""
        if not isinstance(node, exp.Window):
            return None
        spec = self._spec(node)
        found = next((one for one in self.windows if one.spec == spec), None)
        if found is None:
            found = _Window(spec, place(node))
            self.windows.append(found)
        name = _name(node.this)
        if name == "ROW_NUMBER":
            found.number = found.number or self._unique("row_number")
            return Column(found.number, BIGINT.with_nullable(False))
        call = self._call(node, name)
        self._check_call(call, node)
        for known, column in found.calls:
            if known == call:
                return Column(column, call.type)
        column = self._unique(call.function.lower())
        found.calls.append((call, column))
        return Column(column, call.type)

    def _check_call(self, call: AggregateCall, node: exp.Expr) -> None:
        """What Flink refuses in OVER, too."""
        if call.filter is not None:
            hint = "SUM(CASE WHEN condition THEN x END) OVER (...)"
            raise self.source.unsupported("FILTER with OVER", place(node), hint)
        if call.distinct and len(call.args) > 1:
            raise self.source.unsupported(f"{call.function}(DISTINCT a, b) with OVER", place(node), "one argument")
        if call.function in (*_RANKING, "LAG") and node.args.get("spec") is not None:
            raise self.source.error(f"{call.function} takes no frame", place(node), f"leave {_FRAME} out")

    def _unique(self, name: str) -> str:
        found = unique([name], {*(one.field.name for one in self.relation.attributes), *self.taken})[0]
        self.taken.add(found)
        return found

    def _call(self, node: exp.Expr, name: str) -> AggregateCall:
        if name in ("RANK", "DENSE_RANK"):
            if node.this.expressions:
                raise self.source.error(f"{name} takes no arguments", place(node))
            return AggregateCall(name, (), BIGINT.with_nullable(False))
        if name == "LEAD":
            hint = "LAG(x), and exchange the roles of the two rows"
            raise self.source.unsupported("LEAD looks at rows that have not come yet", place(node), hint)
        if name == "LAG":
            return self._lag(node)
        return self.call(node.this)

    def _lag(self, node: exp.Expr) -> AggregateCall:
        arguments = [self.bind(one) for one in node.this.expressions]
        if not 1 <= len(arguments) <= 3:
            raise self.source.error(f"LAG takes 1 to 3 arguments, found {len(arguments)}", place(node), "LAG(x, 1)")
        if len(arguments) > 1 and not (isinstance(arguments[1], Literal) and isinstance(arguments[1].value, int)):
            raise self.source.error("the offset of LAG is a whole number", place(node), "LAG(x, 1)")
        return AggregateCall("LAG", tuple(arguments), arguments[0].type.with_nullable(True))

    # --- the OVER clause -------------------------------------------------------------------------------------

    def _spec(self, node: exp.Expr) -> _Spec:
        clause = node
        alias = node.args.get("alias")
        if alias is not None:
            if alias.name not in self.named:
                hint = f"WINDOW {alias.name} AS (PARTITION BY key ORDER BY ts)"
                raise self.source.error(f"no window is called `{alias.name}`", place(alias), hint)
            clause = self.named[alias.name]
        partition = tuple(self.bind(one) for one in clause.args.get("partition_by") or [])
        order = clause.args.get("order")
        if order is None:
            raise self.source.error("OVER without ORDER BY", place(node), _ORDER)
        keys = tuple(self._ordered(one) for one in order.expressions)
        rows, preceding = self._frame(clause.args.get("spec"), node)
        return partition, keys, rows, preceding

    def _ordered(self, node: exp.Expr) -> tuple[Expression, bool, bool]:
        return self.bind(node.this), bool(node.args.get("desc")), not node.args.get("nulls_first")

    def _frame(self, spec: exp.Expr | None, node: exp.Expr) -> tuple[bool, int | None]:
        """Whether the frame counts rows, and how many rows or ms lie before the current row (None: all)."""
        if spec is None:
            return False, None
        ends_here = spec.args.get("end") == "CURRENT ROW" or spec.args.get("end") is None
        if not ends_here or spec.args.get("exclude"):
            raise self.source.unsupported("a frame ends with the current row", place(node), _FRAME)
        rows = spec.args["kind"] == "ROWS"
        start = spec.args.get("start")
        if start == "UNBOUNDED":
            return rows, None
        if start == "CURRENT ROW":
            raise self.source.unsupported("a frame begins before the current row", place(node), _FRAME)
        bound = self.bind(start) if isinstance(start, exp.Expr) else None
        wanted = (Kind.INT, Kind.BIGINT) if rows else (Kind.INTERVAL_DAY,)
        if (
            spec.args.get("start_side") != "PRECEDING"
            or not isinstance(bound, Literal)
            or bound.type.kind not in wanted
        ):
            raise self.source.unsupported("this frame is not supported", place(node), _FRAME)
        return rows, int(str(bound.value))

    # --- the nodes -------------------------------------------------------------------------------------------

    def attach(self, relation: Relation) -> Relation:
        """The relation with one node per OVER clause and the columns of all calls."""
        aggregates = [one for one in self.windows if one.calls]
        if len(aggregates) > 1:
            hint = "compute each OVER window in a subquery of its own"
            raise self.source.unsupported("several different OVER windows in one SELECT", aggregates[1].at, hint)
        for window in self.windows:
            relation = self._attached(relation, window)
        return relation

    def _attached(self, relation: Relation, window: _Window) -> Relation:
        partition, order, rows, preceding = window.spec
        relation, columns = _as_columns(relation, [*partition, *(one for one, _, _ in order)], self.taken)
        keys, sorts = tuple(columns[: len(partition)]), columns[len(partition) :]
        orderings = tuple(Ordering(name, down, last) for name, (_, down, last) in zip(sorts, order, strict=True))
        if window.number is not None:
            relation = self._numbered(relation, window, keys, orderings)
        if not window.calls:
            return relation
        time = self._time(relation, orderings, window)
        if changes_of(relation.node).updates:
            hint = "aggregate with GROUP BY, or compute OVER before the rows change"
            raise self.source.unsupported("OVER on rows that change", window.at, hint)
        if time is None and not rows and preceding is not None:
            raise self.source.unsupported("a RANGE of time in order of PROCTIME()", window.at, "ROWS n PRECEDING")
        calls = tuple(call for call, _ in window.calls)
        fields = tuple(Field(name, call.type) for call, name in window.calls)
        schema = (*relation.node.schema, *fields)
        node = Over(relation.node, keys, time, rows, preceding, calls, schema)
        return _extended(relation, node, fields)

    def _time(self, relation: Relation, order: tuple[Ordering, ...], window: _Window) -> str | None:
        attribute = relation.by_field(order[0].column)
        if len(order) > 1 or attribute is None or order[0].descending:
            raise self.source.unsupported("OVER is ordered by one time attribute, ascending", window.at, _ORDER)
        if attribute.field.processing_time:
            return None
        if not attribute.field.time_attribute:
            raise self.source.unsupported(f"`{attribute.name}` is not a time attribute", window.at, _ORDER)
        return attribute.field.name

    def _numbered(
        self, relation: Relation, window: _Window, keys: tuple[str, ...], order: tuple[Ordering, ...]
    ) -> Relation:
        assert window.number is not None
        column = Field(window.number, BIGINT.with_nullable(False))
        roles = [relation.by_role(role) for role in Role]
        names = [one.field.name for one in roles if one is not None]
        of_window = (names[0], names[1], names[2]) if len(names) == 3 else None
        schema = (*relation.node.schema, column)
        node = RowNumber(relation.node, keys, order, window.number, of_window, self.source, window.at, schema)
        return _extended(relation, node, (column,))


def _extended(relation: Relation, node: Node, fields: tuple[Field, ...]) -> Relation:
    added = tuple(Attribute(None, one.name, one, hidden=True) for one in fields)
    return replace(relation, node=node, attributes=(*relation.attributes, *added))


def _as_columns(relation: Relation, expressions: list[Expression], taken: set[str]) -> tuple[Relation, list[str]]:
    """Names of columns for these expressions; what is not a column yet is computed below, unseen."""
    node = relation.node
    names: list[str] = []
    made: list[tuple[Expression, Field]] = []
    present = {one.name for one in node.schema}
    for expression in expressions:
        if isinstance(expression, Column) and expression.name in present:
            names.append(expression.name)
            continue
        known = next((one.name for done, one in made if done == expression), None)
        if known is None:
            known = unique(["key"], {*present, *taken, *(one.name for _, one in made)})[0]
            made.append((expression, Field(known, expression.type)))
        names.append(known)
    if made:
        passed = tuple(Column(one.name, one.type) for one in node.schema)
        fields = tuple(one for _, one in made)
        node = Project(node, (*passed, *(one for one, _ in made)), (*node.schema, *fields))
        relation = _extended(relation, node, fields)
    return relation, names


def _name(node: exp.Expr) -> str:
    inner = node.this if isinstance(node, exp.Filter | exp.IgnoreNulls | exp.RespectNulls) else node
    return str(inner.this).upper() if isinstance(inner, exp.Anonymous) else ""


def has_over(nodes: list[exp.Expr]) -> bool:
    """Whether any of the expressions has an OVER."""
    return any(isinstance(part, exp.Window) for node in nodes for part in node.walk())


def named_windows(node: exp.Expr) -> dict[str, exp.Expr]:
    """The windows of a WINDOW clause by name."""
    return {one.name: one for one in node.args.get("windows") or []}
