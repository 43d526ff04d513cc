"""What joins share: the keys of both sides as numbers, pairs of rows side by side. Does not decide what matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.model.types import Kind
from qanat.sql.embedded.flow import Ints, State, empty_column
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.keys import KeyIndex
from qanat.sql.expressions import Expression
from qanat.sql.plan import Schema

Mask = npt.NDArray[np.bool_]

_INTEGERS = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
#: About what one entry of a Python dictionary of numbers takes.
ENTRY_BYTES = 200


def key_columns(keys: tuple[Expression, ...]) -> pl.DataFrame:
    """A frame without rows that has the key columns k0, k1, ..."""
    return pl.DataFrame({f"k{i}": empty_column(e.type) for i, e in enumerate(keys)})


def compile_keys(keys: tuple[Expression, ...]) -> list[pl.Expr]:
    """The key columns k0, k1, ... over a frame of the side's rows."""
    return [to_polars(e).alias(f"k{i}") for i, e in enumerate(keys)]


class JoinKeys:
    """Numbers the keys of both sides alike. One integer key is its own number."""

    def __init__(self, left: tuple[Expression, ...], right: tuple[Expression, ...], *, dense: bool = False) -> None:
        """`dense`: numbers stay small, whatever the keys are."""
        self._expressions = (compile_keys(left), compile_keys(right))
        self._names = [f"k{i}" for i in range(len(left))]
        self._plain = not dense and len(left) == 1 and all(one[0].type.kind in _INTEGERS for one in (left, right))
        self._index = KeyIndex(key_columns(left))

    def __len__(self) -> int:
        return len(self._index)

    def encode(self, side: int, frame: pl.DataFrame) -> tuple[Ints, Mask]:
        """For each row the number of its key (0 where a part of it is NULL), and whether no part of it is."""
        if not self._names or not frame.height:
            return np.zeros(frame.height, dtype=np.int64), np.ones(frame.height, dtype=np.bool_)
        keys = frame.with_columns(self._expressions[side]).select(self._names)
        present = keys.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
        if self._plain:
            return keys.to_series().fill_null(0).cast(pl.Int64).to_numpy(), present
        if bool(present.all()):
            return self._index.encode(keys), present
        numbers = np.zeros(frame.height, dtype=np.int64)
        numbers[present] = self._index.encode(keys.filter(pl.Series(present)))
        return numbers, present

    def keep(self, live: Ints) -> Ints | None:
        """As `KeyIndex.keep`; None for keys that are their own numbers."""
        return None if self._plain else self._index.keep(live)

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """The keys with these numbers as a person would write them."""
        if self._plain:
            return [str(number) for number in numbers]
        return self._index.texts(np.array(numbers, dtype=np.int64))

    def held(self) -> int:
        """About how many bytes the keys take."""
        return self._index.held()

    def snapshot(self) -> State:
        """The keys in order of their numbers."""
        return self._index.snapshot()

    def restore(self, state: State) -> None:
        """Take the keys of a snapshot."""
        self._index.restore(state)


def picked(frame: pl.DataFrame, places: Ints) -> pl.DataFrame:
    """The rows at these places; a place of -1 gives NULLs."""
    if len(places) and int(places.min()) < 0:
        index = pl.Series("", places)
        return frame.select(pl.all().gather(index.set(index < 0, None)))
    return frame[places]


def side_by_side(left: pl.DataFrame, right: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The columns of both, named by `schema`; frames of equal height."""
    columns = [*left.get_columns(), *right.get_columns()]
    return pl.DataFrame([one.alias(field.name) for one, field in zip(columns, schema, strict=True)])


class Residual:
    """The further condition of a join: which pairs it lets through."""

    def __init__(self, condition: Expression | None, joined: Schema) -> None:
        self.always = condition is None
        self._joined = joined
        self._expression = None if condition is None else to_polars(condition).fill_null(value=False).alias("__holds")

    def holds(self, left: pl.DataFrame, right: pl.DataFrame) -> Mask:
        """One truth per pair; NULL is no."""
        if self._expression is None or not left.height:
            return np.ones(left.height, dtype=np.bool_)
        return self.of(side_by_side(left, right, self._joined))

    def of(self, joined: pl.DataFrame) -> Mask:
        """The same over a frame that has both sides' columns."""
        if self._expression is None or not joined.height:
            return np.ones(joined.height, dtype=np.bool_)
        held: Any = joined.with_columns(self._expression)["__holds"].to_numpy()
        return np.asarray(held, dtype=np.bool_)


def largest_keys(keys: JoinKeys, numbers: Ints, sizes: Ints, count: int) -> list[tuple[str, int]]:
    """The keys that hold most: `sizes` bytes per entry of `numbers` (with repetitions), summed per key."""
    distinct, place = np.unique(numbers, return_inverse=True)
    totals = np.bincount(place, weights=sizes, minlength=len(distinct)).astype(np.int64)
    first = np.argsort(-totals, kind="stable")[:count]
    return list(zip(keys.texts(distinct[first].tolist()), totals[first].tolist(), strict=True))
