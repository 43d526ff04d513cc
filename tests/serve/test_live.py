"""Live rows: server-sent events that go on where they stopped, slow clients, clients that go, rights that end."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pyarrow as pa
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from qanat.log.base import Append, Transaction
from qanat.model.api import Api, LiveLimits
from qanat.model.arrow import schema_of
from qanat.model.sections import Duration
from qanat.model.streams import CHANGE, DELETED

from .conftest import STREAMS, reading

Start = Callable[..., Any]
LIVE = "/v1/streams/readings/rows/live"


class Events:
    """The events of one connection, one after the other."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def read(self) -> dict[str, str]:
        """The next event; comments are `{"comment": ...}`."""
        found: dict[str, str] = {}
        for line in self._lines:
            if not line and found:
                return found
            if line.startswith(":"):
                return {"comment": line}
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
        raise EOFError

    def row(self) -> dict[str, Any]:
        while True:
            event = self.read()
            if event.get("event") == "row":
                return json.loads(event["data"]) | {"id": event["id"]}


@contextmanager
def listening(server: Any, path: str = LIVE, **more: Any) -> Iterator[Events]:
    with httpx.stream("GET", server.url + path, timeout=30, **more) as response:
        assert response.status_code == 200, response.read()
        events = Events(response)
        opening = events.read()
        assert opening["event"] == "open"
        assert json.loads(opening["data"])["position"] == opening["id"]
        events.opened = opening["id"]  # type: ignore[attr-defined]
        yield events


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    ending = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ending, "it did not come about"
        time.sleep(0.01)


def test_rows_come_as_they_are_stored(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    with listening(server) as events:
        assert events.response.headers["content-type"].startswith("text/event-stream")
        assert events.response.headers["cache-control"] == "no-store"
        server.feed("readings", [reading(1), reading(2)])
        found = [events.row(), events.row()]
    assert [(row["offset"], row["row"]["count"]) for row in found] == [(1, 1), (2, 2)]


def test_who_comes_again_loses_nothing_and_sees_nothing_twice(start: Start) -> None:
    server = start()
    stop = threading.Event()

    def feed() -> None:
        number = 0
        while not stop.is_set():
            server.feed("spread", [{"id": f"k{n % 50}", "n": n} for n in range(number, number + 20)])
            number += 20

    seen: list[int] = []
    last = ""
    with listening(server, "/v1/streams/spread/rows/live?from=earliest") as events:
        last = events.opened  # type: ignore[attr-defined]
    thread = threading.Thread(target=feed)
    thread.start()
    try:
        for _ in range(8):
            with listening(server, "/v1/streams/spread/rows/live", headers={"last-event-id": last}) as events:
                for _ in range(137):
                    row = events.row()
                    seen.append(row["row"]["n"])
                    last = row["id"]
    finally:
        stop.set()
        thread.join()
    total = sum(server.log.status()["spread"].ends.values())
    with listening(server, "/v1/streams/spread/rows/live", headers={"last-event-id": last}) as events:
        while len(seen) < total:
            seen.append(events.row()["row"]["n"])
    assert sorted(seen) == list(range(total))


def test_the_position_of_a_page_goes_on_live(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(5)])
    position = server.get("/v1/streams/readings/rows", params={"limit": 3}).json()["position"]
    with listening(server, params={"from": position}) as events:
        assert [events.row()["row"]["count"] for _ in range(2)] == [3, 4]


def test_rows_of_some_keys_only(start: Start) -> None:
    server = start()
    with listening(server, "/v1/streams/spread/rows/live?key=k1&key=ü/2") as events:
        server.feed("spread", [{"id": key, "n": n} for n, key in enumerate(["k0", "k1", "ü/2", "k3", "k1"])])
        found = [events.row() for _ in range(3)]
    assert sorted((row["key"], row["row"]["n"]) for row in found) == [("k1", 1), ("k1", 4), ("ü/2", 2)]


def live_path(stream: str, **query: Any) -> str:
    return f"/v1/streams/{quote(stream)}/rows/live?{urlencode(query, doseq=True)}"


CHOSEN: list[tuple[str, dict[str, Any]]] = [
    ("readings", {"where": "count>=7"}),
    ("readings", {"where": ["sensor=s1", "temperature<3"]}),
    ("readings", {"where": "ok is null"}),
    ("readings", {"where": "at>=2023-11-14 21:13:25Z"}),
    ("readings", {"since": "2023-11-14T21:13:22", "until": "2023-11-14T21:13:26"}),
    ("readings", {"where": "sensor=s0", "since": "2023-11-14T21:13:22"}),
    ("spread", {"where": "n>=4"}),
    ("spread", {"where": "id=ü/2"}),
    ("größen", {"where": "höhe>1"}),
]


@pytest.mark.parametrize(("stream", "query"), CHOSEN)
def test_live_rows_are_chosen_as_those_of_pages_are(start: Start, stream: str, query: dict[str, Any]) -> None:
    """What was stored before, and what comes then, in pieces."""
    server = start()
    rows: dict[str, list[dict[str, Any]]] = {
        "readings": [reading(n, **({"ok": None} if n % 4 == 0 else {})) for n in range(10)],
        "spread": [{"id": ["a", "ü/2", "c"][n % 3], "n": n} for n in range(9)],
        "größen": [{"höhe": n / 2, "ort": "Köln"} for n in range(6)],
    }
    server.feed(stream, rows[stream][:4])
    last = {"spread": {"id": "ü/2", "n": 99}, "größen": {"höhe": 99.0}}.get(
        stream, reading(5, count=99, sensor=None, ok=None)
    )
    with listening(server, live_path(stream, **query, **{"from": "earliest"})) as events:
        for row in rows[stream][4:]:
            server.feed(stream, [row])
        pages = server.get(f"/v1/streams/{quote(stream)}/rows", params=query).json()["rows"]
        assert 0 < len(pages) < len(rows[stream])
        found = [events.row()["row"] for _ in pages]
        server.feed(stream, [last])  # nothing else comes before it
        more = server.get(f"/v1/streams/{quote(stream)}/rows", params=query).json()["rows"]
        if len(more) > len(pages):
            assert events.row()["row"] in more
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, pages))


def test_a_row_that_deletes_is_chosen_by_what_it_holds(start: Start) -> None:
    server = start()
    stream = STREAMS["totals"]
    schema = schema_of((column.name, column.type) for column in stream.columns).append(pa.field(CHANGE, pa.int8()))
    stored = pa.record_batch([["a", "b", "a"], [1, 2, 1], [0, 0, DELETED]], schema=schema)
    server.log.submit(Transaction([Append("totals", 0, stored, server.now)])).result()
    with listening(server, live_path("totals", where="id=a", **{"from": "earliest"})) as events:
        assert [events.row()["row"] for _ in range(2)] == [{"id": "a", "n": 1}, None]


@pytest.mark.parametrize(
    ("stream", "query"),
    [
        ("readings", {"where": "nothing=1"}),
        ("readings", {"where": "count>many"}),
        ("readings", {"where": ["count>1"] * 21}),
        ("readings", {"since": "yesterday"}),
        ("spread", {"since": "2023-11-14T21:13:22"}),
        ("none", {"where": "count>1"}),
    ],
)
def test_a_filter_is_refused_as_that_of_a_page_is(start: Start, stream: str, query: dict[str, Any]) -> None:
    server = start(log="memory")
    page = server.get(f"/v1/streams/{stream}/rows", params=query)
    live = server.get(live_path(stream, **query))
    assert page.status_code in (400, 404)
    assert (live.status_code, live.json()) == (page.status_code, page.json())
    url = f"ws://127.0.0.1:{server.port}/v1/streams/{stream}/ws?{urlencode({'from': 'latest', **query}, doseq=True)}"
    with pytest.raises(InvalidStatus) as refused:
        connect(url)
    assert refused.value.response.status_code == page.status_code
    if stream != "none":
        assert json.loads(refused.value.response.body or b"") == page.json()


def test_who_is_sent_nothing_still_moves_on(start: Start) -> None:
    """He does not look at the same rows again when he comes again, and loses none."""
    server = start(api=Api(live=LiveLimits(heartbeat=Duration(50))))
    path = live_path("readings", where="count>=1000")
    with listening(server, path) as events:
        opened = events.opened  # type: ignore[attr-defined]
        server.feed("readings", [reading(n) for n in range(1000)])
        last = opened
        for line in itertools.islice(events._lines, 500):
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
                break
    server.feed("readings", [reading(1000)])
    with listening(server, path, headers={"last-event-id": last}) as events:
        assert events.opened == last  # type: ignore[attr-defined]
        row = events.row()
    assert (row["offset"], row["row"]["count"]) == (1000, 1000)
    position = server.get("/v1/streams/readings/rows", params={"limit": 1000}).json()["position"]
    assert last == position


@pytest.mark.parametrize("version", ["", "/v1"])
def test_the_websocket_takes_the_same_filters(start: Start, version: str) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(10)])
    query = {"from": "earliest", "where": ["count>=3", "sensor=s0"], "until": "2023-11-14T21:13:28"}
    path = f"ws://127.0.0.1:{server.port}{version}/streams/readings/ws"
    with connect(f"{path}?{urlencode(query, doseq=True)}") as web:
        assert [json.loads(web.recv(timeout=20))["row"]["count"] for _ in range(2)] == [3, 6]
        others = [reading(8, sensor="s0", count=32), reading(7, sensor="s1", count=34)]
        server.feed("readings", [*others, reading(7, sensor="s0", count=33)])
        assert json.loads(web.recv(timeout=20))["row"]["count"] == 33
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{path}?where=count>3")
    assert "where= without from=" in (refused.value.response.body or b"").decode()


def test_a_quiet_connection_gets_a_sign(start: Start) -> None:
    from qanat.model.sections import Duration

    server = start(api=Api(live=LiveLimits(heartbeat=Duration(50))))
    with listening(server) as events:
        assert events.read() == {"comment": ": heartbeat"}
        assert events.read() == {"comment": ": heartbeat"}


def test_who_goes_away_is_forgotten(start: Start) -> None:
    server = start()
    outlets = server.context.outlets
    for _ in range(3):
        with listening(server):
            assert outlets._readers["readings"].is_wanted
        until(lambda: not outlets._readers["readings"].is_wanted)


def test_who_reads_too_slowly_costs_no_memory_and_is_cut_at_last(start: Start) -> None:
    from qanat.model.sections import Duration

    server = start(api=Api(live=LiveLimits(stall=Duration(1500))), max_body_bytes=64 << 20)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET {LIVE} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert b"200" in slow.recv(100)
        outlets = server.context.outlets
        until(lambda: "readings" in outlets._readers)
        lives = server.lives()
        for first in range(0, 60_000, 10_000):
            server.feed("readings", [reading(n % 1000, sensor="x" * 200) for n in range(first, first + 10_000)])
            assert all(len(live._rows) <= 1000 for live in lives)
        until(lambda: not outlets._readers["readings"].is_wanted)
    with listening(server, params={"from": "earliest"}) as events:  # others are served as ever
        assert events.row()["offset"] == 0


def test_rows_that_retention_deleted_are_told(start: Start) -> None:
    server = start()
    position = server.get("/v1/streams/readings/rows").json()["position"]
    server.feed("readings", [reading(0), reading(1)])
    outlets = server.context.outlets
    before = outlets.starts
    outlets.starts = lambda stream: {0: 1}
    try:
        with listening(server, headers={"last-event-id": position}) as events:
            gap = events.read()
    finally:
        outlets.starts = before
    assert (gap["event"], json.loads(gap["data"])) == ("gap", {"lost": [{"partition": 0, "from": 0, "to": 1}]})


def test_a_revoked_key_ends_open_connections(start: Start) -> None:
    server = start()
    text = server.key("watcher", "read:readings", "write:readings")
    other = server.key("other", "read:*")
    server.wait_until_demanded()
    headers = {"authorization": f"Bearer {text}"}
    url = f"ws://127.0.0.1:{server.port}/v1/streams/readings/ws?from=latest"
    with (
        listening(server, headers=headers) as events,
        listening(server, headers={"x-api-key": other}) as others,
        connect(url, additional_headers=headers) as web,
    ):
        server.keyring.revoke(["watcher"])
        assert events.read()["event"] == "end"
        with pytest.raises(EOFError):
            events.read()
        from websockets.exceptions import ConnectionClosed

        with pytest.raises(ConnectionClosed):
            web.recv(timeout=10)
        assert server.get("/v1/streams", headers=headers).status_code == 401
        server.feed("readings", [reading(0)], headers={"x-api-key": server.key("w", "write:*")})
        assert others.row()["row"]["count"] == 0


def test_a_key_that_ends_by_itself_ends_its_connections(start: Start) -> None:
    server = start()
    text = server.key("short", "read:readings", expires_at=server.now + 1000)
    server.wait_until_demanded()
    with listening(server, headers={"x-api-key": text}) as events:
        server.now += 1000
        assert events.read()["event"] == "end"
    assert server.get("/v1/streams", headers={"x-api-key": text}).status_code == 401


def test_there_are_so_many_live_connections_and_no_more(start: Start) -> None:
    server = start(api=Api(live=LiveLimits(connections=1)))
    with listening(server):
        answer = server.get(LIVE)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "5"
    until(lambda: not server.context.outlets._readers["readings"].is_wanted)
    with listening(server):
        pass


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/streams/none/rows/live", 404),
        (f"{LIVE}?from=nonsense", 400),
        (f"{LIVE}?form=latest", 400),
    ],
)
def test_wrong_requests(start: Start, path: str, status: int) -> None:
    answer = start(log="memory").get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_head_of_a_live_stream_ends(start: Start) -> None:
    assert httpx.head(start(log="memory").url + LIVE, timeout=10).status_code == 200


def test_rows_go_both_ways_over_the_websocket_of_v1(start: Start) -> None:
    server = start()
    with connect(f"ws://127.0.0.1:{server.port}/v1/streams/readings/ws?from=latest") as web:
        web.send(json.dumps(reading(7)))
        told = [json.loads(web.recv(timeout=20)) for _ in range(2)]
    acks = [one for one in told if "ack" in one]
    rows = [one for one in told if "row" in one]
    assert (acks[0]["accepted"], rows[0]["row"]["count"]) == (1, 7)
