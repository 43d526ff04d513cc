"""What goes wrong between a device and the gateway, in set shares, and what each fault must lead to.

Pure: readings in the order of time go in, messages in the order of sending come out, each with a note of what was done
to it. Every draw is a hash of (seed, device, reading, purpose), so adding a fault changes nothing else. Cut connections
are the senders' business (`fleet`, `posting`); here is only how often.
"""

from __future__ import annotations

import enum
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qanat.errors import ConfigError
from qanat.sim.households import AHEAD_S, LATE_MS, Message

#: A clock that runs ahead is ten years off, however long the play; one that has lost its battery is in 1970.
AHEAD_MS = AHEAD_S * 1000
EPOCH_MS = 3_600_000
_AGAIN_MS = 2_000

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_LATE, _LATE_BY, _SWAP, _AGAIN, _AGAIN_BY, _CLOCK, _WHICH, _CUT = range(8)
#: Purposes below this are those of the faults; devices draw with larger ones.
PURPOSES = 8


class Fault(enum.Flag):
    """What was done to one message. `AHEAD` and `CUT` make it a dead letter."""

    NONE = 0
    LATE = enum.auto()
    SWAPPED = enum.auto()
    AGAIN = enum.auto()
    AHEAD = enum.auto()
    BEHIND = enum.auto()
    CUT = enum.auto()


DEADLY = Fault.AHEAD | Fault.CUT


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of messages between 0 and 1. `late`: held back for 6-60 s. `swapped`: sent after the next one of the same
    device. `duplicates`: sent a second time within 2 s. `clock_faults`: half of them ten years ahead, half in 1970.
    `malformed`: cut short. `lost_connections`: a minute, over all clients together."""

    late: float = 0.0
    swapped: float = 0.0
    duplicates: float = 0.0
    clock_faults: float = 0.0
    malformed: float = 0.0
    lost_connections: float = 0.0

    def __post_init__(self) -> None:
        for name in ("late", "swapped", "duplicates", "clock_faults", "malformed"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        if self.lost_connections < 0:
            raise ConfigError(f"{self.lost_connections} lost connections a minute")


class Reading(NamedTuple):
    """What a device would send if nothing went wrong. `who`, `n`: device and number; `pause_ms`: until its next
    one, 0 where that is too far off to change places with.
    `write`: its clock (ms) -> the payload; `clocked`: whether the payload carries that clock at all. `key`: its clock
    -> what its row is known by; `value`: what the row must hold."""

    at_ms: int
    who: int
    n: int
    client: str
    topic: str
    pause_ms: int
    write: Callable[[int], bytes]
    key: Callable[[int], str]
    value: int
    clocked: bool = True


class Note(NamedTuple):
    """What is known of a message: the key and value by which its row is found in the log, and what was done to it."""

    key: str
    value: int
    fault: Fault


def draw(seed: int, who: int, n: int, purpose: int) -> float:
    """Uniform in [0, 1): SplitMix64's finaliser over the arguments (Steele, Lea, Flood, 2014)."""
    z = _mixed((seed + who * _GOLDEN) & _MASK)
    return (_mixed((z + (n * 64 + purpose) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def _mixed(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def disturb(readings: Iterable[Reading], faults: Faults, seed: int) -> Iterator[tuple[Message, Note]]:
    """The messages in the order in which they are sent. What is held back comes after the last reading, too."""
    waiting: list[tuple[int, int, Message, Note]] = []
    number = 0
    for reading in readings:
        while waiting and waiting[0][0] <= reading.at_ms:
            yield heapq.heappop(waiting)[2:]
        for message, note in _sent(reading, faults, seed):
            heapq.heappush(waiting, (message.at_ms, number, message, note))
            number += 1
    while waiting:
        yield heapq.heappop(waiting)[2:]


def _sent(reading: Reading, faults: Faults, seed: int) -> Iterator[tuple[Message, Note]]:
    """One message, or two."""
    who, n = reading.who, reading.n

    def hit(share: float, purpose: int, at: int = n) -> bool:
        return share > 0 and draw(seed, who, at, purpose) < share

    def span(purpose: int, bounds: tuple[int, int]) -> int:
        return bounds[0] + int(draw(seed, who, n, purpose) * (bounds[1] - bounds[0] + 1))

    at, clock, fault = reading.at_ms, reading.at_ms, Fault.NONE
    # Two swaps in a row would only rotate three messages, so the second one is left out.
    if reading.pause_ms and hit(faults.swapped, _SWAP) and not hit(faults.swapped, _SWAP, n - 1):
        at, fault = at + reading.pause_ms + 1, fault | Fault.SWAPPED
    if hit(faults.late, _LATE):
        at, fault = at + span(_LATE_BY, LATE_MS), fault | Fault.LATE
    if reading.clocked and hit(faults.clock_faults, _CLOCK):
        ahead = draw(seed, who, n, _WHICH) < 0.5
        clock, fault = (clock + AHEAD_MS, fault | Fault.AHEAD) if ahead else (EPOCH_MS + n, fault | Fault.BEHIND)
    payload = reading.write(clock)
    if hit(faults.malformed, _CUT):
        payload, fault = payload[: len(payload) // 2], fault | Fault.CUT
    key = reading.key(clock)
    yield Message(at, reading.client, reading.topic, payload), Note(key, reading.value, fault)
    if hit(faults.duplicates, _AGAIN):
        again = Message(at + span(_AGAIN_BY, (1, _AGAIN_MS)), reading.client, reading.topic, payload)
        yield again, Note(key, reading.value, fault | Fault.AGAIN)


def parse_share(text: str | float) -> float:
    """`2%` or `0.02`. Raises ValueError."""
    if isinstance(text, int | float):
        return float(text)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share: 2% or 0.02")
    return share


def parse_rate(text: str | float) -> float:
    """`1/min`, `0.5/s`, `30/h`, or a number: how often a minute. Raises ValueError."""
    if isinstance(text, int | float):
        return float(text)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|min|h))?\s*", text)
    if found is None:
        raise ValueError(f"{text!r} is no rate: 1/min, 0.5/s or 30/h")
    return float(found[1]) * {"s": 60.0, "min": 1.0, "h": 1 / 60}[found[2] or "min"]
