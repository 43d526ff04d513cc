"""Live rows: server-sent events that go on where they stopped, slow clients, clients that go, rights that end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from qanat.model.api import Api, LiveLimits

from .conftest import reading

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
