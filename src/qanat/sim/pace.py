"""Messages at their times: the pace of every fleet, whatever it speaks. Sends nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from qanat.sim.households import Message


async def paced(messages: Iterable[Message], speed: float) -> AsyncIterator[Message]:
    """Each message when it is due. `speed`: its seconds per real second; 0 = all at once, as fast as they are taken."""
    began, first = time.monotonic(), None
    for turn, message in enumerate(messages):
        first = message.at_ms if first is None else first
        if speed:
            wait = began + (message.at_ms - first) / 1000 / speed - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
        if turn % 64 == 0:
            await asyncio.sleep(0)  # behind time: the sockets want their turn, too
        yield message
