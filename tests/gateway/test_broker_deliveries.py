"""The order in which a broker's messages of QoS 2 are put, whatever was released before."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qanat.errors import QanatError
from qanat.gateway.broker.deliveries import Deliveries, Line
from qanat.gateway.broker.machine import Login, Subscriber
from qanat.gateway.broker.taken import Taken
from qanat.gateway.ingest import Ingest
from qanat.gateway.intakes import IntakeContext
from qanat.gateway.mqtt.framing import Published
from qanat.gateway.offers import Offer, Verdict
from qanat.gateway.routes import Route
from qanat.log import open_log
from qanat.observe.metrics import Metrics


class Desk:
    """Stands where the ingest is: keeps what was put, until `settle`."""

    def __init__(self) -> None:
        self.waiting: list[Offer] = []
        self.stored: list[bytes] = []

    def put(self, offer: Offer) -> None:
        self.waiting.append(offer)

    def settle(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.stored += [payload for offer in waiting for payload in offer.payloads]
        for offer in waiting:
            offer.done(Verdict())


def fail(error: QanatError) -> None:
    pytest.fail(str(error))


def run_of(number: int) -> Published:
    return Published("plant/a", 2, [b"%d" % number], [number], {})


@given(st.lists(st.one_of(st.just("take"), st.just("settle"), st.integers(1, 10)), max_size=60))
@example(["take", "take", "settle", 2, "take", "take", "settle"])
def test_messages_are_stored_in_the_order_in_which_they_came(steps: list[str | int]) -> None:
    """A number is an id that the broker releases, where it is stored."""

    async def play() -> None:
        desk, taken = Desk(), Taken("plant", "me")
        log, route = open_log("memory://"), Route("plain", None)
        context = IntakeContext(cast(Ingest, desk), log, Metrics(), lambda: 0, lambda topic: route, lambda: 0.0)
        deliveries = Deliveries("plant", context, taken, Line(Subscriber(Login("q"), taken, 0), lambda: None, fail))
        sent = 0
        for step in steps:
            if step == "take":
                sent += 1
                deliveries.take(run_of(sent))
            elif step == "settle":
                deliveries.go_on()
                desk.settle()
            elif step in taken:
                deliveries.release([int(step)])
        deliveries.go_on()
        while desk.waiting:
            desk.settle()
        assert desk.stored == [b"%d" % number for number in range(1, sent + 1)]

    asyncio.run(play())
