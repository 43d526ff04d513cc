"""One source on an outside broker: when it connects, under which name, what it subscribes to, what ails it.

It has one connection at a time and opens the next one when every message of the last has its verdict, so that a
message that comes again finds what became of it.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence

import msgspec

from qanat.errors import QanatError
from qanat.gateway.broker.config import BrokerSource, tls_context
from qanat.gateway.broker.link import Link
from qanat.gateway.broker.machine import Ended, Login, Subscriber
from qanat.gateway.broker.taken import SLOTS, Taken
from qanat.gateway.intakes import IntakeContext, put_state

_REFUSED = 0x80
#: A connection that lived so long was a good one: the next wait is a short one again.
_GOOD_MS = 30_000
#: The gateway has answered everything before it stops us; were something open all the same, it comes again.
_LONGEST_STOP_S = 2
_GOODBYE_S = 1


class Kept(msgspec.Struct, frozen=True):
    """What the log keeps of a source beside its QoS 2 ids: our name, and the filters that a session has of us."""

    client_id: str
    session: str = ""
    filters: tuple[str, ...] = ()


class BrokerIntake:
    """See `Intake`. Raises `ConfigError` where its TLS files do not do."""

    def __init__(self, source: BrokerSource, context: IntakeContext) -> None:
        self._source, self._context = source, context
        self._tls = tls_context(source)
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._stopping = False
        self._fault: str | None = "not connected yet"
        self._key = f"broker/{source.name}"
        self._kept = self._load_kept()
        self._session = f"{self._kept.client_id}@{source.address}"
        self._taken = Taken(self._key, self._session)
        self._taken.load([context.log.state(key) for key in self._taken.state_keys])
        context.ingest.watch(self._on_full)

    @property
    def name(self) -> str:
        """See `Intake`."""
        return self._source.name

    @property
    def fault(self) -> str | None:
        """See `Intake`."""
        return self._fault

    def start(self) -> None:
        """See `Intake`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def quiesce(self) -> None:
        """See `Intake`."""
        self._stopping = True
        if self._link is not None:
            self._link.pause("stopping")

    async def stop(self) -> None:
        """See `Intake`."""
        self.quiesce()
        if self._task is not None:
            if self._link is not None:
                await self._link.leave(_GOODBYE_S)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_LONGEST_STOP_S)

    # --- the life of a source ----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            began = self._context.clock()
            try:
                await self._keep(self._kept)
                self._fault = (await self._serve()).text
            except (OSError, QanatError) as error:
                self._fault = self._explain(error)
            failures = 1 if self._context.clock() - began >= _GOOD_MS else failures + 1
            await asyncio.sleep(self._source.backoff.wait(failures, self._context.draw()))

    async def _serve(self) -> Ended:
        """One connection, from its first byte until all its messages have their verdicts."""
        address, timeout = self._source.address, self._source.connect_timeout_ms / 1000
        machine = Subscriber(self._login(), self._taken, self._context.clock())
        link = Link(self, machine, self._taken, self._context)
        opening = asyncio.get_running_loop().create_connection(lambda: link, address.host, address.port, ssl=self._tls)
        try:
            async with asyncio.timeout(timeout):
                await opening
                self._link = link
                link.flush()
                await link.answered
            return await link.gone
        finally:
            self._link = None
            await link.close()

    def _login(self) -> Login:
        source, address = self._source, self._source.address
        return Login(
            self._kept.client_id,
            source.version,
            address.username,
            address.password,
            source.keep_alive,
            source.session_expiry,
            source.in_flight,
        )

    def _explain(self, error: Exception) -> str:
        where = f"the broker at {self._source.address}"
        match error:
            case TimeoutError():
                return f"{where} does not answer"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {where} is not trusted: {error.verify_message}"
            case OSError():
                return f"cannot reach {where}: {error.strerror or error}"
            case _:
                return str(error)

    # --- what a connection tells -------------------------------------------------------------------------------------

    async def enter(self, link: Link, resumed: bool) -> None:
        """The broker let us in: make sure that it and the log mean the same session, then subscribe.

        Where the broker has begun a new session, its packet ids begin anew: those of the old one are forgotten before
        the first message can come.
        """
        if not resumed and len(self._taken):
            await put_state(self._context, self.name, dict.fromkeys(self._taken.state_keys))
            for slot in range(SLOTS):
                self._taken.set(slot, frozenset())
        had = self._kept.filters if resumed and self._kept.session == self._session else ()
        gone = [one for one in had if one not in self._source.wanted]
        if gone:
            link.machine.unsubscribe(gone)
        link.machine.subscribe(self._source.wanted, self._source.qos)
        link.flush()

    async def take_grants(self, granted: Sequence[tuple[str, int]]) -> None:
        """What the broker said to our filters; a refused one is a fault, the others work."""
        refused = [f"{one} (refused with {code:#04x})" for one, code in granted if code >= _REFUSED]
        lower = [f"{one} (QoS {code})" for one, code in granted if code < self._source.qos]
        if refused:
            self._fault = f"the broker does not give us {', '.join(refused)}"
        elif lower:
            self._fault = f"the broker gives us less than QoS {self._source.qos}: {', '.join(lower)}"
        else:
            self._fault = None
        kept = Kept(self._kept.client_id, self._session, self._source.wanted)
        if kept != self._kept:
            await self._keep(kept)

    async def _keep(self, kept: Kept) -> None:
        await put_state(self._context, self.name, {self._key: msgspec.json.encode(kept)})
        self._kept = kept

    def _load_kept(self) -> Kept:
        stored = self._context.log.state(self._key)
        kept = Kept("") if stored is None else msgspec.json.decode(stored, type=Kept)
        wanted = self._source.client_id or kept.client_id or f"qanat-{self.name}-{secrets.token_hex(4)}"
        return kept if kept.client_id == wanted else Kept(wanted)

    def _on_full(self, full: bool) -> None:
        if self._link is not None:
            act = self._link.pause if full else self._link.resume
            act("ingest")
