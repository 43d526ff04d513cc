"""The fuzzer of MQTT for a few seconds; for longer: `python -m tests.fuzz.mqtt --minutes 5`."""

from __future__ import annotations

import random

import pytest

from qanat.gateway.mqtt.packets import V3, V5
from tests.fuzz import mqtt


def test_bent_streams_of_packets_meet_an_even_temper() -> None:
    assert mqtt.run(2.0, seed=20261121) > 100


@pytest.mark.parametrize("version", [V3, V5])
def test_no_prefix_of_a_stream_says_more_than_the_whole_packets_in_it(version: int) -> None:
    """Every truncated prefix: never an exception, never an event of a packet that is not all there."""
    chance = random.Random(version)
    for _ in range(30):
        packets = mqtt.conversation(chance, version)
        data = b"".join(packets)
        ends = [sum(map(len, packets[: n + 1])) for n in range(len(packets))]
        upto = {end: mqtt.feed(data[:end], [], answer=False)[0] for end in (0, *ends)}
        for cut in range(len(data)):
            seen, _, _ = mqtt.feed(data[:cut], [], answer=False)
            before = max(end for end in (0, *ends) if end <= cut)
            after = min(end for end in ends if end > cut)
            # several messages may stand in one piece of the conversation: then there are some of them
            assert upto[before] == seen[: len(upto[before])]
            assert seen == upto[after][: len(seen)]
            if not _is_many(packets[ends.index(after)]):
                assert seen == upto[before]


def _is_many(packet: bytes) -> bool:
    """Whether there is more than one packet in it."""
    frame = mqtt.find_frame(packet, 0)
    assert frame is not None
    return frame.end < len(packet)
