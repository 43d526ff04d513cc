"""Joins of two inputs -> `IntervalJoin`, `WindowJoin`, or, where neither time nor window bounds them, `RegularJoin`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model.types import BOOLEAN, Kind
from qanat.sql.changelog import changes_of
from qanat.sql.coercion import any_null
from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.plan import Field, IntervalJoin, JoinKind, Node, RegularJoin, WindowJoin
from qanat.sql.scalars import Scalars, try_bind
from qanat.sql.scope import Relation, Role, unique
from qanat.sql.source import Source

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that AND joins together."""
    if node is None:
        return []
    if isinstance(node, exp.Paren) and isinstance(node.this, exp.And):
        return conjuncts(node.this)
    if isinstance(node, exp.And):
        return [*conjuncts(node.this), *conjuncts(node.expression)]
    return [node]


def side_by_side(left: Relation, right: Relation) -> Relation:
    """Both inputs' columns, renamed where names collide; the node is still the left one's."""
    names = unique([one.field.name for one in right.attributes], [one.field.name for one in left.attributes])
    renamed = tuple(
        replace(one, field=replace(one.field, name=name)) for one, name in zip(right.attributes, names, strict=True)
    )
    return Relation(left.node, (*left.attributes, *renamed))


@dataclass(slots=True)
class Join:
    """The conditions of one join, sorted into what they say. `set_aside`: those on time and windows, which become
    plain conditions where the join is neither an interval join nor a window join. `ttls`: how long (ms) a regular join
    keeps a row of each side."""

    source: Source
    left: Relation
    right: Relation
    both: Relation
    at: int | None
    kind: JoinKind = "INNER"
    ttls: tuple[int | None, int | None] = (None, None)
    left_keys: list[Expression] = field(default_factory=list)
    right_keys: list[Expression] = field(default_factory=list)
    lower: int | None = None
    upper: int | None = None
    times: tuple[str, str] | None = None
    window: set[Role] = field(default_factory=set)
    residual: list[Expression] = field(default_factory=list)
    set_aside: list[Expression] = field(default_factory=list)
    equalities: list[tuple[Expression, Expression]] = field(default_factory=list)

    def take(self, condition: Expression) -> None:
        """One condition, or several under AND."""
        if isinstance(condition, Call) and condition.function == "AND":
            for part in condition.args:
                self.take(part)
        elif not (self._window_column(condition) or self._time_bound(condition) or self._key(condition)):
            self.residual.append(condition)

    def take_plain(self, condition: Expression) -> None:
        """As `take`, where neither time nor window bounds the join. `equalities` keeps each key's condition."""
        if isinstance(condition, Call) and condition.function == "AND":
            for part in condition.args:
                self.take_plain(part)
        elif self._key(condition):
            self.equalities.append((condition, self.right_keys[-1]))
        else:
            self.residual.append(condition)

    def sides(self, condition: Expression) -> tuple[set[str], set[str]]:
        """Names of the left and right columns that the condition reads."""
        left = {one.field.name for one in self.left.attributes}
        used = columns(condition)
        return used & left, used - left

    def _pair(self, condition: Expression) -> tuple[Expression, Expression] | None:
        """The two operands of `=`, the left input's first; None where they mix inputs."""
        if not (isinstance(condition, Call) and condition.function == "="):
            return None
        one, other = condition.args
        for a, b in ((one, other), (other, one)):
            (a_left, a_right), (b_left, b_right) = self.sides(a), self.sides(b)
            if a_left and b_right and not a_right and not b_left:
                return a, b
        return None

    def _window_column(self, condition: Expression) -> bool:
        pair = self._pair(condition)
        if pair is None or not all(isinstance(one, Column) for one in pair):
            return False
        found = [self.both.by_field(one.name) for one in pair if isinstance(one, Column)]
        roles = {one.role for one in found if one}
        if len(roles) != 1 or not roles <= {Role.START, Role.END}:
            return False
        self.window |= {role for role in roles if role}
        self.set_aside.append(condition)
        return True

    def _key(self, condition: Expression) -> bool:
        pair = self._pair(condition)
        if pair is None:
            return False
        self.left_keys.append(pair[0])
        self.right_keys.append(self._own(pair[1]))
        return True

    def _own(self, expression: Expression) -> Expression:
        """An expression over the joined columns as one over the right input's own."""
        names = {
            joined.field.name: own.field.name
            for joined, own in zip(
                self.both.attributes[len(self.left.attributes) :], self.right.attributes, strict=True
            )
        }
        return renamed(expression, names)

    # --- time -----------------------------------------------------------------------------------------------

    def _time_bound(self, condition: Expression) -> bool:
        if not isinstance(condition, Call) or condition.function not in _FLIPPED:
            return False
        one, other = (self._shifted(part) for part in condition.args)
        if one is None or other is None:
            return False
        operator = condition.function
        lefts = {part.field.name for part in self.left.attributes}
        if one[0] not in lefts:
            one, other, operator = other, one, _FLIPPED[operator]
        if one[0] not in lefts or other[0] in lefts or self.times not in (None, (one[0], other[0])):
            return False
        self.times = (one[0], other[0])
        self._bound(operator, other[1] - one[1])
        self.set_aside.append(condition)
        return True

    def _bound(self, operator: str, distance: int) -> None:
        """left.time - right.time `operator` distance."""
        if operator in (">", ">=", "="):
            low = distance + (operator == ">")
            self.lower = low if self.lower is None else max(self.lower, low)
        if operator in ("<", "<=", "="):
            high = distance - (operator == "<")
            self.upper = high if self.upper is None else min(self.upper, high)

    def _shifted(self, expression: Expression) -> tuple[str, int] | None:
        """`time attribute +- interval` as (column, milliseconds)."""
        if isinstance(expression, Column):
            attribute = self.both.by_field(expression.name)
            return (expression.name, 0) if attribute and attribute.field.time_attribute else None
        if not isinstance(expression, Call) or expression.function not in "+-" or len(expression.args) != 2:
            return None
        inner, step = self._shifted(expression.args[0]), expression.args[1]
        if inner is None or not isinstance(step, Literal) or step.type.kind is not Kind.INTERVAL_DAY:
            return None
        amount = step.value if isinstance(step.value, int) else 0
        return inner[0], inner[1] + (amount if expression.function == "+" else -amount)

    # --- the node -------------------------------------------------------------------------------------------

    def build(self) -> Relation:
        """The join node."""
        if self._by_window():
            return self._window_join()
        if self._by_time() and self.times is not None and self.lower is not None and self.upper is not None:
            return self._interval_join(self.times, self.lower, self.upper)
        return self._regular_join()

    def _insert_only(self) -> bool:
        return not (changes_of(self.left.node).updates or changes_of(self.right.node).updates)

    def _by_window(self) -> bool:
        """Whether both inputs carry the same window and are joined on all of it."""
        carried = self.left.window is not None and self.left.window == self.right.window
        return carried and self.window == {Role.START, Role.END} and self.times is None and self._insert_only()

    def _by_time(self) -> bool:
        """Whether time is bounded on both sides."""
        bounded = self.times is not None and self.lower is not None and self.upper is not None
        return bounded and bool(self.left_keys) and self.kind not in ("SEMI", "ANTI") and self._insert_only()

    def _fields(self) -> tuple[Field, ...]:
        """All columns of both sides; those of a side that may be missing are nullable."""
        split = len(self.left.attributes)
        found = []
        for place, one in enumerate(self.both.attributes):
            optional = self.kind in (("RIGHT", "FULL") if place < split else ("LEFT", "FULL"))
            found.append(replace(one.field, type=one.field.type.with_nullable(True)) if optional else one.field)
        return tuple(found)

    def _result(self, node: Node, *, keep_roles: bool = False) -> Relation:
        """The join as a relation. Windows of the inputs end at a join that is not on them."""
        shown = self.left.attributes if self.kind in ("SEMI", "ANTI") else self.both.attributes
        attributes = tuple(
            replace(one, field=made, role=one.role if keep_roles else None)
            for one, made in zip(shown, node.schema, strict=True)
        )
        return Relation(node, attributes, self.left.window if keep_roles else None)

    def _interval_join(self, times: tuple[str, str], lower: int, upper: int) -> Relation:
        left, right = (self.both.by_field(name) for name in times)
        if left is not None and right is not None and left.field.type.kind is not right.field.type.kind:
            found = f"{left.field.type.with_nullable(True)} and {right.field.type.with_nullable(True)}"
            raise self.source.error(f"the two times have different types: {found}", self.at)
        if lower > upper:
            raise self.source.error("the bounds on time exclude every pair of rows", self.at)
        right_time = self._own(Column(times[1], BOOLEAN))
        assert isinstance(right_time, Column)
        node = IntervalJoin(
            self.left.node, self.right.node, tuple(self.left_keys), tuple(self.right_keys), times[0], right_time.name,
            lower, upper, conjunction(self.residual), self._fields(), self.kind,
        )  # fmt: skip
        return self._result(node)

    def _window_join(self) -> Relation:
        names = [self._window_names(one) for one in (self.left, self.right)]
        fields = self._fields()
        shown = fields[: len(self.left.attributes)] if self.kind in ("SEMI", "ANTI") else fields
        node = WindowJoin(
            self.left.node, self.right.node, tuple(self.left_keys), tuple(self.right_keys), names[0], names[1],
            conjunction(self.residual), shown, self.kind, fields,
        )  # fmt: skip
        return self._result(node, keep_roles=True)

    def _window_names(self, relation: Relation) -> tuple[str, str, str]:
        found = [relation.by_role(role) for role in Role]
        if any(one is None for one in found):
            hint = "keep window_start, window_end and window_time in the inner query"
            raise self.source.unsupported("an input of the window join lacks its window's columns", self.at, hint)
        start, end, time = (one.field.name for one in found if one)
        return start, end, time

    def _regular_join(self) -> Relation:
        for condition in self.set_aside:
            if not self._key(condition):
                self.residual.append(condition)
        fields = tuple(replace(one, time_attribute=False) for one in self._fields())
        if self.kind in ("SEMI", "ANTI"):
            shown = tuple(one.field for one in self.left.attributes)
        else:
            shown = fields
        node = RegularJoin(
            self.left.node, self.right.node, tuple(self.left_keys), tuple(self.right_keys), conjunction(self.residual),
            shown, self.kind, fields, *self.ttls,
        )  # fmt: skip
        return self._result(node)


def conjunction(parts: list[Expression]) -> Expression | None:
    """All of the conditions, or None."""
    whole: Expression | None = None
    for one in parts:
        both = None if whole is None else BOOLEAN.with_nullable(any_null([whole.type, one.type]))
        whole = one if whole is None or both is None else Call("AND", (whole, one), both)
    return whole


def renamed(expression: Expression, names: dict[str, str]) -> Expression:
    """The expression over columns that are called differently."""
    match expression:
        case Column(name=name):
            return replace(expression, name=names.get(name, name))
        case Call(args=args):
            return replace(expression, args=tuple(renamed(one, names) for one in args))
        case Literal():
            return expression
        case cast:
            return replace(cast, arg=renamed(cast.arg, names))


def join(  # two inputs, their conditions, and where they stand
    left: Relation,
    right: Relation,
    on: list[exp.Expr],
    where: list[exp.Expr],
    source: Source,
    at: int | None,
    kind: JoinKind = "INNER",
    ttls: tuple[int | None, int | None] = (None, None),
) -> tuple[Relation, list[exp.Expr]]:
    """Join two relations. An inner join takes from `where` the conditions that read both sides; the others are given
    back."""
    both = side_by_side(left, right)
    scalars = Scalars(source, both)
    found = Join(source, left, right, both, at, kind, ttls)
    for node in on:
        found.take(scalars.condition(node, "ON"))
    if kind != "INNER":
        return found.build(), where
    rest: list[exp.Expr] = []
    for node in where:
        bound = None if _has_query(node) else try_bind(scalars, node)
        if bound is not None and all(found.sides(bound)):
            found.take(scalars.condition(node, "WHERE"))
        else:
            rest.append(node)
    return found.build(), rest


def _has_query(node: exp.Expr) -> bool:
    return any(isinstance(one, exp.Select) for one in node.walk())
