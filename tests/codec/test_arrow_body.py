"""Arrow bodies: the quick look at numbers says what the slow one says, and no bytes whatever do harm."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.codec.arrow_body import ArrowBody, Limits, read_arrow
from qanat.codec.arrow_sizes import claims_of
from qanat.codec.fit import fit_rows
from qanat.errors import DataError
from qanat.model.streams import Column
from qanat.model.types import BIGINT, DOUBLE, INT, SMALLINT, STRING, TIMESTAMP_LTZ, TINYINT, Type

LIMITS = Limits(10_000, 1 << 20)
_INT = st.integers(-(2**63), 2**63 - 1) | st.integers(-40_000, 40_000)
ARRAYS = st.one_of(
    st.lists(st.none() | _INT, max_size=8).map(lambda values: pa.array(values, pa.int64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=8).map(lambda values: pa.array(values, pa.uint64())),
    st.lists(st.none() | st.integers(-128, 127), max_size=8).map(lambda values: pa.array(values, pa.int8())),
    st.lists(st.none() | st.floats() | _INT.map(float), max_size=8).map(lambda values: pa.array(values, pa.float64())),
    st.lists(st.none() | st.floats(width=32), max_size=8).map(lambda values: pa.array(values, pa.float32())),
)


@settings(deadline=None)
@given(ARRAYS, st.sampled_from([TINYINT, SMALLINT, INT, BIGINT, BIGINT.with_nullable(False)]))
def test_numbers_that_do_not_fit_are_those_that_fit_finds_one_by_one(array: pa.Array, wanted: Type) -> None:
    columns = [Column("n", wanted)]
    body = ArrowBody(pa.RecordBatch.from_arrays([array], ["n"]))
    decoded = body.decode(body, columns)
    batch, reasons = fit_rows({"n": array}, columns, len(array))
    assert {bad.index for bad in decoded.bad} == set(reasons)
    keep = [place for place in range(len(array)) if place not in reasons]
    assert decoded.index.tolist() == keep
    assert decoded.rows.to_pylist() == batch.take(pa.array(keep, pa.int64())).to_pylist()


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=3)
    return out.getvalue()


TABLE = pa.table(
    {
        "s": pa.array(["a", None, "ccc", "d", "e"]),
        "d": pa.array(["x", "y", "x", None, "x"]).dictionary_encode(),
        "v": pa.array(["short", "longer than twelve bytes", None, "", "x"], pa.string_view()),
        "t": pa.array([1, 2, 3, None, 5], pa.timestamp("us", "UTC")),
        "l": pa.array([[1], None, [], [2, 3], [4]]),
    }
)
COLUMNS = [
    Column("s", STRING),
    Column("d", STRING),
    Column("v", STRING),
    Column("t", TIMESTAMP_LTZ),
    Column("x", DOUBLE),
]


def test_what_is_read_is_what_was_written() -> None:
    for compression in (None, "lz4", "zstd"):
        body = read_arrow(stream(TABLE, compression), LIMITS)
        decoded = body.decode(body, COLUMNS)
        assert decoded.rows.column("s").to_pylist() == TABLE["s"].to_pylist()
        assert decoded.rows.column("d").to_pylist() == TABLE["d"].to_pylist()
        assert decoded.rows.column("v").to_pylist() == TABLE["v"].to_pylist()
        assert [json.loads(body[place])["l"] for place in range(5)] == TABLE["l"].to_pylist()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_stream_with_bytes_changed_is_read_or_refused(data: Any) -> None:
    whole = bytearray(stream(TABLE, data.draw(st.sampled_from([None, "lz4", "zstd"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    try:
        body = read_arrow(bytes(whole), LIMITS)
    except DataError:
        return
    decoded = body.decode(body, COLUMNS)
    assert len(decoded.rows) + len(decoded.bad) == len(body) <= LIMITS.rows


@pytest.mark.parametrize("file", [False, True])
def test_every_cut_is_refused_or_has_whole_batches(file: bool) -> None:
    out = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(out, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=3)
    whole = out.getvalue()
    for end in range(0, len(whole), 5):
        try:
            body = read_arrow(whole[:end], LIMITS)
        except DataError:
            continue
        assert not file
        assert len(body) in (0, 3, 5)


def test_claims_are_what_the_messages_say() -> None:
    table = pa.table({"n": np.arange(1000)})
    plain = claims_of(stream(table), 10_000, 1 << 20)
    assert plain.rows == 1000
    assert 8000 <= plain.bytes <= 8000 + 64 * 400
    packed = claims_of(stream(table, "zstd"), 10_000, 1 << 20)
    assert packed.bytes >= 8000


def test_a_length_that_lies_is_refused_before_memory_is_taken() -> None:
    whole = stream(pa.table({"s": ["x" * 5000]}), "zstd")
    at = whole.rindex(struct.pack("<q", 5000))
    lying = whole[:at] + struct.pack("<q", 1 << 40) + whole[at + 8 :]
    with pytest.raises(DataError, match="more than"):
        read_arrow(lying, LIMITS)
