"""Rows on their way to one connected client: from the outlets of its subscriptions into its window.

QoS 0 goes as fast as the connection takes it; QoS 1 and 2 keep to the client's window, and a subscription whose rows do
not fit waits at its position in the log. Of a session that is kept, a packet id with QoS 2 is stored before the message
is sent, and what the client says to it before it is answered: so a client gets it once, whatever breaks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Protocol

from qanat.gateway.mqtt.filters import parse_filter, topic_of
from qanat.gateway.mqtt.outgoing import Message
from qanat.gateway.mqtt.packets import Kind
from qanat.gateway.mqtt.session import Flight, Session, Source, Subscription
from qanat.gateway.mqtt.sessions import Sessions
from qanat.gateway.offers import Verdict
from qanat.gateway.outlets import Delivery, Outlet, Outlets
from qanat.gateway.pages import GONE

#: What one subscription may send before the next one has its turn, and how much is written at once.
_TURN = 64
_WRITE_BYTES = 1 << 16


class Wire(Protocol):
    """The connection, as far as this concerns it."""

    @property
    def window(self) -> int:
        """How many messages with QoS 1 and 2 may be on their way."""
        ...

    def send(self, message: Message) -> int:
        """Bytes that are to be written; 0 where the client takes none as large as that."""
        ...

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL."""
        ...

    def flush(self) -> bool:
        """Write; whether the connection takes more."""
        ...

    def retry_later(self) -> None:
        """The log did not take something: call `retry` in a while."""
        ...


class _Feed:
    """One source: the outlet, and the rows that it has pushed and that are not sent. Retained ones come first."""

    def __init__(self, source: Source, subscription: Subscription) -> None:
        self.source, self.subscription = source, subscription
        self.retained: deque[Delivery] = deque()
        self.waiting: deque[Delivery] = deque()
        self.pick = subscription.filter.picker()
        self.is_fetching = False
        self.outlet: Outlet | None = None

    @property
    def has_some(self) -> bool:
        """Whether there is something to send now."""
        return bool(self.retained or (self.waiting and not self.is_fetching))

    @property
    def positions(self) -> dict[int, int]:
        """The first offset of each partition that was not sent."""
        if self.outlet is None:
            return {}
        positions = self.outlet.positions
        for row in reversed(self.waiting):
            positions[row.partition] = row.offset
        return positions

    def take(self) -> tuple[Delivery, bool]:
        """The next row, and whether it is a retained one."""
        if self.retained:
            return self.retained.popleft(), True
        return self.waiting.popleft(), False


class Courier:
    """All that is delivered to one client while it is connected."""

    def __init__(self, session: Session, sessions: Sessions, outlets: Outlets, wire: Wire) -> None:
        self._session, self._sessions, self._outlets, self._wire = session, sessions, outlets, wire
        self._feeds: dict[Source, _Feed] = {}
        self._again: deque[int] = deque()
        self._staged: list[tuple[int, Delivery]] = []
        self._held: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_writable = self._is_running = True
        self._is_pumping = False
        session.refresh = self._refresh

    def resume(self, streams: Iterable[str]) -> None:
        """A session goes on: send again what was on its way, then what has come since."""
        known = list(streams)
        released = [number for number, one in self._session.flights.items() if one.is_released]
        if released:
            self._wire.release(released)
        self._again.extend(number for number, one in self._session.flights.items() if not one.is_released)
        for subscription in list(self._session.subscriptions.values()):
            for stream in subscription.filter.streams(known):
                source = (subscription.filter.text, stream)
                # a stream that is newer than the session is read from its beginning
                positions = self._session.positions.get(source, {}) if subscription.qos else None
                self._open(source, subscription, positions)
        for source in list(self._session.retained):
            self._fetch(source)
        self._pump()

    def subscribe(self, subscription: Subscription, streams: Iterable[str]) -> list[Source]:
        """Begin with a subscription, from now on; returns the sources whose newest rows `send_retained` is to send."""
        text = subscription.filter.text
        is_new = text not in self._session.subscriptions
        self._session.subscriptions[text] = subscription
        sources = [(text, stream) for stream in subscription.filter.streams(streams)]
        for source in sources:
            feed = self._feeds.get(source)
            if feed is None:
                self._open(source, subscription, None)
            else:
                feed.subscription = subscription
        if subscription.retain_handling == 2 or (subscription.retain_handling == 1 and not is_new):
            return []
        if subscription.qos:
            self._session.retained.update(sources)
        for source in sources:  # before the answer to SUBSCRIBE nothing comes
            self._feeds[source].is_fetching = True
        return sources

    def send_retained(self, sources: Iterable[Source]) -> None:
        """Send the newest row of every key, and then what comes."""
        for source in sources:
            self._fetch(source)

    def unsubscribe(self, text: str) -> bool:
        """End a subscription; what is on its way arrives. Whether there was one."""
        if self._session.subscriptions.pop(text, None) is None:
            return False
        for source in [one for one in self._feeds if one[0] == text]:
            feed = self._feeds.pop(source)
            if feed.outlet is not None:
                feed.outlet.close()
            self._session.positions.pop(source, None)
            self._session.retained.discard(source)
        return True

    def confirm(self, kind: Kind, packet_ids: Sequence[int], reason: int) -> None:
        """What the client says to what it was sent."""
        flights = self._session.flights
        if kind is Kind.PUBREC and reason < 0x80:
            self._hold(packet_ids)
        else:
            for packet_id in packet_ids:
                flights.pop(packet_id, None)
            self._sessions.touch(self._session)
        self._pump()

    def set_writable(self, is_writable: bool) -> None:
        """Whether the connection takes more."""
        self._is_writable = is_writable
        if is_writable:
            self._pump()

    def retry(self) -> None:
        """Try again what the log did not take."""
        if not self._is_running:
            return
        if self._session.is_dirty:
            self._wire.retry_later()
            return
        if self._staged:
            self._send_staged()
        if self._held:
            held, self._held = self._held, []
            self._hold(held)

    def close(self) -> None:
        """The connection is gone; the session keeps where it was."""
        if not self._is_running:
            return
        self._refresh()
        self._is_running = False
        self._session.refresh = lambda: None
        for task in list(self._tasks):
            task.cancel()
        for feed in self._feeds.values():
            if feed.outlet is not None:
                feed.outlet.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open(self, source: Source, subscription: Subscription, positions: dict[int, int] | None) -> None:
        feed = self._feeds[source] = _Feed(source, subscription)
        keys = subscription.filter.keys

        def push(rows: Sequence[Delivery]) -> None:
            pick = feed.pick
            feed.waiting.extend(rows if pick is None else [row for row in rows if pick(row.key)])
            self._pump()
            if feed.waiting and feed.outlet is not None:
                feed.outlet.pause()

        feed.outlet = self._outlets.open(source[1], keys, positions, push)

    def _refresh(self) -> None:
        """Write down where every subscription is that is to go on later."""
        if self._is_running:
            self._session.positions = {
                source: feed.positions for source, feed in self._feeds.items() if feed.subscription.qos
            }

    def _fetch(self, source: Source) -> None:
        feed = self._feeds.get(source)
        if feed is None or feed.outlet is None:
            self._session.retained.discard(source)
            return
        feed.is_fetching = True
        task = asyncio.get_running_loop().create_task(self._load(feed, feed.positions))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, feed: _Feed, before: dict[int, int]) -> None:
        """The newest rows from before what the subscription will deliver anyway."""
        try:
            rows = await self._outlets.last(feed.source[1], feed.subscription.filter.keys)
            feed.retained.extend(
                row for row in rows if row.offset < before[row.partition] and (feed.pick is None or feed.pick(row.key))
            )
        finally:
            feed.is_fetching = False
        if not feed.retained:
            self._session.retained.discard(feed.source)
        self._pump()

    def _pump(self) -> None:
        """Send what may be sent."""
        if self._is_pumping or not self._is_running:
            return
        self._is_pumping = True
        try:
            while self._is_writable and self._round():
                self._is_writable = self._wire.flush()
            if self._staged:
                self._send_staged()
        finally:
            self._is_pumping = False
        for feed in list(self._feeds.values()):
            if not feed.waiting and feed.outlet is not None and feed.outlet.is_paused:
                feed.outlet.resume()

    def _round(self) -> bool:
        """Let every subscription send a little; whether anything was sent."""
        written = self._send_again()
        sent = written > 0
        for feed in list(self._feeds.values()):
            count = 0
            while count < _TURN and written < _WRITE_BYTES and feed.has_some and self._has_room(feed):
                row, is_retained = feed.take()
                written += self._send(feed, row, is_retained)
                count += 1
            if count and not feed.retained and not feed.is_fetching:
                self._session.retained.discard(feed.source)
            sent = sent or count > 0
        return sent

    def _has_room(self, feed: _Feed) -> bool:
        return not feed.subscription.qos or len(self._session.flights) < self._wire.window

    def _send(self, feed: _Feed, row: Delivery, is_retained: bool) -> int:
        subscription = feed.subscription
        if not subscription.qos:
            return self._wire.send(_message(row, subscription, is_retained))
        packet_id = self._session.next_id()
        flight = Flight(feed.source, row.partition, row.offset, subscription.qos, False, is_retained)
        self._session.flights[packet_id] = flight
        if flight.qos == 2 and self._session.is_durable:
            self._staged.append((packet_id, row))
            return len(row.payload)
        return self._send_flight(packet_id, row, dup=False)

    def _send_flight(self, packet_id: int, row: Delivery, *, dup: bool) -> int:
        """Send what has a packet id; what the client cannot take counts as delivered."""
        flight = self._session.flights.get(packet_id)
        if flight is None:
            return 0
        text = flight.source[0]
        subscription = self._session.subscriptions.get(text) or Subscription(parse_filter(text), flight.qos)
        size = self._wire.send(_message(row, subscription, flight.is_retained, flight.qos, packet_id, dup))
        if not size:
            del self._session.flights[packet_id]
        return size

    def _send_again(self) -> int:
        """Messages of an earlier connection, in their order, as far as the window of this one allows."""
        written = 0
        ahead = len(self._session.flights) - len(self._again)
        for packet_id in list(islice(self._again, max(self._wire.window - ahead, 0))):
            self._again.popleft()
            flight = self._session.flights.get(packet_id)
            if flight is None:
                continue
            row = self._outlets.find(flight.source[1], flight.partition, flight.offset)
            if row is None:  # retention has deleted it
                del self._session.flights[packet_id]
            else:
                written += self._send_flight(packet_id, row, dup=True)
        return written

    def _send_staged(self) -> None:
        """Store the packet ids, then send."""
        staged, self._staged = self._staged, []

        def then(verdict: Verdict) -> None:
            if verdict.error is not None:
                self._staged = staged + self._staged
                self._wire.retry_later()
            elif self._is_running:
                for packet_id, row in staged:
                    self._send_flight(packet_id, row, dup=False)
                self._wire.flush()

        self._sessions.save(self._session, then)

    def _hold(self, packet_ids: Sequence[int]) -> None:
        """The client has these: note it, then let it forget them."""
        flights = self._session.flights
        for packet_id in packet_ids:
            with suppress(KeyError):
                flights[packet_id] = replace(flights[packet_id], is_released=True)
        if not self._session.is_durable:
            self._wire.release(packet_ids)
            return

        def then(verdict: Verdict) -> None:
            if verdict.error is not None:
                self._held += packet_ids
                self._wire.retry_later()
            elif self._is_running:
                self._wire.release(packet_ids)
                self._wire.flush()

        self._sessions.save(self._session, then)


def _message(
    row: Delivery, subscription: Subscription, is_retained: bool, qos: int = 0, packet_id: int = 0, dup: bool = False
) -> Message:
    """A row as it is sent under a subscription; each is the newest of its key, so as published it is retained."""
    topic = row.stream if subscription.filter.is_whole else topic_of(row.stream, row.key)
    payload = b"" if row.payload == GONE else row.payload
    retain = is_retained or subscription.as_published
    return Message(topic, payload, qos, packet_id, retain, dup, subscription.identifier)
