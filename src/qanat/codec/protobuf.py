"""Protobuf's wire format -> Arrow rows, all payloads of a batch side by side: one numpy step a field.

A step reads one tag of every message that has one left, and then the values of all messages that have the same tag;
so fields may come in any order, be unknown, or come twice (the last one counts). The message type is known; which one
it is says `framed`. Protocol Buffers documentation, "Encoding" and "Application Note: Field Presence".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.codec.base import Decode, Decoded
from qanat.codec.fit import fit_rows
from qanat.codec.protobuf_known import KNOWN, convert
from qanat.codec.protobuf_schema import ProtoField, ProtoMessage
from qanat.codec.side_by_side import Cursors, Places, Words, last_of_each, settled, unzigzag
from qanat.model.streams import Column

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LARGEST_NUMBER = (1 << 29) - 1
#: Fields of one message, counted as they come on the wire.
_MAX_STEPS = 20_000
_WIRES = {
    "double": _FIXED64,
    "fixed64": _FIXED64,
    "sfixed64": _FIXED64,
    "float": _FIXED32,
    "fixed32": _FIXED32,
    "sfixed32": _FIXED32,
    "string": _BYTES,
    "bytes": _BYTES,
    "message": _BYTES,
}
_FIXED_FORMATS = {
    "double": "<f8",
    "float": "<f4",
    "fixed64": "<u8",
    "sfixed64": "<i8",
    "fixed32": "<u4",
    "sfixed32": "<i4",
}
_ARROW = {
    "double": pa.float64(),
    "float": pa.float32(),
    "int64": pa.int64(),
    "sint64": pa.int64(),
    "sfixed64": pa.int64(),
    "uint64": pa.uint64(),
    "fixed64": pa.uint64(),
    "int32": pa.int32(),
    "sint32": pa.int32(),
    "sfixed32": pa.int32(),
    "uint32": pa.uint32(),
    "fixed32": pa.uint32(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.string(),
}

#: What came of a field: values as numpy, and which message each is of. Texts and messages are (starts, sizes).
_Values = npt.NDArray[Any]


def protobuf_decoder(message: ProtoMessage) -> Decode:
    """Payloads that are one message of this type each, without any frame."""

    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        rows = Cursors(payloads)
        made = _read(message, rows, ())
        arrays = {one.name: made.field(place) for place, one in enumerate(made.type)}
        batch, reasons = fit_rows(arrays, columns, len(rows))
        return settled(batch, {**reasons, **rows.bad}, payloads)

    return decode


@dataclass(slots=True)
class _Found:
    """Occurrences of one field, step by step: message and value. `when`: the step of each message's last one."""

    owners: list[Places] = field(default_factory=list)
    values: list[_Values] = field(default_factory=list)
    sizes: list[Places] = field(default_factory=list)
    when: Places | None = None

    def add(self, owners: Places, values: _Values, sizes: Places | None = None) -> None:
        self.owners.append(owners)
        self.values.append(values)
        if sizes is not None:
            self.sizes.append(sizes)


def _read(kind: ProtoMessage, rows: Cursors, above: tuple[str, ...]) -> pa.Array:
    """One message a row, as a struct of its fields in the order of the schema."""
    found: dict[int, _Found] = {number: _Found() for number in kind.fields}
    steps = 0
    while (live := np.flatnonzero(rows.pos < rows.end)).size:
        tags = rows.varints(live)
        for tag in np.unique(tags).tolist():
            here = live[tags == tag]
            here = here[~np.isin(here, list(rows.bad))] if rows.bad else here
            if here.size:
                _occurrence(kind, tag, rows, here, found, steps)
        steps += 1
        if steps >= _MAX_STEPS:
            rows.fail(live, f"a message of more than {_MAX_STEPS} fields")
    for one in kind.fields.values():
        if one.required:
            absent = np.setdiff1d(
                np.arange(len(rows)), np.concatenate([*found[one.number].owners, np.empty(0, np.int64)])
            )
            rows.fail(absent, f"the required field {one.name} is missing")
    return _assemble(kind, rows, found, above)


def _occurrence(kind: ProtoMessage, tag: int, rows: Cursors, here: Places, found: dict[int, _Found], step: int) -> None:
    """The values after one tag, of all messages that have it now."""
    number, wire = tag >> 3, tag & 7
    one = kind.fields.get(number)
    if not 1 <= number <= _LARGEST_NUMBER:
        rows.fail(here, f"field number {number}")
        return
    expected = None if one is None else _WIRES.get(one.kind, _VARINT)
    if one is not None and wire == expected and one.kind != "group":
        _plain(one, rows, here, found[number])
    elif one is not None and one.repeated and wire == _BYTES and expected in (_VARINT, _FIXED32, _FIXED64):
        _packed(one, rows, here, found[number])
    else:  # an unknown field, or a known one in another form: readers pass over both
        _skip(wire, rows, here)
        return
    if one.oneof is not None:
        mine = found[number]
        if mine.when is None:
            mine.when = np.full(len(rows), -1, dtype=np.int64)
        mine.when[here] = step


def _plain(one: ProtoField, rows: Cursors, here: Places, mine: _Found) -> None:
    wire = _WIRES.get(one.kind, _VARINT)
    if wire == _VARINT:
        mine.add(here, rows.varints(here))
    elif wire == _BYTES:
        starts, sizes = rows.spans(here, rows.varints(here))
        mine.add(here, starts, sizes)
    else:
        mine.add(here, rows.numbers(here, _FIXED_FORMATS[one.kind]))


def _packed(one: ProtoField, rows: Cursors, here: Places, mine: _Found) -> None:
    """A list of numbers in one run of bytes."""
    starts, sizes = rows.spans(here, rows.varints(here))
    blob = np.frombuffer(rows.blobs(starts, sizes).buffers()[2], dtype=np.uint8, count=int(sizes.sum()))
    form = _FIXED_FORMATS.get(one.kind)
    if form is not None:
        width = np.dtype(form).itemsize
        odd = sizes % width != 0
        if odd.any():
            rows.fail(here[odd], f"the list {one.name} has an odd length")
            keep = np.repeat(~odd, sizes)
            blob, sizes = blob[keep], np.where(odd, 0, sizes)
        mine.add(np.repeat(here, sizes // width), np.frombuffer(blob.tobytes(), dtype=form))
        return
    ends = np.cumsum(sizes)
    last = blob[np.maximum(ends - 1, 0)] if blob.size else np.zeros(len(ends), np.uint8)
    cut = (sizes > 0) & (last >= 128)
    if cut.any():
        rows.fail(here[cut], f"the list {one.name} ends too soon")
        keep = np.repeat(~cut, sizes)
        blob, sizes = blob[keep], np.where(cut, 0, sizes)
    values, stops = _varint_run(blob)
    owners = np.repeat(here, sizes)[stops]
    mine.add(owners, values)


def _varint_run(blob: npt.NDArray[np.uint8]) -> tuple[Words, Places]:
    """All variable-length integers of a run, and where each stops."""
    stops = np.flatnonzero(blob < 128)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), stops[:-1] + 1]) if len(stops) else stops
    lengths = np.minimum(stops - starts + 1, 10)
    values = np.zeros(len(stops), dtype=np.uint64)
    for place in range(int(lengths.max(initial=0))):
        some = np.flatnonzero(lengths > place)
        values[some] |= (blob[starts[some] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
    return values, stops


def _skip(wire: int, rows: Cursors, here: Places) -> None:
    match wire:
        case 0:
            rows.varints(here)
        case 1:
            rows.fixed(here, 8)
        case 2:
            rows.spans(here, rows.varints(here))
        case 5:
            rows.fixed(here, 4)
        case _:
            rows.fail(here, "a group" if wire in (3, 4) else f"wire type {wire}")


# --- columns ---------------------------------------------------------------------------------------------------------


def _assemble(kind: ProtoMessage, rows: Cursors, found: dict[int, _Found], above: tuple[str, ...]) -> pa.Array:
    if kind.name in above:  # a message inside itself has no Arrow type: it is passed over
        return pa.nulls(len(rows))
    inside = (*above, kind.name)
    _settle_oneofs(kind, found)
    made, names = [], []
    for number, one in kind.fields.items():
        names.append(one.name)
        made.append(
            _repeated(one, rows, found[number], inside) if one.repeated else _single(one, rows, found[number], inside)
        )
    if not made:
        return pa.array([{}] * len(rows), pa.struct([]))
    return pa.StructArray.from_arrays(made, names=names)


def _settle_oneofs(kind: ProtoMessage, found: dict[int, _Found]) -> None:
    """Of the fields of a oneof the one that came last counts."""
    groups: dict[str, list[_Found]] = {}
    for number, one in kind.fields.items():
        if one.oneof is not None and found[number].when is not None:
            groups.setdefault(one.oneof, []).append(found[number])
    for members in groups.values():
        if len(members) > 1:
            latest = np.max([mine.when for mine in members if mine.when is not None], axis=0)
            for mine in members:
                assert mine.when is not None
                _drop(mine, mine.when < latest)


def _drop(mine: _Found, gone: npt.NDArray[np.bool_]) -> None:
    keep = [~gone[owners] for owners in mine.owners]
    mine.values = [one[here] for one, here in zip(mine.values, keep, strict=True)]
    mine.sizes = [one[here] for one, here in zip(mine.sizes, keep, strict=False)]
    mine.owners = [one[here] for one, here in zip(mine.owners, keep, strict=True)]


def _joined(parts: Sequence[_Values], like: str) -> _Values:
    return np.concatenate(parts) if parts else np.empty(0, dtype=like)


def _single(one: ProtoField, rows: Cursors, mine: _Found, above: tuple[str, ...]) -> pa.Array:
    owners, values = _joined(mine.owners, "i8").astype(np.int64), _joined(mine.values, _dtype(one))
    sizes = _joined(mine.sizes, "i8").astype(np.int64)
    count = len(rows)
    if one.kind == "message":
        return _message(one, rows, owners, values, sizes, above)
    last = np.full(count, -1, dtype=np.int64)
    last[owners] = np.arange(len(owners))
    chosen = last[last >= 0]
    array = _scalars(one, rows, owners[chosen], values[chosen], sizes[chosen] if len(sizes) else sizes)
    if len(chosen) == count:
        return array
    order = np.full(count, -1, dtype=np.int64)
    order[last >= 0] = np.arange(len(chosen))
    spread = array.take(pa.array(order, mask=order < 0))
    return spread if one.default is None else spread.fill_null(pa.scalar(one.default, spread.type))


def _repeated(one: ProtoField, rows: Cursors, mine: _Found, above: tuple[str, ...]) -> pa.Array:
    owners, values = _joined(mine.owners, "i8").astype(np.int64), _joined(mine.values, _dtype(one))
    sizes = _joined(mine.sizes, "i8").astype(np.int64)
    order = np.argsort(owners, kind="stable")
    owners, values = owners[order], values[order]
    sizes = sizes[order] if len(sizes) else sizes
    if one.kind == "message":
        assert one.message is not None
        items = _messages(one.message, rows, owners, values, sizes, above)
    else:
        items = _scalars(one, rows, owners, values, sizes)
    if one.message is not None and one.message.is_map and not pa.types.is_null(items.type):
        keys, entries = items.field(0), items.field(1)
        kept = last_of_each(owners, keys)
        if kept is not None:
            keys, entries, owners = keys.take(pa.array(kept)), entries.take(pa.array(kept)), owners[kept]
        return pa.MapArray.from_arrays(_offsets(owners, len(rows)), keys, entries)
    return pa.ListArray.from_arrays(_offsets(owners, len(rows)), items)


def _offsets(owners: Places, count: int) -> pa.Array:
    ends = np.cumsum(np.bincount(owners, minlength=count))
    return pa.array(np.concatenate([np.zeros(1, dtype=np.int64), ends]).astype(np.int32))


def _dtype(one: ProtoField) -> str:
    return "i8" if _WIRES.get(one.kind) == _BYTES else _FIXED_FORMATS.get(one.kind, "u8")


def _scalars(one: ProtoField, rows: Cursors, owners: Places, values: _Values, sizes: Places) -> pa.Array:
    match one.kind:
        case "string":
            return rows.texts(owners, values, sizes)
        case "bytes":
            return rows.blobs(values, sizes)
        case "enum":
            return _symbols(one, values)
        case _:
            return pa.array(_NUMBERS[one.kind](values) if one.kind in _NUMBERS else values, _ARROW[one.kind])


#: What a 64-bit word on the wire is as a number.
_NUMBERS: dict[str, Callable[[_Values], _Values]] = {
    "int64": lambda words: words.view(np.int64),
    "uint64": lambda words: words,
    "int32": lambda words: words.astype(np.uint32).view(np.int32),
    "uint32": lambda words: words.astype(np.uint32),
    "sint64": unzigzag,
    "sint32": lambda words: unzigzag(words & np.uint64(0xFFFFFFFF)).astype(np.int32),
    "bool": lambda words: words != 0,
}


def _symbols(one: ProtoField, values: _Values) -> pa.Array:
    """Names; a number that the schema does not know is itself, as text."""
    assert one.enum is not None
    numbers, codes = np.unique(values.astype(np.uint32).view(np.int32), return_inverse=True)
    names = [one.enum.values.get(number, str(number)) for number in numbers.tolist()]
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int64)))


def _message(
    one: ProtoField, rows: Cursors, owners: Places, starts: _Values, sizes: Places, above: tuple[str, ...]
) -> pa.Array:
    """The message of a field; NULL where it is absent. One that comes in several pieces is their bytes together."""
    assert one.message is not None
    here = np.unique(owners)
    if len(here) == len(owners):
        order = np.argsort(owners, kind="stable")
        inner = _messages(one.message, rows, owners[order], starts[order], sizes[order], above)
    else:
        inner = _pieces(one.message, rows, here, (owners, starts, sizes), above)
    if len(here) == len(rows):
        return inner
    order = np.full(len(rows), -1, dtype=np.int64)
    order[here] = np.arange(len(here))
    return inner.take(pa.array(order, mask=order < 0))


def _pieces(
    kind: ProtoMessage, rows: Cursors, here: Places, found: tuple[Places, _Values, Places], above: tuple[str, ...]
) -> pa.Array:
    owners, starts, sizes = found
    whole: dict[int, bytes] = dict.fromkeys(here.tolist(), b"")
    for owner, start, size in zip(owners.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        whole[owner] += rows.data[start : start + size].tobytes()
    return _inside(kind, rows, here, Cursors([whole[one] for one in here.tolist()]), above)


def _messages(
    kind: ProtoMessage, rows: Cursors, owners: Places, starts: _Values, sizes: Places, above: tuple[str, ...]
) -> pa.Array:
    return _inside(kind, rows, owners, rows.inner(starts, sizes), above)


def _inside(kind: ProtoMessage, rows: Cursors, owners: Places, inner: Cursors, above: tuple[str, ...]) -> pa.Array:
    """Messages inside of messages; what is wrong with one is wrong with its owner."""
    if kind.name in KNOWN and KNOWN[kind.name].whole:
        made = convert(kind.name, inner)
    elif kind.name in above:
        return pa.nulls(len(inner))
    else:
        made = _read(kind, inner, above)
        if kind.name in KNOWN:
            made = convert(kind.name, inner, made)
    for place, reason in inner.bad.items():
        rows.fail(owners[place : place + 1], reason)
    return made
