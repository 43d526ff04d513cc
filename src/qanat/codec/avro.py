"""Avro's binary encoding -> Arrow rows, all payloads of a batch side by side: one numpy step a field, none a row.

The writer's schema is known. What a reader's schema renames or adds (aliases, defaults) is done to whole columns
afterwards. How a payload says which schema it has is `framed`; containers of many rows (.avro files) are not read here.
Apache Avro specification 1.12, "Binary encoding" and "Schema Resolution".
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from qanat.codec.avro_schema import MISSING, AvroField, AvroType
from qanat.codec.base import Decode, Decoded
from qanat.codec.fit import fit_rows
from qanat.codec.side_by_side import Cursors, Places, last_of_each, settled
from qanat.model.streams import Column

_NUMBERS = ("int", "long", "float", "double")
_DAY_MS = 86_400_000
_MAX_DEPTH = 64
#: Items of an array that are read one step each; those of a fixed size are read at once and may be more.
_MAX_ITEMS = 20_000
_UNITS = {"millis": "ms", "micros": "us", "nanos": "ns"}


def avro_decoder(writer: AvroType, reader: AvroType | None = None) -> Decode:
    """Payloads of this schema, without any frame. `reader`: whose aliases and defaults count."""

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        return decode_avro(payloads, columns, writer, reader)

    return decode


def decode_avro(
    payloads: Sequence[bytes], columns: Sequence[Column], writer: AvroType, reader: AvroType | None = None
) -> Decoded:
    """One record a payload; its fields are the columns of the same names, others are passed over."""
    rows = Cursors(payloads)
    if writer.kind == "record":
        records = _Walk(rows).take(writer, np.arange(len(rows)), ())
        rows.finish()
    else:
        rows.fail(np.arange(len(rows)), f"its schema is {writer}, not a record")
        records = pa.nulls(len(rows), pa.struct([]))
    if reader is not None and reader.kind == "record":
        records = resolve(records, writer, reader)
    arrays = {one.name: records.field(place) for place, one in enumerate(records.type)}
    made, reasons = fit_rows(arrays, columns, len(rows))
    return settled(made, {**reasons, **rows.bad}, payloads)


class _Walk:
    """Reads the type tree once for a whole batch. `at` are the rows that have a value at this place."""

    def __init__(self, rows: Cursors) -> None:
        self._rows = rows

    def take(self, kind: AvroType, at: Places, above: tuple[str, ...]) -> pa.Array:
        """The next value of each row in `at`, as one column. `above`: the records around this place."""
        if not len(at):
            return pa.nulls(0, arrow_of(kind, above))
        if len(above) > _MAX_DEPTH:
            self._rows.fail(at, "it is nested too deeply")
            return pa.nulls(len(at), arrow_of(kind, above))
        return _TAKERS[kind.kind](self, kind, at, above)

    def null(self, _: AvroType, at: Places, __: tuple[str, ...]) -> pa.Array:
        return pa.nulls(len(at))

    def boolean(self, _: AvroType, at: Places, __: tuple[str, ...]) -> pa.Array:
        byte = self._rows.fixed(at, 1)[:, 0]
        self._refuse(at, byte > 1, "a boolean that is neither 0 nor 1")
        return pa.array(byte == 1)

    def whole(self, kind: AvroType, at: Places, _: tuple[str, ...]) -> pa.Array:
        values = self._rows.zigzags(at)
        if kind.kind == "int":
            wide = (values < -(1 << 31)) | (values >= 1 << 31)
            self._refuse(at, wide, "an int of more than 32 bits")
            values = np.where(wide, 0, values).astype(np.int32)
        if kind.logical in ("time-millis", "time-micros"):
            late = (values < 0) | (values >= _DAY_MS * (1 if kind.logical == "time-millis" else 1000))
            self._refuse(at, late, "a time of day beyond 24 hours")
            values = np.where(late, 0, values).astype(values.dtype)
        return pa.array(values).view(_scalar(kind))

    def real(self, kind: AvroType, at: Places, _: tuple[str, ...]) -> pa.Array:
        return pa.array(self._rows.numbers(at, "<f4" if kind.kind == "float" else "<f8"))

    def text(self, _: AvroType, at: Places, __: tuple[str, ...]) -> pa.Array:
        return self._rows.texts(at, *self._rows.spans(at, self._rows.zigzags(at)))

    def blob(self, kind: AvroType, at: Places, _: tuple[str, ...]) -> pa.Array:
        starts, sizes = self._rows.spans(at, self._rows.zigzags(at))
        return self._decimals(kind, at, starts, sizes) if _is_decimal(kind) else self._rows.blobs(starts, sizes)

    def fixed(self, kind: AvroType, at: Places, _: tuple[str, ...]) -> pa.Array:
        starts, sizes = self._rows.spans(at, np.full(len(at), kind.size, dtype=np.int64))
        if _is_decimal(kind):
            return self._decimals(kind, at, starts, sizes)
        blobs = self._rows.blobs(starts, sizes)
        if kind.logical != "uuid":
            return blobs
        return pa.array([str(uuid.UUID(bytes=one)) if len(one) == 16 else "" for one in blobs.to_pylist()], pa.string())

    def _decimals(self, kind: AvroType, at: Places, starts: Places, sizes: Places) -> pa.Array:
        """Two's complement, the highest byte first, widened to the 16 bytes that Arrow keeps, the lowest first."""
        self._refuse(at, sizes > 16, "a decimal of more than 16 bytes")
        sizes = np.minimum(sizes, 16)
        data = self._rows.data
        sign = np.where((sizes > 0) & (data[starts] >= 128), 255, 0).astype(np.uint8)
        place = np.arange(16)
        there = place < sizes[:, None]
        wide = np.where(there, data[np.where(there, (starts + sizes - 1)[:, None] - place, 0)], sign[:, None])
        buffer = pa.py_buffer(np.ascontiguousarray(wide).tobytes())
        made = pa.Array.from_buffers(pa.decimal128(38, kind.scale), len(at), [None, buffer])
        try:
            made.validate(full=True)
        except pa.ArrowInvalid:
            self._rows.fail(at, "a decimal of more than 38 digits")
            return pa.nulls(len(at), made.type)
        return made

    def enum(self, kind: AvroType, at: Places, _: tuple[str, ...]) -> pa.Array:
        places = self._rows.zigzags(at)
        wrong = (places < 0) | (places >= len(kind.symbols))
        self._refuse(at, wrong, f"a symbol that {kind.name} does not have")
        return pa.array(kind.symbols, pa.string()).take(pa.array(np.where(wrong, 0, places), mask=wrong))

    def record(self, kind: AvroType, at: Places, above: tuple[str, ...]) -> pa.Array:
        again = kind.name in above
        made = [self.take(one.type, at, (*above, kind.name)) for one in kind.fields]
        if again:  # a record inside itself has no Arrow type: it is passed over
            return pa.nulls(len(at))
        if not made:
            return pa.array([{}] * len(at), pa.struct([]))
        return pa.StructArray.from_arrays(made, names=[one.name for one in kind.fields])

    def union(self, kind: AvroType, at: Places, above: tuple[str, ...]) -> pa.Array:
        chosen = self._rows.zigzags(at)
        wrong = (chosen < 0) | (chosen >= len(kind.branches))
        self._refuse(at, wrong, f"a branch that {kind} does not have")
        wanted = arrow_of(kind, above)
        parts, places = [], []
        for number, branch in enumerate(kind.branches):
            here = np.flatnonzero((chosen == number) & ~wrong)
            values = self.take(branch, at[here], above)
            if branch.kind != "null" and len(here):
                parts.append(_as_branch(values, wanted))
                places.append(here)
        if not parts:
            return pa.nulls(len(at), wanted)
        order = np.full(len(at), -1, dtype=np.int64)
        where = np.concatenate(places)
        order[where] = np.arange(len(where))
        if len(parts) == 1 and len(where) == len(at):
            return parts[0]
        return pa.concat_arrays(parts).take(pa.array(order, mask=order < 0))

    def array(self, kind: AvroType, at: Places, above: tuple[str, ...]) -> pa.Array:
        values, owners = self._items(kind.inside, at, above, keyed=False)
        offsets = _offsets(owners, len(at))
        return pa.ListArray.from_arrays(offsets, values[0])

    def map(self, kind: AvroType, at: Places, above: tuple[str, ...]) -> pa.Array:
        (keys, values), owners = self._items(kind.inside, at, above, keyed=True)
        kept = last_of_each(owners, keys)
        if kept is not None:
            keys, values, owners = keys.take(pa.array(kept)), values.take(pa.array(kept)), owners[kept]
        return pa.MapArray.from_arrays(_offsets(owners, len(at)), keys, values)

    def _items(
        self, item: AvroType, at: Places, above: tuple[str, ...], keyed: bool
    ) -> tuple[tuple[pa.Array, ...], Places]:
        """What arrays or maps hold, in order, and the place in `at` of each item: blocks of a count and its items."""
        rows = self._rows
        left = np.zeros(len(at), dtype=np.int64)
        live = np.arange(len(at))
        parts: list[tuple[pa.Array, ...]] = []
        owners: list[Places] = []
        steps = 0
        while live.size:
            fresh = live[left[live] == 0]
            if fresh.size:
                left[fresh] = self._counts(item, at[fresh], keyed)
            live = live[left[live] > 0]
            if not live.size:
                break
            taken, counts = self._block(item, at, live, left, above, keyed)
            parts.append(taken)
            owners.append(np.repeat(live, counts))
            left[live] -= counts
            steps += 1
            if steps >= _MAX_ITEMS:
                rows.fail(at[live], f"an array of more than {_MAX_ITEMS} items")
                break
        return _joined(parts, owners, item, above, keyed)

    def _block(
        self, item: AvroType, at: Places, live: Places, left: Places, above: tuple[str, ...], keyed: bool
    ) -> tuple[tuple[pa.Array, ...], Places]:
        """The next item of each live row; of numbers of a fixed size the whole block."""
        if not keyed and item.kind in ("float", "double"):
            size = 4 if item.kind == "float" else 8
            starts, sizes = self._rows.spans(at[live], left[live] * size)
            blob = self._rows.blobs(starts, sizes)
            numbers = np.frombuffer(blob.buffers()[2], dtype=f"<f{size}", count=int(sizes.sum()) // size)
            left[live] = sizes // size
            return (pa.array(numbers),), sizes // size
        ones = np.ones(len(live), dtype=np.int64)
        keys = (self.text(item, at[live], above),) if keyed else ()
        return (*keys, self.take(item, at[live], above)), ones

    def _counts(self, item: AvroType, at: Places, keyed: bool) -> Places:
        """How many items the next block of each row has; a negative count is followed by the block's bytes."""
        counts = self._rows.zigzags(at)
        sized = np.flatnonzero(counts < 0)
        if sized.size:
            self._rows.zigzags(at[sized])
            counts[sized] = -counts[sized]
        least = 1 if keyed or _least(item, ()) else 0
        room = (self._rows.end - self._rows.pos)[at]
        wrong = (counts < 0) | (counts > (room if least else _MAX_ITEMS))
        self._refuse(at, wrong, "an array with more items than bytes")
        return np.where(wrong, 0, counts)

    def _refuse(self, at: Places, wrong: Any, reason: str) -> None:
        if wrong.any():
            self._rows.fail(at[wrong], reason)


_TAKERS: dict[str, Callable[[_Walk, AvroType, Places, tuple[str, ...]], pa.Array]] = {
    "null": _Walk.null,
    "boolean": _Walk.boolean,
    "int": _Walk.whole,
    "long": _Walk.whole,
    "float": _Walk.real,
    "double": _Walk.real,
    "bytes": _Walk.blob,
    "string": _Walk.text,
    "fixed": _Walk.fixed,
    "enum": _Walk.enum,
    "union": _Walk.union,
    "record": _Walk.record,
    "array": _Walk.array,
    "map": _Walk.map,
}


def _joined(
    parts: Sequence[tuple[pa.Array, ...]], owners: Sequence[Places], item: AvroType, above: tuple[str, ...], keyed: bool
) -> tuple[tuple[pa.Array, ...], Places]:
    """The items in the order of their rows."""
    if not parts:
        nothing = pa.nulls(0, arrow_of(item, above))
        return ((pa.nulls(0, pa.string()), nothing) if keyed else (nothing,)), np.empty(0, dtype=np.int64)
    whole = np.concatenate(owners)
    order = np.argsort(whole, kind="stable")
    columns = tuple(pa.concat_arrays(one).take(pa.array(order)) for one in zip(*parts, strict=True))
    return columns, whole[order]


def _offsets(owners: Places, count: int) -> pa.Array:
    sizes = np.bincount(owners, minlength=count)
    return pa.array(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]).astype(np.int32))


def _least(kind: AvroType, above: tuple[str, ...]) -> bool:
    """Whether every value takes at least a byte."""
    match kind.kind:
        case "null":
            return False
        case "fixed":
            return kind.size > 0
        case "record":
            return kind.name not in above and any(_least(one.type, (*above, kind.name)) for one in kind.fields)
        case _:
            return True


def _is_decimal(kind: AvroType) -> bool:
    return kind.logical == "decimal" and kind.precision <= 38


# --- types -----------------------------------------------------------------------------------------------------------


def arrow_of(kind: AvroType, above: tuple[str, ...] = ()) -> pa.DataType:
    """The Arrow type that values of an Avro type have here, before they are fitted to columns."""
    match kind.kind:
        case "record":
            if kind.name in above:
                return pa.null()
            inside = (*above, kind.name)
            return pa.struct([pa.field(one.name, arrow_of(one.type, inside)) for one in kind.fields])
        case "array":
            return pa.list_(arrow_of(kind.inside, above))
        case "map":
            return pa.map_(pa.string(), arrow_of(kind.inside, above))
        case "union":
            return _union_type([arrow_of(one, above) for one in kind.branches if one.kind != "null"])
        case _:
            return _scalar(kind)


def _scalar(kind: AvroType) -> pa.DataType:
    logical = kind.logical or ""
    if kind.kind in ("bytes", "fixed"):
        if _is_decimal(kind):
            return pa.decimal128(38, kind.scale)
        return pa.string() if logical == "uuid" else pa.binary()
    if "timestamp" in logical:
        unit = _UNITS[logical.rpartition("-")[2]]
        return pa.timestamp(unit, tz=None if logical.startswith("local") else "UTC")
    special = {"date": pa.date32(), "time-millis": pa.time32("ms"), "time-micros": pa.time64("us")}
    return special.get(logical) or _PLAIN[kind.kind]


_PLAIN = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "enum": pa.string(),
}


def _union_type(branches: Sequence[pa.DataType]) -> pa.DataType:
    """One branch besides null is that type; several numbers are the widest; others are text, JSON where nested."""
    if not branches:
        return pa.null()
    if all(one.equals(branches[0]) for one in branches):
        return branches[0]
    if all(pa.types.is_integer(one) for one in branches):
        return pa.int64()
    if all(pa.types.is_integer(one) or pa.types.is_floating(one) for one in branches):
        return pa.float64()
    return pa.string()


def _as_branch(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    if values.type.equals(wanted):
        return values
    if not pa.types.is_string(wanted):
        return values.cast(wanted, safe=False)
    texts = [one if isinstance(one, str) else orjson.dumps(one, default=str).decode() for one in values.to_pylist()]
    return pa.array(texts, pa.string())


# --- resolution to a reader's schema ---------------------------------------------------------------------------------


def resolve(array: pa.Array, writer: AvroType, reader: AvroType) -> pa.Array:
    """What was written, as the reader's schema names it: aliases renamed, missing fields as their defaults."""
    wrote, reads = _without_null(writer), _without_null(reader)
    if wrote.kind == reads.kind == "record" and pa.types.is_struct(array.type):
        return _resolve_record(array, wrote, reads)
    if wrote.kind == reads.kind == "array" and pa.types.is_list(array.type):
        values = resolve(array.values, wrote.inside, reads.inside)
        return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null() if array.null_count else None)
    if wrote.kind == reads.kind == "enum" and reads.default_symbol is not None:
        known = np.isin(array.to_numpy(zero_copy_only=False), reads.symbols) | array.is_null().to_numpy(
            zero_copy_only=False
        )
        if not known.all():
            return pa.array(
                [one if ok else reads.default_symbol for one, ok in zip(array.to_pylist(), known, strict=True)]
            )
    return array


def _resolve_record(array: pa.Array, writer: AvroType, reader: AvroType) -> pa.Array:
    wrote = {one.name: (place, one) for place, one in enumerate(writer.fields)}
    names, made = [], []
    for one in reader.fields:
        found = next((wrote[name] for name in (one.name, *one.aliases) if name in wrote), None)
        if found is not None:
            names.append(one.name)
            made.append(resolve(array.field(found[0]), found[1].type, one.type))
        elif one.default is not MISSING:
            names.append(one.name)
            made.append(_constant(one, len(array)))
    for name, (place, _) in wrote.items():  # a column may name what only the writer knows
        if name not in names and not any(name in one.aliases for one in reader.fields):
            names.append(name)
            made.append(array.field(place))
    if not made:
        return array
    return pa.StructArray.from_arrays(made, names=names, mask=array.is_null() if array.null_count else None)


def _without_null(kind: AvroType) -> AvroType:
    if kind.kind != "union":
        return kind
    others = [one for one in kind.branches if one.kind != "null"]
    return others[0] if len(others) == 1 else kind


def _constant(one: AvroField, count: int) -> pa.Array:
    kind = one.type.branches[0] if one.type.kind == "union" else one.type
    value = _default(kind, one.default)
    arrow = arrow_of(one.type)
    if value is None:
        return pa.nulls(count, arrow)
    single = pa.array([value], _scalar(kind) if kind.kind in _PLAIN and not kind.logical else None)
    if not single.type.equals(arrow):
        single = single.cast(arrow)
    return single.take(pa.array(np.zeros(count, dtype=np.int64)))


def _default(kind: AvroType, value: Any) -> Any:
    """A default of JSON as the value that Arrow takes."""
    match kind.kind:
        case "bytes" | "fixed":
            data = str(value).encode("latin-1")
            if not _is_decimal(kind):
                return data
            import decimal

            return decimal.Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-kind.scale)
        case "float" | "double":
            return float(value)
        case "record":
            return {one.name: _default(one.type, value.get(one.name, one.default)) for one in kind.fields}
        case "array":
            return [_default(kind.inside, one) for one in value]
        case "map":
            return [(key, _default(kind.inside, one)) for key, one in value.items()]
        case "union":
            return _default(kind.branches[0], value)
        case _:
            return value
