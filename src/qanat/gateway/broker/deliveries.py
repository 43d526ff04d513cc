"""From messages of a broker to offers, and from verdicts back to acknowledgements. No socket, no packet layouts.

QoS 0 and 1: every run is an offer on its own. QoS 2: one batch at a time with at most one offer per slot of `Taken`,
since what a slot is to hold can only be said once the offer before has its verdict.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from qanat.errors import QanatError
from qanat.gateway.broker.machine import Subscriber
from qanat.gateway.broker.taken import SLOTS, Taken
from qanat.gateway.intakes import IntakeContext, state_offer
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.mqtt.properties import Properties, Property
from qanat.gateway.offers import Verdict
from qanat.gateway.routes import Sender

#: What metrics and dead letters call it.
PROTOCOL = "broker"


@dataclass(frozen=True, slots=True)
class Line:
    """What the connection offers to those who store: `flush` sends what the machine has to say, `fail` ends it all."""

    machine: Subscriber
    flush: Callable[[], None]
    fail: Callable[[QanatError], None]


@dataclass(slots=True)
class _Slot:
    """What one offer of a batch changes: the run that it stores, if any, and the ids that it forgets."""

    run: Published | None = None
    released: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Batch:
    """Offers of QoS 2 that are on their way to the log; `waits` counts those without a verdict."""

    waits: int
    error: QanatError | None = None


class Deliveries:
    """The messages of one connection of the source `name`."""

    def __init__(self, name: str, context: IntakeContext, taken: Taken, line: Line) -> None:
        self._name, self._context, self._taken, self._line = name, context, taken, line
        self._waiting: deque[Published] = deque()
        self._released: list[int] = []
        self._batch: _Batch | None = None
        self._offers = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def take(self, run: Published) -> None:
        """Messages came in."""
        if run.qos == 2:
            self._waiting.append(run)
        else:
            self._offer(run, partial(self._on_stored, run))

    def release(self, packet_ids: Sequence[int]) -> None:
        """The broker is done with these QoS 2 messages."""
        self._released += packet_ids

    def go_on(self) -> None:
        """Put the next batch of QoS 2, unless one is on its way."""
        if self._batch is not None or self._closed or not (self._waiting or self._released):
            return
        slots: dict[int, _Slot] = {}
        for packet_id in self._released:
            slot = self._taken.slot_of(packet_id)
            if slot is not None:
                slots.setdefault(slot, _Slot()).released.append(packet_id)
        self._released = []
        for slot in range(min(SLOTS, len(self._waiting))):
            slots.setdefault(slot, _Slot()).run = self._waiting.popleft()
        self._batch = _Batch(len(slots))
        for slot in sorted(slots):  # the runs lie in the slots in their order
            self._put_slot(slot, slots[slot], self._batch)

    def close(self) -> None:
        """Forget what was not put; it comes again."""
        self._closed = True
        self._waiting.clear()
        self._released.clear()

    async def settled(self) -> None:
        """Wait until all that was put has its verdict."""
        await self._idle.wait()

    # --- QoS 0 and 1 -------------------------------------------------------------------------------------------------

    def _on_stored(self, run: Published, verdict: Verdict) -> None:
        if verdict.error is None:
            self._line.machine.ack(run.packet_ids)
            self._line.flush()
        elif run.qos:
            self._line.fail(verdict.error)
        else:
            name = self._context.resolve(run.topic).name
            self._context.metrics.gateway_shed(PROTOCOL, name, len(run.payloads))
        self._land()

    # --- QoS 2 -------------------------------------------------------------------------------------------------------

    def _put_slot(self, slot: int, change: _Slot, batch: _Batch) -> None:
        run = change.run
        ids = (self._taken.ids(slot) - frozenset(change.released)) | frozenset(run.packet_ids if run else ())
        state = self._taken.stored(slot, ids)
        done = partial(self._on_slot, slot, change, ids, batch)
        if run is None:
            self._take_off()
            self._context.ingest.put(state_offer(state, self._name, self._context.clock(), done))
        else:
            self._offer(run, done, state)

    def _on_slot(self, slot: int, change: _Slot, ids: frozenset[int], batch: _Batch, verdict: Verdict) -> None:
        batch.waits -= 1
        if verdict.error is None:
            self._taken.set(slot, ids)
            self._line.machine.complete(change.released)
            self._line.machine.record(change.run.packet_ids if change.run else ())
            self._line.flush()
        else:
            batch.error = verdict.error
        if not batch.waits:
            self._batch = None
            if batch.error is not None:
                self._line.fail(batch.error)
            self.go_on()
        self._land()

    # --- both --------------------------------------------------------------------------------------------------------

    def _offer(
        self, run: Published, done: Callable[[Verdict], None], state: Mapping[str, bytes | None] | None = None
    ) -> None:
        self._take_off()
        route = self._context.resolve(run.topic)
        sender = Sender(PROTOCOL, run.topic, self._name, attributes_of(run.properties))
        keep = None if state is None else lambda _: state
        self._context.ingest.put(route.offer(run.payloads, sender, self._context.clock(), done, keep))

    def _take_off(self) -> None:
        self._offers += 1
        self._idle.clear()

    def _land(self) -> None:
        self._offers -= 1
        if not self._offers:
            self._idle.set()


def attributes_of(properties: Properties) -> Mapping[str, str]:
    """What a message says about itself beside its payload, under the names that mappings use."""
    found: dict[str, str] = {}
    for name, key in (("content_type", Property.CONTENT_TYPE), ("response_topic", Property.RESPONSE_TOPIC)):
        value = properties.get(key)
        if isinstance(value, str):
            found[name] = value
    pairs = properties.get(Property.USER_PROPERTY, ())
    for pair in pairs if isinstance(pairs, tuple) else ():
        if isinstance(pair, tuple):
            found[f"property.{pair[0]}"] = pair[1]
    return found
