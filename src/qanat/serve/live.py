"""Live rows for one client: pulled from an outlet when he has taken the last ones. Knows no protocol.

His queue is his position in the log: while he takes nothing, at most one page of rows is held for him.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from qanat.errors import BackpressureError
from qanat.gateway.filters import EVERYTHING, Filter
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.limits import Account
from qanat.gateway.outlets import Delivery, Outlet
from qanat.serve.access import Caller
from qanat.serve.context import ServeContext
from qanat.serve.positions import read_token, write_token


class Live:
    """Rows of one stream from `positions` on (None: its end), of these `keys` and that are `wanted` only.

    `at`: where he stands after what `take` gave last. In one event loop. Raises `UnknownStreamError`.
    """

    def __init__(
        self,
        context: ServeContext,
        stream: str,
        keys: frozenset[str] | None,
        positions: Mapping[int, int] | None,
        wanted: Filter = EVERYTHING,
    ) -> None:
        self.stream = stream
        self._rows: list[Delivery] = []
        self._news = asyncio.Event()
        self._ended: str | None = None
        begin = context.outlets.ends(stream) if positions is None else positions
        self.at: dict[int, int] = dict(begin)
        self._outlet: Outlet = context.outlets.open(stream, keys, begin, self._on_rows, wanted)

    async def take(self, patience: float | None = None) -> Sequence[Delivery]:
        """The next rows; none where there were none for `patience` seconds. Raises `RefusedError` once he was ended."""
        if not self._rows and self._ended is None:
            self._news.clear()
            self._outlet.resume()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return ()
        if self._ended is not None:
            raise RefusedError(401, self._ended, hint="come again with credentials that count")
        rows, self._rows = self._rows, []
        return rows

    def pass_over(self, row: Delivery) -> str:
        """The position after this row, as text."""
        self.at[row.partition] = row.offset + 1
        return write_token(self.stream, self.at)

    def pass_on(self) -> str | None:
        """The position behind rows that were not for him, as text; None where he has not moved. After `take`."""
        positions = self._outlet.positions
        if self._rows or positions == self.at:
            return None
        self.at = positions
        return write_token(self.stream, self.at)

    def end(self, why: str) -> None:
        """Let `take` raise."""
        self._ended = why
        self._news.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._outlet.close()

    def _on_rows(self, rows: Sequence[Delivery]) -> None:
        self._rows.extend(rows)
        self._outlet.pause()
        self._news.set()


class Desk:
    """All live connections of the room: how many there are, and whose must end. In one event loop."""

    def __init__(self, context: ServeContext) -> None:
        self._context = context
        self._open: dict[str, set[Live]] = {}
        self.count = 0
        context.auth.watch(self._on_rights)

    def open(
        self,
        caller: Caller,
        stream: str,
        keys: frozenset[str] | None,
        positions: Mapping[int, int] | None,
        wanted: Filter = EVERYTHING,
    ) -> tuple[Live, Callable[[], None]]:
        """A connection, and what ends it. Raises `BackpressureError` where there are too many."""
        context = self._context
        if self.count >= context.settings.live.connections:
            raise BackpressureError("there are too many live connections", retry_after=5)
        account = context.limiter.open(caller.name, context.clock())
        if account is None:
            hint = "see limits in qanat.yaml"
            raise RefusedError(429, f"{caller.name} has as many connections as it may", hint=hint)
        try:
            live = Live(context, stream, keys, positions, wanted)
        except BaseException:
            context.limiter.close(account)
            raise
        self._open.setdefault(caller.name, set()).add(live)
        self.count += 1
        return live, lambda: self._close(caller, live, account)

    def _close(self, caller: Caller, live: Live, account: Account) -> None:
        live.close()
        self.count -= 1
        self._context.limiter.close(account)
        mine = self._open[caller.name]
        mine.discard(live)
        if not mine:
            del self._open[caller.name]

    def _on_rights(self, name: str) -> None:
        """Somebody's rights have ended or changed; he may come again."""
        for live in tuple(self._open.get(name, ())):
            live.end("the rights of this connection have ended")


def start_of(context: ServeContext, stream: str, text: str | None, partitions: int) -> Mapping[int, int] | None:
    """Where `latest`, `earliest` or a position is; None is the end. Raises `RefusedError` 400."""
    if text is None or text == "latest":
        return None
    if text == "earliest":
        return context.outlets.starts(stream)
    return read_token(text, stream, partitions)


def gaps_of(context: ServeContext, stream: str, positions: Mapping[int, int] | None) -> dict[int, int]:
    """Partition -> first offset that is there, of those where retention has deleted rows behind the positions."""
    if positions is None:
        return {}
    starts = context.outlets.starts(stream)
    return {number: starts[number] for number, at in positions.items() if at < starts.get(number, 0)}
