"""Where a running `qanat up` can be spoken to: a small file beside the log, for commands on the same machine.

Whether one runs is said by the log's lock and not by this file, which a killed process leaves behind.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from qanat.gateway import GatewayConfig

_FILE = "up.json"


@dataclass(frozen=True, slots=True)
class Running:
    """`url` of its HTTP listener, None where it has none; `ca`: the certificate to trust where that is https."""

    pid: int
    url: str | None
    ca: str | None = None


def write_running(data: Path, config: GatewayConfig, port: int | None) -> None:
    """Leave word in the folder of the log. A full disk is no reason not to start: then there is no word."""
    url = None if port is None else f"http{'s' if config.http_tls else ''}://{_near(config.http_host)}:{port}"
    ca = str(config.http_tls.cert.absolute()) if config.http_tls else None
    part = data / f"{_FILE}.part"
    try:
        part.write_text(json.dumps(asdict(Running(os.getpid(), url, ca))))
        part.replace(data / _FILE)
    except OSError:
        forget_running(data)  # what the one before has left would lead astray


def forget_running(data: Path) -> None:
    """Nobody is to be spoken to any more."""
    (data / _FILE).unlink(missing_ok=True)


def read_running(data: Path) -> Running | None:
    """What the last process said, or None where it said nothing that can be read."""
    try:
        return Running(**json.loads((data / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _near(host: str) -> str:
    """An address of this machine for one that stands for all of them."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - recognised, not bound
    return f"[{near}]" if ":" in near else near
