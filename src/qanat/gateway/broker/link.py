"""The asyncio shell of one connection to a broker: bytes, time and pauses. It knows no packet layouts.

What the broker says about the session goes to the owner; its messages go to `Deliveries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, cast

from qanat.errors import QanatError
from qanat.gateway.broker.deliveries import PROTOCOL, Deliveries, Line
from qanat.gateway.broker.machine import Connected, Ended, Event, Messages, Released, Subscribed, Subscriber
from qanat.gateway.broker.taken import Taken
from qanat.gateway.intakes import IntakeContext
from qanat.gateway.mqtt.packets import Reason
from qanat.gateway.pausing import PausableProtocol

_SWEEP_S = 0.5


class Owner(Protocol):
    """Whose connection it is."""

    @property
    def name(self) -> str:
        """That of the source."""
        ...

    async def enter(self, link: Link, resumed: bool) -> None:
        """The broker let us in; subscribe."""
        ...

    async def take_grants(self, granted: Sequence[tuple[str, int]]) -> None:
        """What the broker said to that."""
        ...


class Link(PausableProtocol):
    """One connection's socket. `answered`: the broker has spoken; `gone`: why it is over."""

    def __init__(self, owner: Owner, machine: Subscriber, taken: Taken, context: IntakeContext) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.machine = machine
        self.answered: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[Ended] = loop.create_future()
        self._owner, self._context = owner, context
        self._deliveries = Deliveries(owner.name, context, taken, Line(machine, self.flush, self._fail))
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._leaving = False
        self._lost: asyncio.Future[None] = loop.create_future()

    # --- asyncio calls these -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's
        self._context.metrics.gateway_connections(PROTOCOL, 1)
        if self._context.ingest.is_full:
            self.pause("ingest")
        self._sweep()

    def data_received(self, data: bytes) -> None:
        self._handle(self.machine.feed_bytes(data, self._context.clock()))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._context.metrics.gateway_connections(PROTOCOL, -1)
        self._lost.set_result(None)
        self._deliveries.close()
        self._end(Ended(Reason.UNSPECIFIED, f"the connection to the broker broke: {exc or 'closed by the broker'}"))

    # --- the owner calls these ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the machine has to say; after its last word, close."""
        if self._transport is None or self._transport.is_closing():
            return
        data = self.machine.get_outbound_data(self._context.clock())
        if data:
            self._transport.write(data)
        if self.machine.ended is not None:
            self._deliveries.close()
            if not self._leaving:
                self._end(self.machine.ended)
                self._transport.close()

    async def leave(self, timeout: float) -> None:
        """Say goodbye, and let the broker close: else it may fail to write to us before it reads our last PUBACKs."""
        self._leaving = True
        self.machine.leave()
        self.flush()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            await asyncio.wait([self._lost], timeout=timeout)

    async def close(self) -> None:
        """End without waiting for the other side, but for every verdict of what was put."""
        for task in self._tasks:
            task.cancel()
        self._deliveries.close()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        await self._deliveries.settled()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self.machine.touch(self._context.clock())

    def _handle(self, events: Sequence[Event]) -> None:
        if events and not self.answered.done():
            self.answered.set_result(None)
        for event in events:
            match event:
                case Messages(run):
                    self._deliveries.take(run)
                case Released(packet_ids):
                    self._deliveries.release(packet_ids)
                case Connected(resumed):
                    self._do(self._owner.enter(self, resumed))
                case Subscribed(granted):
                    self._do(self._owner.take_grants(granted))
                case Ended():
                    self._end(event)
        self._deliveries.go_on()
        self.flush()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except QanatError as error:
            self._fail(error)

    def _fail(self, error: QanatError) -> None:
        """What was not stored comes again after a reconnect, and only then."""
        self._deliveries.close()
        self._end(Ended(Reason.UNSPECIFIED, f"the log did not take what the broker sent: {error.message}"))
        if self._transport is not None:
            self._transport.abort()

    def _end(self, ended: Ended) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
        if not self.gone.done():
            self.gone.set_result(ended)

    def _sweep(self) -> None:
        """Whom we do not read is not silent."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        now = self._context.clock()
        if self._pauses:
            self.machine.touch(now)
        self.machine.check(now)
        self.flush()
