"""HTTP behind TLS, and who comes in: certificates and tokens of devices beside passwords; slow senders; who goes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect

from qanat.gateway.config import TlsFiles
from qanat.gateway.http import rows, server
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

ADMIN = User("boss", hash_password("s", Cost.DEVICE), admin=True)


class Tls:
    """A CA, the listener's files, and clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self._write("server", self.authority.issue_cert("127.0.0.1"))

    def _write(self, name: str, leaf: trustme.LeafCert) -> Path:
        leaf.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}.pem"))
        return self.folder / f"{name}.pem"

    def files(self, demand: bool = False, clients: bool = True) -> TlsFiles:
        pem = self.folder / "server.pem"
        return TlsFiles(pem, pem, self.folder / "ca.pem" if clients else None, demand)

    def context(self, name: str | None = None, other: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if name is not None:
            leaf = (other or self.authority).issue_cert(f"{name}.example", common_name=name)
            context.load_cert_chain(self._write(name, leaf))
        return context


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


def secure(running: Any) -> str:
    return str(running.url).replace("http:", "https:")


def test_rows_over_tls_and_none_without(start: Callable[..., Any], tls: Tls) -> None:
    running = start(http_tls=tls.files(clients=False))
    answer = httpx.post(f"{secure(running)}/streams/power", json={}, verify=tls.context())
    assert answer.json() == {"accepted": 1, "dead_letters": 0}
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{running.url}/streams/power", json={})

    async def run() -> None:
        url = secure(running).replace("https", "wss")
        async with connect(f"{url}/streams/power/ws", ssl=tls.context()) as ws:
            await ws.send("{}")
            assert json.loads(await ws.recv())["accepted"] == 1

    asyncio.run(run())
    assert len(running.log.rows("power")) == 2


def register(running: Any, context: Any, device: dict[str, Any]) -> Any:
    answer = httpx.post(f"{secure(running)}/v1/devices", json=device, auth=("boss", "s"), verify=context)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_a_device_comes_in_by_its_certificate_by_http_and_websocket(
    start: Callable[..., Any], tls: Tls, tmp_path: Path
) -> None:
    running = start(http_tls=tls.files(), users=(ADMIN,), devices=tmp_path / "devices.db", registered=True)
    register(running, tls.context(), {"id": "h1", "common_name": "h1", "publish": ["power"]})
    url = f"{secure(running)}/streams/power"
    assert httpx.post(url, json={}, verify=tls.context()).status_code == 401
    assert httpx.post(url, json={}, verify=tls.context("stranger")).status_code == 401
    assert httpx.post(url, json={}, verify=tls.context("h1")).status_code == 200
    assert httpx.post(url.replace("power", "plain"), json={}, verify=tls.context("h1")).status_code == 403

    async def run() -> None:
        async with connect(f"{url.replace('https', 'wss')}/ws", ssl=tls.context("h1")) as ws:
            await ws.send("{}")
            assert json.loads(await ws.recv())["accepted"] == 1
            gone = f"{secure(running)}/v1/devices/h1/disable"
            answer = await asyncio.to_thread(httpx.post, gone, auth=("boss", "s"), verify=tls.context())
            assert answer.status_code == 200
            await asyncio.wait_for(ws.wait_closed(), 20)
            assert ws.close_code == 1008

    asyncio.run(run())
    assert httpx.post(url, json={}, verify=tls.context("h1")).status_code == 401


def test_a_certificate_of_another_authority_does_not_get_through(start: Callable[..., Any], tls: Tls) -> None:
    running = start(http_tls=tls.files(demand=True))
    url = f"{secure(running)}/healthz"
    assert httpx.get(url, verify=tls.context("anybody")).status_code == 200
    for context in (tls.context(), tls.context("forged", trustme.CA())):
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=context)


def test_a_bearer_token_counts_until_its_device_is_removed(start: Callable[..., Any], tmp_path: Path, tls: Tls) -> None:
    running = start(http_tls=tls.files(), users=(ADMIN,), devices=tmp_path / "devices.db", registered=True)
    made = register(running, tls.context(), {"id": "h1", "credential": "token", "publish": ["power"]})
    token = made["secret"]
    url = f"{secure(running)}/streams/power"

    def post(text: str) -> int:
        headers = {"authorization": f"Bearer {text}"}
        return httpx.post(url, json={}, headers=headers, verify=tls.context()).status_code

    assert post(token) == 200
    assert post(token[:-1]) == 401
    assert post("x") == 401
    httpx.delete(f"{secure(running)}/v1/devices/h1", auth=("boss", "s"), verify=tls.context())
    assert post(token) == 401


def test_a_device_feeds_the_topics_that_it_may_by_their_path(
    start: Callable[..., Any], tmp_path: Path, tls: Tls
) -> None:
    running = start(http_tls=tls.files(), users=(ADMIN,), devices=tmp_path / "devices.db", registered=True)
    token = register(running, tls.context(), {"id": "h1", "credential": "token"})["secret"]  # may feed STREAM/h1

    def post(topic: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        url = f"{secure(running)}/streams/{topic}"
        return httpx.post(url, json={"id": "1"}, headers=headers, verify=tls.context()).status_code

    assert [post(topic) for topic in ("plain/h1", "plain/h1/more", "plain", "plain/h2", "nothing/h1")] == [
        200,
        200,
        403,
        403,
        404,
    ]

    async def run() -> None:
        url = secure(running).replace("https", "wss")
        headers = {"authorization": f"Bearer {token}"}
        async with connect(f"{url}/streams/plain/h1/ws", ssl=tls.context(), additional_headers=headers) as ws:
            await ws.send('{"id": "2"}')
            assert json.loads(await ws.recv())["accepted"] == 1

    asyncio.run(run())
    assert [row["id"] for row in running.log.rows("plain")] == ["1", "1", "2"]


# --- slow senders ----------------------------------------------------------------------------------------------------


def talk(running: Any, *parts: bytes) -> bytes:
    """What the server says to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", running.gateway.http_port), timeout=20) as sock:
        for part in parts:
            sock.sendall(part)
        heard = b""
        while more := sock.recv(65_536):
            heard += more
        return heard


def test_a_body_that_does_not_come_is_408_and_the_end(start: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "_PATIENCE", 0.2)
    running = start()
    heard = talk(running, b"POST /streams/power HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in heard
    assert b"hint" in heard


def test_a_connection_without_a_request_is_closed(start: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "_FIRST_REQUEST", 0.2)
    running = start()
    begin = time.monotonic()
    assert talk(running) == b""
    assert talk(running, b"POST /streams/power HTTP/1.1\r\nhost:") == b""
    assert time.monotonic() - begin < 10
    body = b"POST /streams/power HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    assert talk(running, body).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_goes_in_the_middle_of_a_body_leaves_nothing(start: Callable[..., Any]) -> None:
    running = start()
    with socket.create_connection(("127.0.0.1", running.gateway.http_port)) as sock:
        sock.sendall(b"POST /streams/power HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}\n{}")
    deadline = time.monotonic() + 20
    while not running.counted("qanat_gateway_refused_total", protocol="http", reason="RefusedError"):
        assert time.monotonic() < deadline
    assert running.log.stored == []
    assert httpx.post(f"{running.url}/streams/power", json={}).status_code == 200


def test_what_was_sent_is_stored_though_the_client_has_gone(start: Callable[..., Any], fake_log: Any) -> None:
    fake_log.held = True
    running = start(fake_log)
    with socket.create_connection(("127.0.0.1", running.gateway.http_port)) as sock:
        sock.sendall(b"POST /streams/power HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\ncontent-length: 2\r\n\r\n{}")
        assert fake_log.submitted.acquire(timeout=20)
    fake_log.held = False
    running.loop.call_soon_threadsafe(fake_log.release)
    answer = httpx.post(f"{running.url}/streams/power", content=b"{}", headers={"idempotency-key": "k"})
    assert answer.headers.get("idempotency-replayed") == "true" or answer.status_code == 422
    assert len(fake_log.rows("power")) == 1


def test_five_requests_in_one_packet_are_answered_in_order(start: Callable[..., Any]) -> None:
    running = start()
    one = b"POST /streams/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
    parts = [one + b'{"id":"%d"}' % number for number in range(4)]
    last = one.replace(b"host: x", b"host: x\r\nconnection: close") + b'{"id":"4"}'
    heard = talk(running, b"".join(parts) + last)
    assert heard.count(b"HTTP/1.1 200 ") == 5
    assert [row["id"] for row in running.log.rows("plain")] == list("01234")
