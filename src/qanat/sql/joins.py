"""Joins of two inputs -> `IntervalJoin` or `WindowJoin`; any other join is refused with what to write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from qanat.model.types import BOOLEAN, Kind
from qanat.sql.coercion import any_null
from qanat.sql.expressions import Call, Column, Expression, Literal, columns
from qanat.sql.plan import Field, IntervalJoin, WindowJoin
from qanat.sql.scalars import Scalars, try_bind
from qanat.sql.scope import Relation, Role, unique
from qanat.sql.source import Source

_KEY = "join on a key and on time: ON a.id = b.id AND a.ts BETWEEN b.ts - INTERVAL '5' SECOND AND b.ts"
_TIME = "bound the time on both sides: a.ts BETWEEN b.ts - INTERVAL '5' SECOND AND b.ts + INTERVAL '5' SECOND"
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
    """The conditions of one join, sorted into what they say."""

    source: Source
    left: Relation
    right: Relation
    both: Relation
    at: int | None
    left_keys: list[Expression] = field(default_factory=list)
    right_keys: list[Expression] = field(default_factory=list)
    lower: int | None = None
    upper: int | None = None
    times: tuple[str, str] | None = None
    window: set[Role] = field(default_factory=set)
    residual: list[Expression] = field(default_factory=list)

    def take(self, condition: Expression) -> None:
        """One condition, or several under AND."""
        if isinstance(condition, Call) and condition.function == "AND":
            for part in condition.args:
                self.take(part)
        elif not (self._window_column(condition) or self._time_bound(condition) or self._key(condition)):
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
        """The join node. Raises `UnsupportedError` for a join that would keep its state for ever."""
        if self.window and self.left.window is not None and self.right.window is not None:
            return self._window_join()
        if not self.left_keys:
            raise self.source.unsupported("the join has no equality of keys", self.at, _KEY)
        if self.times is None or self.lower is None or self.upper is None:
            message = (
                "a join without bounds on time" if self.times is None else "the join bounds the time on one side only"
            )
            times = self.left.time_attributes() and self.right.time_attributes()
            hint = _TIME if times else "both inputs need a time attribute: WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"
            raise self.source.unsupported(
                f"{message} is not supported yet" if self.times is None else message, self.at, hint
            )
        return self._interval_join(self.times, self.lower, self.upper)

    def _schema(self) -> tuple[Field, ...]:
        return tuple(one.field for one in self.both.attributes)

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
            lower, upper, conjunction(self.residual), self._schema(),
        )  # fmt: skip
        # windows of the inputs end here: a pair may lie in two of them
        attributes = tuple(replace(one, role=None) for one in self.both.attributes)
        return Relation(node, attributes)

    def _window_join(self) -> Relation:
        if self.window != {Role.START, Role.END}:
            hint = "ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.id = b.id"
            raise self.source.unsupported("a window join needs both window_start and window_end", self.at, hint)
        if self.left.window != self.right.window:
            hint = "give both window functions the same lengths"
            raise self.source.unsupported("the two windows differ", self.at, hint)
        names = [self._window_names(one) for one in (self.left, self.right)]
        if self.times is not None:
            hint = "leave the condition on time out: equal windows bound it"
            raise self.source.unsupported("a window join with a condition on time attributes", self.at, hint)
        node = WindowJoin(
            self.left.node, self.right.node, tuple(self.left_keys), tuple(self.right_keys), names[0], names[1],
            conjunction(self.residual), self._schema(),
        )  # fmt: skip
        return Relation(node, self.both.attributes, self.left.window)

    def _window_names(self, relation: Relation) -> tuple[str, str, str]:
        found = [relation.by_role(role) for role in Role]
        if any(one is None for one in found):
            hint = "keep window_start, window_end and window_time in the inner query"
            raise self.source.unsupported("an input of the window join lacks its window's columns", self.at, hint)
        start, end, time = (one.field.name for one in found if one)
        return start, end, time


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


def join(
    left: Relation, right: Relation, on: list[exp.Expr], where: list[exp.Expr], source: Source, at: int | None
) -> tuple[Relation, list[exp.Expr]]:
    """Join two relations; of `where` those conditions that read both sides are taken, the others given back."""
    both = side_by_side(left, right)
    scalars = Scalars(source, both)
    found = Join(source, left, right, both, at)
    for node in on:
        found.take(scalars.condition(node, "ON"))
    rest: list[exp.Expr] = []
    for node in where:
        bound = try_bind(scalars, node)
        if bound is not None and all(found.sides(bound)):
            found.take(scalars.condition(node, "WHERE"))
        else:
            rest.append(node)
    return found.build(), rest
