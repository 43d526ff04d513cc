"""Real commands in processes of their own, and a running project."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "qanat"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def qanat(tmp_path: Path) -> Run:
    """Run a command in an empty folder, to its end."""

    def run(*args: object, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"COLUMNS": "120"} | environment
        command = [*COMMAND, *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=120)

    return run


class Server:
    """`qanat up` with free ports, ready to take rows."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        self.folder = folder
        command = [*COMMAND, "up", ".", "--mqtt-port", "0", "--http-port", "0", "--json", *args]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        self.events: list[dict[str, Any]] = []
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == "ready":
                return
        raise AssertionError(f"qanat up did not start: {self.process.communicate()[1]}")

    def port(self, protocol: str) -> int:
        """Where it listens."""
        return int(next(e["port"] for e in self.events if e.get("protocol") == protocol))

    @property
    def url(self) -> str:
        """The HTTP address."""
        return f"http://127.0.0.1:{self.port('http')}"

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; exit code and what it said on stderr."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def up() -> Iterator[Callable[..., Server]]:
    """Start projects; all are gone when the test ends."""
    servers: list[Server] = []

    def start(folder: Path, *args: str, **environment: str) -> Server:
        servers.append(Server(folder, *args, **environment))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()
