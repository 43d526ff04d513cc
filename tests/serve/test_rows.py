"""Pages of rows: filters, order, forms, and positions that stay right while rows come in."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest

from qanat.log.base import Append, Transaction
from qanat.serve import paging

from .conftest import NOW, reading

Start = Callable[..., Any]
ROWS = "/v1/streams/readings/rows"


def pages(server: Any, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
    after: dict[str, str] = {}
    while True:
        answer = server.get(path, params={**params, **after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["rows"]
        if page["next"] is None:
            return
        after = {"after": page["next"]}


def test_rows_are_read_in_pages_while_others_come_in(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(25)])
    seen: list[int] = []
    for number, page in enumerate(pages(server, ROWS, limit=10)):
        seen += [row["count"] for row in page]
        if number < 2:
            server.feed("readings", [reading(100 + number)])
    assert seen == [*range(25), 100, 101]


def test_the_newest_come_first_where_that_is_asked(start: Start) -> None:
    server = start()
    for n in range(25):
        server.feed("readings", [reading(n)])
    seen: list[int] = []
    for number, page in enumerate(pages(server, ROWS, limit=10, order="newest")):
        seen += [row["count"] for row in page]
        server.feed("readings", [reading(100 + number)])
    assert seen == list(range(24, -1, -1))


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_pages_over_partitions_have_every_row_once_in_the_order_of_the_log(start: Start, order: str) -> None:
    server = start()
    for first in range(0, 200, 20):
        server.feed("spread", [{"id": f"k{n}", "n": n} for n in range(first, first + 20)])
    found = [row["n"] for page in pages(server, "/v1/streams/spread/rows", limit=7, order=order) for row in page]
    assert sorted(found) == list(range(200))
    batches = [n // 20 for n in found]
    assert batches == sorted(batches, reverse=order == "newest")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["temperature>=4"], [8, 9]),
        (["temperature < 1"], [0, 1]),
        (["sensor=s1"], [1, 4, 7]),
        (["sensor!=s1", "count>5"], [6, 8, 9]),
        (["ok=false"], [3]),
        (["sensor is null"], [5]),
        (["sensor is not null", "count<=2"], [0, 1, 2]),
        (["at>=2023-11-14T21:13:28Z"], [8, 9]),
        (["site=nörth"], [2]),
    ],
)
def test_conditions(start: Start, where: list[str], found: list[int]) -> None:
    server = start(log="memory")
    rows = [reading(n) for n in range(10)]
    rows[3]["ok"], rows[5]["sensor"], rows[2]["site"] = False, None, "nörth"
    server.feed("readings", rows)
    answer = server.get(ROWS, params={"where": where}).json()
    assert [row["count"] for row in answer["rows"]] == found


def test_times_and_columns(start: Start) -> None:
    server = start()
    for n in range(10):
        server.feed("readings", [reading(n)])
    params = {"since": "2023-11-14T21:13:23", "until": "2023-11-14T23:13:26+02:00", "columns": "count,sensor"}
    for order in ("oldest", "newest"):
        rows = server.get(ROWS, params={**params, "order": order}).json()["rows"]
        assert sorted(row["count"] for row in rows) == [3, 4, 5]
        assert list(rows[0]) == ["count", "sensor"]


def test_every_form_has_the_same_rows(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(3)] + [reading(3, sensor='a,"b"\nü')])
    whole = server.get(ROWS).json()
    lines = server.get(ROWS, headers={"accept": "application/x-ndjson"})
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == whole["rows"]
    assert lines.headers["qanat-position"] == whole["position"]
    arrow = server.get(ROWS, headers={"accept": "application/vnd.apache.arrow.stream"}).content
    table = pa.ipc.open_stream(arrow).read_all()
    assert table.column("count").to_pylist() == [0, 1, 2, 3]
    assert table.schema.field("at").type == pa.timestamp("ms", tz="UTC")
    import csv

    text = server.get(ROWS, params={"format": "csv"}).text
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["sensor"] for row in read] == [row["sensor"] for row in whole["rows"]]
    assert server.get("/v1/streams/größen/rows", params={"format": "csv"}).text == "höhe,ort\n"
    assert server.get(ROWS, params={"format": "ndjson", "where": "count>99"}).content == b""


def test_a_link_leads_to_the_next_page(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(3)])
    first = server.get(ROWS, params={"limit": 2, "where": "count>=0", "format": "ndjson"})
    url = httpx.URL(server.url + ROWS).join(first.links["next"]["url"])
    last = httpx.get(url)
    assert [json.loads(line)["count"] for line in last.text.splitlines()] == [2]
    assert "next" not in last.links


def test_a_page_is_not_sent_again_until_rows_have_come(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    tag = server.get(ROWS).headers["etag"]
    assert server.get(ROWS, headers={"if-none-match": tag}).status_code == 304
    assert server.get(ROWS, params={"limit": 1}, headers={"if-none-match": tag}).status_code == 200
    server.feed("readings", [reading(1)])
    assert server.get(ROWS, headers={"if-none-match": tag}).status_code == 200


def test_rows_of_an_upsert_stream_say_what_they_do(start: Start) -> None:
    server = start()
    schema = pa.schema([("id", pa.string()), ("n", pa.int64()), ("__op", pa.int8())])
    rows = pa.record_batch([["a", "b", "a"], [1, 2, None], [None, None, 3]], schema=schema)
    server.log.submit(Transaction([Append("totals", 0, rows, NOW)])).result()
    found = server.get("/v1/streams/totals/rows").json()["rows"]
    assert [(row["id"], row["n"], row["__op"]) for row in found] == [
        ("a", 1, "upsert"),
        ("b", 2, "upsert"),
        ("a", None, "delete"),
    ]


def test_a_page_looks_at_so_many_rows_and_no_more(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "SCANNED", 50)
    server = start()
    for first in range(0, 200, 10):
        server.feed("readings", [reading(n) for n in range(first, first + 10)])
    for order in ("oldest", "newest"):
        found = list(pages(server, ROWS, where="count=120", order=order))
        assert len(found) >= 4
        assert [row["count"] for page in found for row in page] == [120]


TOKEN_OF_NOTHING = base64.urlsafe_b64encode(b"[1,0,0,[0]]").decode()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"where": "temprature>1"}, "the columns are at, site"),
        ({"where": "temperature>warm"}, "temperature (double)"),
        ({"where": "count=1.5"}, "count (int32)"),
        ({"where": "ok=maybe"}, "expected true or false"),
        ({"where": "at>yesterday"}, "at (timestamp"),
        ({"where": "temperature"}, "no condition"),
        ({"where": [f"count>{n}" for n in range(21)]}, "21 conditions"),
        ({"since": "yesterday"}, "since"),
        ({"columns": "at,nothing"}, "no column 'nothing'"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"order": "best"}, "order"),
        ({"after": "nonsense"}, "no position"),
        ({"after": "ünsinn"}, "no position"),
        ({"after": TOKEN_OF_NOTHING}, "no position"),
        ({"sensor": "s1"}, "where=sensor"),
        ({"format": "xml"}, "format"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(start: Start, params: dict[str, Any], said: str) -> None:
    server = start(log="memory")
    answer = server.get(ROWS, params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.text
    assert answer.json()["hint"]


def test_a_position_counts_for_its_stream_and_order_only(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    token = server.get(ROWS).json()["position"]
    assert server.get(ROWS, params={"after": token}).status_code == 200
    assert server.get(ROWS, params={"after": token, "order": "newest"}).status_code == 400
    assert server.get("/v1/streams/größen/rows", params={"after": token}).status_code == 400


def test_what_nobody_can_write_is_not_acceptable(start: Start) -> None:
    server = start(log="memory")
    assert server.get(ROWS, headers={"accept": "image/png"}).status_code == 406
    assert server.get(ROWS, headers={"accept": "image/png, */*;q=0.1"}).status_code == 200
    wanted = {"accept": "application/json;q=0.5, text/csv"}
    assert server.get(ROWS, headers=wanted).headers["content-type"] == "text/csv; charset=utf-8"


def test_rows_are_appended_and_answered_when_durable(start: Start) -> None:
    server = start()
    key = {"idempotency-key": "one"}
    for _ in range(2):
        answer = server.post(ROWS, json=[reading(0)], headers=key)
        assert answer.json() == {"accepted": 1, "dead_letters": 0}
    assert answer.headers["idempotency-replayed"] == "true"
    body = "\n".join(json.dumps(reading(n)) for n in (1, 2))
    server.post(ROWS, content=body, headers={"content-type": "application/x-ndjson"})
    assert [row["count"] for row in server.get(ROWS).json()["rows"]] == [0, 1, 2]
    assert server.post("/v1/streams/größen/rows", json={"höhe": 1.5, "ort": "Köln"}).json()["accepted"] == 1
    assert server.get("/v1/streams/größen/rows", params={"where": "höhe=1.5"}).json()["rows"][0]["ort"] == "Köln"
    assert server.post("/v1/streams/none/rows", json={}).status_code == 404
    assert server.post("/v1/streams/totals/rows", json={}).status_code == 403
