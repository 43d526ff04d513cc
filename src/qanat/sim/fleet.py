"""A fleet of MQTT clients on real sockets: plays messages at their times and keeps the account of every one.

It speaks MQTT 5 and 3.1.1 with QoS 0 and 1 through `gateway.mqtt.device` (pure); here are the sockets, the pace, the
reconnects and the sending again of what was not acknowledged. It does not know what the messages mean (`households`,
`replay`) nor what should become of them (`parity`).
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from qanat.errors import AuthError, ConfigError, ProtocolError
from qanat.gateway.mqtt.device import GOODBYE, PING, Acked, Device, encode_publish
from qanat.gateway.mqtt.packets import V3, V5, Connack, Leave, Reason
from qanat.sim.households import Message
from qanat.sim.pace import paced

VERSIONS = {"5": (V5,), "3.1.1": (V3,), "mixed": (V5, V3)}

#: Why a message comes back although the server answered: it had no room, and wants it again later.
_LATER = frozenset({Reason.QUOTA_EXCEEDED, Reason.SERVER_BUSY, Reason.SERVER_UNAVAILABLE})
#: CONNACK reasons that no waiting mends: 3.1.1 return codes 4 and 5, and their MQTT 5 names.
_KEPT_OUT = frozenset({4, 5, Reason.BAD_CREDENTIALS, Reason.NOT_AUTHORIZED, Reason.BAD_AUTH_METHOD})


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """Where to and how.

    `version`: "5", "3.1.1" or "mixed" (every other client). `username`: `{client}` in it stands for the client id.
    `speed`: fleet seconds per real second; 0 = as fast as acknowledgements come. `lead_ms`: no message is sent while
    one that is older by more than this is unacknowledged, so that clients cannot run apart however fast the replay is
    (QoS 1 only). `window`: unacknowledged messages per connection. `drain_s`: how long to wait for the last answers.
    `patience_s`: how long to wait for a server that nobody has met yet. `lost_connections`: so many are cut a minute,
    over all clients, each in the middle of a packet.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    qos: int = 1
    version: str = "5"
    username: str | None = None
    password: str | None = None
    speed: float = 1.0
    lead_ms: int | None = None
    window: int = 100
    keep_alive_s: int = 60
    backoff_s: tuple[float, float] = (0.1, 5.0)
    drain_s: float = 30.0
    patience_s: float = 10.0
    seed: int = 1
    lost_connections: float = 0.0

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ConfigError(f"no MQTT version {self.version!r}", hint=f"one of {', '.join(VERSIONS)}")
        if self.qos not in (0, 1):
            raise ConfigError(f"QoS {self.qos} is not among 0 and 1")
        if self.speed < 0 or (self.qos == 0 and (self.speed == 0 or self.lead_ms is not None)):
            raise ConfigError(f"speed {self.speed} at QoS {self.qos}: only acknowledgements (QoS 1) can set the pace")


class Account:
    """What became of every message, by its number in the order of play. Filled by `Fleet`, read by everybody.

    `sends[i]`: how often it was written to a socket; `acked[i]`: whether the server took it; `refused[i]`: whether it
    said that it never will. `ack_ms`: from the last sending to the acknowledgement, one per acknowledged message.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.sends = array("I")
        self.acked = bytearray()
        self.refused = bytearray()
        self.ack_ms = array("f")
        self.sent = self.acknowledged = self.again = self.connected = self.reconnects = 0

    def add(self, message: Message) -> int:
        """A message about to be sent; its number."""
        self.messages.append(message)
        self.sends.append(0)
        self.acked.append(0)
        self.refused.append(0)
        return len(self.messages) - 1


class Fleet:
    """Clients that come to life with their first message. `account` may be read while `play` runs (same thread)."""

    def __init__(self, options: FleetOptions) -> None:
        self.options = options
        self.account = Account()
        self.failure: Exception | None = None
        self.closing = self.met = False
        self.began = time.monotonic()
        self._clients: dict[str, _Client] = {}
        self._oldest = 0  # everything before it has an answer
        self._progress = asyncio.Event()
        self._random = random.Random(options.seed)  # noqa: S311 - spreads reconnects, hides nothing

    async def play(self, messages: Iterable[Message]) -> Account:
        """Send everything at its time, wait for the answers, say goodbye.

        Raises `ConfigError` where there is no server, `AuthError` where it keeps a client out and `ProtocolError` where
        it breaks the protocol. Cancelling it closes the connections; the account stays valid.
        """
        self.began = time.monotonic()
        pings, cuts = asyncio.create_task(self._ping()), asyncio.create_task(self._cut())
        try:
            await self._send_all(messages)
            await self._drain()
        finally:
            pings.cancel()
            cuts.cancel()
            self.closing = True
            for client in self._clients.values():
                client.leave()
        await asyncio.sleep(0)
        self._check()
        return self.account

    async def _send_all(self, messages: Iterable[Message]) -> None:
        async for message in paced(messages, self.options.speed):
            await self._abreast(message.at_ms)
            self._client(message.client).offer(self.account.add(message))
            self._check()

    async def _abreast(self, at_ms: int) -> None:
        """Wait until nothing unanswered is older than the lead allows, or too much is under way altogether."""
        lead, account = self.options.lead_ms, self.account
        while not self.failure and self._oldest < len(account.messages) and self.options.qos:
            behind = lead is not None and account.messages[self._oldest].at_ms < at_ms - lead
            crowd = not self.options.speed and len(account.messages) - self._oldest >= 20_000
            if not (behind or crowd):
                return
            await self._wait(1.0)

    async def _drain(self) -> None:
        deadline = time.monotonic() + self.options.drain_s
        while self._open() and not self.failure and time.monotonic() < deadline:
            await self._wait(0.1)

    def _open(self) -> bool:
        if self.options.qos:
            return self._oldest < len(self.account.messages)
        return any(client.waiting for client in self._clients.values())

    async def _wait(self, seconds: float) -> None:
        self._progress.clear()
        try:
            await asyncio.wait_for(self._progress.wait(), seconds)
        except TimeoutError:
            return

    async def _ping(self) -> None:
        while self.options.keep_alive_s:
            await asyncio.sleep(self.options.keep_alive_s / 2)
            for client in self._clients.values():
                client.ping()

    async def _cut(self) -> None:
        while self.options.lost_connections:
            await asyncio.sleep(self._random.expovariate(self.options.lost_connections / 60))
            if self._clients and not self.closing:
                self._random.choice(list(self._clients.values())).tear()

    def _client(self, name: str) -> _Client:
        client = self._clients.get(name)
        if client is None:
            versions = VERSIONS[self.options.version]
            client = self._clients[name] = _Client(self, name, versions[len(self._clients) % len(versions)])
            client.connect()
        return client

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def pause(self, attempt: int) -> float:
        """Seconds before the next attempt: doubled each time, spread so that a fleet does not come back all at once."""
        least, most = self.options.backoff_s
        return min(most, least * 2.0 ** min(attempt, 16)) * self._random.uniform(0.5, 1.0)

    def answered(self, index: int, taken: bool) -> None:
        """The server said yes or never to message `index`."""
        account = self.account
        (account.acked if taken else account.refused)[index] = 1
        while self._oldest < len(account.acked) and (account.acked[self._oldest] or account.refused[self._oldest]):
            self._oldest += 1
        self._progress.set()

    def fail(self, error: Exception) -> None:
        """Nothing will get better by waiting."""
        self.failure = self.failure or error
        self._progress.set()


class _Client(asyncio.Protocol):
    """One client over all its connections. `waiting`: message numbers not (or no longer) under way."""

    def __init__(self, fleet: Fleet, name: str, version: int) -> None:
        self.fleet, self.name, self.version = fleet, name, version
        self.waiting: deque[int] = deque()
        self.in_flight: dict[int, tuple[int, float]] = {}  # packet id -> message number, when sent
        self._last_id = 0
        self._attempt = 0
        self._ready = self._ever = self._torn = False
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._device = self._new_device()

    def _new_device(self) -> Device:
        options = self.fleet.options
        user = None if options.username is None else options.username.replace("{client}", self.name)
        return Device(
            self.name,
            version=self.version,
            username=user,
            password=options.password,
            keep_alive=options.keep_alive_s,
        )

    # --- connection --------------------------------------------------------------------------------------------------

    def connect(self, pause: float = 0.0) -> None:
        """Open a connection after `pause` seconds."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect(pause))

    async def _connect(self, pause: float) -> None:
        await asyncio.sleep(pause)
        options = self.fleet.options
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, options.host, options.port)
        except OSError:
            self._retry()

    def _retry(self) -> None:
        fleet, options = self.fleet, self.fleet.options
        if not fleet.met and time.monotonic() - fleet.began > options.patience_s:
            hint = f"qanat up examples/nilm --mqtt-port {options.port}"
            fleet.fail(ConfigError(f"no MQTT server answers at {options.host}:{options.port}", hint=hint))
        elif not fleet.closing:
            self._attempt += 1
            self.connect(self.fleet.pause(self._attempt))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is open."""
        self._transport = transport  # type: ignore[assignment]
        self._device = self._new_device()
        transport.write(self._device.connect())  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio: the socket is gone; what was not acknowledged goes first on the next one."""
        if self._ready:
            self.fleet.account.connected -= 1
        self._ready, self._transport = False, None
        self.waiting.extendleft(sorted((index for index, _ in self.in_flight.values()), reverse=True))
        self.in_flight.clear()
        self._retry()

    def leave(self) -> None:
        """Say goodbye and close."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.write(GOODBYE)
            self._transport.close()

    def tear(self) -> None:
        """Lose the connection with the next packet half sent."""
        if self._ready and self._transport is not None:
            self._torn = True

    def ping(self) -> None:
        """Tell the server that the client lives."""
        if self._ready and self._transport is not None:
            self._transport.write(PING)

    # --- messages ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """asyncio: the server said something."""
        try:
            events = self._device.feed(data)
        except ProtocolError as error:
            self.fleet.fail(error)
            return
        for event in events:
            match event:
                case Acked(packet_ids, reason):
                    self._on_acked(packet_ids, reason)
                case Connack(reason):
                    self._on_connack(reason)
                case Leave():
                    self._close()
        self._pump()

    def _on_connack(self, reason: int) -> None:
        if reason in _KEPT_OUT:
            self.fleet.fail(AuthError(f"the server keeps {self.name} out (reason {reason:#04x})"))
        if reason:
            self._close()
            return
        account = self.fleet.account
        account.connected += 1
        account.reconnects += self._ever
        self._ready = self._ever = self.fleet.met = True
        self._attempt = 0

    def _on_acked(self, packet_ids: tuple[int, ...], reason: int) -> None:
        account, now = self.fleet.account, time.perf_counter()
        for packet_id in packet_ids:
            index, sent = self.in_flight.pop(packet_id, (-1, 0.0))
            if index < 0:
                continue
            if reason in _LATER:
                asyncio.get_running_loop().call_later(self.fleet.pause(1), self.offer, index)
                continue
            if reason < 0x80:
                account.acknowledged += 1
                account.ack_ms.append((now - sent) * 1000)
            self.fleet.answered(index, reason < 0x80)

    def offer(self, index: int) -> None:
        """Send message `index` as soon as connection and window allow."""
        self.waiting.append(index)
        self._pump()

    def _pump(self) -> None:
        options = self.fleet.options
        if not self._ready or self._transport is None or self._transport.is_closing() or not self.waiting:
            return
        packets = []
        while self.waiting and len(self.in_flight) < options.window:
            packets.append(self._packet(self.waiting.popleft(), options.qos))
        if self._torn and packets:
            self._torn = False
            self._break_off(b"".join(packets), len(packets[-1]))
        else:
            self._transport.write(b"".join(packets))

    def _break_off(self, data: bytes, last: int) -> None:
        """All but the second half of the last packet, and then nothing more."""
        assert self._transport is not None
        self._transport.write(data[: len(data) - last // 2])
        self._transport.close()  # what is written leaves; connection_lost follows

    def _packet(self, index: int, qos: int) -> bytes:
        account = self.fleet.account
        message, before = account.messages[index], account.sends[index]
        account.sends[index] += 1
        account.sent += not before
        account.again += bool(before)
        if qos:
            self._last_id = self._last_id % 65_535 + 1
            while self._last_id in self.in_flight:
                self._last_id = self._last_id % 65_535 + 1
            self.in_flight[self._last_id] = (index, time.perf_counter())
        return encode_publish(message.topic, message.payload, qos, self._last_id, self.version, dup=bool(before))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()  # connection_lost follows


def play(messages: Iterable[Message], options: FleetOptions) -> Account:
    """Play the messages in an event loop of its own (uvloop where there is one)."""
    allow_sockets()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(Fleet(options).play(messages))


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, or None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def allow_sockets() -> None:
    """Lift this process's limit of open files as far as it may: every client is a socket."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
