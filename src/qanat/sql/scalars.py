"""Scalar expressions: sqlglot's nodes -> typed expressions. Each kind of node has one method; others are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from sqlglot import exp

from qanat.errors import SqlError
from qanat.model.functions import UserFunction
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, STRING, Kind, Type, decimal
from qanat.sql import functions, intervals
from qanat.sql.coercion import NUMERIC, TIMESTAMPS, coerce, integer_literal_type, is_castable, is_implicit
from qanat.sql.expression_nodes import TypedCast
from qanat.sql.expressions import Call, Cast, Expression, Literal
from qanat.sql.functions import ALIASES, FUNCTIONS, Mismatch
from qanat.sql.scope import Relation, place, resolve
from qanat.sql.source import Source, near

#: Aggregate functions; only GROUP BY gives them a meaning.
AGGREGATES = (
    "COUNT", "SUM", "AVG", "MIN", "MAX", "FIRST_VALUE", "LAST_VALUE", "ARRAY_AGG", "LISTAGG",
    "STDDEV_POP", "STDDEV_SAMP", "STDDEV", "VAR_POP", "VAR_SAMP", "VARIANCE",
)  # fmt: skip

#: Functions of Flink that are refused for a reason, with what to write instead.
_REFUSED = {
    "PROCTIME": "processing time is not supported; declare a WATERMARK on an event time column",
    "CURRENT_WATERMARK": "late rows are in the stream `late`, with the watermark that condemned them",
    "NOW": "a replay could not repeat it; use the event time",
    "CURRENT_TIMESTAMP": "a replay could not repeat it; use the event time",
    "CURRENT_ROW_TIMESTAMP": "a replay could not repeat it; use the event time",
    "LOCALTIMESTAMP": "a replay could not repeat it; use the event time",
    "CURRENT_DATE": "a replay could not repeat it; use the event time",
    "CURRENT_TIME": "a replay could not repeat it; use the event time",
    "LOCALTIME": "a replay could not repeat it; use the event time",
    "RAND": "a replay could not repeat it",
    "RAND_INTEGER": "a replay could not repeat it",
    "UUID": "a replay could not repeat it",
    "COLLECT": "MULTISET is not supported; write ARRAY_AGG(x)",
    "TUMBLE": "write it in FROM: TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
    "HOP": "write it in FROM: TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '10' MINUTE))",
    "SESSION": "write it in FROM: TABLE(SESSION(TABLE t PARTITION BY key, DESCRIPTOR(ts), INTERVAL '5' SECOND))",
    "ROW_NUMBER": "ranking is not supported yet",
    "RANK": "ranking is not supported yet",
    "DENSE_RANK": "ranking is not supported yet",
    "GROUPING": "GROUPING SETS are not supported yet",
    "GROUPING_ID": "GROUPING SETS are not supported yet",
}  # fmt: skip

#: What to write instead of expressions that other dialects have.
_INSTEAD = {
    "Cast": "CAST(x AS type)",
    "ILike": "LOWER(x) LIKE 'pattern'",
    "AtTimeZone": "SET 'table.local-time-zone' = 'Europe/Berlin', or CONVERT_TZ(text, from, to)",
    "JSONExtract": "JSON_VALUE(x, '$.path')",
    "IntDiv": "a / b, which of integers is an integer",
    "RegexpLike": "REGEXP(x, regex)",
    "Concat": "a || b",
}

#: Arguments of sqlglot's nodes that the methods below read; any other that is set is refused.
_KNOWN_ARGS = {"this", "expression", "expressions"}
_MORE_ARGS = {
    "Column": {"table", "db", "catalog"},
    "Literal": {"is_string"},
    "Div": {"typed", "safe"},
    "DPipe": {"safe"},
    "Like": {"negate"},
    "Is": {"negate"},
    "Between": {"low", "high", "symmetric"},
    "In": {"query", "unnest", "field"},
    "Case": {"ifs", "default"},
    "Interval": {"unit"},
    "TypedCast": {"to", "safe", "literal"},
    "Subquery": {"alias", "with_"},
    "Select": {"kind", "hint", "distinct", "limit", "from_", "where", "group", "having", "order", "joins", "with_"},
    "Window": {"partition_by", "order", "spec", "over", "alias", "first"},
}

_BINARY: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.And: "AND", exp.Or: "OR", exp.DPipe: "||", exp.Like: "LIKE", exp.SimilarTo: "SIMILAR TO",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip


@dataclass(slots=True)
class Scalars:
    """Binds expressions over one relation. `special` is asked first: aggregates and GROUP BY keys are its matter."""

    source: Source
    relation: Relation | None
    special: Callable[[exp.Expr], Expression | None] | None = None

    def bind(self, node: exp.Expr | None) -> Expression:
        """The typed expression. Raises `SqlError` with the place of the part that is wrong."""
        if node is None:
            raise self.source.error("incomplete expression", None)
        found = self.special(node) if self.special else None
        if found is not None:
            return found
        self._check_args(node)
        if type(node) in _BINARY and not node.args.get("negate"):
            return self.call(_BINARY[type(node)], (self.bind(node.this), self.bind(node.expression)), node)
        method = _METHODS.get(type(node))
        if method is None:
            what = type(node).__name__.upper()
            hint = _INSTEAD.get(type(node).__name__)
            raise self.source.unsupported(f"{what} is not supported in an expression", place(node), hint)
        return method(self, node)

    def _check_args(self, node: exp.Expr) -> None:
        """What sqlglot parsed beyond what is understood here must not be lost quietly."""
        if type(node) not in _METHODS and type(node) not in _BINARY:
            return
        known = _KNOWN_ARGS | _MORE_ARGS.get(type(node).__name__, set())
        for name, value in node.args.items():
            if value and name not in known:
                what = f"{type(node).__name__.upper()} with {name.strip('_').upper()}"
                raise self.source.unsupported(f"{what} is not supported", place(node))

    def condition(self, node: exp.Expr, clause: str) -> Expression:
        """A BOOLEAN expression."""
        bound = self.bind(node)
        if bound.type.kind not in (Kind.BOOLEAN, Kind.NULL):
            raise self.source.error(f"{clause} needs a condition, found {bound.type.with_nullable(True)}", place(node))
        return coerce(bound, BOOLEAN)

    def call(self, name: str, arguments: tuple[Expression, ...], node: exp.Expr) -> Expression:
        """A call of a function of the table, checked."""
        try:
            cast, result = functions.apply(name, arguments)
        except Mismatch as error:
            raise self.source.error(error.message, place(node), error.hint) from None
        return Call(name, cast, result)

    # --- leaves ----------------------------------------------------------------------------------------------

    def _column(self, node: exp.Expr) -> Expression:
        parts = [part.name for part in (node.args.get(key) for key in ("catalog", "db", "table", "this")) if part]
        at = place(node)
        if isinstance(node.this, exp.Star):
            raise self.source.error("`*` stands only in the SELECT list and in COUNT(*)", at)
        if len(parts) == 1 and parts[0].upper() in _REFUSED and not node.this.args.get("quoted"):
            return self._refuse(parts[0], at)
        if self.relation is None:
            raise self.source.error(f"there is no column `{parts[0]}`: the query has no FROM", at)
        attribute, fields = resolve(parts, self.relation, self.source, at)
        found: Expression = attribute.column
        for name in fields:
            found = self._field(found, name, at)
        return found

    def _field(self, row: Expression, name: str, at: int | None) -> Expression:
        if row.type.kind is not Kind.ROW:
            raise self.source.error(f"{row.type.with_nullable(True)} has no field `{name}`: it is not a row", at)
        try:
            arguments, result = functions.apply("FIELD", (row, Literal(name, STRING)))
        except Mismatch:
            names = [field for field, _ in row.type.fields]
            hint = near(name, names) or f"fields: {', '.join(names)}"
            raise self.source.error(f"the row has no field `{name}`", at, hint) from None
        return Call("FIELD", arguments, result)

    def _dot(self, node: exp.Expr) -> Expression:
        return self._field(self.bind(node.this), node.expression.name, place(node.expression) or place(node))

    def _literal(self, node: exp.Expr) -> Expression:
        text = node.this
        if node.is_string:
            return Literal(text, STRING.with_nullable(False))
        if re.fullmatch(r"\d+\.?", text):
            whole = int(text.rstrip("."))
            if whole >= 2**63:
                raise self._too_long(node)
            return Literal(whole, integer_literal_type(whole))
        if "e" in text.lower():
            if float(text) == float("inf"):
                raise self._too_long(node)
            return Literal(float(text), DOUBLE.with_nullable(False))
        value = Decimal(text)
        if int("".join(map(str, value.as_tuple().digits))) >= 2**63:
            raise self._too_long(node)
        # as many digits as are written, zeros in front of the point included
        return Literal(value, decimal(len(text.replace(".", "")), len(text.partition(".")[2])).with_nullable(False))

    def _too_long(self, node: exp.Expr) -> SqlError:
        hint = f"CAST('{node.this}' AS DECIMAL(38, 10))"
        return self.source.error(f"the literal {node.this} has too many digits", place(node), hint)

    def _boolean(self, node: exp.Expr) -> Expression:
        return Literal(bool(node.this), BOOLEAN.with_nullable(False))

    def _null(self, _: exp.Expr) -> Expression:
        return Literal(None, Type(Kind.NULL))

    def _interval(self, node: exp.Expr) -> Expression:
        unit, text = node.args["unit"], node.this.name
        digits = node.meta.get("digits", 2)
        try:
            if isinstance(unit, exp.IntervalSpan):
                amount, months = intervals.span(text, unit.this.name, unit.expression.name)
            else:
                amount, months = intervals.single(text, unit.name, digits)
        except ValueError as error:
            raise self.source.error(str(error), place(node.this), _interval_hint(text, unit)) from None
        return Literal(amount, Type(Kind.INTERVAL_YEAR if months else Kind.INTERVAL_DAY, nullable=False))

    # --- operators -------------------------------------------------------------------------------------------

    def _paren(self, node: exp.Expr) -> Expression:
        return self.bind(node.this)

    def _negative(self, node: exp.Expr) -> Expression:
        if isinstance(node.this, exp.Literal) and node.this.this == str(2**63):
            return Literal(-(2**63), BIGINT.with_nullable(False))
        inner = self.bind(node.this)
        if isinstance(inner, Literal) and isinstance(inner.value, int | float | Decimal):
            value = -inner.value
            if isinstance(value, int) and inner.type.kind in (Kind.BIGINT, Kind.DECIMAL):
                return Literal(value, integer_literal_type(value))
            return Literal(value, inner.type)
        return self.call("NEGATE", (inner,), node)

    def _not(self, node: exp.Expr) -> Expression:
        if isinstance(node.this, exp.Is) and isinstance(node.this.expression, exp.Null):
            return self.call("IS NOT NULL", (self.bind(node.this.this),), node)
        return self.call("NOT", (self.bind(node.this),), node)

    def _like(self, node: exp.Expr) -> Expression:
        """LIKE with NOT; the plain one is in the table of binary operators."""
        return self._negated(self.call("LIKE", (self.bind(node.this), self.bind(node.expression)), node), node)

    def _negated(self, bound: Expression, node: exp.Expr) -> Expression:
        return self.call("NOT", (bound,), node) if node.args.get("negate") else bound

    def _is(self, node: exp.Expr) -> Expression:
        match node.expression:
            case exp.JSON():
                kind = Literal(str(node.expression.this or "VALUE").upper(), STRING.with_nullable(False))
                return self._negated(self.call("IS JSON", (self.bind(node.this), kind), node), node)
            case exp.Column() if node.expression.name.upper() == "UNKNOWN":
                condition = self.condition(node.this, "IS UNKNOWN")
                return self._negated(self.call("IS NULL", (condition,), node), node)
            case exp.Null():
                name = "IS NULL"
            case exp.Boolean():
                name = "IS TRUE" if node.expression.this else "IS FALSE"
            case _:
                raise self.source.unsupported("IS takes NULL, TRUE, FALSE or DISTINCT FROM", place(node.expression))
        return self._negated(self.call(name, (self.bind(node.this),), node), node)

    def _between(self, node: exp.Expr) -> Expression:
        value, bounds = self.bind(node.this), (self.bind(node.args["low"]), self.bind(node.args["high"]))
        found = [
            self.call("AND", (self.call(">=", (value, low), node), self.call("<=", (value, high), node)), node)
            for low, high in (bounds, bounds[::-1])
        ]
        return self.call("OR", (found[0], found[1]), node) if node.args.get("symmetric") else found[0]

    def _overlaps(self, node: exp.Expr) -> Expression:
        """(start, end or interval) OVERLAPS (start, end or interval)."""
        arguments: list[Expression] = []
        for period in (node.this, node.expression):
            if not isinstance(period, exp.Tuple) or len(period.expressions) != 2:
                hint = "(start, end) OVERLAPS (start, end)"
                raise self.source.error("OVERLAPS is between two periods", place(period) or place(node), hint)
            start, end = (self.bind(one) for one in period.expressions)
            if end.type.kind in functions.INTERVALS:
                end = self.call("+", (start, end), node)
            arguments += [start, end]
        return self.call("OVERLAPS", tuple(arguments), node)

    def _bytes(self, node: exp.Expr) -> Expression:
        try:
            return Literal(bytes.fromhex(node.name), BYTES.with_nullable(False))
        except ValueError:
            raise self.source.error(f"x'{node.name}' is not hexadecimal", place(node), "x'01ff'") from None

    def _in(self, node: exp.Expr) -> Expression:
        if node.args.get("query") or node.args.get("unnest") or not node.expressions:
            return self._subquery(node)
        return self.call("IN", tuple(self.bind(one) for one in (node.this, *node.expressions)), node)

    def _escape(self, node: exp.Expr) -> Expression:
        if not isinstance(node.this, exp.Like | exp.SimilarTo):
            raise self.source.error("ESCAPE belongs to LIKE and SIMILAR TO", place(node))
        parts = (node.this.this, node.this.expression, node.expression)
        bound = tuple(self.bind(one) for one in parts)
        return self._negated(self.call(_BINARY[type(node.this)], bound, node), node.this)

    def _case(self, node: exp.Expr) -> Expression:
        arguments: list[Expression] = []
        for branch in node.args["ifs"]:
            if node.this:
                arguments.append(self.call("=", (self.bind(node.this), self.bind(branch.this)), branch))
            else:
                arguments.append(self.bind(branch.this))
            arguments.append(self.bind(branch.args["true"]))
        default = node.args.get("default")
        arguments.append(self.bind(default) if default else Literal(None, Type(Kind.NULL)))
        return self.call("CASE", tuple(arguments), node)

    def _bracket(self, node: exp.Expr) -> Expression:
        whole = node.this
        arguments = tuple(self.bind(one) for one in node.expressions)
        if isinstance(whole, exp.Column) and whole.name.upper() == "MAP" and not whole.this.args.get("quoted"):
            return self.call("MAP", arguments, node)
        if len(arguments) != 1:
            raise self.source.error("`[]` takes one index or key", place(node))
        return self.call("ELEMENT", (self.bind(whole), *arguments), node)

    def _array(self, node: exp.Expr) -> Expression:
        return self.call("ARRAY", tuple(self.bind(one) for one in node.expressions), node)

    def _tuple(self, node: exp.Expr) -> Expression:
        return self.call("ROW", tuple(self.bind(one) for one in node.expressions), node)

    def _typed_cast(self, node: exp.Expr) -> Expression:
        target: Type = node.args["to"]
        if node.args.get("literal"):
            return self._time_literal(node, target)
        inner, safe = self.bind(node.this), bool(node.args.get("safe"))
        if not is_castable(inner.type, target):
            found = inner.type.with_nullable(True)
            raise self.source.error(
                f"CAST from {found} to {target} does not exist", place(node), _cast_hint(inner.type, target)
            )
        nullable = inner.type.nullable or inner.type.kind is Kind.NULL or safe
        return Cast(inner, target.with_nullable(nullable), safe)

    def _time_literal(self, node: exp.Expr, target: Type) -> Expression:
        text = node.this.name
        try:
            if target.kind is Kind.TIMESTAMP and (target.precision or 0) > 6:
                # finer than Python's datetime
                return Cast(Literal(text, STRING.with_nullable(False)), target)
            return Literal(intervals.time_literal(text, target.kind), target)
        except ValueError:
            hint = {Kind.DATE: "DATE '2026-01-31'", Kind.TIME: "TIME '23:59:59'"}.get(target.kind)
            hint = hint or "TIMESTAMP '2026-01-31 23:59:59.000'"
            raise self.source.error(f"`{text}` is not a {target.kind.value}", place(node), hint) from None

    # --- functions -------------------------------------------------------------------------------------------

    def _function(self, node: exp.Expr) -> Expression:
        written = node.name if isinstance(node.this, str) else node.this.name
        name, at = ALIASES.get(written.upper(), written.upper()), place(node)
        if written in self.source.functions:
            return self._user_function(self.source.functions[written], node)
        if name in AGGREGATES:
            hint = "aggregates stand in SELECT and HAVING of a query with GROUP BY window_start, window_end"
            raise self.source.error(f"the aggregate {name} cannot stand here", at, hint)
        if name == "IF":
            return self._if(node)
        if name in _REFUSED:
            return self._refuse(name, at)
        if name not in FUNCTIONS or not name[0].isalpha():
            known = [one for one in (*FUNCTIONS, *AGGREGATES, *ALIASES, "IF") if one.isidentifier()]
            raise self.source.error(f"no function is called {written}", at, near(name, known))
        return self.call(name, self._arguments(name, node), node)

    def _if(self, node: exp.Expr) -> Expression:
        """IF is CASE, but of a condition that may be NULL Flink says that the result may be, too."""
        if len(node.expressions) != 3:
            raise self.source.error("IF takes 3 arguments", place(node), "IF(condition, value, other)")
        condition, value, other = self._arguments("CASE", node)
        found = self.call("CASE", (condition, value, other), node)
        return replace(found, type=found.type.with_nullable(found.type.nullable or condition.type.nullable))

    def _user_function(self, function: UserFunction, node: exp.Expr) -> Expression:
        """A scalar function of the user; the arguments are cast to the declared types where Flink would by itself."""
        at = place(node)
        if function.kind != "SCALAR" or function.result is None:
            where = (
                "CROSS JOIN LATERAL TABLE({0}(...))"
                if function.kind == "TABLE"
                else "{0}(...) in a query with GROUP BY"
            )
            message = f"{function.name} is a {function.kind.lower()} function; it cannot stand here"
            raise self.source.error(message, at, where.format(function.name))
        return Call(function.name, self.fitted(function, node), function.result, function)

    def fitted(self, function: UserFunction, node: exp.Expr) -> tuple[Expression, ...]:
        """The arguments of a call of the user's function, cast to its types."""
        given = [self.bind(one) for one in node.expressions]
        wanted = ", ".join(str(one.with_nullable(True)) for one in function.arguments)
        if len(given) != len(function.arguments):
            message = f"{function.name} takes {len(function.arguments)} arguments ({wanted}), found {len(given)}"
            raise self.source.error(message, place(node))
        for one, target, written in zip(given, function.arguments, node.expressions, strict=True):
            if not is_implicit(one.type, target):
                found = one.type.with_nullable(True)
                hint = f"CAST(... AS {target.with_nullable(True)})"
                raise self.source.error(f"{function.name} takes ({wanted}), found {found}", place(written), hint)
        return tuple(coerce(one, target) for one, target in zip(given, function.arguments, strict=True))

    def _arguments(self, name: str, node: exp.Expr) -> tuple[Expression, ...]:
        found: list[Expression] = []
        for i, one in enumerate(node.expressions):
            is_unit = (name in functions.UNIT_FIRST and i == 0) or isinstance(one, exp.Var)
            if is_unit:
                found.append(Literal(self._unit(one, name), STRING.with_nullable(False)))
            elif isinstance(one, exp.Star | exp.Distinct | exp.Order):
                raise self.source.error(f"{name} takes expressions only", place(one) or place(node))
            else:
                found.append(self.bind(one))
        return tuple(found)

    def _unit(self, node: exp.Expr, name: str) -> str:
        text = node.name.upper()
        if name == "TRIM":
            return text
        known = functions.EXTRACT_UNITS if name == "EXTRACT" else functions.TIME_UNITS
        for one in (text, text.removeprefix("SQL_TSI_")):
            if one in known:
                return one
        raise self.source.error(f"no unit of {name} is called {node.name}", place(node), "units: " + ", ".join(known))

    def _refuse(self, name: str, at: int | None) -> Expression:
        raise self.source.unsupported(f"{name.upper()} is not supported here", at, _REFUSED[name.upper()])

    def _clock(self, node: exp.Expr) -> Expression:
        name = {"CurrentTimestamp": "CURRENT_TIMESTAMP", "CurrentDate": "CURRENT_DATE"}.get(type(node).__name__)
        return self._refuse(name or "CURRENT_TIME", place(node))

    def _subquery(self, node: exp.Expr) -> Expression:
        hint = "join the two inputs instead"
        raise self.source.unsupported("a query inside an expression is not supported", place(node), hint)

    def _over(self, node: exp.Expr) -> Expression:
        hint = "use a window table function: TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) and GROUP BY"
        raise self.source.unsupported("OVER is not supported yet", place(node), hint)

    def _clause(self, node: exp.Expr) -> Expression:
        raise self.source.error("FILTER and DISTINCT belong to aggregates of a query with GROUP BY", place(node))


def _interval_hint(text: str, unit: exp.Expr) -> str:
    digits = len(text.strip().lstrip("+-0").split(".")[0])
    if text.strip().isdigit() and not isinstance(unit, exp.IntervalSpan):
        return f"Flink takes 2 digits unless told: INTERVAL '{text}' {unit.name}({digits})"
    return "INTERVAL '15' SECOND, INTERVAL '1:30' MINUTE TO SECOND, INTERVAL '1' DAY"


def _cast_hint(source: Type, target: Type) -> str | None:
    if source.kind in NUMERIC and target.kind in TIMESTAMPS:
        return "TO_TIMESTAMP_LTZ(x, 0) for seconds, TO_TIMESTAMP_LTZ(x, 3) for milliseconds"
    if source.kind in TIMESTAMPS and target.kind in NUMERIC:
        return "TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', ts)"
    return None


def try_bind(scalars: Scalars, node: exp.Expr) -> Expression | None:
    """The bound expression, or None where a name in it is not known here."""
    try:
        return scalars.bind(node)
    except SqlError:
        return None


_METHODS: dict[type[exp.Expr], Callable[[Scalars, exp.Expr], Expression]] = {
    exp.Column: Scalars._column,
    exp.Dot: Scalars._dot,
    exp.Literal: Scalars._literal,
    exp.Boolean: Scalars._boolean,
    exp.Null: Scalars._null,
    exp.Interval: Scalars._interval,
    exp.Paren: Scalars._paren,
    exp.Neg: Scalars._negative,
    exp.Not: Scalars._not,
    exp.Is: Scalars._is,
    exp.Like: Scalars._like,
    exp.Between: Scalars._between,
    exp.In: Scalars._in,
    exp.Escape: Scalars._escape,
    exp.Case: Scalars._case,
    exp.Bracket: Scalars._bracket,
    exp.Array: Scalars._array,
    exp.Tuple: Scalars._tuple,
    exp.Overlaps: Scalars._overlaps,
    exp.HexString: Scalars._bytes,
    exp.Anonymous: Scalars._function,
    exp.CurrentTimestamp: Scalars._clock,
    exp.CurrentDate: Scalars._clock,
    exp.CurrentTime: Scalars._clock,
    exp.Subquery: Scalars._subquery,
    exp.Exists: Scalars._subquery,
    exp.Select: Scalars._subquery,
    exp.Window: Scalars._over,
    exp.Filter: Scalars._clause,
    exp.WithinGroup: Scalars._clause,
    TypedCast: Scalars._typed_cast,
}
