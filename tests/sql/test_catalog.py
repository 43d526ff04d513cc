"""CREATE TABLE: the stream in the log, the column that takes the arrival time, options."""

from __future__ import annotations

import pytest

from qanat.errors import SqlError
from qanat.model.streams import ArrivalColumn
from qanat.sql import compile_script
from qanat.sql.options import duration_ms, size_bytes
from qanat.sql.plan import Table, Watermark


def table(columns: str, options: str = "") -> Table:
    return compile_script(f"CREATE TABLE t ({columns}) {options}").tables["t"]


@pytest.mark.parametrize(
    ("columns", "arrival"),
    [
        ("ts TIMESTAMP(3), WATERMARK FOR ts AS ts", ArrivalColumn("ts", None)),
        ("ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts", ArrivalColumn("ts", None)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(x, 3), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1000)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(x, 0), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x INT, ts AS TO_TIMESTAMP_LTZ(x, 0), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(x * 1000, 3), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(1000 * x, 3), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(x / 1000, 3), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1_000_000)),
        ("x DOUBLE, ts AS TO_TIMESTAMP_LTZ(CAST(x AS BIGINT), 0), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x BIGINT, ts AS TO_TIMESTAMP(FROM_UNIXTIME(x)), WATERMARK FOR ts AS ts", ArrivalColumn("x", 1)),
        ("x TIMESTAMP(3), ts AS CAST(x AS TIMESTAMP_LTZ(3)), WATERMARK FOR ts AS ts", ArrivalColumn("x", None)),
        ("x BIGINT, ts AS TO_TIMESTAMP_LTZ(x + 1, 3), WATERMARK FOR ts AS ts", None),
        ("x STRING, ts AS TO_TIMESTAMP(x), WATERMARK FOR ts AS ts", None),
        ("x STRING, ts AS TO_TIMESTAMP_LTZ(CAST(x AS BIGINT), 0), WATERMARK FOR ts AS ts", None),
        ("x BIGINT", None),
    ],
)
def test_arrival_column(columns: str, arrival: ArrivalColumn | None) -> None:
    stream = table(columns).stream
    assert stream is not None
    assert stream.event_time == arrival


def test_stream_and_watermark() -> None:
    found = table(
        "k STRING, ts TIMESTAMP(3), v INT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (k) NOT ENFORCED",
        "WITH ('partitions' = '4', 'retention' = '36 h', 'retention.bytes' = '2 kb', 'compact' = 'TRUE',"
        " 'scan.watermark.idle-timeout' = '30 s')",
    )
    assert found.watermark == Watermark("ts", 5000, 30_000)
    assert [one.time_attribute for one in found.schema] == [False, True, False]
    assert not found.schema[0].type.nullable
    stream = found.stream
    assert stream is not None
    assert (stream.partitions, stream.retention_ms, stream.retention_bytes, stream.compact, stream.key) == (
        4, 129_600_000, 2048, True, ("k",),
    )  # fmt: skip


def test_computed_columns_stay_in_their_place() -> None:
    found = table("a INT, b AS a + 1, c INT")
    assert [one.name for one in found.schema] == ["a", "b", "c"]
    assert [one.name for one in found.physical] == ["a", "c"]


def test_connectors_have_no_stream() -> None:
    found = table(
        "a INT", "WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'csv', 'csv.field-delimiter' = ';')"
    )
    assert (found.connector, found.stream) == ("filesystem", None)
    assert found.options == {"path": "x", "format": "csv", "csv.field-delimiter": ";"}
    with pytest.raises(SqlError, match=r"has no option 'csv\.field-delimiter'"):
        table(
            "a INT", "WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'json', 'csv.field-delimiter' = ';')"
        )


def test_durations_and_sizes() -> None:
    assert [duration_ms(one) for one in ("1 d", "1h", "5 min", "3 s", "7ms", "9")] == [
        86_400_000,
        3_600_000,
        300_000,
        3000,
        7,
        9,
    ]
    assert [size_bytes(one) for one in ("1", "1 kb", "1MB")] == [1, 1024, 1 << 20]
    for wrong in ("", "x", "1 week", "-1 s", "1.5 h"):
        with pytest.raises(ValueError, match="a duration"):
            duration_ms(wrong)
