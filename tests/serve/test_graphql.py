"""GraphQL: typed rows, mutations that are durable, subscriptions, limits, and who may."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from qanat.serve.context import PipelineState

from .conftest import NOW, reading

Start = Callable[..., Any]


def ask(server: Any, query: str, headers: dict[str, str] | None = None, **variables: Any) -> dict[str, Any]:
    answer = server.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_rows_have_the_types_of_their_columns(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(5)])
    server.feed("größen", [{"höhe": 1.5, "ort": "Köln"}])
    query = """{ rows {
        readings(where: ["count>=1"], limit: 2) { rows { at sensor temperature count ok } next position }
        gr__en { rows { h_he ort } next }
    } }"""
    found = ask(server, query)["data"]["rows"]
    assert found["readings"]["rows"][0] == {
        "at": "2023-11-14 21:13:21Z", "sensor": "s1", "temperature": 0.5, "count": 1, "ok": True
    }  # fmt: skip
    assert found["gr__en"] == {"rows": [{"h_he": 1.5, "ort": "Köln"}], "next": None}
    rest = "query($after: String!) { rows { readings(after: $after, order: OLDEST) { rows { count } next } } }"
    page = ask(server, rest, after=found["readings"]["next"])["data"]["rows"]["readings"]
    assert ([row["count"] for row in page["rows"]], page["next"]) == ([3, 4], None)
    kinds = '{ __type(name: "readings_row") { fields { name type { name } } } }'
    fields = {one["name"]: one["type"]["name"] for one in ask(server, kinds)["data"]["__type"]["fields"]}
    assert (fields["temperature"], fields["count"], fields["ok"], fields["at"]) == ("Float", "Int", "Boolean", "String")
    kinds = kinds.replace("readings_row", "spread_row")
    assert {"name": "n", "type": {"name": "Long"}} in ask(server, kinds)["data"]["__type"]["fields"]


def test_large_numbers_are_whole(start: Start) -> None:
    server = start(log="memory")
    mutation = 'mutation($n: Long!) { append_spread(rows: [{id: "a", n: $n}]) { accepted } }'
    assert ask(server, mutation, n=1 << 60)["data"]["append_spread"]["accepted"] == 1
    assert ask(server, "{ rows { spread { rows { n } } } }")["data"]["rows"]["spread"]["rows"] == [{"n": 1 << 60}]


def test_appended_rows_are_durable_and_repeats_harmless(start: Start) -> None:
    server = start()
    mutation = """mutation { append_readings(idempotency_key: "k", rows: [{sensor: "s1", temperature: 1.5}, {count: 7}])
        { accepted dead_letters errors } }"""
    for _ in range(2):
        assert ask(server, mutation)["data"]["append_readings"] == {"accepted": 2, "dead_letters": 0, "errors": None}
    rows = server.get("/v1/streams/readings/rows").json()["rows"]
    assert [(row["sensor"], row["count"]) for row in rows] == [("s1", None), (None, 7)]
    refused = ask(server, 'mutation { append_totals(rows: [{id: "a"}]) { accepted } }')
    assert refused["errors"][0]["extensions"]["status"] == 403


def test_what_else_there_is(start: Start) -> None:
    server = start(log="memory")
    server.pipelines = [PipelineState("climate", "running", 1, 1, 0, 0, 0, NOW, 0, 0, None)]
    found = ask(server, "{ streams pipelines }")["data"]
    assert "readings" in [one["name"] for one in found["streams"]]
    assert found["pipelines"][0]["name"] == "climate"
    assert ask(server, '{ aggregate(name: "x") }')["errors"][0]["extensions"]["status"] == 404


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("{", "Syntax Error"),
        ("{ nothing }", "nothing"),
        ("{ rows { readings(limit: 1001) { rows { at } } } }", "limit is 1001"),
        ('{ rows { readings(where: ["x"]) { rows { at } } } }', "no condition"),
        ('{ rows { readings(after: "x") { rows { at } } } }', "no position"),
        ("{ rows { " + " ".join(f"a{n}: readings {{ rows {{ at }} }}" for n in range(31)) + " } }", "aliases"),
        ("{ rows { " + " ".join(f"a{n}: readings(limit:1000){{rows{{at ok}}}}" for n in range(15)) + "}}", "costs"),
        (
            "query($n:Int!){rows{" + "".join(f"a{n}: readings(limit:$n){{rows{{at ok}}}} " for n in range(15)) + "}}",
            "costs",
        ),
        ("{ __type(name:\"x\") { " + "ofType { " * 20 + "name" + " }" * 20 + "} }", ""),
        ("{ streams " * 1 + " streams" * 2100 + " }", "tokens"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_too_much_is_refused(start: Start, query: str, said: str) -> None:
    server = start(log="memory")
    answer = server.post("/graphql", json={"query": query, "variables": {"n": 1}})
    assert answer.status_code in (200, 400)
    if said:
        assert said in answer.text


def test_depth_is_limited(start: Start) -> None:
    server = start(log="memory")
    query = "{ rows { ... on Rows { readings { rows { at } } } } }"
    assert "errors" not in ask(server, query)
    deep = "{ __schema { types { fields { type { " + "ofType { " * 20 + "name" + " }" * 20 + " } } } } }"
    assert server.post("/graphql", json={"query": deep}).status_code == 200


def test_too_large_bodies_and_other_methods(start: Start) -> None:
    server = start(log="memory")
    assert server.post("/graphql", json={"query": "{ streams }" + " " * (1 << 20)}).status_code == 413
    assert server.get("/graphql", params={"query": "{ streams }"}).status_code == 405
    assert server.post("/graphql", content=b"{").status_code == 400


def test_a_fault_is_not_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(log="memory")

    def broken() -> Any:
        raise KeyError("secret")

    object.__setattr__(server.context, "pipelines", broken)
    found = server.post("/graphql", json={"query": "{ pipelines }"})
    assert "secret" not in found.text
    assert found.json()["errors"]


class Socket:
    """graphql-transport-ws."""

    def __init__(self, server: Any, params: dict[str, str] | None = None) -> None:
        url = f"ws://127.0.0.1:{server.port}/graphql"
        self.web = connect(url, subprotocols=["graphql-transport-ws"], legacy=True)
        self.send({"type": "connection_init", "payload": params or {}})

    def send(self, message: dict[str, Any]) -> None:
        self.web.send(json.dumps(message))

    def read(self) -> dict[str, Any]:
        return json.loads(self.web.recv(timeout=20))

    def subscribe(self, query: str) -> None:
        self.send({"id": "1", "type": "subscribe", "payload": {"query": query}})


def test_rows_come_by_subscription_and_go_on_where_it_stopped(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0)])
    query = 'subscription { readings(start: "%s") { position offset row { count } } }'
    socket = Socket(server)
    assert socket.read()["type"] == "connection_ack"
    socket.subscribe(query % "earliest")
    first = socket.read()["payload"]["data"]["readings"]
    assert (first["offset"], first["row"]["count"]) == (0, 0)
    socket.web.close()
    server.feed("readings", [reading(1)])
    server.wait(lambda: not server.context.outlets._readers["readings"].is_wanted)
    again = Socket(server)
    again.read()
    again.subscribe(query % first["position"])
    assert again.read()["payload"]["data"]["readings"]["row"]["count"] == 1
    again.send({"id": "1", "type": "complete"})
    server.wait(lambda: not server.context.outlets._readers["readings"].is_wanted)
    again.web.close()


def test_a_subscription_takes_the_filters_of_a_page(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(n) for n in range(10)])
    chosen = 'start: "earliest", where: ["count>=3", "sensor=s0"], until: "2023-11-14T21:13:28"'
    socket = Socket(server)
    socket.read()
    socket.subscribe(f"subscription {{ readings({chosen}) {{ row {{ count }} }} }}")
    assert [socket.read()["payload"]["data"]["readings"]["row"]["count"] for _ in range(2)] == [3, 6]
    server.feed("readings", [reading(8, sensor="s0"), reading(7, sensor="s1"), reading(7, sensor="s0", count=33)])
    assert socket.read()["payload"]["data"]["readings"]["row"]["count"] == 33
    socket.web.close()


@pytest.mark.parametrize("chosen", ['where: ["nothing=1"]', 'since: "yesterday"'])
def test_its_filter_is_refused_as_that_of_a_page_is(start: Start, chosen: str) -> None:
    server = start(log="memory")
    (page,) = ask(server, f"{{ rows {{ readings({chosen}) {{ next }} }} }}")["errors"]
    socket = Socket(server)
    socket.read()
    socket.subscribe(f"subscription {{ readings({chosen}) {{ offset }} }}")
    told = socket.read()
    (error,) = told["payload"]["errors"] if told["type"] == "next" else told["payload"]
    assert (error["message"], error["extensions"]) == (page["message"], page["extensions"])
    assert error["extensions"]["status"] == 400
    socket.web.close()


def test_keys_hold_for_queries_mutations_and_subscriptions(start: Start) -> None:
    server = start()
    text = server.key("one", "read:readings")
    server.wait_until_demanded()
    assert server.post("/graphql", json={"query": "{ streams }"}).status_code == 401
    headers = {"authorization": f"Bearer {text}"}
    found = ask(server, "{ streams rows { readings { next } } }", headers)["data"]
    assert [one["name"] for one in found["streams"]] == ["readings"]
    for query in (
        "{ rows { spread { next } } }",
        "{ pipelines }",
        "{ devices }",
        'mutation { append_readings(rows: [{sensor: "s"}]) { accepted } }',
    ):
        assert ask(server, query, headers)["errors"][0]["extensions"]["status"] == 403, query
    stranger = Socket(server)
    with pytest.raises(ConnectionClosed):
        stranger.read()
    socket = Socket(server, {"X-API-Key": text})
    assert socket.read()["type"] == "connection_ack"
    socket.subscribe("subscription { spread { offset } }")
    assert "error" in json.dumps(socket.read())
    other = Socket(server, {"X-API-Key": text})
    other.read()
    other.subscribe("subscription { readings { row { count } } }")
    server.wait(lambda: "readings" in server.context.outlets._readers)
    server.wait(lambda: server.context.outlets._readers["readings"].is_wanted)
    server.keyring.revoke(["one"])
    assert "rights" in json.dumps(other.read())
    for one in (socket, other, stranger):
        one.web.close()
