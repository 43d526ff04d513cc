"""GET /v1/aggregate on a real socket: answers, hits and misses, who may, what ends answers, what is refused."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from tests.serve.aggregate.conftest import NOW, Row, Server, Start

from qanat.log.base import Log
from qanat.model.sections import Duration
from qanat.model.serve import Aggregate
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

HOUR = 3_600_000
ROWS: list[Row] = [
    ("north", 1, "s1", NOW - 1_000_000, 10.0),
    ("north", 1, "s1", NOW - 2000, 20.0),
    ("north", 2, "s2", NOW - 1000, 30.0),
    ("south", 1, "s3", NOW - 500, 40.0),
]


@pytest.fixture
def server(start: Start) -> Server:
    running = start()
    running.append(ROWS)
    running.catch_up()
    return running


def lines(answer: httpx.Response) -> list[tuple[dict[str, Any], list[tuple[Any, ...]]]]:
    assert answer.status_code == 200, answer.text
    return [
        (group["by"], [tuple(line[name] for name in ("count", "min", "max", "avg")) for line in group["windows"]])
        for group in answer.json()["groups"]
    ]


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert content["hint"]
    return content


def test_the_last_quarter_of_an_hour(server: Server) -> None:
    answer = server.get(site="north", window="15 min")
    assert lines(answer) == [({}, [(2, 20.0, 30.0, 25.0)])]
    content = answer.json()
    assert content["from"] == "2023-11-14T21:58:20.000Z"
    assert content["to"] == "2023-11-14T22:13:20.000Z"
    assert content["newest"] == "2023-11-14T22:13:19.000Z"
    assert (content["rows"], content["source"], content["as_of"]) == (2, "recent", {"0": 4, "1": 0})


def test_groups_and_windows(server: Server) -> None:
    answer = server.get(**{"by": "site,field", "window": "30 min", "from": "-1h"})
    two = (0, None, None, None)
    assert lines(answer) == [
        ({"site": "north", "field": 1}, [two, (1, 10.0, 10.0, 10.0), (1, 20.0, 20.0, 20.0)]),
        ({"site": "north", "field": 2}, [two, two, (1, 30.0, 30.0, 30.0)]),
        ({"site": "south", "field": 1}, [two, two, (1, 40.0, 40.0, 40.0)]),
    ]
    starts = [line["start"] for line in answer.json()["groups"][0]["windows"]]
    assert starts == [f"2023-11-14T{text}:00.000Z" for text in ("21:00", "21:30", "22:00")]
    few = server.get(**{"by": "site", "window": "30 min", "from": "-1h", "empty": "false"})
    assert [len(group[1]) for group in lines(few)] == [2, 1]


def test_nothing_there(server: Server) -> None:
    assert lines(server.get(site="west")) == [({}, [(0, None, None, None)])]
    assert lines(server.get(site="west", by="sensor")) == []
    assert server.get(site="west").json()["newest"] is None


def test_the_same_question_is_a_hit_until_its_time_is_over(server: Server) -> None:
    first = server.get(window="60 min", site="north")
    again = server.get(site="north", window="1h")
    assert [one.headers["cache-status"] for one in (first, again)] == ["qanat; fwd=miss", "qanat; hit"]
    assert again.content == first.content
    assert float(again.headers["server-timing"].removeprefix("total;dur=")) < 1000
    server.append([("north", 1, "s1", NOW - 1, 90.0)])
    server.catch_up()
    server.clock.now += 119_000
    assert server.get(site="north", window="1h").content == first.content
    server.clock.now += 2_000
    later = server.get(site="north", window="1h")
    assert later.headers["cache-status"] == "qanat; fwd=miss"
    assert lines(later)[0][1][0][:3] == (4, 10.0, 90.0)


def test_a_new_row_ends_the_answers_that_look_at_its_series(start: Start) -> None:
    server = start(invalidate=True, live=True)
    server.append(ROWS)
    north, south, everything = {"site": "north"}, {"site": "south"}, {"window": "2h"}
    wait_for(lambda: server.aggregates.follower.recent("readings") is not None)  # type: ignore[union-attr]
    wait_for(lambda: server.get(**{"from": str(NOW - 5 * 60_000)}).json()["rows"] == 3)
    for question in (north, south, everything):
        server.get(**question)
        assert server.get(**question).headers["cache-status"] == "qanat; hit"
    server.append([("north", 1, "s1", NOW - 1, 90.0)])
    wait_for(lambda: lines(server.get(**north))[0][1][0][0] == 4)
    wait_for(lambda: lines(server.get(**everything))[0][1][0][0] == 5)
    assert server.get(**south).headers["cache-status"] == "qanat; hit"


def wait_for(condition: Any) -> None:
    ending = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ending, "it did not come about"
        time.sleep(0.02)


def test_etags(server: Server) -> None:
    first = server.get(**{"from": "-1h", "to": "-1s"})
    tag = first.headers["etag"]
    same = server.get(**{"from": "-1h", "to": "-1s", "headers": {"if-none-match": tag}})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert server.get(**{"from": "-1h", "to": "-2s"}).headers["etag"] != tag
    server.append([("north", 1, "s1", NOW - 1, 90.0)])
    server.catch_up()
    server.clock.now += 121_000
    changed = server.get(**{"from": "-1h", "to": "-1s", "headers": {"if-none-match": tag}})
    assert changed.status_code == 200


def test_what_is_not_in_memory_is_answered_by_sql(server: Server) -> None:
    old = server.get(**{"from": "-30d", "by": "site"})
    assert lines(old) == [({"site": "north"}, [(3, 10.0, 30.0, 20.0)]), ({"site": "south"}, [(1, 40.0, 40.0, 40.0)])]
    content = old.json()
    assert (content["source"], content["as_of"]) == ("sql", {"0": 4, "1": 0})
    assert content["newest"] == "2023-11-14T22:13:19.500Z"
    days = server.get(**{"from": "-2d", "window": "1d", "tz": "Europe/Berlin", "field": "1"})
    assert [line[0] for line in lines(days)[0][1]] == [0, 0, 3]
    assert days.json()["source"] == "sql"


def test_by_sql_before_rows_have_been_read(start: Start) -> None:
    server = start()
    server.append(ROWS)
    answer = server.get(window="15 min")
    assert answer.json()["source"] == "sql"
    server.catch_up()
    server.clock.now += 121_000
    assert server.get(window="17 min").json()["source"] == "recent"


def test_repeated_and_late_rows_and_those_without_a_value(server: Server) -> None:
    late: Row = ("north", 1, "s1", NOW - HOUR + 5, 7.0)
    server.append([late, late, ("north", 1, "s1", NOW - 3, None), ("north", 1, "s1", NOW - 3, float("nan"))])
    server.append([("north", 1, "s1", NOW - 3, float("inf")), ("north", 1, "s1", None, 1.0)], partition=1)
    server.catch_up()
    for start in ("-1h", "-30d"):  # from memory and by SQL
        content = server.get(**{"site": "north", "from": start, "functions": "count,max,first"}).json()
        assert content["left_out"] == 3
        (line,) = content["groups"][0]["windows"]
        assert (line["count"], line["max"], line["first"]) == (5, 30.0, 7.0)


def test_a_sum_beyond_all_numbers_is_null(server: Server) -> None:
    server.append([("big", 1, "b", NOW - 1, 1e308)] * 3)
    server.catch_up()
    content = server.get(site="big", functions="sum,max").json()
    assert content["groups"][0]["windows"][0]["sum"] is None
    assert content["groups"][0]["windows"][0]["max"] == 1e308


def test_refusals(server: Server) -> None:
    assert "did you mean sensor" in is_problem(server.get(senser="s1"), 400)["detail"]
    assert "no aggregate 'nope'" in is_problem(server.get("/v1/aggregate/nope"), 404)["detail"]
    assert is_problem(server.get("/v1/aggregates"), 404)["hint"] == "there are: readings"
    assert is_problem(server.get(**{"from": "-1d", "window": "1s"}), 400)["hint"] == "window=10 s"
    many = server.get(**{"from": "-1h", "window": "1s", "by": "sensor"})
    assert many.status_code == 200  # 3 x 3,600
    url = f"http://127.0.0.1:{server.gateway.http_port}/v1/aggregate"
    assert httpx.post(url).status_code == 405
    assert httpx.head(url).headers["content-length"] != "0"
    assert httpx.head(url).content == b""


def test_too_many_lines(server: Server) -> None:
    server.append([("west", 1, f"w{n}", NOW - 1, 1.0) for n in range(40)])
    server.catch_up()
    content = is_problem(server.get(**{"from": "-1h", "window": "2s", "by": "sensor"}), 400)
    assert "77,400 lines" in content["detail"] or "lines; the most are 50,000" in content["detail"]
    assert "empty=false" in content["hint"]
    assert server.get(**{"from": "-1h", "window": "2s", "by": "sensor", "empty": "false"}).status_code == 200


def test_who_may_ask(start: Start) -> None:
    reader = User("reader", hash_password("pw", Cost.DEVICE), (), ("readings",))
    other = User("other", hash_password("pw", Cost.DEVICE), (), ("power",))
    server = start(users=(reader, other))
    server.append(ROWS)
    server.catch_up()
    url = f"http://127.0.0.1:{server.gateway.http_port}/v1/aggregate"
    assert httpx.get(url, auth=("reader", "pw")).status_code == 200
    for _ in range(2):  # what is kept is nobody's who may not have it
        assert "read:readings" in is_problem(httpx.get(url, auth=("other", "pw")), 403)["hint"]
        is_problem(httpx.get(url), 401)
    key = server.key("read:readings")
    assert httpx.get(url, headers={"x-api-key": key}).status_code == 200


def test_pages_of_other_origins_take_the_long_way_to_the_same_answer(server: Server) -> None:
    plain, page = server.get(site="north"), server.get(site="north", headers={"origin": "https://farm.example"})
    assert page.status_code == 200
    assert page.content == plain.content
    document = server.get("/openapi.json").json()
    names = {one["name"] for one in document["paths"]["/v1/aggregate"]["get"]["parameters"]}
    assert {"window", "by", "functions", "from"} <= names


def test_no_aggregate_is_declared(start: Start) -> None:
    server = start(aggregates={})
    assert "qanat.yaml" in is_problem(server.get(), 404)["hint"]


def test_the_time_to_live_is_the_aggregates_own(start: Start) -> None:
    short = Aggregate(stream="readings", value="v", dimensions=("site",), ttl=Duration(1000))
    server = start(aggregates={"short": short})
    server.append(ROWS)
    server.catch_up()
    assert server.get("/v1/aggregate/short").headers["cache-status"] == "qanat; fwd=miss"
    assert server.get("/v1/aggregate/short").headers["cache-status"] == "qanat; hit"
    server.clock.now += 1001
    assert server.get("/v1/aggregate/short").headers["cache-status"] == "qanat; fwd=miss"


def test_metrics(server: Server) -> None:
    for _ in range(3):
        server.get()
    server.get(nope="x")
    value = server.metrics.registry.get_sample_value
    counts = {name: value("qanat_aggregate_seconds_count", {"outcome": name}) for name in ("hit", "miss", "refused")}
    assert counts == {"hit": 2, "miss": 1, "refused": 1}
    assert value("qanat_aggregate_made_seconds_count", {"source": "recent"}) == 1
    assert (value("qanat_aggregate_recent_bytes", {"aggregate": "readings"}) or 0) > 0


def test_partitions_together(server: Server, log: Log) -> None:
    server.append([("north", 1, "s1", NOW - 10, 50.0)], partition=1)
    server.catch_up()
    answer = server.get(site="north", window="15 min", functions="count,first,last,p50")
    (line,) = answer.json()["groups"][0]["windows"]
    assert [line[name] for name in ("count", "first", "last", "p50")] == [3, 20.0, 50.0, 30.0]


def test_what_another_cache_server_keeps_is_a_hit_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a server are not at hand: `peek` finds none, `fetch` does."""
    aside = server.aggregates._aside
    monkeypatch.setattr(type(aside), "peek", lambda *_: None)
    told = [server.get(site="north").headers["cache-status"] for _ in range(2)]
    assert told == ["qanat; fwd=miss", "qanat; hit"]
