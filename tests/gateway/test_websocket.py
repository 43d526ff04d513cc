"""WebSockets: rows in with acknowledgements after the commit, rows out from any offset, rights, slow clients; MQTT."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect

from qanat.gateway.limits import Limit, RateLimits
from qanat.log import open_log
from qanat.log.base import Log
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

NOW = 1_700_000_000_000
SECONDS = NOW // 1000


@pytest.fixture
def log(tmp_path: Path, streams: Any) -> Iterator[Log]:
    """A log that can be read."""
    opened = open_log(f"sqlite:///{tmp_path}/log.db")
    for stream in streams.values():
        opened.create(stream)
    yield opened
    opened.close()


def at(running: Any, path: str, **more: Any) -> connect:
    return connect(running.url.replace("http", "ws") + path, **more)


async def hear(socket: ClientConnection, count: int) -> list[Any]:
    return [json.loads(await asyncio.wait_for(socket.recv(), 20)) for _ in range(count)]


def post(running: Any, rows: list[Any], stream: str = "power") -> None:
    answer = httpx.post(f"{running.url}/streams/{stream}", json=rows)
    assert answer.status_code == 200, answer.text


def test_messages_are_acknowledged_by_number(start: Callable[..., Any]) -> None:
    running = start()

    async def run() -> None:
        async with at(running, "/streams/power/ws") as socket:
            await socket.send('{"client_id": "h1", "consumption": 1}')
            await socket.send(b'{"client_id": "h2"}\nbad\n{"client_id": "h3"}')
            await socket.send('[{"client_id": "h4"}, {"client_id": "h5"}]')
            await socket.send("")
            told = {one["ack"]: one for one in await hear(socket, 4)}
        assert told[1] == {"ack": 1, "accepted": 1, "dead_letters": 0}
        assert (told[2]["accepted"], told[2]["dead_letters"], told[2]["errors"][0]["row"]) == (2, 1, 1)
        assert told[3] == {"ack": 3, "accepted": 2, "dead_letters": 0}
        assert (told[4]["status"], "hint" in told[4]) == (400, True)

    asyncio.run(run())
    assert [row["client_id"] for row in running.log.rows("power")] == ["h1", "h2", "h3", "h4", "h5"]
    assert running.log.rows("dead_letters")[0]["source"] == "websocket"


def test_a_row_that_is_too_large_refuses_its_message_and_no_other(start: Callable[..., Any]) -> None:
    running = start(limits=RateLimits(device=Limit(message_size=50)))

    async def run() -> None:
        async with at(running, "/streams/power/ws") as socket:
            await socket.send(json.dumps({"client_id": "h" * 50}))
            await socket.send('{"client_id": "h2"}')
            told = {one["ack"]: one for one in await hear(socket, 2)}
        assert (told[1]["status"], "the limit is 50" in told[1]["detail"]) == (413, True)
        assert told[2]["accepted"] == 1

    asyncio.run(run())
    assert [row["client_id"] for row in running.log.rows("power")] == ["h2"]


def test_an_acknowledgement_comes_after_the_commit(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log)

    async def run() -> None:
        async with at(running, "/streams/power/ws") as socket:
            await socket.send('{"client_id": "h1"}')
            assert await asyncio.to_thread(fake_log.submitted.acquire, timeout=20)
            await socket.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.2)
            running.loop.call_soon_threadsafe(fake_log.release)
            assert (await hear(socket, 1))[0]["accepted"] == 1

    asyncio.run(run())


def test_a_failed_log_is_told_with_a_time(start: Callable[..., Any], fake_log: Any) -> None:
    from qanat.errors import LogFullError

    fake_log.fail_with = LogFullError("the disk is full")
    running = start(fake_log)

    async def run() -> None:
        async with at(running, "/streams/power/ws") as socket:
            await socket.send("{}")
            told = (await hear(socket, 1))[0]
            assert (told["ack"], told["status"], told["retry_after"]) == (1, 507, 5)

    asyncio.run(run())


def test_a_client_that_sends_without_listening_is_read_no_further(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log)

    async def run() -> None:
        async with at(running, "/streams/power/ws", compression=None) as socket:
            sent = 0
            try:
                while sent < 400:
                    await asyncio.wait_for(socket.send("x" * 100_000), 1.0)
                    sent += 1
            except TimeoutError:
                pass
            assert 40 <= sent < 400  # 4 MiB, and what the sockets between us hold
            running.loop.call_soon_threadsafe(_let_go, fake_log)
            assert {one["ack"] for one in await hear(socket, sent)} == set(range(1, sent + 1))

    asyncio.run(run())


def _let_go(log: Any) -> None:
    log.held = False
    log.release()


def test_rows_come_out_from_the_earliest_the_latest_and_any_offset(start: Callable[..., Any], log: Log) -> None:
    running = start(log)
    post(running, [{"client_id": f"h{i}", "timestamp": SECONDS} for i in range(3)])

    async def run() -> None:
        async with (
            at(running, "/streams/power/ws?from=earliest") as all_,
            at(running, "/streams/power/ws?from=latest") as new,
            at(running, "/streams/power/ws?from=2") as rest,
        ):
            await asyncio.to_thread(post, running, [{"client_id": "h3", "timestamp": SECONDS}])
            everything = await hear(all_, 4)
            assert [one["row"]["client_id"] for one in everything] == ["h0", "h1", "h2", "h3"]
            assert everything[0] == {
                "partition": 0,
                "offset": 0,
                "row": {"client_id": "h0", "timestamp": SECONDS, "consumption": None},
            }
            assert [one["offset"] for one in await hear(new, 1)] == [3]
            assert [one["offset"] for one in await hear(rest, 2)] == [2, 3]

    asyncio.run(run())


def test_rows_of_some_keys_only_over_all_partitions(start: Callable[..., Any], log: Log) -> None:
    running = start(log)
    post(running, [{"client_id": f"h{i % 20}", "timestamp": SECONDS + i} for i in range(100)], "spread")

    async def run() -> None:
        async with at(running, "/streams/spread/ws?from=earliest&key=h1&key=h2") as socket:
            rows = await hear(socket, 10)
            assert {one["key"] for one in rows} == {"h1", "h2"}
            resume = {one["partition"]: one["offset"] + 1 for one in rows}
        places = ",".join(f"{partition}:{offset}" for partition, offset in resume.items())
        await asyncio.to_thread(post, running, [{"client_id": "h1", "timestamp": 7}], "spread")
        async with at(running, f"/streams/spread/ws?from={places}&key=h1&key=h2") as socket:
            assert (await hear(socket, 1))[0]["row"]["timestamp"] == 7

    asyncio.run(run())


def test_one_connection_may_send_and_listen(start: Callable[..., Any], log: Log) -> None:
    running = start(log)

    async def run() -> None:
        async with at(running, "/streams/power/ws?from=latest") as socket:
            await socket.send('{"client_id": "me"}')
            heard = await hear(socket, 2)
            assert {"ack", "row"} == {key for one in heard for key in one if key in ("ack", "row")}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/streams/nothing/ws", 404),
        ("/streams/predictions/ws", 403),
        ("/streams/nothing/ws?from=latest", 404),
        ("/streams/power/ws?from=yesterday", 400),
        ("/streams/power/ws?from=7:1", 400),
        ("/streams/power/ws?key=h1", 400),
        ("/streams/power/ws?offset=1", 400),
        ("/elsewhere", 404),
    ],
)
def test_a_handshake_that_cannot_be_is_a_problem_with_a_hint(
    start: Callable[..., Any], log: Log, path: str, status: int
) -> None:
    running = start(log)

    async def run() -> None:
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            async with at(running, path):
                pass
        response = caught.value.response
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(response.body)["hint"]

    asyncio.run(run())


def as_user(name: str, password: str = "s") -> dict[str, Any]:
    return {
        "additional_headers": {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
    }


USERS = (
    User("in", hash_password("s", Cost.DEVICE), ("power",)),
    User("out", hash_password("s", Cost.DEVICE), (), ("power",)),
    User("one", hash_password("s", Cost.DEVICE), (), ("spread/h1",)),
)


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("in", "/streams/power/ws", 101),
        ("in", "/streams/plain/ws", 403),
        ("in", "/streams/power/ws?from=latest", 403),
        ("out", "/streams/power/ws?from=latest", 101),
        ("out", "/streams/power/ws", 403),
        ("one", "/streams/spread/ws?from=latest", 403),
        ("one", "/streams/spread/ws?from=latest&key=h1", 101),
        ("one", "/streams/spread/ws?from=latest&key=h1&key=h2", 403),
        ("nobody", "/streams/power/ws", 401),
    ],
)
def test_rights_are_checked_in_both_directions(
    start: Callable[..., Any], log: Log, name: str, path: str, status: int
) -> None:
    running = start(log, users=USERS)

    async def run() -> None:
        if status == 101:
            async with at(running, path, **as_user(name)):
                return
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            async with at(running, path, **as_user(name)):
                pass
        assert refused.value.response.status_code == status

    asyncio.run(run())


def test_who_may_only_listen_is_told_so_when_he_sends(start: Callable[..., Any], log: Log) -> None:
    running = start(log, users=USERS)

    async def run() -> None:
        async with at(running, "/streams/power/ws?from=latest", **as_user("out")) as socket:
            await socket.send("{}")
            assert (await hear(socket, 1))[0]["status"] == 403

    asyncio.run(run())


def test_rights_that_end_close_the_connection(start: Callable[..., Any], log: Log, monkeypatch: Any) -> None:
    running = start(log, users=USERS)
    auth = running.gateway._auth
    still = True
    monkeypatch.setattr(auth, "still", lambda user: still)

    async def run() -> None:
        nonlocal still
        async with at(running, "/streams/power/ws?from=latest", **as_user("out")) as socket:
            running.loop.call_soon_threadsafe(_tell, auth, "out")
            await socket.ping()
            still = False
            running.loop.call_soon_threadsafe(_tell, auth, "in")
            await (await socket.ping())
            running.loop.call_soon_threadsafe(_tell, auth, "out")
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
                await asyncio.wait_for(socket.recv(), 20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008

    asyncio.run(run())


def _tell(auth: Any, name: str) -> None:
    for callback in auth._watchers:
        callback(name)


def test_a_client_that_does_not_read_costs_its_position_and_nothing_else(start: Callable[..., Any], log: Log) -> None:
    running = start(log)
    rows = [{"client_id": "h" * 1000, "timestamp": SECONDS} for _ in range(10_000)]
    post(running, rows)

    async def run() -> None:
        async with at(running, "/streams/power/ws?from=earliest", compression=None, max_queue=1) as socket:
            first = await hear(socket, 1)
            before = _pending(running)
            for _ in range(3):
                await asyncio.to_thread(post, running, rows)
            assert _pending(running) <= max(before, 1000)
            rest = await hear(socket, 39_999)
            assert [one["offset"] for one in (*first, *rest)] == list(range(40_000))

    asyncio.run(run())


def _pending(running: Any) -> int:
    """Rows that wait in memory for clients."""
    sockets = running.gateway._web._sockets._open
    return sum(len(socket._rows) for some in sockets.values() for socket in some)


def test_a_stop_ends_connections_after_what_was_taken_is_acknowledged(start: Callable[..., Any], log: Log) -> None:
    running = start(log)

    async def run() -> None:
        async with at(running, "/streams/power/ws") as socket:
            await socket.send("{}")
            assert (await hear(socket, 1))[0]["accepted"] == 1
            await asyncio.to_thread(running.stop)
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 20)

    asyncio.run(run())


# --- MQTT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_mqtt_over_websocket_with_paho(start: Callable[..., Any], log: Log, version: int) -> None:
    running = start(log)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "d1", transport="websockets", protocol=version)
    client.connect("127.0.0.1", running.gateway.http_port)
    client.loop_start()
    try:
        for number in range(50):
            info = client.publish("power", json.dumps({"client_id": "d1", "timestamp": number}), qos=1)
        info.wait_for_publish(20)
        assert info.is_published()
    finally:
        client.disconnect()
        client.loop_stop()
    rows = [row for chunk in log.read(("power", 0), 0, 1000) for row in chunk.rows.to_pylist()]
    assert [row["timestamp"] for row in rows] == list(range(50))


def test_mqtt_wants_its_subprotocol_and_binary_messages(start: Callable[..., Any]) -> None:
    running = start()

    async def run() -> None:
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            async with at(running, "/mqtt"):
                pass
        assert caught.value.response.status_code == 400
        async with at(running, "/mqtt", subprotocols=["mqtt"]) as socket:
            assert socket.subprotocol == "mqtt"
            await socket.send("text")
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 20)

    asyncio.run(run())
