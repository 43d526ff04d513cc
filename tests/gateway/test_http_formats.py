"""Bodies over HTTP in every form: CSV, Arrow, compressed; what does not fit is buried row by row, the others stored."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest

from qanat.codec.arrow_body import Limits
from qanat.gateway.http.codings import decompress
from qanat.gateway.http.problems import RefusedError

NOW = 1_700_000_000_000
SECONDS = NOW // 1000
STREAM, FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
ROWS = [{"client_id": f"h{i}", "timestamp": SECONDS - i, "consumption": i / 2} for i in range(3)]
ALL_GOOD = {"accepted": 3, "dead_letters": 0}


def arrow(rows: list[dict[str, Any]] | pa.Table, file: bool = False, compression: str | None = None) -> bytes:
    table = pa.Table.from_pylist(rows) if isinstance(rows, list) else rows
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return (
        "client_id,timestamp,consumption\r\n"
        + "".join("{client_id},{timestamp},{consumption}\r\n".format(**row) for row in rows)
    ).encode()


def post(
    running: Any, body: bytes, kind: str, stream: str = "power", query: str = "", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{running.url}/streams/{stream}{query}", content=body, headers={"content-type": kind, **named})


JSON_LINES = b"\n".join(json.dumps(row).encode() for row in ROWS)
FORMS = {
    "application/json": json.dumps(ROWS).encode(),
    "application/x-ndjson": JSON_LINES,
    "text/csv": as_csv(ROWS),
    "text/csv; charset=utf-8; header=present": as_csv(ROWS),
    STREAM: arrow(ROWS),
    FILE: arrow(ROWS, file=True),
}
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "gzip, zstd": lambda data: pa.compress(gzip.compress(data), codec="zstd", asbytes=True),
    "identity": lambda data: data,
}


@pytest.mark.parametrize("coding", ["", *CODINGS])
@pytest.mark.parametrize("kind", list(FORMS))
def test_every_form_in_every_coding_is_the_same_three_rows(start: Callable[..., Any], kind: str, coding: str) -> None:
    running = start()
    if coding:
        answer = post(running, CODINGS[coding](FORMS[kind]), kind, content_encoding=coding)
    else:
        answer = post(running, FORMS[kind], kind)
    assert (answer.status_code, answer.json()) == (200, ALL_GOOD)
    assert running.log.rows("power") == ROWS


def test_gzip_of_several_members_and_deflate_without_a_frame(start: Callable[..., Any]) -> None:
    running = start()
    first, second = JSON_LINES.split(b"\n", 1)
    body = gzip.compress(first + b"\n") + gzip.compress(second)
    assert post(running, body, "application/x-ndjson", content_encoding="gzip").json() == ALL_GOOD
    bare = zlib.compressobj(wbits=-15)
    body = bare.compress(JSON_LINES) + bare.flush()
    assert post(running, body, "application/x-ndjson", content_encoding="deflate").json() == ALL_GOOD
    assert running.log.rows("power") == ROWS + ROWS


@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
def test_a_body_that_would_grow_without_end_is_refused_in_bounded_memory(
    start: Callable[..., Any], coding: str
) -> None:
    running = start(body_limits=Limits(bytes=1 << 20))
    bomb = CODINGS[coding](b" " * (8 << 20))
    assert len(bomb) < 20_000
    answer = post(running, bomb, "application/json", content_encoding=coding)
    assert answer.status_code == 413
    assert "compression" in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
def test_a_compressed_body_that_is_cut_or_is_none_is_400(start: Callable[..., Any], coding: str) -> None:
    running = start()
    whole = CODINGS[coding](JSON_LINES)
    for body in (whole[:-1], whole[: len(whole) // 2], b"\x00nonsense", whole + b"!"):
        assert post(running, body, "application/json", content_encoding=coding).status_code == 400
    assert running.log.stored == []


def test_codings_that_are_not_taken_are_415(start: Callable[..., Any]) -> None:
    running = start()
    for coding in ("br", "gzip, gzip, gzip"):
        answer = post(running, b"{}", "application/json", content_encoding=coding)
        assert answer.status_code == 415
        assert "gzip" in answer.json()["hint"]


# --- CSV -------------------------------------------------------------------------------------------------------------


def test_csv_finds_columns_by_name_and_buries_records_one_by_one(start: Callable[..., Any]) -> None:
    running = start()
    body = (
        b'consumption,extra,client_id\n1.5,x,"h, ""1"""\n\nmuch,x,h2\n2,x\n,,h3\n3,"over\r\ntwo lines",h4\n4,\xff,h5\n'
    )
    answer = post(running, body, "text/csv")
    content = answer.json()
    assert answer.status_code == 200
    assert (content["accepted"], content["dead_letters"]) == (3, 3)
    assert [(error["row"], error["reason"]) for error in content["errors"]] == [
        (1, 'column consumption: expected DOUBLE, found "much"'),
        (2, "expected 3 fields, found 2"),
        (5, "not UTF-8"),
    ]
    stored = [(row["client_id"], row["consumption"], row["timestamp"]) for row in running.log.rows("power")]
    assert stored == [('h, "1"', 1.5, SECONDS), ("h3", None, SECONDS), ("h4", 3.0, SECONDS)]
    assert [row["data"] for row in running.log.rows("dead_letters")] == [
        b"consumption,extra,client_id\nmuch,x,h2",
        b"consumption,extra,client_id\n2,x",
        b"consumption,extra,client_id\n4,\xff,h5",
    ]


def test_a_dead_letter_of_csv_is_a_body_that_can_be_mended_and_sent(start: Callable[..., Any]) -> None:
    running = start()
    post(running, b"client_id,consumption\nh1,much\n", "text/csv")
    letter = running.log.rows("dead_letters")[0]["data"]
    assert post(running, letter.replace(b"much", b"7"), "text/csv").json() == {"accepted": 1, "dead_letters": 0}
    assert running.log.rows("power") == [{"client_id": "h1", "timestamp": SECONDS, "consumption": 7.0}]


def test_an_empty_field_is_null_and_empty_quotes_are_an_empty_text(start: Callable[..., Any]) -> None:
    running = start()
    assert post(running, b'id\n""\n"a"\n', "text/csv", "plain").json() == {"accepted": 2, "dead_letters": 0}
    assert [row["id"] for row in running.log.rows("plain")] == ["", "a"]
    post(running, b"id,x\n,1\n", "text/csv", "plain")
    assert running.log.rows("plain")[-1]["id"] is None


def test_csv_without_a_header_line_goes_by_position_where_it_says_so(start: Callable[..., Any]) -> None:
    running = start()
    body = b"h0,%d,0.5\n" % SECONDS
    refused = post(running, body, "text/csv")
    assert refused.status_code == 400
    assert "header=absent" in refused.json()["hint"]
    assert post(running, body, "text/csv; header=absent").json() == {"accepted": 1, "dead_letters": 0}
    assert running.log.rows("power") == [{"client_id": "h0", "timestamp": SECONDS, "consumption": 0.5}]


@pytest.mark.parametrize("body", [b"", b"client_id,client_id\n1,2\n", b"client_id\n", b'"client_id\n1\n'])
def test_csv_that_has_no_rows_or_no_header_is_400(start: Callable[..., Any], body: bytes) -> None:
    assert post(start(), body, "text/csv").status_code == 400


def test_a_charset_that_is_not_utf_8_is_415(start: Callable[..., Any]) -> None:
    assert post(start(), b"id\n1\n", "text/csv; charset=latin-1", "plain").status_code == 415


# --- Arrow -----------------------------------------------------------------------------------------------------------


def test_arrow_rows_that_do_not_fit_are_buried_as_json(start: Callable[..., Any]) -> None:
    running = start()
    table = pa.table(
        {
            "client_id": pa.array(["h0", "h1", "h2", "h3"]).dictionary_encode(),
            "timestamp": pa.array([SECONDS, 2**64 - 1, SECONDS + 3600, None], pa.uint64()),
            "consumption": pa.array([1, 2, 3, 4], pa.int8()),
            "extra": pa.array([[1], [2], None, []]),
        }
    )
    content = post(running, arrow(table), STREAM).json()
    assert (content["accepted"], content["dead_letters"]) == (2, 2)
    assert [error["row"] for error in content["errors"]] == [1, 2]
    assert "column timestamp: expected BIGINT" in content["errors"][0]["reason"]
    assert "max_future_skew" in content["errors"][1]["reason"]
    assert [row["client_id"] for row in running.log.rows("power")] == ["h0", "h3"]
    assert running.log.rows("power")[1]["timestamp"] == SECONDS
    letters = [json.loads(row["data"]) for row in running.log.rows("dead_letters")]
    assert letters == [
        {"client_id": "h1", "timestamp": 2**64 - 1, "consumption": 2, "extra": [2]},
        {"client_id": "h2", "timestamp": SECONDS + 3600, "consumption": 3, "extra": None},
    ]


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("file", [False, True])
def test_arrow_with_its_own_compression(start: Callable[..., Any], file: bool, compression: str | None) -> None:
    running = start()
    body = arrow(ROWS, file, compression)
    assert post(running, body, FILE if file else STREAM).json() == ALL_GOOD
    assert running.log.rows("power") == ROWS


def test_arrow_as_polars_writes_it(start: Callable[..., Any]) -> None:
    running = start()
    frame = pl.DataFrame(ROWS).with_columns(pl.col("client_id").cast(pl.Categorical))
    for write, kind in ((frame.write_ipc_stream, STREAM), (frame.write_ipc, FILE)):
        out = io.BytesIO()
        write(out)
        assert post(running, out.getvalue(), kind).json() == ALL_GOOD
    assert running.log.rows("power") == ROWS + ROWS


BOMBS = {
    "compressed": pa.table({"id": [b"0" * (100 << 20)]}),
    "a dictionary": pa.table(
        {"id": pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["x" * 10_000])}
    ),
    "rows of nothing": pa.table({"id": pa.nulls(3_000_000)}),
    "lists of nothing": pa.table({"id": pa.array([None], pa.list_(pa.null(), 10_000_000))}),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_arrow_that_claims_more_than_it_brings_is_413(start: Callable[..., Any], name: str) -> None:
    running = start()
    body = arrow(BOMBS[name], compression="zstd")
    assert len(body) < 1 << 20
    assert post(running, body, STREAM, "plain").status_code == 413


def test_arrow_that_is_none_is_400_and_harms_nobody(start: Callable[..., Any]) -> None:
    running = start()
    whole, file = arrow(ROWS), arrow(ROWS, file=True)
    broken = whole.replace(b"h0h1h2", b"\xff\xff\xff\xff\xff\xff")
    for body in (b"", b"ARROW1", whole[: len(whole) // 2], file[:-20], b"\xff" * 100, broken):
        assert post(running, body, STREAM).status_code == 400
    assert running.log.stored == []


def test_types_that_no_column_can_be_are_refused_by_name(start: Callable[..., Any]) -> None:
    table = pa.table({"id": pa.RunEndEncodedArray.from_arrays(pa.array([10], pa.int32()), pa.array(["x"]))})
    answer = post(start(), arrow(table), STREAM, "plain")
    assert answer.status_code == 400
    assert "run_end_encoded" in answer.json()["detail"]


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-ndjson", b"bad\n" * 50 + b'{"client_id": "h"}'),
        ("text/csv", b"client_id,consumption\n" + b"h,bad\n" * 50 + b"h,1\n"),
        (STREAM, arrow([{"consumption": "bad"}] * 50 + [{"consumption": None}])),
    ],
)
def test_ten_reasons_are_told_and_all_where_all_are_asked_for(
    start: Callable[..., Any], kind: str, body: bytes
) -> None:
    running = start()
    content = post(running, body, kind).json()
    assert (content["accepted"], content["dead_letters"], len(content["errors"])) == (1, 50, 10)
    content = post(running, body, kind, query="?verdicts=all").json()
    assert [error["row"] for error in content["errors"]] == list(range(50))
    assert all(error["reason"] for error in content["errors"])
    assert post(running, body, kind, query="?verdicts=many").status_code == 400


def test_more_rows_than_a_body_may_have_are_413(start: Callable[..., Any]) -> None:
    running = start(body_limits=Limits(rows=5))
    for kind, body in (
        ("application/x-ndjson", b"{}\n" * 6),
        ("text/csv", b"id\n" + b"1\n" * 6),
        (STREAM, arrow([{"id": "1"}] * 6)),
    ):
        assert post(running, body, kind, "plain").status_code == 413


def test_options_says_what_may_be_sent_and_head_is_a_get_without_a_body(start: Callable[..., Any]) -> None:
    running = start()
    answer = httpx.options(f"{running.url}/streams/power")
    assert answer.status_code == 204
    assert "text/csv" in answer.headers["accept-post"]
    assert "zstd" in answer.headers["accept-encoding"]
    for path in ("/healthz", "/metrics"):
        answer = httpx.head(running.url + path)
        assert (answer.status_code, answer.content) == (200, b"")
    refused = httpx.get(f"{running.url}/streams/power")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_body_that_is_no_zstd_costs_no_memory() -> None:
    broken = pa.compress(b"1" * 10_000, codec="zstd", asbytes=True)[:-6] + b"\xff" * 6
    tracemalloc.start()
    try:
        for _ in range(8):
            with pytest.raises(RefusedError):
                decompress(broken, "zstd", 1 << 20)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1 << 20
