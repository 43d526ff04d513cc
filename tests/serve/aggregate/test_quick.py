"""Answers that are at hand are given while a request is read: the same ones, in order, and to nobody else."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.serve.aggregate.conftest import NOW, Server, Start

from qanat.model.sections import Duration
from qanat.model.serve import Aggregate, RecentRows
from qanat.secure.keyring import Keyring
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User
from qanat.serve.aggregate import service
from qanat.serve.v1.aggregate import AggregateEndpoint

PATH = "/v1/aggregate/readings"
ASKED = f"GET {PATH}?site=north HTTP/1.1\r\nhost: x\r\n"
OTHER = "GET /healthz HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
def server(start: Start) -> Server:
    running = start()
    running.append([("north", 1, "s1", NOW - 2000, 20.0), ("north", 2, "s2", NOW - 1000, 30.0)])
    running.catch_up()
    return running


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many requests took the ordinary way so far."""
    taken = 0
    plain = AggregateEndpoint.__call__

    async def counted(self: AggregateEndpoint, scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        taken += 1
        await plain(self, scope, receive, send)

    monkeypatch.setattr(AggregateEndpoint, "__call__", counted)
    return lambda: taken


@pytest.fixture
def raw(server: Server) -> Iterator[Callable[[str, int], list[tuple[str, dict[str, str], bytes]]]]:
    """Sends text on one connection, and reads so many answers."""
    peer = socket.create_connection(("127.0.0.1", server.gateway.http_port or 0), timeout=20)
    stream = peer.makefile("rb")

    def exchange(text: str, answers: int) -> list[tuple[str, dict[str, str], bytes]]:
        peer.sendall(text.encode())
        return [read() for _ in range(answers)]

    def read() -> tuple[str, dict[str, str], bytes]:
        status, headers = stream.readline().decode().strip(), {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name] = value
        return status, headers, stream.read(int(headers["content-length"]))

    yield exchange
    stream.close()
    peer.close()


def test_it_is_the_same_answer(server: Server, ordinary: Callable[[], int]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.gateway.http_port}", timeout=60) as client:
        first = client.get(f"{PATH}?site=north", headers={"origin": "https://farm.example"})
        assert ordinary() == 1
        second = client.get(f"{PATH}?site=north")
        assert ordinary() == 1
        changing = ("cache-status", "server-timing", "date")
        assert [(k, v) for k, v in first.headers.items() if k not in changing] == [
            (k, v) for k, v in second.headers.items() if k not in changing
        ]
        assert second.content == first.content
        assert [one.headers["cache-status"] for one in (first, second)] == ["qanat; fwd=miss", "qanat; hit"]
        known = {"if-none-match": first.headers["etag"]}
        same = client.get(f"{PATH}?site=north", headers=known)
        assert (same.status_code, same.content, ordinary()) == (304, b"", 1)
        made = client.get(f"{PATH}?site=north&window=7min")
        assert (made.headers["cache-status"], ordinary()) == ("qanat; fwd=miss", 1)
        again = client.get(f"{PATH}?site=north&window=7min", headers={"origin": "https://farm.example"})
        assert (again.headers["cache-status"], ordinary(), again.content) == ("qanat; hit", 2, made.content)


def test_answers_keep_the_order_of_the_questions(
    raw: Callable[[str, int], list[tuple[str, dict[str, str], bytes]]], ordinary: Callable[[], int]
) -> None:
    """What is at hand does not overtake what takes longer, on a connection that does not wait for answers."""
    end = "\r\n"
    raw(ASKED + end, 1)
    slow = f"GET {PATH}?site=north&window=7min HTTP/1.1\r\nhost: x\r\n"
    found = raw(slow + end + ASKED + end + OTHER + end + ASKED + end, 4)
    assert [status for status, _, _ in found] == ["HTTP/1.1 200 OK"] * 4
    assert [b'"window_ms":420000' in body for _, _, body in found] == [True, False, False, False]
    assert [b'"checks"' in body for _, _, body in found] == [False, False, True, False]
    before = ordinary()
    assert raw(ASKED + end + ASKED + end + ASKED + end, 3)[2][1]["cache-status"] == "qanat; hit"
    assert ordinary() == before


@pytest.mark.parametrize(
    "text",
    [
        ASKED + "content-length: 4\r\n\r\nabcd",
        ASKED + "transfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        ASKED + "connection: close\r\n\r\n",
        ASKED.replace("1.1", "1.0") + "\r\n",
        ASKED + "origin: https://farm.example\r\n\r\n",
    ],
    ids=["body", "chunked", "close", "1.0", "origin"],
)
def test_what_is_no_plain_request_takes_the_ordinary_way(
    raw: Callable[[str, int], list[tuple[str, dict[str, str], bytes]]],
    ordinary: Callable[[], int],
    text: str,
) -> None:
    raw(ASKED + "\r\n", 1)
    before = ordinary()
    ((status, _, content),) = raw(text, 1)
    assert (status.split(" ", 1)[1], b'"groups"' in content, ordinary()) == ("200 OK", True, before + 1)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"from": "-1d"}, 200),  # memory does not reach so far
        ({"window": "1 s", "from": "-1d"}, 400),
        ({"senser": "s1"}, 400),
    ],
)
def test_what_takes_longer_or_is_refused_takes_the_ordinary_way(
    start: Start, ordinary: Callable[[], int], asked: dict[str, str], status: int
) -> None:
    running = start(recent=RecentRows(horizon=Duration(3_600_000)))
    assert [running.get(PATH, **asked).status_code for _ in range(2)] == [status] * 2
    assert ordinary() == (1 if status == 200 else 2)


def test_many_rows_are_looked_at_elsewhere(
    server: Server, ordinary: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_INLINE_ROWS", -1)
    assert server.get(PATH, site="north").json()["rows"] == 2
    assert ordinary() == 1


def test_a_stale_answer_is_given_while_a_new_one_is_made(start: Start, ordinary: Callable[[], int]) -> None:
    short = Aggregate(stream="readings", value="v", dimensions=("site",), ttl=Duration(1000))
    running = start(aggregates={"readings": short}, stale=Duration(60_000))
    running.append([("north", 1, "s1", NOW - 2000, 20.0)])
    running.catch_up()
    first = running.get(PATH, site="north")
    running.clock.now += 1001
    second = running.get(PATH, site="north")
    assert (second.content, ordinary()) == (first.content, 1)


def test_a_key_that_ends_ends_at_once(server: Server, ordinary: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{server.gateway.http_port}{PATH}?site=north"
    mine, others = server.key("read:readings"), server.key("read:power", name="other")
    assert httpx.get(url).status_code == 401
    for header in ({"authorization": f"Bearer {mine}"}, {"x-api-key": mine}):
        for _ in range(2):
            assert httpx.get(url, headers=header).status_code == 200
    assert ordinary() == 1  # 401
    assert httpx.get(url, headers={"x-api-key": others}).status_code == 403
    assert httpx.get(url, headers={"authorization": "Digest x"}).status_code == 401
    Keyring(server.folder / "keys.json", server.clock.now_ms).revoke(["k"])
    server.wait(lambda: server.gateway.parts.auth.token(mine) is None)
    assert httpx.get(url, headers={"x-api-key": mine}).status_code == 401


def test_a_password_is_checked_the_ordinary_way(start: Start, ordinary: Callable[[], int]) -> None:
    running = start(users=(User("anna", hash_password("tomato", Cost.DEVICE), (), ("readings",)),))
    running.append([("north", 1, "s1", NOW - 2000, 20.0)])
    running.catch_up()
    url = f"http://127.0.0.1:{running.gateway.http_port}{PATH}?site=north"
    right, wrong = ({"authorization": _basic(word)} for word in ("tomato", "potato"))
    assert [httpx.get(url, headers=one).status_code for one in (right, right, wrong, {})] == [200, 200, 401, 401]
    assert ordinary() == 4


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anna:{password}".encode()).decode()
