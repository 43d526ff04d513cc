"""What an intake is: something that goes and gets rows from outside (a broker, a folder) while the gateway runs.

The fronts that wait to be spoken to (MQTT, HTTP, gRPC) are no intakes. All intakes put `Offer`s and acknowledge, each
in its own way, after the verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qanat.gateway.ingest import Ingest
from qanat.gateway.offers import Offer, Verdict
from qanat.gateway.routes import Route, Routes
from qanat.log.base import Log
from qanat.model.sources import Source
from qanat.observe.metrics import Metrics


@dataclass(frozen=True, slots=True)
class IntakeContext:
    """What an intake has. `resolve`: the route of a topic (of a path, for a folder) within one source.

    `draw`: a number in [0, 1), for waits that must not be alike.
    """

    ingest: Ingest
    log: Log
    metrics: Metrics
    clock: Callable[[], int]
    resolve: Callable[[str], Route]
    draw: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Shared:
    """What the gateway gives to all of them."""

    ingest: Ingest
    log: Log
    metrics: Metrics
    clock: Callable[[], int]


class Intake(Protocol):
    """One source. Everything is called in the event loop.

    Durability: what an intake acknowledges (PUBACK, moving a file) is in the log. After `quiesce` it puts no offers;
    verdicts may still come, and are acknowledged until `stop`. It never raises for what its other side does: `fault`
    says it, and it tries again.
    """

    @property
    def name(self) -> str:
        """That of the source in qanat.yaml."""
        ...

    @property
    def fault(self) -> str | None:
        """What is wrong now, for /healthz; None where it is well."""
        ...

    def start(self) -> None:
        """Begin, in the running loop."""
        ...

    def quiesce(self) -> None:
        """Take nothing more."""
        ...

    async def stop(self) -> None:
        """End; what was not acknowledged comes again."""
        ...


def open_intakes(sources: Mapping[str, Source], routes: Routes, base: Path, shared: Shared) -> tuple[Intake, ...]:
    """The sources that are brokers and folders. Paths are relative to `base`. Raises `ConfigError`."""
    intakes: list[Intake] = []
    for name, source in sources.items():
        if source.mqtt is not None:
            from qanat.gateway.broker.client import BrokerIntake
            from qanat.gateway.broker.config import open_source

            way = routes.intake(name)
            broker = open_source(name, source.mqtt, way.filters, base)
            intakes.append(BrokerIntake(broker, _context(shared, way.resolve)))
        elif source.folder is not None:
            from qanat.gateway.folder.config import open_source as open_folder
            from qanat.gateway.folder.intake import FolderIntake

            folder = open_folder(name, source, base)
            intakes.append(FolderIntake(folder, _context(shared, routes.intake(name).resolve)))
    return tuple(intakes)


def _context(shared: Shared, resolve: Callable[[str], Route]) -> IntakeContext:
    return IntakeContext(shared.ingest, shared.log, shared.metrics, shared.clock, resolve, random.random)


def checks_of(intakes: Sequence[Intake]) -> Mapping[str, str | None]:
    """What /healthz says about them."""
    return {f"source {intake.name}": intake.fault for intake in intakes}


def state_offer(state: Mapping[str, bytes | None], client: str, now: int, done: Callable[[Verdict], None]) -> Offer:
    """An offer that stores nothing but state."""
    return Offer("", (), "", "", client, now, done, known=False, state=lambda _: state)


async def put_state(context: IntakeContext | Shared, client: str, state: Mapping[str, bytes | None]) -> None:
    """Make state durable. Raises what the log raises."""
    done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def settle(verdict: Verdict) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # nobody waits any more
            done.set_result(verdict)

    context.ingest.put(state_offer(state, client, context.clock(), settle))
    verdict = await done
    if verdict.error is not None:
        raise verdict.error
