"""debezium-json <-> rows of a changelog, as Flink's format does it: -U and -D are op d, +I and +U are op c.

Decoded rows have the column `CHANGE` (int8: 0 +I, 1 -U, 2 +U, 3 -D). An update (op u) gives two rows, -U and +U.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.base import BadRow, Decoded
from qanat.codec.json import decode_lines as decode_json
from qanat.codec.json_encode import encode_lines as encode_json
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, Column
from qanat.model.types import STRING, TINYINT, Kind, Type

Kinds = npt.NDArray[np.int8]
_Flags = npt.NDArray[np.bool_]
_Texts = npt.NDArray[np.object_]
_INSERT, _UPDATE_BEFORE, _UPDATE_AFTER, _DELETE = range(4)


def encode_lines(rows: pa.Table, kinds: Kinds) -> bytes:
    """One line per row; `kinds`: int8, one per row."""
    lines = encode_json(rows).split(b"\n")[:-1]
    gone = np.isin(kinds, (_UPDATE_BEFORE, _DELETE)).tolist()
    return b"".join(
        b'{"before":' + line + b',"after":null,"op":"d"}\n'
        if deleted
        else b'{"before":null,"after":' + line + b',"op":"c"}\n'
        for line, deleted in zip(lines, gone, strict=True)
    )


def decode_lines(data: bytes, columns: Sequence[Column]) -> Decoded:
    """One event a line: {"before": row, "after": row, "op": "c" | "r" | "u" | "d"}; other members are passed over."""
    row = Type(Kind.ROW, fields=tuple((one.name, one.type.with_nullable(True)) for one in columns))
    envelope = [Column("before", row), Column("after", row), Column("op", STRING)]
    decoded = decode_json(data, envelope)
    before, after, op = decoded.rows.columns
    texts = np.array(op.to_pylist(), dtype=object)
    has_before, has_after = (pc.is_valid(side).to_numpy(zero_copy_only=False) for side in (before, after))
    update, delete, create = texts == "u", texts == "d", np.isin(texts, ("c", "r"))
    takes_before = (update | delete) & has_before
    takes_after = (update | create) & has_after
    good = (update & has_before & has_after) | (delete & has_before) | (create & has_after)
    required = [one.name for one in columns if not one.type.nullable]
    good &= _complete(before, takes_before, required) & _complete(after, takes_after, required)
    rows, index = _rows(before, after, texts, good, columns)
    bad = [*decoded.bad, *_refused(data, decoded.index[~good], texts[~good])]
    return Decoded(rows, decoded.index[index], tuple(sorted(bad, key=lambda one: one.index)))


def _complete(side: pa.Array, taken: _Flags, required: Sequence[str]) -> _Flags:
    """Where the row has all that is NOT NULL, or is not looked at."""
    complete = np.ones(len(side), dtype=np.bool_)
    for name in required:
        complete &= pc.is_valid(pc.struct_field(side, name)).to_numpy(zero_copy_only=False)
    return complete | ~taken


def _rows(
    before: pa.Array,
    after: pa.Array,
    op: _Texts,
    good: _Flags,
    columns: Sequence[Column],
) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """The rows of the good events, an update's old one before its new one, and the event of each."""
    places = np.flatnonzero(good)
    first = places[op[places] == "u"]
    index = np.concatenate([places, first])
    is_old = np.concatenate([np.isin(op[places], ("d",)), np.ones(len(first), dtype=np.bool_)])
    order = np.lexsort((~is_old, index))
    index, is_old = index[order], is_old[order]
    kinds = np.where(
        op[index] == "u", np.where(is_old, _UPDATE_BEFORE, _UPDATE_AFTER), np.where(is_old, _DELETE, _INSERT)
    )
    both = pa.concat_arrays([before, after])
    taken = both.take(pa.array(np.where(is_old, index, index + len(before))))
    schema = schema_of([*((one.name, one.type) for one in columns), (CHANGE, TINYINT)])
    arrays = [pc.struct_field(taken, one.name).cast(schema.field(one.name).type) for one in columns]
    return pa.RecordBatch.from_arrays([*arrays, pa.array(kinds.astype(np.int8))], schema=schema), index


def _refused(data: bytes, lines: npt.NDArray[np.int64], op: _Texts) -> list[BadRow]:
    if not len(lines):
        return []
    texts = data.split(b"\n")
    found = []
    for line, name in zip(lines.tolist(), op.tolist(), strict=True):
        known = name in ("c", "r", "u", "d")
        sides = {"u": "before and after", "d": "before"}.get(name, "after")
        reason = f"op {name} needs a whole row in {sides}" if known else f"op is {name!r}, expected c, r, u or d"
        found.append(BadRow(line, texts[line], reason))
    return found
