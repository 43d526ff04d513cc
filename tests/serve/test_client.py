"""The client against a real server."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import qanat
from qanat.errors import ConfigError
from qanat.model.api import Api, LiveLimits, QueryLimits
from qanat.model.sections import Duration
from qanat.serve.client import ApiError

from .conftest import reading

Start = Callable[..., Any]


def test_rows_queries_and_what_there_is(start: Start) -> None:
    server = start()
    client = qanat.connect(server.url)
    assert client.rows("readings").num_rows == 0
    assert client.send("readings", [reading(n) for n in range(25)]).accepted == 25
    table = client.rows("readings", where=["count>=5"], columns=["at", "count"])
    assert table.column("count").to_pylist() == list(range(5, 25))
    assert table.schema.field("at").type == pa.timestamp("ms", tz="UTC")
    assert client.rows("readings", order="newest", limit=3).column("count").to_pylist() == [24, 23, 22]
    assert [one.num_rows for one in client.pages("readings", page=10)] == [10, 10, 5]
    found = client.query("SELECT max(count) AS m FROM readings WHERE sensor = ?", ["s1"])
    assert found.to_pylist() == [{"m": 22}]
    assert client.query("SELECT $a AS x", {"a": "ü"}).to_pylist() == [{"x": "ü"}]
    assert client.stream("größen")["columns"][0]["name"] == "höhe"
    assert len(client.streams()) == 6
    assert client.sites()[0]["site"] == "north"
    assert client.pipelines() == []


def test_arrow_and_unicode_are_sent(start: Start) -> None:
    client = qanat.connect(start().url)
    at = dt.datetime(2023, 11, 14, 21, 0, tzinfo=dt.UTC)
    table = pa.table({"at": pa.array([at], pa.timestamp("ms", tz="UTC")), "temperature": [1.5]})
    assert client.send("readings", table).accepted == 1
    assert client.rows("readings").column("at").to_pylist() == [at]
    sent = client.send("größen", [{"höhe": 2.5, "ort": "Köln"}, {"höhe": "hoch"}])
    assert (sent.accepted, sent.dead_letters) == (1, 1)
    assert sent.errors[0]["row"] == 1


def test_a_repeated_send_is_stored_once(start: Start) -> None:
    client = qanat.connect(start().url)
    for _ in range(3):
        assert client.send("readings", [reading(0)], idempotency_key="mine").accepted == 1
    assert client.rows("readings").num_rows == 1


def test_an_answer_that_was_lost_is_asked_for_again(start: Start) -> None:
    server = start()
    cut = Cutting(server.port, answers_lost=2)
    client = qanat.connect(f"http://127.0.0.1:{cut.port}", timeout=10)
    assert client.send("readings", [reading(0)], idempotency_key="mine").accepted == 1
    assert cut.connections == 3
    cut = Cutting(server.port, answers_lost=1)
    with pytest.raises(ApiError) as refused:
        qanat.connect(f"http://127.0.0.1:{cut.port}", timeout=10).send("readings", [reading(1)])
    assert refused.value.status == 0
    assert qanat.connect(server.url).rows("readings").num_rows == 2


def test_live_rows_are_chosen_as_those_of_pages_are(start: Start) -> None:
    server = start()
    client = qanat.connect(server.url, timeout=10)
    server.feed("readings", [reading(n) for n in range(20)])
    where, since, until = ["count>=3", "sensor=s1"], "2023-11-14T21:13:25", "2023-11-14T21:13:35"
    expected = client.rows("readings", where=where, since=since, until=until).column("count").to_pylist()
    assert expected == [7, 10, 13]
    live = client.live("readings", start="earliest", where=where, since=since, until=until)
    assert [next(live).values["count"] for _ in expected] == expected
    live.close()
    with pytest.raises(ApiError) as refused:
        next(client.live("readings", where=["nothing=1"]))
    assert refused.value.status == 400


def test_a_client_that_is_sent_nothing_does_not_look_at_the_same_rows_again(start: Start) -> None:
    server = start(api=Api(live=LiveLimits(heartbeat=Duration(50))))
    cut = Cutting(server.port, bytes_until_lost=1500)
    client = qanat.connect(f"http://127.0.0.1:{cut.port}", timeout=10)
    server.feed("readings", [reading(n) for n in range(100)])
    asked: list[str | None] = []
    events = client._events

    def noted(path: str, last: str | None) -> Any:
        asked.append(last)
        return events(path, last)

    client._events = noted  # type: ignore[method-assign]
    live = client.live("readings", start="earliest", where=["count>=100"])
    thread = threading.Thread(target=lambda: found.append(next(live)))
    found: list[Any] = []
    thread.start()
    server.wait(lambda: len(asked) > 1)
    server.feed("readings", [reading(100)])
    thread.join(20)
    assert found[0].offset == 100
    assert asked[1] == server.get("/v1/streams/readings/rows", params={"limit": 100}).json()["position"]
    live.close()


def test_live_rows_go_on_when_the_connection_is_lost(start: Start) -> None:
    server = start()
    cut = Cutting(server.port, bytes_until_lost=3000)
    client = qanat.connect(f"http://127.0.0.1:{cut.port}", timeout=10)
    live = client.live("readings", start="earliest")
    server.feed("readings", [reading(n) for n in range(50)])
    found = list(itertools.islice(live, 50))
    assert [row.values["count"] for row in found if row.values] == list(range(50))
    assert cut.connections > 1
    again = client.live("readings", start=found[9].position)
    assert next(again).offset == 10
    live.close()
    again.close()


def test_what_the_server_refuses_is_an_error_with_a_hint(start: Start) -> None:
    server = start(api=Api(query=QueryLimits(rows=10)))
    client = qanat.connect(server.url)
    with pytest.raises(ApiError, match="no stream") as refused:
        client.rows("redings")
    assert (refused.value.status, "readings" in str(refused.value.hint)) == (404, True)
    with pytest.raises(ApiError, match="syntax"):
        client.query("SELEC 1")
    with pytest.raises(ApiError, match="cut off"):
        client.query("SELECT * FROM range(20)")
    assert client.query("SELECT * FROM range(20)", limit=5).num_rows == 5
    with pytest.raises(ApiError, match="no position"):
        next(client.live("readings", start="x"))
    with pytest.raises(ApiError, match=r"(?i)no aggregate|not found"):
        client.aggregate("none")


def test_keys(start: Start) -> None:
    server = start()
    text = server.key("one", "read:readings", "write:readings")
    server.wait_until_demanded()
    client = qanat.connect(server.url, key=text)
    live = client.live("readings", start="earliest")
    client.send("readings", [reading(0)])
    assert next(live).offset == 0
    with pytest.raises(ApiError) as refused:
        qanat.connect(server.url).streams()
    assert refused.value.status == 401
    server.keyring.revoke(["one"])
    with pytest.raises(ApiError, match="rights"):
        next(live)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = qanat.connect(f"http://127.0.0.1:{port}", timeout=1)
    with pytest.raises(ApiError, match="cannot be reached"):
        client.send("readings", [])
    with pytest.raises(ConfigError, match="no address"):
        qanat.connect("localhost:8080")


class Cutting:
    """A proxy that loses the first answers as a whole, or every connection after so many bytes."""

    def __init__(self, port: int, answers_lost: int = 0, bytes_until_lost: int | None = None) -> None:
        self._to, self._lost, self._most = port, answers_lost, bytes_until_lost
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            client, _ = self._server.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            try:
                self._pass_on(server, client, number)  # either side goes when it likes
            finally:
                for one in (client, server):
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, server: socket.socket, client: socket.socket, number: int) -> None:
        passed = 0
        while (data := server.recv(1000)) and number > self._lost:
            client.sendall(data)
            passed += len(data)
            if self._most is not None and passed > self._most:
                return


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        return
