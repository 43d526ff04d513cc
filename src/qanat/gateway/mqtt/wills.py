"""Wills of clients whose connection broke, until it is time to publish them. Pure; the time (ms) is a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qanat.gateway.mqtt.packets import Will
from qanat.gateway.mqtt.properties import Property
from qanat.gateway.mqtt.session import Client
from qanat.secure.users import User


@dataclass(frozen=True, slots=True)
class PendingWill:
    """Whose will it is, and what he may do."""

    client: Client
    user: User | None
    will: Will


class Wills:
    """A client that is back in time is not dead. What waits when qanat stops is not published."""

    def __init__(self, publish: Callable[[PendingWill], None]) -> None:
        self._publish = publish
        self._waiting: dict[Client, tuple[int, PendingWill]] = {}

    def add(self, pending: PendingWill, session_expiry_s: int, now: int) -> None:
        """The connection broke: publish now, or after the will's delay, but not after the session has ended."""
        delay = pending.will.properties.get(Property.WILL_DELAY, 0)
        seconds = min(delay if isinstance(delay, int) else 0, session_expiry_s)
        if seconds:
            self._waiting[pending.client] = (now + seconds * 1000, pending)
        else:
            self._publish(pending)

    def cancel(self, client: Client, *, clean: bool) -> None:
        """The client is back: with its session it lives; where that ended, the will is due."""
        found = self._waiting.pop(client, None)
        if found is not None and clean:
            self._publish(found[1])

    def sweep(self, now: int) -> None:
        """Publish what is due."""
        for client, (due, pending) in list(self._waiting.items()):
            if due <= now:
                del self._waiting[client]
                self._publish(pending)
