"""The loads that are put on the gateway, one function each: start, send, stop, read the log, compare.

Every run has a project, a log and a process of its own. What counts as right is decided by the rows in the log.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from bench.gateway.meter import Meter
from bench.gateway.sending import send, start
from bench.gateway.served import DELAY_MS, PAYLOAD, READINGS, WINDOWS, Served, serve
from bench.process import CommandError
from qanat.log import open_log
from qanat.sim.load import Load, LoadResult
from qanat.sim.load.run import percentiles
from qanat.sim.load.stored import read_stored

#: Before the clock: what every process does for the first time only.
_WARM_S = 1.0
#: Of the way from end to end: what is left out at the beginning, while windows are not yet full.
_SETTLED_S = 20.0

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario. `right`: the log holds what was acknowledged, to the row and the last digit."""

    figures: Figures
    right: bool
    verdict: str
    load: Mapping[str, object] = field(default_factory=dict)


def qos0(seconds: float) -> Run:
    """As many as are taken, not acknowledged one by one."""
    return _measure("qos0", Load(**_common(), qos=0, connections=8, seconds=seconds))


def qos1(seconds: float) -> Run:
    """As many as are acknowledged, with 5,000 messages of a connection under way."""
    return _measure("qos1", Load(**_common(), qos=1, connections=8, in_flight=5000, seconds=seconds))


def latency(seconds: float) -> Run:
    """40,000 a second over 100 connections, each message timed from when it was due to its PUBACK."""
    return _measure("latency", Load(**_common(), qos=1, connections=100, rate=40_000, seconds=seconds))


def connections(seconds: float) -> Run:
    """10,000 connections, a message a second each, acknowledged; each in its own time, as nobody keeps them in step."""
    load = Load(**_common(), qos=1, connections=10_000, clients=10_000, rate=10_000, seconds=seconds, tick_ms=1)
    return _measure("connections", load)


def http(seconds: float) -> Run:
    """NDJSON bodies of 1,000 rows over sixteen connections that stay open."""
    return _measure("http", Load(**_common(), protocol="http", connections=16, rows=1000, seconds=seconds))


def end_to_end(seconds: float) -> Run:
    """100,000 messages a second of 4,000 clients, through a sliding window, to a reader in another process."""
    load = Load(
        **_common(), qos=0, connections=50, clients=4000, rate=100_000, seconds=seconds, tick_ms=10, stamps=True
    )
    with serve("e2e", READINGS + WINDOWS) as served:
        watch = _start_watching(served, load.seconds + 8)
        lags: list[tuple[float, float]] = []
        with Meter(served.pid) as meter:
            sending = start(msgspec.structs.replace(load, port=served.ports["mqtt"]))
            while not sending.is_over:
                lags.append((time.time(), served.metrics().get("qanat_pipeline_lag_rows", 0.0)))
                time.sleep(0.5)
            result = sending.result(60)
        out, errors = watch.communicate(timeout=60)
        if watch.returncode:
            raise CommandError(f"the reader failed: {errors.decode(errors='replace')}")
    found = _figures(result, meter) | _delays(msgspec.json.decode(out), result) | _drift(meter, lags, result)
    return _judge("e2e", served, result, found)


#: What is measured, in this order.
SCENARIOS: Mapping[str, Callable[[float], Run]] = {
    "qos0": qos0,
    "qos1": qos1,
    "latency": latency,
    "connections": connections,
    "http": http,
    "e2e": end_to_end,
}


def _common() -> dict[str, object]:
    return {"stream": "readings", "payload": PAYLOAD, "port": 0}


def _measure(name: str, load: Load) -> Run:
    with serve(name, READINGS) as served:
        load = msgspec.structs.replace(load, port=served.ports[load.protocol])
        send(msgspec.structs.replace(load, connections=min(load.connections, 50), seconds=_WARM_S, name="warm"))
        with Meter(served.pid) as meter:
            result = send(load)
    return _judge(name, served, result, _figures(result, meter))


def _judge(name: str, served: Served, result: LoadResult, figures: Figures) -> Run:
    """Hold the log against what was acknowledged; the server has ended, so nothing comes any more."""
    log = open_log(served.log_url, read_only=True)
    try:
        starts = log.status()["readings"].starts
        stored = read_stored(log, "readings", "consumption", starts, ("client_id", "load-"))
        dead = log.status()["dead_letters"].rows
    finally:
        log.close()
    right = stored.matches(result) and not dead and result.acknowledged == result.sent - result.refused
    verdict = (
        f"sent {result.sent:,}, acknowledged {result.acknowledged:,}, stored {stored.rows:,}, dead letters {dead:,}; "
        f"checksum {result.checksum:.1f}, stored {stored.checksum:.1f}"
    )
    return Run(figures, right, verdict, {"scenario": name})


def _figures(result: LoadResult, meter: Meter) -> Figures:
    began = result.began_ms / 1000
    ended = began + result.seconds
    cpu = meter.cpu_between(began, ended)
    found = {
        "messages": float(result.acknowledged),
        "seconds": result.seconds,
        "per_second": result.rate,
        "server_cpu_seconds": cpu,
        "server_cpu_share": cpu / result.seconds,
        "server_cpu_us_per_message": cpu * 1e6 / max(result.acknowledged, 1),
        "sender_cpu_seconds": result.cpu_seconds,
        "sender_late_ms": result.late_ms,
        "peak_mb": meter.peak / 1e6,
        "connect_seconds": result.connect_seconds,
    }
    if result.ack_ms is not None:
        found |= {f"ack_ms_{name}": value for name, value in msgspec.to_builtins(result.ack_ms).items()}
    return {name: round(value, 3) for name, value in found.items()}


def _start_watching(served: Served, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.gateway.watching", served.log_url, "windows", str(seconds)]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert watch.stderr is not None
    watch.stderr.readline()  # it watches
    return watch


def _delays(seen: list[tuple[int, int, int]], result: LoadResult) -> Figures:
    """From the arrival that completes a window (the first message that lifts the watermark to its end) to its rows."""
    stamps = np.unique(np.array(result.stamps, dtype=np.int64))
    first = result.began_ms + 1000 * min(_SETTLED_S, result.seconds / 4)
    delays, counts = [], []
    for end, at, rows in seen:
        place = int(np.searchsorted(stamps, end + DELAY_MS - 1))
        if place < len(stamps) and stamps[place] >= first:
            delays.append((at - int(stamps[place])) / 1000)
            counts.append(rows)
    found = percentiles(delays, counts)
    if found is None:
        return {"windows": 0.0}
    return {"windows": float(sum(counts))} | {f"visible_ms_{k}": v for k, v in msgspec.to_builtins(found).items()}


def _drift(meter: Meter, lags: list[tuple[float, float]], result: LoadResult) -> Figures:
    """Memory and lag of the second quarter beside the last one, over the same load: flat, or growing."""
    began, quarter = result.began_ms / 1000, result.seconds / 4
    spans = [(began + quarter, began + 2 * quarter), (began + 3 * quarter, began + 4 * quarter)]
    memory = [meter.memory_between(*span) / 1e6 for span in spans]
    lag = [float(np.mean([rows for at, rows in lags if a <= at <= b] or [0.0])) for a, b in spans]
    return {
        "memory_mb_second_quarter": round(memory[0], 1),
        "memory_mb_last_quarter": round(memory[1], 1),
        "lag_rows_second_quarter": round(lag[0]),
        "lag_rows_last_quarter": round(lag[1]),
    }
