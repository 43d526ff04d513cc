"""The usual way without qanat: Mosquitto, and a paho consumer that writes the same rows into SQLite.

The consumer is written as a good engineer would: QoS 1 all the way, orjson, rows gathered while the transaction before
is written, `executemany`, WAL with `synchronous = FULL`, and PUBACK to the broker only after COMMIT (manual
acknowledgements), so that what the broker forgets is on the disk. Publishers are the load generator of the gateway.
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from bench.gateway.meter import Meter
from bench.gateway.scenarios import Figures, Run
from bench.gateway.sending import send
from bench.gateway.served import PAYLOAD
from bench.process import CommandError, stop, tail
from bench.work import empty_folder
from qanat.sim.load import Load, LoadResult

#: The broker keeps all it has taken until the consumer has it: no limit but memory.
_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
"""
#: Messages a second that are published.
_RATE = 40_000


def version() -> str | None:
    """Mosquitto's version, or None where it is not installed."""
    command = _command()
    if command is None:
        return None
    said = subprocess.run([command, "-h"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).splitlines()[0].rpartition(" ")[2]


def run(seconds: float) -> Run:
    """Publish for `seconds`, faster than the consumer goes and slower than the broker can, and wait for the last row.

    The rate of the run is rows over the time from the first byte sent to the last row committed. Raises `CommandError`.
    """
    command = _command()
    if command is None:
        raise CommandError("mosquitto is not installed: make services")
    home = empty_folder("gateway", "peer")
    database = home / "rows.db"
    with _broker(command, home) as (broker, port), _consumer(port, database, home) as consumer:
        load = Load(
            stream="readings", payload=PAYLOAD, port=port, qos=1, connections=8, in_flight=1000, rate=_RATE,
            seconds=seconds,
        )  # fmt: skip
        with Meter(consumer.pid) as meter, Meter(broker.pid) as brokers:
            result = send(load)
            stored_at = _wait_stored(database, result.acknowledged, consumer)
        return _judge(database, result, stored_at, meter, brokers)


def _judge(database: Path, result: LoadResult, stored_at: float, meter: Meter, brokers: Meter) -> Run:
    with closing(sqlite3.connect(database)) as connection:
        rows, checksum = connection.execute("SELECT count(*), sum(consumption) FROM readings").fetchone()
    began = result.began_ms / 1000
    seconds = stored_at - began
    figures: Figures = {
        "messages": float(rows),
        "seconds": seconds,
        "per_second": rows / seconds,
        "broker_took_per_second": result.rate,
        "consumer_cpu_seconds": meter.cpu_between(began, stored_at),
        "broker_cpu_seconds": brokers.cpu_between(began, stored_at),
        "sender_cpu_seconds": result.cpu_seconds,
        "peak_mb": (meter.peak + brokers.peak) / 1e6,
    }
    right = rows == result.acknowledged and checksum == result.checksum
    verdict = (
        f"published {result.acknowledged:,}, stored {rows:,}; checksum {result.checksum:.1f}, stored {checksum:.1f}"
    )
    return Run({name: round(value, 3) for name, value in figures.items()}, right, verdict, msgspec.to_builtins(figures))


def _wait_stored(database: Path, wanted: int, consumer: subprocess.Popen[bytes]) -> float:
    """When the last row was committed, epoch seconds."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        seen, moved = -1, time.monotonic()
        while consumer.poll() is None and time.monotonic() < moved + 30:
            found = connection.execute("SELECT coalesce(max(rowid), 0) FROM readings").fetchone()[0]
            if found >= wanted:
                return time.time()
            if found != seen:
                seen, moved = found, time.monotonic()
            time.sleep(0.02)
    raise CommandError(f"the consumer has stored {seen:,} of {wanted:,} rows and does not go on")


def _command() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def _broker(command: str, home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config, said = home / "mosquitto.conf", home / "mosquitto.txt"
    config.write_text(_CONFIG.format(port=port))
    with said.open("wb") as out:
        process = subprocess.Popen([command, "-c", str(config)], stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end and process.poll() is None:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise CommandError(f"mosquitto did not come up\n{tail(said)}")
        yield process, port
    finally:
        stop(process)


@contextmanager
def _consumer(port: int, database: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "bench.gateway.consumer", str(port), str(database)]
    errors = home / "consumer.txt"
    with errors.open("wb") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, start_new_session=True)
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise CommandError(f"the consumer did not come up\n{tail(errors)}")
        yield process
    finally:
        stop(process)
        process.stdout.close()
