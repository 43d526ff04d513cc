"""Devices on real sockets: they come in by password, token and client id, and go when their rights end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from qanat.gateway.config import Listener, TlsFiles
from qanat.gateway.mqtt.packets import V5
from qanat.model.devices import Device, Record
from qanat.secure.enrolment import credential_of, enrol
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.registry import Registry
from qanat.secure.users import User

ROW = b'{"client_id": "h1", "timestamp": 1699999990, "consumption": 1.5}'
ADMIN, READER = ("root", "top"), ("eve", "low")
USERS = (
    User("root", hash_password("top", Cost.DEVICE), admin=True),
    User("eve", hash_password("low", Cost.DEVICE)),
)


class Desk:
    """A registry beside the running gateway, on the same clock."""

    def __init__(self, path: Path, running: Any) -> None:
        self.path, self.running = path, running
        self.registry = Registry(path)

    def add(self, name: str, **said: Any) -> str:
        made = enrol([Record(id=name, **said)], self.running.now)[0]
        self.registry.add([made.device], [made.credential])
        return made.secret or ""

    def rotate(self, name: str, until: int | None) -> str:
        credential, secret = credential_of(Record(id=name), self.running.now)
        self.registry.rotate([credential], until, self.running.now)
        return secret or ""


@pytest.fixture
def desk(start: Callable[..., Any], tmp_path: Path) -> Iterator[Desk]:
    """A gateway that asks everybody who he is, and the registry that it reads."""
    one = Desk(tmp_path / "devices.db", start(users=USERS, devices=tmp_path / "devices.db"))
    yield one
    one.registry.close()


class Client:
    """paho-mqtt in its thread; remembers what it hears."""

    def __init__(self, port: int, client_id: str, name: str, secret: str, version: int = 5) -> None:
        protocol = paho.MQTTv5 if version == 5 else paho.MQTTv311
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
        self.paho.username_pw_set(name, secret)
        self.connected: int | None = None
        self.closed: int | None = None
        self.acked: dict[int, int] = {}
        self.paho.on_connect = lambda _c, _u, _f, reason, _p: setattr(self, "connected", reason.value)
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: setattr(self, "closed", reason.value)
        self.paho.on_publish = lambda _c, _u, mid, reason, _p: self.acked.update({mid: reason.value})
        self.paho.connect("127.0.0.1", port)
        self.paho.reconnect_delay_set(100, 100)
        self.paho.loop_start()
        wait_for(lambda: self.connected is not None or self.closed is not None)

    def publish(self, topic: str, payload: bytes = ROW) -> int:
        """The reason code of the PUBACK."""
        mid = self.paho.publish(topic, payload, qos=1).mid
        wait_for(lambda: mid in self.acked)
        return self.acked[mid]

    def stop(self) -> None:
        self.paho.loop_stop()
        self.paho.disconnect()


def wait_for(holds: Callable[[], bool], seconds: float = 10) -> float:
    """How long it took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds
        time.sleep(0.005)
    return time.monotonic() - begin


@pytest.fixture
def connect(desk: Desk) -> Iterator[Callable[..., Client]]:
    """`connect(client_id, name, secret)` gives a client that has heard its CONNACK."""
    clients: list[Client] = []

    def one(client_id: str, name: str, secret: str, version: int = 5) -> Client:
        clients.append(Client(desk.running.mqtt, client_id, name, secret, version))
        return clients[-1]

    yield one
    for client in clients:
        client.stop()


Connect = Callable[..., Client]


def test_a_device_publishes_under_its_own_name_and_nowhere_else(desk: Desk, connect: Connect) -> None:
    client = connect("any", "h1", desk.add("h1"))
    assert client.publish("power/h1") == 0
    assert client.publish("power/h1/deeper") == 0
    assert client.publish("power/h2") == 0x87
    assert client.publish("power") == 0x87
    assert client.publish("power/h1") == 0
    assert len(desk.running.log.rows("power")) == 3


@pytest.mark.parametrize("version", [4, 5])
def test_disabling_closes_an_open_connection_within_a_second_and_it_stays_out(
    desk: Desk, connect: Connect, version: int
) -> None:
    secret, other = desk.add("h1"), desk.add("h2")
    client, neighbour = connect("c1", "h1", secret, version), connect("c2", "h2", other, version)
    desk.registry.replace([Device("h1", disabled=True)])
    assert wait_for(lambda: client.closed is not None) < 1
    client.paho.loop_stop()
    again = connect("c1", "h1", secret, version)
    assert again.connected not in (0, None)
    assert neighbour.closed is None
    assert neighbour.publish("power/h2") == 0
    desk.registry.replace([Device("h1")])
    wait_for(lambda: connect("c1", "h1", secret, version).connected == 0)
    assert desk.running.counted("qanat_devices_refused_total", reason="disabled") >= 1
    assert desk.running.counted("qanat_devices_known") == 2


def test_many_at_once_are_all_told(desk: Desk, connect: Connect) -> None:
    secrets = {f"h{number}": desk.add(f"h{number}") for number in range(250)}
    clients = [connect("c", name, secrets[name]) for name in ("h0", "h120", "h249")]
    desk.registry.replace([Device(name, disabled=True) for name in secrets])
    wait_for(lambda: all(client.closed is not None for client in clients))
    for client in clients:
        client.paho.loop_stop()


def test_removal_closes_too_and_the_name_is_unknown_then(desk: Desk, connect: Connect) -> None:
    secret = desk.add("h1")
    client = connect("c1", "h1", secret)
    desk.registry.remove(["h1"], desk.running.now)
    assert wait_for(lambda: client.closed is not None) < 1
    client.paho.loop_stop()
    assert connect("c1", "h1", secret).connected == 0x86
    assert desk.running.counted("qanat_devices_refused_total", reason="unknown") >= 1


def kept(desk: Desk, client_id: str, name: str, secret: str) -> bool:
    """Whether there was a session for it; it leaves one that is kept for an hour."""
    present: list[bool] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
    client.username_pw_set(name, secret)
    client.on_connect = lambda _c, _u, flags, _r, _p: present.append(flags.session_present)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", desk.running.mqtt, clean_start=False, properties=properties)
    client.loop_start()
    wait_for(lambda: present)
    client.disconnect()
    client.loop_stop()
    return present[0]


def test_who_is_registered_again_does_not_inherit_a_session(desk: Desk) -> None:
    first, neighbour = desk.add("h1"), desk.add("h2")
    assert [kept(desk, "c", "h1", first) for _ in range(2)] == [False, True]
    assert [kept(desk, "c", "h2", neighbour) for _ in range(2)] == [False, True]
    desk.registry.replace([Device("h1", disabled=True)])
    time.sleep(0.3)  # looked at every 0.1 s
    desk.registry.replace([Device("h1")])
    assert kept(desk, "c", "h1", first)
    with httpx.Client(base_url=desk.running.url, auth=ADMIN) as web:
        assert web.delete("/v1/devices/h1").status_code == 200
    assert not kept(desk, "c", "h1", desk.add("h1"))
    assert kept(desk, "c", "h2", neighbour)


def test_sessions_of_who_was_removed_meanwhile_end_with_the_start(start: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "devices.db"
    desk = Desk(path, start(users=USERS, devices=path))
    secrets = [desk.add("h1"), desk.add("h2")]
    assert not kept(desk, "c", "h1", secrets[0])
    assert not kept(desk, "c", "h2", secrets[1])
    desk.running.stop()
    desk.registry.remove(["h1"], 0)
    desk.running = start(users=USERS, devices=path, log=desk.running.log)
    assert not kept(desk, "c", "h1", desk.add("h1"))
    assert kept(desk, "c", "h2", secrets[1])
    desk.registry.close()


def test_rotation_with_grace_leaves_the_connection_until_the_grace_is_over(desk: Desk, connect: Connect) -> None:
    old = desk.add("h1")
    first = connect("c1", "h1", old)
    new = desk.rotate("h1", desk.running.now + 60_000)
    second = connect("c2", "h1", new)
    late = connect("c3", "h1", old)
    assert [one.publish("power/h1") for one in (first, second, late)] == [0, 0, 0]
    desk.running.now += 60_000
    assert wait_for(lambda: first.closed is not None and late.closed is not None) < 1
    for client in (first, late):
        client.paho.loop_stop()
    assert second.publish("power/h1") == 0
    assert second.closed is None
    assert connect("c1", "h1", old).connected == 0x86


def test_other_topics_take_effect_at_once(desk: Desk, connect: Connect) -> None:
    secret = desk.add("h1", publish=("power/{id}",))
    client = connect("c1", "h1", secret)
    assert client.publish("power/h1") == 0
    desk.registry.replace([Device("h1", publish=("plain/{id}",))])
    assert wait_for(lambda: client.closed is not None) < 1
    client.paho.loop_stop()
    assert connect("c1", "h1", secret).publish("power/h1") == 0x87


def test_a_token_is_a_password_for_mqtt_and_a_bearer_for_http(
    desk: Desk, connect: Connect, raw: Callable[..., Any]
) -> None:
    token = desk.add("h1", credential="token", publish=("power", "power/{id}"))
    assert connect("c1", "h1", token).publish("power/h1") == 0
    for client_id, code in (("h1", 0), ("h2", 0x86)):
        nameless = raw(desk.running.mqtt, V5, client_id=client_id, password=token)
        assert nameless.connack.reason == code
    url = f"{desk.running.url}/streams/power"
    for way in ({"auth": ("h1", token)}, {"headers": {"authorization": f"Bearer {token}"}}):
        assert httpx.post(url, content=ROW, **way).status_code == 200  # type: ignore[arg-type]
    assert httpx.post(url, content=ROW, headers={"authorization": f"Bearer {token}x"}).status_code == 401
    assert httpx.post(f"{desk.running.url}/streams/plain", content=b"{}", auth=("h1", token)).status_code == 403
    desk.registry.remove(["h1"], desk.running.now)
    wait_for(lambda: httpx.post(url, content=ROW, auth=("h1", token)).status_code == 401)


def test_a_device_that_was_there_is_seen_when_the_gateway_stops(desk: Desk, connect: Connect) -> None:
    connect("c1", "h1", desk.add("h1"))
    desk.add("h2")
    wait_for(lambda: desk.running.counted("qanat_devices_connected") == 1)
    desk.running.stop()
    assert desk.registry.get("h1").seen_at == desk.running.now
    assert desk.registry.get("h2").seen_at is None


def test_a_registry_that_breaks_lets_nobody_in_and_healthz_says_so(desk: Desk, connect: Connect) -> None:
    secret = desk.add("h1")
    with httpx.Client(base_url=desk.running.url) as web:
        assert web.get("/healthz").json()["checks"]["devices"] == "ok"
        desk.registry._db.execute("DROP TABLE credentials")
        assert connect("c1", "h1", secret).connected != 0
        wait_for(lambda: web.get("/healthz").status_code == 503)
        begin = time.monotonic()
        while time.monotonic() < begin + 0.5:  # it does not come and go with every look
            assert "credentials" in web.get("/healthz").json()["checks"]["devices"]
        desk.registry._db.execute("CREATE TABLE credentials (kind, value, device, created_at, expires_at)")
        wait_for(lambda: web.get("/healthz").status_code == 200)


def test_the_first_device_closes_a_listener_that_was_open(start: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "devices.db"
    running = start(devices=path)
    url = f"{running.url}/streams/power"
    assert httpx.post(url, content=ROW).status_code == 200
    desk = Desk(path, running)
    desk.add("h1")
    desk.registry.close()
    wait_for(lambda: httpx.post(url, content=ROW).status_code == 401, 1)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def web(desk: Desk) -> Iterator[httpx.Client]:
    """An admin."""
    with httpx.Client(base_url=desk.running.url, auth=ADMIN) as client:
        yield client


def test_only_an_admin_manages_devices_over_http(desk: Desk, web: httpx.Client) -> None:
    assert web.post("/v1/devices", json={"id": "h1"}).status_code == 201
    token = web.post("/v1/devices", json={"id": "h2", "credential": "token"}).json()["secret"]
    for said in ({"auth": READER}, {"headers": {"authorization": f"Bearer {token}"}}):
        for method, path in (("POST", ""), ("GET", ""), ("DELETE", "/h1"), ("POST", "/h1/rotate")):
            answer = httpx.request(method, f"{desk.running.url}/v1/devices{path}", **said)  # type: ignore[arg-type]
            assert answer.status_code == 403
            assert answer.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{desk.running.url}/v1/devices").status_code == 401


def test_nobody_manages_devices_on_an_open_listener(start: Callable[..., Any], tmp_path: Path) -> None:
    running = start(devices=tmp_path / "devices.db")
    assert httpx.post(f"{running.url}/v1/devices", json={"id": "h1"}).status_code == 403


def test_a_device_lives_and_dies_over_http(desk: Desk, web: httpx.Client, connect: Connect) -> None:
    made = web.post("/v1/devices", json={"id": "h1", "owner": "ada", "labels": {"site": "north"}, "interval": "30 s"})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/devices/h1")
    secret = made.json()["secret"]
    assert {k: made.json()[k] for k in ("id", "owner", "interval", "publish")} == {
        "id": "h1", "owner": "ada", "interval": "30 s", "publish": ["+/{id}/#"],
    }  # fmt: skip
    client = connect("c1", "h1", secret)
    assert client.publish("power/h1") == 0
    assert web.patch("/v1/devices/h1", json={"kind": "meter"}).json()["kind"] == "meter"
    shown = web.get("/v1/devices/h1").json()
    assert "secret" not in shown
    assert [one["kind"] for one in shown["credentials"]] == ["password"]
    rotated = web.post("/v1/devices/h1/rotate", json={"grace": "1 h"}).json()
    assert rotated["secret"] != secret
    assert client.publish("power/h1") == 0
    assert web.post("/v1/devices/h1/disable").json()["disabled"] is True
    assert wait_for(lambda: client.closed is not None) < 1
    client.paho.loop_stop()
    assert connect("c1", "h1", rotated["secret"]).connected not in (0, None)
    assert web.post("/v1/devices/h1/enable").json()["disabled"] is False
    assert connect("c1", "h1", rotated["secret"]).connected == 0
    assert web.delete("/v1/devices/h1").status_code == 200
    assert web.get("/v1/devices/h1").status_code == 404


def test_pages_follow_each_other_and_filters_hold(web: httpx.Client) -> None:
    answer = web.post("/v1/devices", json={"count": 250, "prefix": "m-", "kind": "meter", "credential": "token"})
    assert len({one["secret"] for one in answer.json()["devices"]}) == 250
    assert web.post("/v1/devices", json=[{"id": "a", "labels": {"s": "x=y"}}, {"id": "b"}]).status_code == 201
    names, after = [], ""
    while after is not None:
        page = web.get("/v1/devices", params={"limit": 100, "after": after, "prefix": "m-"}).json()
        names += [one["id"] for one in page["devices"]]
        after = page["next"]
    assert names == [f"m-{number:05d}" for number in range(1, 251)]
    found = web.get("/v1/devices", params={"label": "s=x=y"}).json()
    assert [one["id"] for one in found["devices"]] == ["a"]
    assert len(web.get("/v1/devices", params={"kind": "meter", "disabled": "true"}).json()["devices"]) == 0


def test_a_dry_run_checks_all_and_keeps_nothing(web: httpx.Client) -> None:
    assert web.post("/v1/devices?dry_run=true", json={"id": "h1"}).json().get("secret") is None
    assert web.get("/v1/devices/h1").status_code == 404
    web.post("/v1/devices", json={"id": "h1"})
    assert web.post("/v1/devices?dry_run=true", json={"id": "h1"}).status_code == 409
    assert web.delete("/v1/devices/h1?dry_run=true").status_code == 200
    assert web.get("/v1/devices/h1").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "", b"{", 400, "body"),
        ("POST", "", b"[]", 400, "no device"),
        ("POST", "", b'{"id": "a/b"}', 400, "a/b"),
        ("POST", "", b'{"id": "x", "colour": "red"}', 400, "colour"),
        ("POST", "", b'{"count": 0}', 400, "count"),
        ("POST", "", b'"x"', 400, "body"),
        ("POST", "", b'{"id": "\xff"}', 400, "body"),
        ("POST", "", b'[{"id": "n1"}, {"id": "there"}]', 409, "there"),
        ("GET", "?limit=0", b"", 400, "limit"),
        ("GET", "?limit=\xb2", b"", 400, "limit"),
        ("GET", "?color=red", b"", 400, "color"),
        ("GET", "?label=x", b"", 400, "label"),
        ("GET", "/nowhere", b"", 404, "nowhere"),
        ("DELETE", "/nowhere", b"", 404, "nowhere"),
        ("PATCH", "/there", b'{"id": "other"}', 400, "id"),
        ("PATCH", "/there", b'{"publish": ["a/#/b"]}', 400, "#"),
        ("POST", "/there/rotate", b'{"grace": "soon"}', 400, "grace"),
    ],
)
def test_what_cannot_be_is_told_with_a_hint(
    web: httpx.Client, method: str, path: str, body: bytes, status: int, said: str
) -> None:
    web.post("/v1/devices", json={"id": "there"})
    answer = web.request(method, f"/v1/devices{path}", content=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(web.get("/v1/devices").json()["devices"]) == 1


# --- by certificate ---------------------------------------------------------------------------------------------------


def test_a_device_comes_in_by_its_certificate_and_goes_when_it_is_disabled(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("x", common_name="h1")
    for name, leaf in (("server", server), ("client", client)):
        leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    files = TlsFiles(tmp_path / "server.pem", tmp_path / "server.pem", tmp_path / "ca.pem", demand_client=True)
    listener = Listener("mqtts", port=0, tls=files)
    desk = Desk(tmp_path / "devices.db", start(users=USERS, devices=tmp_path / "devices.db", mqtts=listener))
    desk.add("h1", common_name="h1")

    def connect() -> paho.Client:
        one = paho.Client(paho.CallbackAPIVersion.VERSION2, "any", protocol=paho.MQTTv5)
        one.tls_set(str(tmp_path / "ca.pem"), str(tmp_path / "client.pem"))
        one.on_connect = lambda _c, _u, _f, reason, _p: heard.append(("in", reason.value))
        one.on_disconnect = lambda _c, _u, _f, reason, _p: heard.append(("out", reason.value))
        one.on_publish = lambda _c, _u, _m, reason, _p: heard.append(("ack", reason.value))
        one.connect("127.0.0.1", desk.running.gateway.ports["mqtts"])
        one.loop_start()
        return one

    heard: list[tuple[str, int]] = []
    device = connect()
    wait_for(lambda: ("in", 0) in heard)
    device.publish("power/h1", ROW, qos=1)
    wait_for(lambda: ("ack", 0) in heard)
    desk.registry.replace([Device("h1", disabled=True)])
    assert wait_for(lambda: heard[-1][0] == "out") < 1
    device.loop_stop()
    heard.clear()
    again = connect()
    wait_for(lambda: bool(heard))
    assert heard[0] != ("in", 0)
    again.loop_stop()
    desk.registry.close()
