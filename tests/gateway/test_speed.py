"""What makes many small runs cheap, and must not show: shared verdicts, one write per connection and flush."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.gateway.conftest import NOW, POWER, FakeLog, RawClient

from qanat.codec.json import decode_payloads
from qanat.gateway.admit import admit, open_inlet
from qanat.gateway.config import IngestLimits
from qanat.gateway.ingest import Ingest
from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import Ack
from qanat.gateway.offers import Offer, Verdict
from qanat.observe.metrics import Metrics

GOOD = b'{"client_id": "a", "timestamp": 1700000000, "consumption": 1.5}'
INLETS = {"power": open_inlet(POWER, decode_payloads)}


def offer(*payloads: bytes, done: Callable[[Verdict], None] = lambda _: None) -> Offer:
    return Offer("power", list(payloads), "mqtt", "power", "c", NOW, done)


def test_offers_share_a_verdict_only_where_it_is_the_same() -> None:
    verdicts = admit(
        [offer(GOOD), offer(b"bad"), offer(GOOD, GOOD), offer(GOOD), offer(GOOD, b"")], INLETS, 1000
    ).verdicts
    assert [(one.accepted, one.rows, [dead.index for dead in one.dead]) for one in verdicts] == [
        (1, 1, []),
        (0, 0, [0]),
        (2, 2, []),
        (1, 1, []),
        (1, 1, [1]),
    ]
    assert verdicts[0] is verdicts[3]


def test_what_verdicts_make_is_written_after_all_of_a_flush_are_told_and_before_stop_returns() -> None:
    async def told() -> list[str]:
        found: list[str] = []
        ingest = Ingest(INLETS, FakeLog(), Metrics(), IngestLimits(), lambda: NOW)  # type: ignore[arg-type]
        ingest.after(lambda: found.append("write"))
        ingest.start()
        for name in ("a", "b", "c"):
            ingest.put(offer(GOOD, done=lambda _, name=name: found.append(name)))
        await ingest.stop(5)
        return found

    assert asyncio.run(told()) == ["a", "b", "c", "write"]


def test_what_keeps_coming_is_gathered_so_that_flushes_are_few() -> None:
    """Without a lull for 0.2 s: a flush every 25 ms, not every 4 ms."""

    async def flushes() -> int:
        log = FakeLog()
        ingest = Ingest(INLETS, log, Metrics(), IngestLimits(linger_messages=10**6), lambda: NOW)  # type: ignore[arg-type]
        ingest.start()
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.2
        while loop.time() < end:
            ingest.put(offer(GOOD))
            await asyncio.sleep(0.0002)
        await ingest.stop(5)
        return len(log.stored)

    assert asyncio.run(flushes()) <= 15


def test_messages_on_hundreds_of_topics_are_acknowledged_in_their_order(start: Any) -> None:
    running = start()
    client = RawClient(running.mqtt)
    client.send(b"".join(encode_publish(f"power/{n % 300}", GOOD, 1, n) for n in range(1, 901)))
    ids = [packet.packet_id for _ in range(900) if isinstance(packet := client.read(), Ack)]
    assert ids == list(range(1, 901))
    assert len(running.log.rows("power")) == 900
    client.close()
