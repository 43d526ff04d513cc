"""Arrays, maps and rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from typing import Any

import polars as pl

from qanat.errors import DataError
from qanat.model.types import Kind
from qanat.sql.embedded.kernels.base import Kernel, broadcast, dtype_of, row_by_row
from qanat.sql.expressions import Call


def _array(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if (call.type.element or call.type).kind in (Kind.ARRAY, Kind.MAP):
        # polars would put the elements of the arrays in a row
        return row_by_row(lambda *values: list(values), nulls=True)(call, args, guard)
    return pl.concat_list([one.cast(dtype_of(call.type.element or call.type)) for one in args])


def _map(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    def made(*values: Any) -> list[dict[str, Any]]:
        return _entries(zip(values[0::2], values[1::2], strict=True))

    if len(args) > 2:
        return row_by_row(made, nulls=True)(call, args, guard)
    return pl.concat_list([pl.struct(args[0].alias("key"), args[1].alias("value"))])


def _entries(pairs: Any) -> list[dict[str, Any]]:
    """Entries of a map: the last value of a key counts, at the place of the first."""
    found: list[dict[str, Any]] = []
    for key, value in pairs:
        known = next((one for one in found if one["key"] == key), None)
        if known is None:
            found.append({"key": key, "value": value})
        else:
            known["value"] = value
    return found


def _row(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return pl.struct([one.alias(name) for one, (name, _type) in zip(args, call.type.fields, strict=True)])


def _field(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    name = next(field for field, _type in call.args[0].type.fields if field == getattr(call.args[1], "value", None))
    return args[0].struct.field(name)


def _element(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if len(args) == 1:
        return row_by_row(_only)(call, args, guard)
    if call.args[0].type.kind is Kind.MAP:
        dtype = dtype_of(call.type)

        def looked_up(found: Sequence[pl.Series]) -> pl.Series:
            maps, keys = broadcast(found)
            return _lookup(maps, keys, dtype)

        return pl.map_batches(args, looked_up, return_dtype=dtype)
    # an index below 1 has no element; polars would count from the end
    index = pl.when(args[1] >= 1).then(args[1].cast(pl.Int64) - 1).otherwise(None)
    return args[0].list.get(index, null_on_oob=True)


def _only(values: list[Any]) -> Any:
    if len(values) > 1:
        raise DataError(f"ELEMENT: the array has {len(values)} elements", hint="x[1]")
    return values[0] if values else None


def _lookup(maps: pl.Series, keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    found = [
        next((pair["value"] for pair in entries or () if pair["key"] == key), None)
        for entries, key in zip(maps.to_list(), keys.to_list(), strict=True)
    ]
    return pl.Series(maps.name, found, dtype=dtype)


def _contains(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    found = args[0].list.contains(args[1], nulls_equal=True)
    return pl.when(args[0].is_not_null()).then(found)


def _extreme(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    kind = call.type.kind
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        # NaN is neither above nor below
        return row_by_row(_largest if call.function == "ARRAY_MAX" else _smallest)(call, args, guard)
    return args[0].list.max() if call.function == "ARRAY_MAX" else args[0].list.min()


def _largest(values: list[Any]) -> Any:
    found = None
    for one in values:
        if one is not None and (found is None or one > found):
            found = one
    return found


def _smallest(values: list[Any]) -> Any:
    found = None
    for one in values:
        if one is not None and (found is None or one < found):
            found = one
    return found


def _sorted(values: list[Any], up: bool = True, nulls_first: bool | None = None) -> list[Any]:
    first = up if nulls_first is None else nulls_first
    present = sorted((one for one in values if one is not None), key=cmp_to_key(_compare), reverse=not up)
    missing = [None] * (len(values) - len(present))
    return missing + present if first else present + missing


def _compare(a: Any, b: Any) -> int:
    if isinstance(a, str):
        a, b = a.encode(), b.encode()
    return int(a > b) - int(a < b)


def _slice(values: list[Any], start: int, end: int | None = None) -> list[Any]:
    """Positions from 1, below 0 from the end; 0 is 1."""
    size = len(values)
    last = size if end is None else end + size + 1 if end < 0 else end or 1
    first = start + size + 1 if start < 0 else start
    return values[max(first, 1) - 1 : max(last, 0)]


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for one in values:
        if one not in found:
            found.append(one)
    return found


def _joined(values: list[str | None], separator: str, null: str | None = None) -> str:
    shown = [null if one is None else one for one in values]
    return separator.join(one for one in shown if one is not None)


def _position(values: list[Any], needle: Any) -> int:
    return values.index(needle) + 1 if needle in values else 0


def _with_null(function: Any) -> Kernel:
    """The needle may be NULL, the array not."""
    return row_by_row(lambda values, needle: None if values is None else function(values, needle), nulls=True)


def _of_map(field: str) -> Kernel:
    return lambda _call, args, _: args[0].list.eval(pl.element().struct.field(field))


def _from_arrays(keys: list[Any], values: list[Any]) -> list[dict[str, Any]]:
    if len(keys) != len(values):
        raise DataError(f"MAP_FROM_ARRAYS: {len(keys)} keys and {len(values)} values")
    return [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]


#: Kernels that may raise for a row.
RAISES = ("ELEMENT", "MAP_FROM_ARRAYS")

KERNELS: dict[str, Kernel] = {
    "ARRAY": _array,
    "MAP": _map,
    "ROW": _row,
    "FIELD": _field,
    "ELEMENT": _element,
    "CARDINALITY": lambda _call, args, _: args[0].list.len().cast(pl.Int32),
    "ARRAY_APPEND": _with_null(lambda values, one: [*values, one]),
    "ARRAY_CONCAT": lambda _call, args, _: pl.concat_list(args),
    "ARRAY_CONTAINS": _contains,
    "ARRAY_DISTINCT": row_by_row(_distinct),
    "ARRAY_EXCEPT": row_by_row(lambda values, other: _distinct([one for one in values if one not in other])),
    "ARRAY_INTERSECT": row_by_row(lambda values, other: _distinct([one for one in values if one in other])),
    "ARRAY_JOIN": row_by_row(_joined),
    "ARRAY_MAX": _extreme,
    "ARRAY_MIN": _extreme,
    "ARRAY_POSITION": row_by_row(_position),
    "ARRAY_PREPEND": _with_null(lambda values, one: [one, *values]),
    "ARRAY_REMOVE": _with_null(lambda values, needle: [one for one in values if one != needle]),
    "ARRAY_REVERSE": lambda _call, args, _: args[0].list.reverse(),
    "ARRAY_SLICE": row_by_row(_slice),
    "ARRAY_SORT": row_by_row(_sorted),
    "ARRAY_UNION": row_by_row(lambda values, other: _distinct([*values, *other])),
    "MAP_KEYS": _of_map("key"),
    "MAP_VALUES": _of_map("value"),
    "MAP_ENTRIES": lambda _call, args, _: args[0],
    "MAP_FROM_ARRAYS": row_by_row(_from_arrays),
    "MAP_UNION": row_by_row(lambda *maps: _entries((one["key"], one["value"]) for entries in maps for one in entries)),
}
