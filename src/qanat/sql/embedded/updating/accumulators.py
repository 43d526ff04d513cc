"""Aggregates row by row, each with a way back: what cannot be computed for a whole batch at once.

An accumulator is a Python object per key. Values are plain: whole numbers, floats, `Decimal`, texts, bytes; dates and
times as whole numbers (polars' physical values). Behaviour is that of Flink 2.3 with and without retraction.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from qanat.errors import SqlError
from qanat.model.arrow import to_arrow
from qanat.model.functions import UserFunction
from qanat.model.types import Kind, Type
from qanat.sql.expressions import Literal
from qanat.sql.plan import AggregateCall

_WIDTHS = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}
_REAL = (Kind.FLOAT, Kind.DOUBLE)
_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)

#: What an accumulator is stored as: numbers, values (of the argument's type), and how often each value is there.
Dump = tuple[list[Any], list[Any], list[int]]


class Accumulator(Protocol):
    """One aggregate of one key."""

    def add(self, value: Any) -> None:
        """A row comes."""
        ...

    def retract(self, value: Any) -> None:
        """A row that came before goes."""
        ...

    def value(self) -> Any:
        """The aggregate of the rows that are there."""
        ...

    def dump(self) -> Dump:
        """The state."""
        ...

    def load(self, state: Dump) -> None:
        """Take the state of `dump`."""
        ...

    def size(self) -> int:
        """About how many bytes it holds."""
        ...


def wrapped(value: int, bits: int) -> int:
    """A whole number cut to `bits` bits, as Java's arithmetic does."""
    return ((value + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))


class Sum:
    """SUM and COUNT's sibling AVG: a count and a sum. What a retraction of floats leaves behind stays, as in Flink."""

    __slots__ = ("_add", "count", "finish", "total")

    def __init__(self, add: Callable[[Any, Any], Any], zero: Any, finish: Callable[[Any, int], Any]) -> None:
        self._add, self.total, self.finish = add, zero, finish
        self.count = 0

    def add(self, value: Any) -> None:
        """Plus."""
        if value is not None:
            self.total = self._add(self.total, value)
            self.count += 1

    def retract(self, value: Any) -> None:
        """Minus."""
        if value is not None:
            self.total = self._add(self.total, value.copy_negate() if isinstance(value, Decimal) else -value)
            self.count -= 1

    def value(self) -> Any:
        """NULL without rows."""
        return self.finish(self.total, self.count) if self.count else None

    def dump(self) -> Dump:
        """Whole numbers beyond 64 bits and decimals as text."""
        plain = isinstance(self.total, float)
        return [self.total if plain else str(self.total), self.count], [], []

    def load(self, state: Dump) -> None:
        """See `dump`."""
        total, self.count = state[0]
        self.total = total if isinstance(total, float) else type(self.total)(total)

    def size(self) -> int:
        """Constant."""
        return 100


class Count:
    """COUNT(*) where `every`, or COUNT(x)."""

    __slots__ = ("count", "every")

    def __init__(self, every: bool) -> None:
        self.every, self.count = every, 0

    def add(self, value: Any) -> None:
        """One more."""
        self.count += self.every or value is not None

    def retract(self, value: Any) -> None:
        """One less."""
        self.count -= self.every or value is not None

    def value(self) -> int:
        """The count."""
        return self.count

    def dump(self) -> Dump:
        """The count."""
        return [self.count], [], []

    def load(self, state: Dump) -> None:
        """The count."""
        (self.count,) = state[0]

    def size(self) -> int:
        """Constant."""
        return 60


class Deviation:
    """The VAR and STDDEV family: Welford's running mean and sum of squared distances (1962), as Flink's
    $WELFORD_M2, with its way back."""

    __slots__ = ("_finish", "_sample", "count", "mean", "spread")

    def __init__(self, call: AggregateCall) -> None:
        self._sample = call.function.endswith("SAMP")
        root = call.function.startswith("STDDEV")
        cast = _from_double(call.type)
        self._finish = (lambda x: cast(math.sqrt(x))) if root else cast
        self.count, self.mean, self.spread = 0, 0.0, 0.0

    def add(self, value: Any) -> None:
        """One more value."""
        if value is None:
            return
        self.count += 1
        distance = float(value) - self.mean
        self.mean += distance / self.count
        self.spread += distance * (float(value) - self.mean)

    def retract(self, value: Any) -> None:
        """One value less; nothing is left of an empty set."""
        if value is None:
            return
        self.count -= 1
        if self.count <= 0:
            self.mean = self.spread = 0.0
            return
        distance = float(value) - self.mean
        self.mean -= distance / self.count
        self.spread -= distance * (float(value) - self.mean)

    def value(self) -> Any:
        """NULL without enough rows, and where retractions have left less than nothing."""
        rows = self.count - self._sample
        if self.count <= 0 or rows == 0 or self.spread < 0:
            return None
        return self._finish(self.spread / rows)

    def dump(self) -> Dump:
        """Three numbers."""
        return [self.count, self.mean, self.spread], [], []

    def load(self, state: Dump) -> None:
        """Three numbers."""
        self.count, self.mean, self.spread = state[0]

    def size(self) -> int:
        """Constant."""
        return 120

    @property
    def compared(self) -> tuple[int, float]:
        """What Flink compares to tell whether the row changed."""
        return self.count, self.spread


class Extreme:
    """MIN and MAX: how often each value is there, and a heap whose top may be stale. A value that is taken back before
    it came counts below zero and waits for it; what Flink's MinWithRetract then gives is given here."""

    __slots__ = ("_best", "_counts", "_heap", "_key", "_of", "_size")

    def __init__(self, key: Callable[[Any], Any]) -> None:
        self._key = key
        self._counts: dict[Any, int] = {}
        self._of: dict[Any, Any] = {}
        self._heap: list[Any] = []
        #: the least key, and how many values there were more of than were taken back
        self._best: Any = None
        self._size = 0

    def add(self, value: Any) -> None:
        """One more."""
        if value is None:
            return
        key = self._key(value)
        if not self._size or key < self._best:
            self._best = key
            self._of[key] = value
        if self._change(key, value, 1) == 1:
            self._size += 1

    def retract(self, value: Any) -> None:
        """One less."""
        if value is None:
            return
        key = self._key(value)
        if self._change(key, value, -1):
            return
        self._size -= 1
        if self._size and key == self._best:
            self._best = self._least()

    def _change(self, key: Any, value: Any, step: int) -> int:
        count = self._counts.get(key, 0) + step
        if count:
            if key not in self._counts:
                self._push(key)
                self._of[key] = value
            self._counts[key] = count
        else:
            del self._counts[key]
            if key != self._best:
                del self._of[key]
        return count

    def _push(self, key: Any) -> None:
        # values that come and go again and again leave stale entries
        if len(self._heap) > 64 + 2 * len(self._counts):
            self._heap = list(self._counts)
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, key)

    def _least(self) -> Any:
        self._of.pop(self._best, None)
        while self._heap[0] not in self._counts:
            heapq.heappop(self._heap)
        return self._heap[0]

    def value(self) -> Any:
        """The least or the greatest."""
        return self._of[self._best] if self._size else None

    def dump(self) -> Dump:
        """Values and how often they are there, then the best one."""
        best = [self._of[self._best]] if self._size else []
        values = [self._of[key] for key in self._counts]
        return [self._size], [*values, *best], list(self._counts.values())

    def load(self, state: Dump) -> None:
        """See `dump`."""
        (self._size,), values, counts = state
        self._heap = [self._key(value) for value in values[: len(counts)]]
        self._of = dict(zip(self._heap, values, strict=False))
        self._counts = dict(zip(self._heap, counts, strict=True))
        if self._size:
            self._best = self._key(values[-1])
            self._of[self._best] = values[-1]
        heapq.heapify(self._heap)

    def size(self) -> int:
        """By the number of values."""
        return 200 + 200 * len(self._heap)


class Sequence:
    """FIRST_VALUE, LAST_VALUE, ARRAY_AGG, LISTAGG: values in order of arrival. A retraction takes the first."""

    __slots__ = ("_finish", "_key", "_nulls", "_values")

    def __init__(self, finish: Callable[[list[Any]], Any], key: Callable[[Any], Any] | None, nulls: bool) -> None:
        """`key`: what makes values equal, where that is not Python's equality."""
        self._finish, self._key, self._nulls = finish, key, nulls
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        """At the end."""
        if self._nulls or value is not None:
            self._values.append(value)

    def retract(self, value: Any) -> None:
        """The first that is equal; a value that is not there is no matter."""
        if self._key is None:
            if value in self._values:
                self._values.remove(value)
            return
        key = self._key(value)
        at = next((i for i, one in enumerate(self._values) if self._key(one) == key), None)
        if at is not None:
            del self._values[at]

    def value(self) -> Any:
        """NULL without values."""
        return self._finish(self._values) if self._values else None

    def dump(self) -> Dump:
        """The values."""
        return [], self._values, []

    def load(self, state: Dump) -> None:
        """The values."""
        self._values = list(state[1])

    def size(self) -> int:
        """By the number of values."""
        return 100 + 64 * len(self._values)


class Distinct:
    """An aggregate of the distinct values: each comes to `inner` when it is there for the first time, and goes when it
    was retracted as often as it came."""

    __slots__ = ("_counts", "_key", "_of", "inner")

    def __init__(self, inner: Accumulator, key: Callable[[Any], Any]) -> None:
        self.inner, self._key = inner, key
        self._counts: dict[Any, int] = {}
        self._of: dict[Any, Any] = {}

    def add(self, value: Any) -> None:
        """One more of the value."""
        if self._change(value, 1) == 1:
            self.inner.add(value)

    def retract(self, value: Any) -> None:
        """One less of the value; below zero it waits for the row that it takes back."""
        if self._change(value, -1) == 0:
            self.inner.retract(value)

    def _change(self, value: Any, step: int) -> int:
        key = self._key(value)
        count = self._counts.get(key, 0) + step
        if count:
            self._counts[key] = count
            self._of[key] = value
        else:
            del self._counts[key], self._of[key]
        return count

    def value(self) -> Any:
        """The inner aggregate."""
        return self.inner.value()

    def dump(self) -> Dump:
        """The inner state, then values and counts."""
        plain, values, counts = self.inner.dump()
        sizes = [len(plain), len(values), len(counts)]
        return [sizes, *plain], [*values, *self._of.values()], [*counts, *self._counts.values()]

    def load(self, state: Dump) -> None:
        """See `dump`."""
        (sizes, *plain), values, counts = state
        self.inner.load((plain, values[: sizes[1]], counts[: sizes[2]]))
        mine = values[sizes[1] :]
        keys = [self._key(value) for value in mine]
        self._of = dict(zip(keys, mine, strict=True))
        self._counts = dict(zip(keys, counts[sizes[2] :], strict=True))

    def size(self) -> int:
        """By the number of values."""
        return 200 + 150 * len(self._counts) + self.inner.size()


class User:
    """An aggregate function of the user; every row is a call with arrays of length one."""

    __slots__ = ("_body", "_function")

    def __init__(self, function: UserFunction) -> None:
        self._function, self._body = function, function.body()

    def _arrays(self, value: Any) -> list[Any]:
        row = value if len(self._function.arguments) > 1 else (value,)
        return [pa.array([one], type=to_arrow(kind)) for one, kind in zip(row, self._function.arguments, strict=True)]

    def add(self, value: Any) -> None:
        """`add` of the user's class."""
        self._body.add(*self._arrays(value))

    def retract(self, value: Any) -> None:
        """`retract` of the user's class."""
        if not callable(getattr(self._body, "retract", None)):
            message = f"the aggregate {self._function.name} cannot take rows back"
            raise SqlError(message, hint="give its class a method retract(self, *arrays)")
        self._body.retract(*self._arrays(value))

    def value(self) -> Any:
        """`result` of the user's class."""
        return self._body.result()

    def dump(self) -> Dump:
        """`state` of the user's class."""
        return [self._body.state()], [], []

    def load(self, state: Dump) -> None:
        """`restore` of the user's class."""
        self._body.restore(state[0][0])

    def size(self) -> int:
        """Not known; a guess."""
        return 500


# --- which accumulator an aggregate has ------------------------------------------------------------------------


def accumulator_of(call: AggregateCall) -> Callable[[], Accumulator]:
    """Makes empty accumulators of this aggregate."""
    if call.user is not None:
        user = call.user
        return lambda: User(user)
    inner = _plain(call)
    if not call.distinct or call.function in ("MIN", "MAX"):
        return inner
    key = _distinct_key(call.args[0].type)
    return lambda: Distinct(inner(), key)


def _plain(call: AggregateCall) -> Callable[[], Accumulator]:
    same = _distinct_key(call.args[0].type) if call.args and call.args[0].type.kind in _REAL else None
    match call.function:
        case "COUNT":
            return lambda: Count(not call.args)
        case "SUM" | "AVG":
            return _sum_of(call)
        case "VAR_POP" | "VAR_SAMP" | "STDDEV_POP" | "STDDEV_SAMP":
            return lambda: Deviation(call)
        case "MIN" | "MAX":
            key = _order(call.args[0].type, call.function == "MAX")
            return lambda: Extreme(key)
        case "FIRST_VALUE" | "LAST_VALUE":
            place = 0 if call.function == "FIRST_VALUE" else -1
            return lambda: Sequence(lambda values: values[place], same, nulls=False)
        case "ARRAY_AGG":
            return lambda: Sequence(list, same, nulls=True)
        case "LISTAGG":
            separator = separator_of(call)
            return lambda: Sequence(separator.join, None, nulls=False)
        case name:
            raise SqlError(f"the aggregate {name} is not known to the embedded runtime")


def separator_of(call: AggregateCall) -> str:
    """The text between the values of LISTAGG."""
    if len(call.args) < 2:
        return ","
    separator = call.args[1].value if isinstance(call.args[1], Literal) else None
    if not isinstance(separator, str):
        raise SqlError("the separator of LISTAGG must be a text constant", hint="LISTAGG(name, ';')")
    return separator


def _sum_of(call: AggregateCall) -> Callable[[], Accumulator]:
    kind, average = call.args[0].type.kind, call.function == "AVG"
    if kind in _WIDTHS:
        bits = 64 if average else _WIDTHS[kind]
        return lambda: Sum(lambda a, b: wrapped(a + b, bits), 0, _whole_average if average else _total)
    if kind is Kind.FLOAT and not average:
        return lambda: Sum(lambda a, b: float(np.float32(a) + np.float32(b)), -0.0, _total)
    if kind in _REAL:
        # a sum begins with its first value, an average with 0: that decides the sign of zero
        zero = 0.0 if average else -0.0
        return lambda: Sum(lambda a, b: a + b, zero, _divided if average else _total)
    scale = call.type.scale or 0
    unit = Decimal(1).scaleb(-scale)
    limit = Decimal(10) ** ((call.type.precision or 38) - scale)

    def decimal(total: Decimal, count: int) -> Decimal | None:
        value = _EXACT.divide(total, Decimal(count)).quantize(unit, context=_EXACT) if average else total
        return value if value.copy_abs() < limit else None

    return lambda: Sum(_EXACT.add, Decimal(0), decimal)


def _total(total: Any, _: int) -> Any:
    return total


def _divided(total: float, count: int) -> float:
    return total / count


def _whole_average(total: int, count: int) -> int:
    quotient = abs(total) // abs(count)
    return quotient if (total < 0) == (count < 0) else -quotient


def _from_double(kind: Type) -> Callable[[float], Any]:
    """CAST of a DOUBLE to the type of the aggregate: whole numbers are cut and stay within their range."""
    if kind.kind in _WIDTHS:
        most = (1 << (_WIDTHS[kind.kind] - 1)) - 1
        return lambda x: 0 if math.isnan(x) else int(max(min(x, most), -most - 1))
    if kind.kind is Kind.DECIMAL:
        unit = Decimal(1).scaleb(-(kind.scale or 0))
        return lambda x: Decimal(repr(x)).quantize(unit, context=_EXACT) if math.isfinite(x) else None
    if kind.kind is Kind.FLOAT:
        return lambda x: float(np.float32(x))
    return lambda x: x


class _Reversed:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _order(kind: Type, descending: bool) -> Callable[[Any], Any]:
    """A key whose least is the wanted value. Doubles are ordered as Java's compareTo: -0.0 < 0.0 < NaN."""
    if kind.kind in _REAL:
        sign = -1.0 if descending else 1.0
        return lambda x: (sign * (x != x), 0.0, 0.0) if x != x else (0.0, sign * x, sign * math.copysign(1.0, x))
    if not descending:
        return lambda x: x
    if kind.kind in (Kind.STRING, Kind.BYTES):
        return _Reversed
    return lambda x: -x


def _distinct_key(kind: Type) -> Callable[[Any], Any]:
    """A hashable key; of floats the bits count."""
    if kind.kind in _REAL:
        return lambda x: None if x is None else x.hex()
    if kind.kind in (Kind.ARRAY, Kind.MAP, Kind.ROW):
        return repr
    return lambda x: x
