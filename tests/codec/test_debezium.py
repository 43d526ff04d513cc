"""debezium-json: what is written is read again; events that are not whole are refused with their place."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.debezium import decode_lines, encode_lines
from qanat.model.streams import CHANGE, Column
from qanat.model.types import BIGINT, STRING

COLUMNS = [Column("id", BIGINT.with_nullable(False)), Column("name", STRING)]


def _decoded(*events: object) -> tuple[list[tuple[object, ...]], list[tuple[int, str]]]:
    data = b"".join((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in events)
    found = decode_lines(data, COLUMNS)
    rows = [tuple(row.values()) for row in found.rows.to_pylist()]
    return rows, [(bad.index, bad.reason) for bad in found.bad]


def test_each_op_gives_its_rows() -> None:
    old, new = {"id": 1, "name": "a"}, {"id": 1, "name": "b"}
    rows, bad = _decoded(
        {"before": None, "after": old, "op": "c"},
        {"before": old, "after": new, "op": "u", "source": {"lsn": 7}},
        {"before": new, "after": None, "op": "d", "ts_ms": 5},
        {"before": None, "after": old, "op": "r"},
    )
    assert rows == [(1, "a", 0), (1, "a", 1), (1, "b", 2), (1, "b", 3), (1, "a", 0)]
    assert bad == []


def test_the_index_says_which_line_a_row_came_of() -> None:
    line = b'{"before":{"id":1},"after":{"id":2},"op":"u"}\n'
    found = decode_lines(b"\n" + line + b'{"after":{"id":3},"op":"c"}\n', COLUMNS)
    assert found.index.tolist() == [1, 1, 2]
    assert found.rows.column(CHANGE).to_pylist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"before": None, "after": None, "op": "c"}, "op c needs a whole row in after"),
        ({"before": None, "after": {"id": 1}, "op": "u"}, "op u needs a whole row in before and after"),
        ({"before": {"name": "x"}, "op": "d"}, "op d needs a whole row in before"),
        ({"after": {"id": 1}, "op": "x"}, "op is 'x', expected c, r, u or d"),
        ({"after": {"id": 1}}, "op is None, expected c, r, u or d"),
    ],
)
def test_events_that_are_not_whole_are_refused(event: object, reason: str) -> None:
    good = {"after": {"id": 9, "name": "z"}, "op": "c"}
    rows, bad = _decoded(good, event, good)
    assert rows == [(9, "z", 0)] * 2
    assert bad == [(1, reason)]


def test_what_is_no_json_is_refused() -> None:
    rows, bad = _decoded({"after": {"id": 9, "name": "z"}, "op": "c"}, b'{"after":', b"[]")
    assert len(rows) == 1
    assert [index for index, _ in bad] == [1, 2]


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.text(), st.sampled_from([0, 1, 2, 3])), max_size=30
    )
)
def test_round_trip(rows: list[tuple[int, str | None, int]]) -> None:
    """Kinds come back as +I and -D, as in Flink."""
    table = pa.table(
        {"id": pa.array([r[0] for r in rows], pa.int64()), "name": pa.array([r[1] for r in rows], pa.string())}
    )
    found = decode_lines(encode_lines(table, np.array([r[2] for r in rows], dtype=np.int8)), COLUMNS)
    assert not found.bad
    assert [tuple(row.values()) for row in found.rows.to_pylist()] == [
        (number, name, 3 if kind in (1, 3) else 0) for number, name, kind in rows
    ]
