"""Children that run an engine and die: forked from a process that has imported everything and run nothing.

A process in which polars has worked must not fork, since its threads do not come along; that of a test has. So a
process of their own forks them: `python -m tests.crash.children`, a request a line, an answer a line.
"""

from __future__ import annotations

import atexit
import base64
import os
import pickle
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Protocol

from qanat.sql.plan import Program
from tests.crash.scenario import run

_ROOT = Path(__file__).parents[2]
#: A child that takes longer hangs.
_PATIENCE_S = 90


class Fault(Protocol):
    """A fault that is armed in the process that is to have it. It is pickled on its way there."""

    def install(self) -> None:
        """Arm it."""


def attempt(folder: Path, program: Program, fault: Fault | None) -> str:
    """`run` in a child that has the fault: "killed", "finished", or the error that ended it, as text."""
    asked = _forker()
    assert asked.stdin is not None
    assert asked.stdout is not None
    asked.stdin.write(base64.b64encode(pickle.dumps((folder, program, fault))) + b"\n")
    asked.stdin.flush()
    answer = asked.stdout.readline()
    assert answer, "the process that forks ended"
    found: str = pickle.loads(base64.b64decode(answer))
    assert not found.startswith("no end"), f"{found} with {fault}"
    return found


@cache
def _forker() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.children"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT
    )
    atexit.register(process.kill)
    return process


def _serve() -> None:
    for line in sys.stdin.buffer:
        answer = _fork(*pickle.loads(base64.b64decode(line)))
        sys.stdout.buffer.write(base64.b64encode(pickle.dumps(answer)) + b"\n")
        sys.stdout.buffer.flush()


def _fork(folder: Path, program: Program, fault: Fault | None) -> str:
    child = os.fork()
    if child == 0:
        signal.alarm(_PATIENCE_S)
        code = 1
        try:
            if fault is not None:
                fault.install()
            run(folder, program)
            code = 0
        except BaseException as error:  # noqa: BLE001 - told to the parent
            (folder / "error").write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed" if os.WTERMSIG(status) == signal.SIGKILL else f"no end after {_PATIENCE_S} s"
    return "finished" if os.WEXITSTATUS(status) == 0 else (folder / "error").read_text()


if __name__ == "__main__":
    _serve()
