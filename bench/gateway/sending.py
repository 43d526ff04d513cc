"""The load generator as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO

import msgspec

from bench.process import CommandError
from qanat.sim.load import Load, LoadResult


@dataclass(frozen=True, slots=True)
class Sending:
    """A load under way. What it says goes into files, since nobody reads until it has ended."""

    process: subprocess.Popen[bytes]
    said: IO[bytes]
    errors: IO[bytes]

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def result(self, timeout: float) -> LoadResult:
        """What came of it. Raises `CommandError` where it failed or takes longer than `timeout` seconds."""
        with self.said, self.errors:
            try:
                code = self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise CommandError(f"the load took longer than {timeout:.0f} s") from None
            if code:
                self.errors.seek(0)
                raise CommandError(f"the load failed: {self.errors.read().decode(errors='replace').strip()}")
            self.said.seek(0)
            return msgspec.json.decode(self.said.read(), type=LoadResult)


def start(load: Load) -> Sending:
    """Begin to send."""
    said, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  closed by `result`
    command = [sys.executable, "-m", "qanat.sim.load"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=errors, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(load))
    process.stdin.close()
    return Sending(process, said, errors)


def send(load: Load) -> LoadResult:
    """Send all of it and wait."""
    return start(load).result(load.seconds + 120)
