"""kill -9 of a writing process, again and again over the same file."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from qanat.log import open_log

CHILDREN = Path(__file__).with_name("children.py")
_spec = importlib.util.spec_from_file_location("log_children", CHILDREN)
children = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(children)

ROUNDS = 15


def kill_after(process: subprocess.Popen, seconds: float) -> int:
    """The last number that the process printed as durable."""
    durable = [0]

    def listen():
        durable.extend(int(line) for line in process.stdout if line.endswith("\n"))

    listener = threading.Thread(target=listen)
    listener.start()
    deadline = time.monotonic() + 30
    while len(durable) == 1 and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.wait()
    listener.join()
    process.stdout.close()
    return durable[-1]


def test_kill_loses_nothing_durable_and_leaves_nothing_half(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db"
    moments = random.Random(7)
    stored = 0
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, str(CHILDREN), "write_until_killed", url], stdout=subprocess.PIPE, text=True
        )
        durable = kill_after(process, moments.uniform(0, 0.3))
        log = open_log(url)
        before, stored = stored, children.check(log)
        log.close()
        assert stored >= durable > before
