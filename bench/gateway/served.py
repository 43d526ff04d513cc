"""A project in a folder of its own, run by `qanat up` as a user would, for as long as a `with` block lasts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.process import CommandError, stop, tail
from bench.work import empty_folder

#: What the devices send: one table, fed with JSON.
READINGS = """\
CREATE TABLE readings (
  client_id STRING,
  ts BIGINT,
  consumption DOUBLE,
  at AS TO_TIMESTAMP_LTZ(ts, 3),
  WATERMARK FOR at AS at - INTERVAL '1' SECOND
);
"""
#: How long after an event time the watermark reaches it, ms: the delay above.
DELAY_MS = 1000
#: The pipeline of the way from end to end.
WINDOWS = """\
CREATE TABLE windows (
  client_id STRING,
  window_start TIMESTAMP_LTZ(3),
  window_end TIMESTAMP_LTZ(3),
  readings BIGINT,
  mean DOUBLE
);
INSERT INTO windows
SELECT client_id, window_start, window_end, COUNT(*), AVG(consumption)
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(at), INTERVAL '1' SECOND, INTERVAL '15' SECOND))
GROUP BY client_id, window_start, window_end;
"""
PAYLOAD = '{"client_id":"$client","ts":$time,"consumption":$value}'


@dataclass(frozen=True, slots=True)
class Served:
    """A running gateway."""

    pid: int
    ports: dict[str, int]
    log_url: str

    def metrics(self) -> dict[str, float]:
        """The values of /metrics by name, summed over labels."""
        found: dict[str, float] = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    found[name] = found.get(name, 0.0) + float(value)
        return found


@contextmanager
def serve(name: str, sql: str, settings: str = "") -> Iterator[Served]:
    """`qanat up` over this SQL and qanat.yaml, on free ports.

    Raises `CommandError` where it does not come up or does not end well.
    """
    home = empty_folder("gateway", name)
    (home / "tables.sql").write_text(sql)
    if settings:
        (home / "qanat.yaml").write_text(settings)
    said, errors = home / "said.json", home / "errors.txt"
    command = [sys.executable, "-m", "qanat", "up", str(home), "--json", "--mqtt-port", "0", "--http-port", "0"]
    with said.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        ports = _wait_ready(process, said, errors)
        yield Served(process.pid, ports, f"sqlite:///{home / '.qanat' / 'log.db'}")
    finally:
        stop(process, patience=60)
    if process.returncode:
        raise CommandError(f"qanat up ended with {process.returncode}\n{tail(errors)}")


def _wait_ready(process: subprocess.Popen[bytes], said: Path, errors: Path) -> dict[str, int]:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        events = [json.loads(line) for line in said.read_text().splitlines() if line.endswith("}")]
        if any(event["event"] == "ready" for event in events):
            return {event["protocol"]: event["port"] for event in events if event["event"] == "listening"}
        time.sleep(0.05)
    raise CommandError(f"qanat up did not come up\n{tail(errors)}")
