"""Clients that never give up: MQTT of every QoS and version, HTTP with and without idempotency keys.

Each numbers its messages, keeps what was acknowledged, and sends the rest again on the next connection, as the standard
wants it. What must then be in the log is judged by `gateway.judge`.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from abc import ABC, abstractmethod
from array import array
from collections import deque
from dataclasses import dataclass, field

from qanat.gateway.mqtt.decoding import decode
from qanat.gateway.mqtt.device import GOODBYE, encode_publish
from qanat.gateway.mqtt.encoding import encode
from qanat.gateway.mqtt.packets import V5, Ack, Connack, Connect, Kind, Leave, find_frame
from qanat.gateway.mqtt.properties import Property

STREAM = "readings"
_ANSWER_S = 6.0
_WINDOW = 20
_ROWS = 20
#: Seconds between two messages or bodies of one client.
_PACE_S = 0.004
_LATER_S = (0.05, 0.4)


@dataclass
class Account:
    """What one client sent and heard. `once`: nothing of it may be stored twice. `sends[n]`: times that message n may
    have reached the server; `wrong`: what the server must not have said."""

    name: str
    once: bool = False
    promised: bool = True
    sends: array[int] = field(default_factory=lambda: array("I"))
    acked: bytearray = field(default_factory=bytearray)
    waiting: deque[int] = field(default_factory=deque)
    wrong: list[str] = field(default_factory=list)
    reconnects: int = 0
    refused: int = 0

    def new(self) -> int:
        """The number of a message that was never sent."""
        self.sends.append(0)
        self.acked.append(0)
        return len(self.sends) - 1

    def row(self, number: int) -> bytes:
        """One reading."""
        row = {"k": self.name, "n": number, "v": number % 97 + 0.5}
        return json.dumps(row).encode()

    @property
    def open(self) -> int:
        """Messages without an answer."""
        return len(self.acked) - sum(self.acked) if self.promised else 0


class Sender(ABC):
    """One client over all its connections. `draining`: send only what was sent before and is not acknowledged."""

    def __init__(self, account: Account, port: int, chance: random.Random) -> None:
        self.account, self.port, self._chance = account, port, chance
        self.draining = self.done = False

    async def run(self) -> None:
        """Until `done`, over as many connections as it takes."""
        while not self.done:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await self._pause()
                continue
            try:
                await self.talk(reader, writer)
            except (OSError, EOFError, TimeoutError):
                self.account.reconnects += 1
            finally:
                writer.transport.abort()
            await self._pause()

    @abstractmethod
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it breaks."""

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(*_LATER_S))

    def _next(self) -> int | None:
        if self.account.waiting:
            return self.account.waiting.popleft()
        return None if self.draining or self.done else self.account.new()


class Mqtt(Sender):
    """`flights`: packet id -> (message, whether its PUBREC has come). With `session` they outlive the connection."""

    def __init__(
        self, account: Account, port: int, chance: random.Random, version: int, qos: int, session: bool
    ) -> None:
        super().__init__(account, port, chance)
        self.version, self.qos, self.session = version, qos, session
        self.flights: dict[int, tuple[int, bool]] = {}
        self._met = False
        self._last = 0
        self._ready = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.session:
            self._give_up_flights()
        properties = {Property.SESSION_EXPIRY: 3600} if self.session and self.version == V5 else {}
        hello = Connect(self.account.name, self.version, not self.session, 30, properties=properties)
        writer.write(encode(hello, self.version))
        hearing = asyncio.create_task(self._hear(reader, writer))
        speaking = asyncio.create_task(self._speak(writer))
        try:
            await asyncio.wait([hearing, speaking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hearing, speaking):
                task.cancel()
            ends = await asyncio.gather(hearing, speaking, return_exceptions=True)
            self._ready.clear()
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(
                end, asyncio.CancelledError | OSError | EOFError | TimeoutError
            ):
                raise end
        if self.done:
            writer.write(GOODBYE)
            await writer.drain()
        else:
            raise EOFError

    def _give_up_flights(self) -> None:
        """Without a session they become new messages; what has its PUBREC is stored, and stays so."""
        numbers = [number for number, received in self.flights.values() if not received]
        self.account.waiting.extendleft(reversed(numbers))
        self.flights.clear()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_ANSWER_S):
            await self._ready.wait()
        for packet_id, (number, received) in list(self.flights.items()):
            if received:
                writer.write(encode(Ack(Kind.PUBREL, packet_id), self.version))
            else:
                self._publish(writer, number, packet_id, dup=True)
        while not self.done:
            if len(self.flights) < _WINDOW:
                number = self._next()
                if number is not None:
                    self._publish(writer, number, self._free_id() if self.qos else 0, dup=False)
            await writer.drain()
            await asyncio.sleep(_PACE_S)

    def _publish(self, writer: asyncio.StreamWriter, number: int, packet_id: int, *, dup: bool) -> None:
        if self.qos:
            self.flights[packet_id] = (number, False)
        self.account.sends[number] += 1
        topic = f"{STREAM}/{self.account.name}"
        payload = self.account.row(number)
        writer.write(encode_publish(topic, payload, self.qos, packet_id, self.version, dup))

    def _free_id(self) -> int:
        self._last = self._last % 65_535 + 1
        while self._last in self.flights:
            self._last = self._last % 65_535 + 1
        return self._last

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while True:
            if self.flights or not self._ready.is_set():
                async with asyncio.timeout(_ANSWER_S):
                    more = await reader.read(65_536)
            else:
                more = await reader.read(65_536)
            if not more:
                raise EOFError
            data += more
            while (frame := find_frame(data, 0)) is not None and frame.end <= len(data):
                packet, data = decode(data, frame, self.version), data[frame.end :]
                self._take(packet, writer)

    def _take(self, packet: object, writer: asyncio.StreamWriter) -> None:
        match packet:
            case Connack(reason=0, session_present=present):
                self._greeted(present)
            case Connack() | Leave():
                raise EOFError
            case Ack(kind=Kind.PUBACK, packet_id=packet_id, reason=reason):
                self._settle(packet_id, reason)
            case Ack(kind=Kind.PUBREC, packet_id=packet_id, reason=reason):
                if self._received(packet_id, reason):
                    writer.write(encode(Ack(Kind.PUBREL, packet_id), self.version))
            case Ack(kind=Kind.PUBCOMP, packet_id=packet_id):
                self.flights.pop(packet_id, None)
            case _:
                self.account.wrong.append(f"unasked for: {packet}")

    def _greeted(self, present: bool) -> None:
        if self.session and self._met and not present:
            self.account.wrong.append("the session was forgotten")
            self._give_up_flights()
        if present and not self.session:
            self.account.wrong.append("a session where none was asked for")
        self._met = True
        self._ready.set()

    def _settle(self, packet_id: int, reason: int) -> None:
        """PUBACK: stored, or refused and to be sent again as another message."""
        number, _ = self.flights.pop(packet_id, (-1, False))
        if number < 0:
            self.account.wrong.append(f"PUBACK for {packet_id}, which is not under way")
        elif reason < 0x80:
            self.account.acked[number] = 1
        else:
            self._refused(number)

    def _received(self, packet_id: int, reason: int) -> bool:
        """PUBREC: whether a PUBREL is due."""
        number, _ = self.flights.get(packet_id, (-1, False))
        if number < 0:
            self.account.wrong.append(f"PUBREC for {packet_id}, which is not under way")
            return False
        if reason >= 0x80:
            del self.flights[packet_id]
            self._refused(number)
            return False
        self.account.acked[number] = 1
        self.flights[packet_id] = (number, True)
        return True

    def _refused(self, number: int) -> None:
        """Nothing was stored: this sending does not count."""
        self.account.refused += 1
        self.account.sends[number] -= 1
        self.account.waiting.append(number)


class Http(Sender):
    """Posts bodies one after the other. With `keyed` each has an idempotency key and goes out until it is answered."""

    def __init__(self, account: Account, port: int, chance: random.Random, keyed: bool) -> None:
        super().__init__(account, port, chance)
        self.keyed = keyed
        self._body: tuple[str, list[int]] | None = None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.done:
            if self._body is None:
                numbers = [
                    number for _ in range(self._chance.randint(1, _ROWS)) if (number := self._next()) is not None
                ]
                self._body = (str(uuid.uuid4()), numbers) if numbers else None
            if self._body is not None:
                await self._post(reader, writer, *self._body)
            await asyncio.sleep(_PACE_S * 10)

    async def _post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, numbers: list[int]
    ) -> None:
        body = b"\n".join(map(self.account.row, numbers))
        head = f"POST /streams/{STREAM} HTTP/1.1\r\nhost: here\r\ncontent-type: application/x-ndjson\r\n"
        head += f"idempotency-key: {key}\r\n" if self.keyed else ""
        for number in numbers:
            self.account.sends[number] += 1
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(_ANSWER_S):
            status, said = await _answer(reader)
        match status:
            case 200 if said.get("accepted") == len(numbers):
                for number in numbers:
                    self.account.acked[number] = 1
                self._body = None
            case 409 | 429 | 503 | 507:
                self.account.refused += 1
                for number in numbers:
                    self.account.sends[number] -= 1
                await self._pause()
            case _:
                self.account.wrong.append(f"{status} {said}")
                self._body = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length:"))
    body = await reader.readexactly(size)
    try:
        said = json.loads(body)
    except ValueError:  # an error that nobody foresaw: it is counted as wrong, and the run goes on
        said = {"text": body.decode(errors="replace")}
    return int(head.split()[1]), said
