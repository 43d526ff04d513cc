"""Collectors against a little HTTP server that can be told to misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qanat.errors import AuthError, ConfigError, ProtocolError
from qanat.sim.households import Message
from qanat.sim.posting import Posting, PostingOptions

#: What to answer to the n-th body (from 1): a status, or None to store it and hang up without an answer.
Manner = Callable[[int], int | None]


class Server:
    """Stores a body once per key, as a server with idempotency keys does."""

    def __init__(self, manner: Manner = lambda _: 200) -> None:
        self.manner = manner
        self.stored: list[bytes] = []
        self.keys: Counter[str] = Counter()
        self.heads: list[dict[str, str]] = []
        self.bodies = self.broken = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            self.broken += 1
        writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:-1]
        head = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(head["content-length"]))
        self.bodies += 1
        self.heads.append(head)
        status = self.manner(self.bodies)
        if status in (200, 422, None):
            self.keys[head["idempotency-key"]] += 1
            if self.keys[head["idempotency-key"]] == 1:
                self.stored += body.split(b"\n")
        if status is None:
            return False
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 18\r\n\r\n".encode() + b'{"detail":"so so"}')
        return True


@asynccontextmanager
async def listening(server: Server):
    sockets = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    try:
        yield sockets.sockets[0].getsockname()[1]
    finally:
        sockets.close()


def play(server: Server, messages: list[Message], **options: Any) -> Posting:
    async def main() -> Posting:
        async with listening(server) as port:
            chosen = {"speed": 0.0, "backoff_s": (0.002, 0.01), "drain_s": 10.0} | options
            posting = Posting(PostingOptions(port=port, **chosen))
            await posting.play(messages)
            return posting

    return asyncio.run(asyncio.wait_for(main(), 30))


def some(count: int, clients: int = 3) -> list[Message]:
    return [Message(i, f"c{i % clients}", "web_events", b'{"n":%d}' % i) for i in range(count)]


def test_every_event_is_posted_once_and_in_its_collectors_order() -> None:
    server, messages = Server(), some(5_000)
    account = play(server, messages).account
    assert sorted(server.stored) == sorted(message.payload for message in messages)
    mine = [message.payload for message in messages if message.client == "c1"]
    assert [payload for payload in server.stored if payload in set(mine)] == mine
    assert (account.sent, account.acknowledged, account.again) == (5_000, 5_000, 0)
    assert server.bodies < 500
    assert len(server.keys) == server.bodies


def test_a_body_without_an_answer_goes_out_again_with_its_key() -> None:
    server, messages = Server(lambda n: None if n % 2 else 200), some(2_000)
    account = play(server, messages).account
    assert sorted(server.stored) == sorted(message.payload for message in messages)
    assert max(server.keys.values()) > 1
    assert account.again > 0
    assert all(account.acked)


@pytest.mark.parametrize("status", [409, 429, 503, 507])
def test_not_now_is_heard_and_the_body_comes_later(status: int) -> None:
    server, messages = Server(lambda n: status if n in (1, 3) else 200), some(100, 1)
    assert play(server, messages).account.acknowledged == 100
    assert sorted(server.stored) == sorted(message.payload for message in messages)


def test_rows_that_are_all_buried_are_durable_too() -> None:
    assert play(Server(lambda _: 422), some(10)).account.acknowledged == 10


def test_a_connection_is_lost_in_the_middle_of_a_body() -> None:
    server = Server()
    messages = [Message(i * 10, "c0", "web_events", b'{"n":%d}' % i) for i in range(60)]
    account = play(server, messages, speed=1.0, gather_s=0.0, lost_connections=1_200.0).account
    assert server.broken > 0
    assert account.reconnects > 0
    assert sorted(server.stored) == sorted(message.payload for message in messages)


def test_user_and_password_are_sent() -> None:
    server = Server()
    play(server, some(4, 1), username="meter-{client}", password="secret")
    assert server.heads[0]["authorization"] == "Basic bWV0ZXItYzA6c2VjcmV0"


@pytest.mark.parametrize(("status", "error"), [(401, AuthError), (404, ConfigError), (400, ProtocolError)])
def test_what_no_waiting_mends_ends_the_play(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="so so"):
        play(Server(lambda _: status), some(4))


def test_where_nobody_listens_the_error_says_what_to_start() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        options = PostingOptions(port=held.getsockname()[1], speed=0, backoff_s=(0.002, 0.01), patience_s=0.05)
        with pytest.raises(ConfigError, match="no HTTP server answers"):
            asyncio.run(Posting(options).play(some(4)))
