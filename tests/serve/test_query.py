"""SQL over HTTP: forms, parameters, limits, errors, clients that go away."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pyarrow as pa
import pytest

from qanat.model.api import Api, QueryLimits
from qanat.model.sections import Size

from .conftest import reading

Start = Callable[..., Any]
#: Takes minutes unless somebody ends it.
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range * b.range % 7 = 3"


def test_a_query_over_rows(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(6)])
    sql = "SELECT sensor, count(*) AS n, max(temperature) AS t FROM readings WHERE count < ? GROUP BY 1 ORDER BY 1"
    found = server.post("/v1/query", json={"sql": sql, "parameters": [5]})
    assert found.json() == {
        "rows": [
            {"sensor": "s0", "n": 2, "t": 1.5},
            {"sensor": "s1", "n": 2, "t": 2.0},
            {"sensor": "s2", "n": 1, "t": 1.0},
        ],
        "columns": [
            {"name": "sensor", "type": "string"},
            {"name": "n", "type": "int64"},
            {"name": "t", "type": "double"},
        ],
        "row_count": 3,
        "truncated": False,
    }
    assert found.headers["cache-control"] == "no-store"
    named = {"sql": "SELECT $a + 1 AS x", "parameters": {"a": 2}}
    assert server.post("/v1/query", json=named).json()["rows"] == [{"x": 3}]
    plain = server.post("/v1/query", content="SELECT 'ü' AS x", headers={"content-type": "application/sql"})
    assert plain.json()["rows"] == [{"x": "ü"}]
    params = {"sql": "SELECT höhe FROM größen", "format": "csv"}
    assert server.get("/v1/query", params=params).text == "höhe\n"
    given = {"sql": "SELECT ? AS x", "parameters": '["a"]'}
    assert server.get("/v1/query", params=given).json()["rows"] == [{"x": "a"}]


def test_every_form_has_the_same_rows(start: Start) -> None:
    server = start(log="memory")
    values = "(1, 'a', [1, 2], {'x': 1}, TIMESTAMP '2026-01-01 00:00:00'), (2, NULL, NULL, NULL, NULL)"
    sql = f"SELECT * FROM (VALUES {values}) t"
    whole = server.get("/v1/query", params={"sql": sql}).json()["rows"]
    lines = server.get("/v1/query", params={"sql": sql, "format": "ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == whole
    arrow = server.post("/v1/query", json={"sql": sql}, headers={"accept": "application/vnd.apache.arrow.stream"})
    assert pa.ipc.open_stream(arrow.content).read_all().column("col0").to_pylist() == [1, 2]
    assert server.get("/v1/query", params={"sql": sql, "format": "csv"}).text.count("\n") == 3


@pytest.mark.parametrize(
    "expression",
    [
        "1::UTINYINT", "1::UBIGINT", "170141183460469231731687303715884105727::HUGEINT", "1.5::DECIMAL(10,2)",
        "DATE '2026-01-01'", "TIME '10:00:00'", "INTERVAL 3 DAY", "INTERVAL 2 MONTH", "uuid()", "'x'::BLOB",
        "'a'::ENUM('a','b')", "now()", "map {'a': 1}", "[1, NULL]", "true", "NULL", "'NaN'::DOUBLE", "1e400::DOUBLE",
        "TIMESTAMP_NS '2026-01-01 00:00:00.123456789'", "union_value(a := 1)", "'101'::BIT", "TIMETZ '10:00:00+02'",
        "10::UHUGEINT", "[[1], [2]]",
    ],
)  # fmt: skip
def test_no_type_is_a_fault_of_the_server(start: Start, expression: str) -> None:
    server = start(log="memory")
    for form in ("json", "ndjson", "csv", "arrow"):
        answer = server.get("/v1/query", params={"sql": f"SELECT {expression} AS x", "format": form})
        assert answer.status_code in (200, 400), (form, answer.text)


def test_an_answer_that_is_the_same_is_not_sent_again(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    params = {"sql": "SELECT count(*) FROM readings"}
    tag = server.get("/v1/query", params=params).headers["etag"]
    assert server.get("/v1/query", params=params, headers={"if-none-match": tag}).status_code == 304
    server.feed("readings", [reading(1)])
    assert server.get("/v1/query", params=params, headers={"if-none-match": tag}).status_code == 200


def test_too_many_rows_are_cut_off_and_it_is_said(start: Start) -> None:
    server = start(log="memory", api=Api(query=QueryLimits(rows=1000)))
    found = server.post("/v1/query", json={"sql": "SELECT * FROM range(100000)"})
    assert (found.json()["row_count"], found.json()["truncated"], found.headers["qanat-truncated"]) == (
        1000,
        True,
        "true",
    )
    found = server.post("/v1/query", json={"sql": "SELECT * FROM range(100)", "limit": 10})
    assert (found.json()["row_count"], found.json()["truncated"]) == (10, True)
    found = server.post("/v1/query", json={"sql": "SELECT * FROM range(10)", "limit": 10})
    assert (found.json()["row_count"], found.json()["truncated"]) == (10, False)


def test_too_many_bytes_are_cut_off(start: Start) -> None:
    server = start(log="memory", api=Api(query=QueryLimits(bytes=Size(1 << 20))))
    found = server.get(
        "/v1/query", params={"sql": "SELECT repeat('x', 1000) AS x FROM range(1000000)", "format": "arrow"}
    )
    assert found.headers["qanat-truncated"] == "true"
    assert len(found.content) < 100 << 20


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM redings", "readings"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("INSERT INTO readings VALUES (1)", "only reads"),
        ("COPY readings TO '/tmp/x'", ""),
        ("SELECT * FROM read_csv('/etc/passwd')", ""),
        ("SELECT 1/'x'", ""),
        ("", ""),
        ("SELECT ?", ""),
    ],
)
def test_wrong_sql_is_a_bad_request(start: Start, sql: str, said: str) -> None:
    answer = start(log="memory").post("/v1/query", json={"sql": sql})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.text
    assert "root:" not in answer.text


def test_wrong_bodies(start: Start) -> None:
    server = start(log="memory")
    for body in ({}, {"sql": 1}, {"sql": "SELECT 1", "x": 1}, [], {"sql": "SELECT 1", "limit": 0}):
        assert server.post("/v1/query", json=body).status_code == 400
    assert server.post("/v1/query", content=b"{").status_code == 400
    assert server.post("/v1/query", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert server.post("/v1/query", content=b" " * (1 << 20) + b"x").status_code == 413
    assert server.get("/v1/query").status_code == 400
    assert server.get("/v1/query", params={"sql": "select 1", "parameters": "{"}).status_code == 400


def test_a_query_ends_with_its_time(start: Start) -> None:
    server = start(log="memory")
    began = time.monotonic()
    answer = server.post("/v1/query", json={"sql": ENDLESS, "timeout": 0.5})
    assert answer.status_code == 504
    assert time.monotonic() - began < 10
    assert server.post("/v1/query", json={"sql": "SELECT 1 AS x"}).json()["rows"] == [{"x": 1}]


def test_a_query_ends_when_its_client_goes_away(start: Start) -> None:
    server = start(log="memory", api=Api(query=QueryLimits(at_once=1)))
    body = json.dumps({"sql": ENDLESS}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = f"POST /v1/query HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        server.wait(lambda: server.post("/v1/query", json={"sql": "SELECT 1"}).status_code == 429)
    server.wait(lambda: server.post("/v1/query", json={"sql": "SELECT 1"}).status_code == 200)


def test_so_many_queries_run_side_by_side_and_others_go_on(start: Start) -> None:
    server = start(log="memory", api=Api(query=QueryLimits(at_once=2)))
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(server.post("/v1/query", json={"sql": ENDLESS, "timeout": 3}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    server.wait(lambda: len(statuses) == 4)
    assert statuses == [429] * 4
    assert httpx.get(f"{server.url}/v1/streams", timeout=5).status_code == 200
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [429] * 4 + [504] * 2
