"""`--check` of `qanat sim`: what arrived, held against what was sent. Reads the log, and waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qanat.errors import ConfigError

if TYPE_CHECKING:
    from qanat.log.base import Log, Place
    from qanat.sim.arrivals import Keyed, Ledger
    from qanat.sim.fleet import Account

#: How long pipelines may take to catch up, and how long nothing must move for what QoS 0 sent to count as arrived.
_CAUGHT_UP_S = 120.0
_STILL_S = 1.0


@contextmanager
def _opened(directory: Path, data: Path | None) -> Iterator[Log]:
    from qanat.cli.project import existing_log_url
    from qanat.log import open_log

    log = open_log(existing_log_url(directory, data), read_only=True)
    try:
        yield log
    finally:
        log.close()


@dataclass(frozen=True, slots=True)
class Check:
    """Made before the play, so that only what comes after it counts."""

    directory: Path
    data: Path | None
    stream: str
    keyed: Keyed
    begin: dict[Place, int]

    @classmethod
    def begun(cls, directory: Path, data: Path | None, stream: str, keyed: Keyed) -> Check:
        """Raises `ConfigError` where there is no log, or no such stream in it."""
        from qanat.sim.arrivals import places

        with _opened(directory, data) as log:
            return cls(directory, data, stream, keyed, places(log, stream))

    def judge(self, account: Account, ledger: Ledger, as_json: bool) -> bool:
        """Say what was found; whether all of it is as it should be."""
        from qanat.sim.arrivals import compare, read_found, text

        with _opened(self.directory, self.data) as log:
            _wait_until_still(log)
            found = compare(account, ledger.notes, read_found(log, self.begin, self.stream, self.keyed))
        typer.echo(json.dumps(asdict(found) | {"ok": found.ok}) if as_json else text(found))
        return found.ok


def check_empty(directory: Path, data: Path | None) -> None:
    """Raises `ConfigError` where the log of the households holds rows already: they would all be judged."""
    from qanat.sim.households import DEVICE_STATE, POWER

    with _opened(directory, data) as log:
        held = sum(one.rows for name, one in log.status().items() if name in (POWER, DEVICE_STATE))
    if held:
        raise ConfigError(
            f"the log holds {held:,} rows of households already, and --check judges all of them",
            hint="start qanat up examples/nilm with a new folder: --data DIR",
        )


def judge_households(account: Account, directory: Path, data: Path | None, as_json: bool) -> bool:
    """The parity report of examples/nilm, its windows and training sets included."""
    from qanat.sim.parity import judge, read_stored, text
    from qanat.sim.watch import behind

    with _opened(directory, data) as log:
        _wait_until_still(log)
        deadline = time.monotonic() + _CAUGHT_UP_S
        while behind(log):
            if time.monotonic() > deadline:
                raise ConfigError(f"the pipelines have not caught up within {_CAUGHT_UP_S:.0f} s", hint="qanat status")
            time.sleep(0.1)
        report = judge(read_stored(log), account=account)
    typer.echo(json.dumps(asdict(report) | {"ok": report.ok}) if as_json else text(report))
    return report.ok


def _wait_until_still(log: Log) -> None:
    """What was acknowledged is there; what was only sent may still be on its way."""
    seq, since = log.seq(), time.monotonic()
    while time.monotonic() - since < _STILL_S:
        time.sleep(0.05)
        if log.seq() != seq:
            seq, since = log.seq(), time.monotonic()
