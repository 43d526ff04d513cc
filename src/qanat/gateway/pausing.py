"""Reading from a connection, paused for as long as there is a reason; which, is the connection's affair."""

from __future__ import annotations

import asyncio


class PausableProtocol(asyncio.Protocol):
    """A connection whose peer is read only while nothing speaks against it: that is how TCP slows a sender down."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._pauses: set[str] = set()

    def pause(self, why: str) -> None:
        """Stop reading until every reason is gone."""
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """One reason less to stop reading."""
        if why not in self._pauses:
            return
        self._pauses.discard(why)
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._begin_anew()
            self._transport.resume_reading()

    def _begin_anew(self) -> None:
        """The peer is listened to again: its silence until now was ours."""
