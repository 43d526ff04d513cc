"""Settings that cannot work, ports that are taken, and the signals of the process."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from qanat.errors import ConfigError
from qanat.gateway import Gateway, GatewayConfig
from qanat.gateway.config import check_config, is_loopback
from qanat.gateway.mqtt.machine import Limits
from qanat.observe.metrics import Metrics
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

USERS = (User("h1", hash_password("secret", Cost.DEVICE)),)


@pytest.mark.parametrize("setting", [{"mqtt_host": "0.0.0.0"}, {"http_host": "192.168.1.5"}, {"mqtt_host": "::"}])
def test_listeners_that_others_can_reach_demand_users(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="open to everybody") as caught:
        check_config(GatewayConfig(**setting))
    assert caught.value.hint
    check_config(GatewayConfig(**setting, users=USERS))


def test_a_listener_that_is_off_needs_no_users() -> None:
    check_config(GatewayConfig(http_host="0.0.0.0", http_port=None))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("farm", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("limits", [Limits(max_packet_bytes=1000), Limits(receive_maximum=0)])
def test_limits_that_cannot_work(limits: Limits) -> None:
    with pytest.raises(ConfigError):
        check_config(GatewayConfig(mqtt=limits))


@pytest.mark.parametrize("protocol", ["mqtt", "http"])
def test_a_taken_port_is_a_clear_error_and_leaves_nothing_bound(start: Callable[..., Any], protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        ports = {"mqtt_port": port, "http_port": port, f"{protocol}_port": taken.getsockname()[1]}
        with pytest.raises(ConfigError, match="taken") as caught:
            start(**ports)
        assert f"--{protocol}-port" in str(caught.value.hint)
        socket.create_server(("127.0.0.1", port)).close()


def test_an_address_that_is_not_ours(start: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        start(mqtt_host="203.0.113.7", users=USERS)


def test_streams_that_should_take_input_must_exist(start: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="powr"):
        start(accepts=frozenset({"powr"}))


def test_one_listener_alone(start: Callable[..., Any]) -> None:
    running = start(mqtt_port=None)
    assert running.gateway.mqtt_port is None
    assert httpx.get(f"{running.url}/healthz").status_code == 200
    assert start(http_port=None).gateway.http_port is None


def test_the_signals_of_the_process_stay_as_they_are(fake_log: Any) -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def inside() -> list[object]:
        gateway = Gateway(GatewayConfig(mqtt_port=0, http_port=0), {}, fake_log, Metrics())
        await gateway.start()
        found = handlers()
        await gateway.stop()
        return found

    loop = asyncio.new_event_loop()  # asyncio.run would take SIGINT itself
    before = handlers()
    assert loop.run_until_complete(inside()) == before
    assert handlers() == before
    loop.close()
