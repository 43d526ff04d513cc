"""Listeners that the operating system took away come back, and whoever is connected does not notice."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.gateway.conftest import RawClient

from qanat.gateway import listening
from qanat.model.backoff import Backoff


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_LOOK", 0.02)
    monkeypatch.setattr(listening, "_BACKOFF", Backoff(0.02, 0.1))


def take_away(port: int) -> None:
    """What an error in accept does: the socket that listens there listens no longer."""
    for number in Path("/proc/self/fd").iterdir():
        if not _is_socket(number):
            continue
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(number.name))) as found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                found.shutdown(socket.SHUT_RDWR)
                return
    raise AssertionError(f"nobody listens on {port}")


async def take_away_unseen(port: int) -> None:
    """In the event loop: whoever looks at listeners is due before the loop hears of it."""
    take_away(port)
    time.sleep(0.05)  # it is the loop that has to stand still


def _is_socket(number: Path) -> bool:
    with contextlib.suppress(OSError):
        return str(number.readlink()).startswith("socket:")
    return False


def comes_in(port: int, name: str) -> None:
    """A client does, as soon as somebody listens."""
    for _ in rounds():
        with contextlib.suppress(ConnectionRefusedError):
            RawClient(port, client_id=name).sock.close()
            return


def rounds() -> Iterator[None]:
    """Until 20 s are over."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        yield
        time.sleep(0.01)
    raise AssertionError("it did not come back")


@pytest.mark.parametrize("times", [1, 3])
def test_mqtt_comes_back(start: Callable[..., Any], times: int) -> None:
    running = start()
    older = RawClient(running.mqtt)
    for number in range(times):
        take_away(running.mqtt)
        comes_in(running.mqtt, f"new{number}")
    older.send(b"\xc0\x00")  # PINGREQ
    assert older.sock.recv(2) == b"\xd0\x00"
    older.sock.close()
    assert httpx.get(f"{running.url}/healthz").json()["checks"]["listener mqtt"] == "ok"


def test_http_comes_back_and_says_so(start: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    with httpx.Client() as older:
        assert older.get(f"{running.url}/healthz").status_code == 200
        take_away(int(running.url.rpartition(":")[2]))
        for _ in rounds():
            with contextlib.suppress(httpx.ConnectError):
                assert httpx.get(f"{running.url}/healthz").status_code == 200
                break
        assert older.get(f"{running.url}/healthz").status_code == 200
    running.stop()
    assert "listener http accepts connections again" in caplog.text


def test_a_port_that_somebody_else_has_taken_is_a_fault_until_it_is_free(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    port = running.mqtt

    def check() -> str:
        return str(httpx.get(f"{running.url}/healthz").json()["checks"]["listener mqtt"])

    monkeypatch.setattr(listening, "_LOOK", 0.5)  # time for the thief
    take_away(port)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        for _ in rounds():
            if "taken by another program" in check():
                break
    monkeypatch.setattr(listening, "_LOOK", 0.02)
    for _ in rounds():
        if check() == "ok":
            break
    RawClient(port).sock.close()


def test_what_others_open_meanwhile_stays_open(start: Callable[..., Any]) -> None:
    """The number of a socket that was closed is given to the next one that is opened: it must be closed once only."""
    running = start()
    pairs: list[tuple[socket.socket, socket.socket]] = []
    ending = threading.Event()

    def open_pairs() -> None:
        while not ending.wait(0.0005) and len(pairs) < 4000:
            pairs.append(socket.socketpair())

    thread = threading.Thread(target=open_pairs)
    thread.start()
    for number in range(5):
        running.run(take_away_unseen(running.mqtt))
        comes_in(running.mqtt, f"new{number}")
    ending.set()
    thread.join()
    for one, other in pairs:
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()
    assert len(pairs) > 50
