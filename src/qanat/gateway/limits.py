"""How much one device, and all of them together, may send: token buckets. Pure; the time (ms) is a parameter.

A bucket is one number, the time at which everything taken so far would have been sent at the allowed rate (the virtual
scheduling of GCRA, ITU-T I.371). What is over is taken all the same, as long as the debt is small; the front then reads
no further until it is paid. Only who goes on in spite of that is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qanat.codec.base import Block, Rows
from qanat.errors import DataError

#: One second's worth may come at once, and at least one message.
_BURST_MS = 1000.0
#: So long a front stops to read at a time; who owes more is refused.
PATIENCE_MS = 5000
#: Names without a connection are forgotten when there are more than so many.
_MAX_IDLE = 50_000


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be sent per second, how many connections may be open, how many bytes a message may have; None: no limit.

    For all together `connections` and `message_size` are what the listeners allow.
    """

    messages_per_second: float | None = None
    bytes_per_second: float | None = None
    connections: int | None = None
    message_size: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Of each device or user (of each client, where nobody is asked who he is), and of all together."""

    device: Limit = Limit()
    total: Limit = Limit()


@dataclass(frozen=True, slots=True)
class Grant:
    """`refused`: nothing was taken, and `wait_ms` says when to come again. Else it was; read on after `wait_ms`."""

    wait_ms: int = 0
    refused: bool = False


_FREE = Grant()


class MessageSizeError(DataError):
    """A row larger than a device may send; it never may, so nothing of the request is stored."""


class Bucket:
    """A rate per second. `until` is when all that was taken would have been sent at that rate."""

    __slots__ = ("burst", "cost", "until")

    def __init__(self, per_second: float | None) -> None:
        self.cost = 1000 / per_second if per_second else 0.0
        self.burst = max(_BURST_MS, self.cost)
        self.until = 0.0

    def debt(self, now: int) -> float:
        """How long (ms) nothing may be sent."""
        return self.until - now - self.burst

    def take(self, amount: int, now: int) -> None:
        """Take; what is over becomes debt."""
        self.until = max(self.until, now) + amount * self.cost


class Account:
    """What one name has sent and holds open. `seen`: when it last came in or sent something (ms)."""

    __slots__ = ("bytes", "connections", "messages", "name", "seen")

    def __init__(self, name: str, limit: Limit) -> None:
        self.name = name
        self.messages, self.bytes = Bucket(limit.messages_per_second), Bucket(limit.bytes_per_second)
        self.connections = 0
        self.seen = 0

    def debt(self, now: int) -> float:
        """How long (ms) this name may not send."""
        return max(self.messages.debt(now), self.bytes.debt(now))


class Limiter:
    """The accounts of everybody. `message_size` is the largest message of a device, None for no limit.

    `is_free`: there is no limit to what is sent; fronts may then just set `Account.seen`.
    """

    def __init__(self, limits: RateLimits = RateLimits()) -> None:
        self._limits = limits
        self._total = Account("", limits.total)
        self._accounts: dict[str, Account] = {}
        self._drained = 0
        self._rated = any(
            rate is not None
            for one in (limits.device, limits.total)
            for rate in (one.messages_per_second, one.bytes_per_second)
        )
        self.message_size = limits.device.message_size
        self.is_free = not self._rated and self.message_size is None
        self.connected = 0

    def open(self, name: str, now: int) -> Account | None:
        """One connection more of this name; None where it has as many as it may."""
        account = self.account(name)
        most = self._limits.device.connections
        if most is not None and account.connections >= most:
            return None
        account.seen = now
        account.connections += 1
        self.connected += account.connections == 1
        return account

    def close(self, account: Account) -> None:
        """One connection less."""
        account.connections -= 1
        self.connected -= account.connections == 0

    def account(self, name: str) -> Account:
        """The account of a name, for fronts whose connections do not count."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(name, self._limits.device)
        return account

    def wait_ms(self, account: Account, now: int) -> int:
        """How long this name may not send; 0: it may. For fronts that refuse instead of reading later."""
        return max(0, round(max(account.debt(now), self._total.debt(now)))) if self._rated else 0

    def take(self, account: Account, messages: int, size: int, now: int) -> Grant:
        """These messages of `size` bytes were sent. Refused where the debt is already larger than the patience."""
        account.seen = now
        if not self._rated:
            return _FREE
        debt = self.wait_ms(account, now)
        if debt > max(PATIENCE_MS, account.messages.cost):
            return Grant(debt, refused=True)
        self.charge(account, messages, size, now)
        return Grant(min(self.wait_ms(account, now), PATIENCE_MS))

    def check_size(self, rows: Sequence[bytes]) -> None:
        """Raises `MessageSizeError` for the largest row, where it is too large.

        Rows of Arrow have no size of their own and pass.
        """
        if self.message_size is None or not len(rows):
            return
        if isinstance(rows, Rows):
            sizes = rows.ends - rows.starts
        elif isinstance(rows, Block):
            return
        else:
            sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        place = int(sizes.argmax())
        if sizes[place] > self.message_size:
            raise MessageSizeError(
                f"row {place} has {sizes[place]} bytes; the limit is {self.message_size}",
                hint="see limits.device.message_size in qanat.yaml",
            )

    def charge(self, account: Account, messages: int, size: int, now: int) -> None:
        """As `take`, for fronts that have asked `wait_ms` before: nothing is refused."""
        account.seen = now
        if self._rated:
            for one in (account, self._total):
                one.messages.take(messages, now)
                one.bytes.take(size, now)

    def seen(self, now: int) -> dict[str, int]:
        """Who was there since this was asked last, and when; forgets names that have no connection and no debt."""
        since, self._drained = self._drained, now
        found = {name: account.seen for name, account in self._accounts.items() if account.seen >= since}
        if len(self._accounts) > _MAX_IDLE:
            for name in list(self._idle(now)):
                del self._accounts[name]
        return found

    def _idle(self, now: int) -> Iterator[str]:
        for name, account in self._accounts.items():
            if not account.connections and account.debt(now) <= 0:
                yield name
