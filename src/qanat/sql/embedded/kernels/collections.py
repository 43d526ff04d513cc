"""Arrays, maps and rows."""

from __future__ import annotations

import polars as pl

from qanat.model.types import Kind
from qanat.sql.embedded.kernels.base import Kernel, dtype_of
from qanat.sql.expressions import Call


def _array(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return pl.concat_list([one.cast(dtype_of(call.type.element or call.type)) for one in args])


def _map(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    pairs = zip(args[0::2], args[1::2], strict=True)
    return pl.concat_list([pl.struct(key.alias("key"), value.alias("value")) for key, value in pairs])


def _row(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return pl.struct([one.alias(name) for one, (name, _type) in zip(args, call.type.fields, strict=True)])


def _field(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    name = next(field for field, _type in call.args[0].type.fields if field == getattr(call.args[1], "value", None))
    return args[0].struct.field(name)


def _element(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    if call.args[0].type.kind is Kind.MAP:
        return pl.map_batches(
            args, lambda found: _lookup(found[0], found[1], dtype_of(call.type)), return_dtype=dtype_of(call.type)
        )
    # an index below 1 has no element; polars would count from the end
    index = pl.when(args[1] >= 1).then(args[1].cast(pl.Int64) - 1).otherwise(None)
    return args[0].list.get(index, null_on_oob=True)


def _lookup(maps: pl.Series, keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    wanted = keys.to_list() * len(maps) if len(keys) == 1 else keys.to_list()
    found = [
        next((pair["value"] for pair in entries or () if pair["key"] == key), None)
        for entries, key in zip(maps.to_list(), wanted, strict=True)
    ]
    return pl.Series(maps.name, found, dtype=dtype)


KERNELS: dict[str, Kernel] = {
    "ARRAY": _array,
    "MAP": _map,
    "ROW": _row,
    "FIELD": _field,
    "ELEMENT": _element,
    "CARDINALITY": lambda _call, args, _: args[0].list.len().cast(pl.Int32),
    "ARRAY_CONTAINS": lambda _call, args, _: args[0].list.contains(args[1]),
}
