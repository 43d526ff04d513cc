"""Lookup joins: each left row with the rows that a table outside the log has for its keys when the row is processed.

One question per micro-batch, with the distinct keys. What the table answers may be another thing next time, so nothing
that was answered may be asked again after a crash: the operator is not `repeatable`, and whoever runs it takes a
snapshot with every commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl

from qanat.errors import BackpressureError, ConfigError
from qanat.sql.embedded.flow import (
    DELETE,
    INSERT,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Batch,
    Context,
    Ints,
    Kinds,
    empty_frame,
)
from qanat.sql.embedded.lookups import Asked, Lookup, open_lookup
from qanat.sql.embedded.pairs import Residual, compile_keys, picked, side_by_side
from qanat.sql.embedded.simple import Stateless
from qanat.sql.options import duration_ms
from qanat.sql.plan import Field, LookupJoin, Table

#: As Flink's 'lookup.max-retries'.
_RETRIES = 3


class LookupJoinOperator(Stateless):
    """Runs one `LookupJoin`. Its cache is no state: it begins empty after every start."""

    #: Asked again, the table may answer something else.
    repeatable = False

    def __init__(
        self,
        node: LookupJoin,
        context: Context,
        *,
        clock: Callable[[], float] = time.monotonic,
        lookup: Lookup | None = None,
    ) -> None:
        """`clock`: seconds, for the age of what is cached; `lookup`: the table instead of the one that is declared."""
        del context
        self._node = node
        asked = _asked(node)
        self._lookup = open_lookup(asked) if lookup is None else lookup
        self._cache = _cache(node.table, asked, clock)
        self._retries = _number(node.table, "lookup.max-retries", _RETRIES)
        self._key_expressions = compile_keys(node.left_keys)
        self._types = {one.name: empty_frame((one,)).dtypes[0] for one in asked.schema if one.name in node.keys}
        self._residual = Residual(node.residual, node.schema)
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """The rows of the batch with their partners, in the table's order."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, batch.seq, batch.track, batch.kinds)
        names = [f"k{i}" for i in range(len(self._node.keys))]
        keys = batch.frame.with_columns(self._key_expressions).select(
            pl.col(name).cast(self._types[key]).alias(key) for name, key in zip(names, self._node.keys, strict=True)
        )
        answers = self._answers(keys.drop_nulls().unique(maintain_order=True))
        left, right = self._pairs(batch.frame, keys, answers)
        frame = side_by_side(
            picked(batch.frame, left), picked(answers.select(self._node.columns), right), self._node.schema
        )
        kinds = None if batch.kinds is None else _kinds(batch.kinds, left)
        return Batch(frame, batch.seq[left], batch.track, kinds)

    def _pairs(self, frame: pl.DataFrame, keys: pl.DataFrame, answers: pl.DataFrame) -> tuple[Ints, Ints]:
        """Places of left rows and of their answers (-1: NULLs)."""
        on = list(self._node.keys)
        mine = keys.with_row_index("__left")
        theirs = answers.select(on).with_row_index("__right")
        pairs = mine.join(theirs, on=on, how="inner", maintain_order="left_right")
        left, right = (pairs[name].to_numpy().astype(np.int64) for name in ("__left", "__right"))
        if not self._residual.always and len(left):
            holds = self._residual.holds(frame[left], answers.select(self._node.columns)[right])
            left, right = left[holds], right[holds]
        if self._node.kind == "LEFT":
            alone = np.setdiff1d(np.arange(frame.height), left)
            left, right = np.concatenate([left, alone]), np.concatenate([right, np.full(len(alone), -1)])
            order = np.argsort(left, kind="stable")
            left, right = left[order], right[order]
        return left, right

    def _answers(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows with these keys."""
        known = self._cache.known(keys)
        unknown = keys.join(known, on=keys.columns, how="anti", maintain_order="left") if known.height else keys
        fresh = self._ask(unknown) if unknown.height else None
        return self._cache.answer(keys, unknown, fresh)

    def _ask(self, keys: pl.DataFrame) -> pl.DataFrame:
        for left in range(self._retries, -1, -1):
            try:
                return self._lookup.rows(keys)
            except BackpressureError:
                if not left:
                    raise
        raise AssertionError("not reached")

    def close(self) -> None:
        """Let go of the table."""
        self._lookup.close()

    def held(self) -> int:
        """About how many bytes are cached."""
        return self._cache.held()


class LookupCache:
    """Answers that were given, by key; also that there was none. `max_rows`: of keys; `ttl`: seconds after the answer.

    Without both nothing is forgotten; with `max_rows` 0 nothing is kept.
    """

    def __init__(self, asked: Asked, max_rows: int | None, ttl: float | None, clock: Callable[[], float]) -> None:
        keys = tuple(one for name in asked.keys for one in asked.schema if one.name == name)
        self._max, self._ttl, self._clock = max_rows, ttl, clock
        self._names = list(asked.keys)
        self._rows = empty_frame(asked.schema)
        self._written = empty_frame(keys).with_columns(pl.Series("__written", [], dtype=pl.Float64))

    def known(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Those of the keys that need not be asked."""
        if self._ttl is not None and self._written.height:
            self._keep(self._written.filter(pl.col("__written") + self._ttl > self._clock()))
        return keys.join(self._written, on=self._names, how="semi", maintain_order="left")

    def answer(self, keys: pl.DataFrame, asked: pl.DataFrame, fresh: pl.DataFrame | None) -> pl.DataFrame:
        """The rows with these keys; `fresh`: what the table answered for those that were `asked`, which is kept."""
        if fresh is not None:
            self._rows = pl.concat([self._rows, fresh.select(self._rows.columns)])
            now = pl.lit(self._clock(), dtype=pl.Float64).alias("__written")
            self._written = pl.concat([self._written, asked.select(*self._names, now)])
        found = self._rows.join(keys, on=self._names, how="semi", maintain_order="left")
        if self._max is not None and self._written.height > self._max:
            self._keep(self._written.tail(self._max))  # those that were asked last
        return found

    def _keep(self, written: pl.DataFrame) -> None:
        if written.height < self._written.height:
            self._written = written
            self._rows = self._rows.join(written, on=self._names, how="semi", maintain_order="left")

    def held(self) -> int:
        """About how many bytes."""
        return int(self._rows.estimated_size() + self._written.estimated_size())


def _asked(node: LookupJoin) -> Asked:
    fields = {one.name: one for one in node.table.physical}
    names = dict.fromkeys([*node.columns, *node.keys])
    schema: tuple[Field, ...] = tuple(fields[name] for name in names)
    return Asked(node.table, schema, node.keys)


def _cache(table: Table, asked: Asked, clock: Callable[[], float]) -> LookupCache:
    """What the options say; without 'lookup.cache' = 'PARTIAL' nothing outlives its micro-batch."""
    if table.options.get("lookup.cache", "NONE").upper() != "PARTIAL":
        return LookupCache(asked, 0, None, clock)
    rows = table.options.get("lookup.partial-cache.max-rows")
    age = table.options.get("lookup.partial-cache.expire-after-write")
    count = None if rows is None else _number(table, "lookup.partial-cache.max-rows", 0)
    return LookupCache(asked, count, None if age is None else duration_ms(age) / 1000, clock)


def _number(table: Table, name: str, default: int) -> int:
    text = table.options.get(name)
    if text is None:
        return default
    if not text.isdigit():
        raise ConfigError(f"table {table.name}: '{name}' is a whole number, found '{text}'", hint=f"'{name}' = '100'")
    return int(text)


def _kinds(kinds: Kinds, left: Ints) -> Kinds:
    """The kinds of the pairs. A -U that is not right before its +U any more becomes a delete, and its +U an insert."""
    out = kinds[left]
    if not len(out):
        return out
    fanned = np.bincount(left, minlength=len(kinds)) != 1
    before = np.flatnonzero(kinds == UPDATE_BEFORE)
    split = before[fanned[before] | fanned[np.minimum(before + 1, len(kinds) - 1)]]
    changed = kinds.copy()
    changed[split] = DELETE
    after = split[split + 1 < len(kinds)] + 1
    changed[after[kinds[after] == UPDATE_AFTER]] = INSERT
    return changed[left]
