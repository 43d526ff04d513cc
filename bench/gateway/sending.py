"""The load generator as a process of its own."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from bench.process import CommandError
from qanat.sim.load import Load, LoadResult


def start(load: Load) -> subprocess.Popen[bytes]:
    """Begin to send."""
    process = subprocess.Popen(
        [sys.executable, "-m", "qanat.sim.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(load))
    process.stdin.close()
    process.stdin = None
    return process


def wait(process: subprocess.Popen[bytes], timeout: float) -> LoadResult:
    """What came of it. Raises `CommandError` where it failed."""
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise CommandError(f"the load took longer than {timeout:.0f} s") from None
    if process.returncode:
        raise CommandError(f"the load failed: {errors.decode(errors='replace').strip()}")
    return msgspec.json.decode(out, type=LoadResult)


def send(load: Load) -> LoadResult:
    """Send all of it and wait."""
    return wait(start(load), load.seconds + 120)
