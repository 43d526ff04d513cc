"""The offers of one flush and what the metrics want to know about them, counted in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qanat.gateway.offers import Offer


@dataclass(slots=True)
class Tally:
    """Of one protocol and stream: messages, bytes of payload, and when the oldest came (ms)."""

    messages: int
    size: int
    arrived: int


@dataclass(slots=True)
class Flush:
    """`count`: what the offers count in the queue, `size`: their bytes.

    `tallies`: by protocol and stream ("" where there is none of that name).
    """

    offers: Sequence[Offer]
    count: int
    size: int
    tallies: dict[tuple[str, str], Tally]

    def oldest(self) -> dict[str, int]:
        """When the oldest offer of each protocol came (ms)."""
        found: dict[str, int] = {}
        for (source, _), tally in self.tallies.items():
            found[source] = min(tally.arrived, found.get(source, tally.arrived))
        return found


def take(waiting: Sequence[Offer], most: int) -> Flush:
    """The oldest offers, until they count `most` or more."""
    number = count = total = 0
    tallies: dict[tuple[str, str], Tally] = {}
    for number, offer in enumerate(waiting, 1):  # noqa: B007  used after the loop
        size = offer.size
        count += offer.count
        total += size
        name = offer.source, offer.stream if offer.known else ""
        tally = tallies.get(name)
        if tally is None:
            tallies[name] = Tally(len(offer.payloads), size, offer.arrived)
        else:
            tally.messages += len(offer.payloads)
            tally.size += size
        if count >= most:
            break
    return Flush(waiting[:number], count, total, tallies)
