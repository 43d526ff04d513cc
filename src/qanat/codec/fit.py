"""Arrow columns of any type -> the columns of a stream, strictly: a value that does not fit has a reason, no NULL.

For formats that bring types of their own (Avro, Protobuf): whole columns are cast; only where a cast fails is the
column halved until the values that it fails on are found. What is widened or, for the digits of seconds, cut is said
in docs/contracts.md. No format is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.texts import TEXT_KINDS, Misfit, column_of, value_of
from qanat.codec.values import found
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

Reasons = dict[int, str]
_Cast = Callable[[pa.Array], pa.Array]

_INTEGERS = {Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.INTERVAL_YEAR}
_WIDEST = pa.decimal128(38, 0)


def fit_rows(
    arrays: Mapping[str, pa.Array], columns: Sequence[Column], rows: int
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """The columns by name, those that are not there as NULLs; rows that do not fit are still in it, with why."""
    reasons: Reasons = {}
    made = []
    for column in columns:
        given = arrays.get(column.name)
        array, bad = fit(pa.nulls(rows) if given is None else given, column.type)
        for row, reason in bad.items():
            reasons.setdefault(row, f"column {column.name}{reason}")
        made.append(array)
    schema = schema_of((column.name, column.type) for column in columns)
    if not made:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([]))), reasons
    return pa.RecordBatch.from_arrays(made, schema=schema), reasons


def fit(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    """The array in the Arrow type of `wanted`; NULL where a value does not fit, and why (by place)."""
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if array.type.equals(pa.null()):
        made, reasons = pa.nulls(len(array), to_arrow(wanted)), Reasons()
    elif wanted.kind in _NESTED:
        made, reasons = _NESTED[wanted.kind](array, wanted)
    else:
        made, reasons = _scalars(array, wanted)
    if not wanted.nullable and array.null_count:
        for place in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            reasons.setdefault(place, f": expected {wanted}, found null")
    return made, reasons


def _misfit(wanted: Type, value: object) -> str:
    shown = found(value) if value is None or isinstance(value, bool | int | float | str | dict | list) else repr(value)
    return f": expected {wanted.with_nullable(True)}, found {shown}"


def _all_wrong(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    there = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)).tolist()
    kind = f": expected {wanted.with_nullable(True)}, found {array.type}"
    return pa.nulls(len(array), to_arrow(wanted)), dict.fromkeys(there, kind)


# --- scalars ---------------------------------------------------------------------------------------------------------


def _scalars(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    arrow = to_arrow(wanted)
    if array.type.equals(arrow):
        return array, {}
    cast = _cast_to(array.type, wanted, arrow)
    if cast is None:
        return _all_wrong(array, wanted)
    reasons: Reasons = {}
    parts = _attempt(array, 0, cast, wanted, reasons)
    return (parts[0] if len(parts) == 1 else pa.concat_arrays(parts)), reasons


def _attempt(array: pa.Array, first: int, cast: _Cast, wanted: Type, reasons: Reasons) -> list[pa.Array]:
    """All at once; or halves, and of these halves, down to the values that do not fit."""
    try:
        return [cast(array)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if len(array) == 1:
            return [_one(array, first, wanted, reasons)]
    half = len(array) // 2
    left = _attempt(array.slice(0, half), first, cast, wanted, reasons)
    return left + _attempt(array.slice(half), first + half, cast, wanted, reasons)


def _one(array: pa.Array, place: int, wanted: Type, reasons: Reasons) -> pa.Array:
    """A single value: texts have an exact way of their own."""
    value, arrow = array[0].as_py(), to_arrow(wanted)
    if value is not None and isinstance(value, str) and (wanted.kind in TEXT_KINDS or wanted.kind is Kind.DECIMAL):
        try:
            return pa.array([value_of(value, wanted)], arrow)
        except (Misfit, pa.ArrowInvalid, OverflowError):
            pass
    if value is not None:
        reasons[place] = _misfit(wanted, value)
    return pa.nulls(1, arrow)


def _cast_to(source: pa.DataType, wanted: Type, arrow: pa.DataType) -> _Cast | None:
    """How a whole column is cast; None where no value of `source` fits."""
    kinds = pa.types
    number = kinds.is_integer(source) or kinds.is_floating(source) or kinds.is_decimal(source)
    texts = kinds.is_string(source) or kinds.is_large_string(source)
    match wanted.kind:
        case Kind.BOOLEAN:
            fits, cast = kinds.is_boolean(source), _plainly(arrow)
        case kind if kind in _INTEGERS:
            fits, cast = number or kinds.is_temporal(source), _whole(source, arrow)
        case Kind.FLOAT | Kind.DOUBLE:
            fits, cast = number, _real(arrow)
        case Kind.DECIMAL:
            fits, cast = number or texts, _decimal(source, arrow)
        case Kind.STRING:
            fits, cast = texts or _is_binary(source), _plainly(arrow)
        case Kind.BYTES:
            fits, cast = texts or _is_binary(source), _plainly(arrow)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            fits, cast = texts or kinds.is_timestamp(source), _instant(source, wanted, arrow)
        case Kind.DATE:
            fits, cast = texts or kinds.is_date(source), _dated(source, wanted, arrow)
        case Kind.TIME:
            fits, cast = texts or kinds.is_time(source), _dated(source, wanted, arrow)
        case Kind.INTERVAL_DAY:
            fits, cast = kinds.is_duration(source), lambda array: array.cast(arrow, safe=False)
        case _:
            return None
    return cast if fits else None


def _is_binary(source: pa.DataType) -> bool:
    kinds = pa.types
    return bool(kinds.is_binary(source) or kinds.is_large_binary(source) or kinds.is_fixed_size_binary(source))


def _plainly(arrow: pa.DataType) -> _Cast:
    def cast(array: pa.Array) -> pa.Array:
        if pa.types.is_fixed_size_binary(array.type):
            array = array.cast(pa.binary())
        return array.cast(arrow)

    return cast


def _whole(source: pa.DataType, arrow: pa.DataType) -> _Cast:
    """Times count as the numbers that they are written as."""
    if pa.types.is_temporal(source):
        bare = pa.int32() if source.bit_width == 32 else pa.int64()
        return lambda array: array.view(bare).cast(arrow)
    return lambda array: array.cast(arrow)


def _real(arrow: pa.DataType) -> _Cast:
    def cast(array: pa.Array) -> pa.Array:
        made = array.cast(arrow, safe=False)
        if pa.types.is_float64(array.type) and pa.types.is_float32(arrow):
            lost = pc.and_(pc.is_inf(made), pc.invert(pc.is_inf(array)))
            if pc.any(lost).as_py():
                raise pa.ArrowInvalid("out of range")
        return made

    return cast


def _decimal(source: pa.DataType, arrow: pa.DataType) -> _Cast:
    if pa.types.is_integer(source):
        return lambda array: array.cast(_WIDEST).cast(arrow)
    if pa.types.is_floating(source):
        return lambda array: array.cast(pa.string()).cast(arrow)
    return lambda array: array.cast(arrow)


def _instant(source: pa.DataType, wanted: Type, arrow: pa.DataType) -> _Cast:
    """Digits that the column has no room for are cut towards the past; wider units must not overflow."""
    if not pa.types.is_timestamp(source):
        return lambda array: column_of(array.cast(pa.string()), wanted)
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    factor = scale[source.unit] // scale[arrow.unit]

    def cast(array: pa.Array) -> pa.Array:
        if factor <= 1:
            return array.cast(pa.timestamp(arrow.unit, source.tz)).view(pa.int64()).view(arrow)
        whole = array.view(pa.int64())
        cut = pc.subtract(whole, _remainder(whole, factor))
        return pc.divide(cut, factor).view(arrow)

    return cast


def _remainder(whole: pa.Array, factor: int) -> pa.Array:
    quotient = pc.multiply(pc.divide(whole, factor), factor)
    left = pc.subtract(whole, quotient)
    return pc.if_else(pc.less(left, 0), pc.add(left, factor), left)


def _dated(source: pa.DataType, wanted: Type, arrow: pa.DataType) -> _Cast:
    if pa.types.is_string(source) or pa.types.is_large_string(source):
        return lambda array: column_of(array.cast(pa.string()), wanted)
    return lambda array: array.cast(arrow, safe=False)


# --- nested ----------------------------------------------------------------------------------------------------------


def _list(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    assert wanted.element is not None
    if not pa.types.is_list(array.type):
        return _all_wrong(array, wanted)
    offsets, owners = _offsets(array)
    values, bad = fit(array.flatten(), wanted.element)
    return pa.ListArray.from_arrays(offsets, values, mask=_nulls(array)), _lifted(bad, owners, offsets)


def _map(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    assert wanted.element is not None
    assert wanted.key is not None
    if not pa.types.is_map(array.type):
        return _all_wrong(array, wanted)
    entries = array.cast(pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])))
    offsets, owners = _offsets(entries)
    flat = entries.flatten()
    keys, bad_keys = fit(flat.field("key"), wanted.key.with_nullable(False))
    values, bad_values = fit(flat.field("value"), wanted.element)
    reasons = {**_lifted(bad_keys, owners, offsets), **_lifted(bad_values, owners, offsets)}
    if bad_keys:  # a map may have no NULL key: its row is refused, so any key will do
        known = keys.drop_null()
        if not len(known):
            return pa.nulls(len(array), to_arrow(wanted)), _everywhere(array, reasons)
        keys = keys.fill_null(known[0])
    return pa.MapArray.from_arrays(offsets, keys, values, mask=_nulls(array)).cast(to_arrow(wanted)), reasons


def _everywhere(array: pa.Array, reasons: Reasons) -> Reasons:
    """A reason for every map of a column whose keys cannot be cast."""
    text = next(iter(reasons.values()))
    there = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)).tolist()
    return {place: reasons.get(place, text) for place in there}


def _row(array: pa.Array, wanted: Type) -> tuple[pa.Array, Reasons]:
    if not pa.types.is_struct(array.type):
        return _all_wrong(array, wanted)
    given = dict(zip([one.name for one in array.type], array.flatten(), strict=True))
    there = array.is_valid().to_numpy(zero_copy_only=False)
    reasons: Reasons = {}
    made = []
    for name, kind in wanted.fields:
        values, bad = fit(given.get(name, pa.nulls(len(array))), kind)
        made.append(values)
        for place, reason in bad.items():
            if there[place]:
                reasons.setdefault(place, f".{name}{reason}")
    fields = [pa.field(name, to_arrow(kind)) for name, kind in wanted.fields]
    mask = _nulls(array)
    return pa.StructArray.from_arrays(made, fields=fields, mask=mask), reasons


def _offsets(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Offsets from 0 without the values of NULL lists, and which list each value is of."""
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    return pa.array(offsets.astype(np.int32)), np.repeat(np.arange(len(array)), sizes)


def _lifted(bad: Reasons, owners: np.ndarray, offsets: pa.Array) -> Reasons:
    """Reasons of elements as reasons of the lists that they are in."""
    if not bad:
        return {}
    starts = offsets.to_numpy()
    lifted: Reasons = {}
    for place, reason in sorted(bad.items()):
        owner = int(owners[place])
        lifted.setdefault(owner, f"[{place - int(starts[owner])}]{reason}")
    return lifted


def _nulls(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


_NESTED: dict[Kind, Callable[[pa.Array, Type], tuple[pa.Array, Reasons]]] = {
    Kind.ARRAY: _list,
    Kind.MAP: _map,
    Kind.ROW: _row,
}


def takes(wanted: Type, source: pa.DataType) -> bool:
    """Whether values of the Arrow type `source` can fit into a column of this type at all."""
    if pa.types.is_null(source) or source.equals(to_arrow(wanted)):
        return True
    match wanted.kind:
        case Kind.ARRAY:
            return pa.types.is_list(source) and wanted.element is not None and takes(wanted.element, source.value_type)
        case Kind.MAP:
            return pa.types.is_map(source) and wanted.element is not None and takes(wanted.element, source.item_type)
        case Kind.ROW:
            inside = dict(wanted.fields)
            return pa.types.is_struct(source) and all(
                takes(inside[one.name], one.type) for one in source if one.name in inside
            )
        case _:
            return _cast_to(source, wanted, to_arrow(wanted)) is not None
