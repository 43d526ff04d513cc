"""Aggregates over HTTP while rows come in: what a hit and a miss take in the server, and how many a second it answers.

A real `qanat up` with a log on disk; a process asks, this one sends rows. Before the clock there are minutes of history
in the log, so that a miss has something to look at.
"""

from __future__ import annotations

import http.client
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.asking import Asked, Plan
from bench.gateway.meter import Meter
from bench.gateway.served import Served, serve
from bench.process import CommandError

Say = Callable[[str], None]
Figures = dict[str, float]

SQL = """\
CREATE TABLE readings (
  site STRING,
  field STRING,
  sensor STRING,
  kind STRING,
  ts BIGINT,
  v DOUBLE,
  at AS TO_TIMESTAMP_LTZ(ts, 3),
  WATERMARK FOR at AS at - INTERVAL '5' SECOND
);
"""
SETTINGS = """\
serve:
  aggregates:
    readings:
      stream: readings
      value: v
      dimensions: [site, field, sensor, kind]
  recent:
    memory: 512 MB
"""
KINDS = ("temperature", "humidity", "ph", "light")
SITES, FIELDS = 100, 5
SENSORS = SITES * FIELDS * len(KINDS)
ROWS_PER_SECOND = 20_000
_POST_ROWS = 1000
_HISTORY_S = 600
_HISTORY_ROWS = 120_000

NAMES = ("mix", "rate")
RATES = (1000, 2000, 3000, 4000, 4500, 5000)
#: Of `mix`: as the reference system was measured.
RATE, CONNECTIONS, HITS = 350, 10, 0.7
#: Figure, how it is called, and the wanted least or most.
WANTED = (
    ("mix", "hit_server_ms_p95", "hit in the server at 350/s, p95 ms", "<", 0.4),
    ("mix", "hit_server_ms_p99", "hit in the server at 350/s, p99 ms", "<", 1.0),
    ("mix", "miss_server_ms_p95", "miss in the server at 350/s, p95 ms", "<", 5.0),
    ("rate", "per_second", "requests/s answered with p99 under 20 ms", ">=", 4000.0),
)
_MOST_MS = 20.0
_TRIES = 3
#: Seconds in which rows come in and nobody asks.
_ALONE_S = 4.0


@dataclass(slots=True)
class Measured:
    """One part: its figures, the steps that led there, or why there are none."""

    name: str
    figures: Figures = field(default_factory=dict)
    steps: list[Figures] = field(default_factory=list)
    load_before: float = 0.0
    error: str | None = None

    @property
    def right(self) -> bool:
        """Whether every question was answered."""
        return self.error is None and not self.figures.get("wrong")


def measure(names: Sequence[str], seconds: float | None, say: Say) -> list[Measured]:
    """Every part once; `seconds` of load, or each its own."""
    found = []
    for name in names:
        one = Measured(name, load_before=machine.load())
        found.append(one)
        try:
            with _farm(name, say) as served, Meter(served.pid) as meter, _feeding(served.ports["http"]) as fed:
                time.sleep(1)
                began = time.time()
                time.sleep(_ALONE_S)
                one.figures["rows_alone_cpu_share"] = alone = _share(meter, began)
                (_mix if name == "mix" else _rates)(one, served, meter, alone, seconds, say)
            one.figures["rows_per_second"] = round(fed.rate)
        except CommandError as error:
            one.error = str(error)
    return found


def as_json(found: Sequence[Measured]) -> dict[str, Any]:
    """For the report and the file."""
    results = [
        {
            "part": one.name,
            "right": one.right,
            "error": one.error,
            "figures": one.figures,
            "steps": one.steps,
            "load_before": one.load_before,
        }
        for one in found
    ]
    return {
        "sensors": SENSORS,
        "history_seconds": _HISTORY_S,
        "connections": CONNECTIONS,
        "hits": HITS,
        "results": results,
        "wanted": wanted(found),
    }


def wanted(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """What was asked for, beside what was found."""
    rows = []
    for part, figure, what, sign, limit in WANTED:
        for one in found:
            if one.name == part:
                value = one.figures.get(figure)
                met = None if value is None else (value < limit if sign == "<" else value >= limit)
                rows.append({"what": what, "wanted": f"{sign} {limit:g}", "found": value, "met": met})
    return rows


def _mix(one: Measured, served: Served, meter: Meter, alone: float, seconds: float | None, say: Say) -> None:
    say(f"serve: {RATE} requests/s over {CONNECTIONS} connections, {HITS:.0%} hits")
    began = time.time()
    asked = _ask(served, RATE, seconds or 30.0, 0)
    one.figures |= _figures(asked, RATE) | _cpu(meter, began, alone, asked)


def _rates(one: Measured, served: Served, meter: Meter, alone: float, seconds: float | None, say: Say) -> None:
    """Ever more, until it no longer holds; a rate that does not hold has another try, since others use the machine."""
    tries = itertools.count(1)
    for rate in RATES:
        for _ in range(_TRIES):
            say(f"serve: {rate} requests/s")
            began = time.time()
            asked = _ask(served, rate, seconds or 6.0, next(tries) * 1_000_000)
            step = _figures(asked, rate) | _cpu(meter, began, alone, asked) | {"load": machine.load()}
            one.steps.append(step)
            if step["ms_p99"] < _MOST_MS and step["answered_share"] >= 0.99 and step["per_second"] >= 0.98 * rate:
                one.figures |= step
                break
        else:
            return


def _cpu(meter: Meter, began: float, alone: float, asked: Asked) -> Figures:
    """Processor time of the server, and of each request: what rows alone cost is taken off."""
    ended = time.time()
    seconds = meter.cpu_between(began, ended) - alone * (ended - began)
    count = len(asked.hit_ms) + len(asked.miss_ms)
    share = _share(meter, began)
    return {"server_cpu_share": share, "server_cpu_us_per_request": round(seconds * 1e6 / max(1, count), 1)}


def _share(meter: Meter, began: float) -> float:
    ended = time.time()
    return round(meter.cpu_between(began, ended) / (ended - began), 3)


def _ask(served: Served, rate: float, seconds: float, first: int) -> Asked:
    known = [f"/v1/aggregate?site=site{n % SITES}&kind={KINDS[n % 4]}&window=15%20min" for n in range(200)]
    known += [f"/v1/aggregate?site=site{n}&by=sensor&window=5%20min&from=-10min" for n in range(20)]
    fresh = [f"/v1/aggregate?site=site{n}&kind={KINDS[n % 4]}&window=$nms&from=-15min&align=from" for n in range(SITES)]
    plan = Plan(
        port=served.ports["http"],
        rate=rate,
        seconds=seconds,
        connections=CONNECTIONS,
        hits=HITS,
        known=known,
        fresh=fresh,
        first=900_000 + first,
    )
    command = [sys.executable, "-m", "bench.asking"]
    done = subprocess.run(command, input=msgspec.json.encode(plan), capture_output=True, timeout=seconds + 60)
    if done.returncode:
        raise CommandError(f"the questions failed: {done.stderr.decode(errors='replace').strip()}")
    return msgspec.json.decode(done.stdout, type=Asked)


def _figures(asked: Asked, rate: float) -> Figures:
    count = len(asked.hit_ms) + len(asked.miss_ms)
    found: Figures = {
        "rate": rate,
        "per_second": count / asked.seconds,
        "answered_share": count / max(1, count + asked.unanswered + asked.wrong),
        "hit_share": len(asked.hit_ms) / max(1, count),
        "wrong": asked.wrong,
        "asker_cpu_share": asked.cpu_seconds / asked.seconds,
        "asker_late_ms": asked.late_ms,
    }
    kinds = {
        "ms": asked.hit_ms + asked.miss_ms,
        "hit_ms": asked.hit_ms,
        "miss_ms": asked.miss_ms,
        "hit_server_ms": asked.hit_server_ms,
        "miss_server_ms": asked.miss_server_ms,
    }
    for name, values in kinds.items():
        for percent in (50, 95, 99):
            found[f"{name}_p{percent}"] = float(np.percentile(values, percent)) if values else float("nan")
    return {name: round(value, 3) for name, value in found.items()}


def show(console: Console, found: dict[str, Any]) -> None:
    """A line per part, or per step of one."""
    table = Table(title=f"aggregates over HTTP, while {ROWS_PER_SECOND:,} rows/s come in", title_justify="left")
    for heading in ("part", "asked/s", "answered/s", *(name for _, name in _SHOWN), ""):
        table.add_column(heading, justify="right" if heading != "part" else "left")
    for one in found["results"]:
        for figures in one["steps"] or [one["figures"]]:
            cells = [f"{figures.get(name, float('nan')):g}" for name in ("rate", "per_second", *(n for n, _ in _SHOWN))]
            table.add_row(one["part"], *cells, "right" if one["right"] else f"[red]WRONG[/red] {one['error'] or ''}")
    console.print(table)


_SHOWN = (
    ("hit_server_ms_p95", "hit p95"),
    ("hit_server_ms_p99", "p99"),
    ("miss_server_ms_p95", "miss p95"),
    ("miss_server_ms_p99", "p99 ms, in the server"),
    ("ms_p99", "all p99 ms, seen by who asks"),
    ("server_cpu_share", "cores used"),
    ("server_cpu_us_per_request", "us of them a request"),
)


# --- rows ------------------------------------------------------------------------------------------------------------


@contextmanager
def _farm(name: str, say: Say) -> Iterator[Served]:
    """A server with history, whose memory holds it."""
    with serve(f"serve-{name}", SQL, SETTINGS) as served:
        say(f"serve: {_HISTORY_S * ROWS_PER_SECOND:,} rows of history")
        rows = _HISTORY_S * ROWS_PER_SECOND
        connection = http.client.HTTPConnection("127.0.0.1", served.ports["http"], timeout=60)
        began = round(time.time() * 1000) - _HISTORY_S * 1000
        for first in range(0, rows, _HISTORY_ROWS):
            body = _history(first, began)
            connection.request(
                "POST", "/streams/readings", body, {"content-type": "application/vnd.apache.arrow.stream"}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200 or orjson.loads(text)["accepted"] != _HISTORY_ROWS:
                raise CommandError(f"history was refused: {text.decode()}")
        connection.close()
        end = time.monotonic() + 60
        while served.metrics().get("qanat_aggregate_recent_bytes", 0) < rows * 16 and time.monotonic() < end:
            time.sleep(0.5)
        yield served


def _names(numbers: np.ndarray[Any, Any]) -> dict[str, list[str]]:
    """Of sensors by number."""
    listed = numbers.tolist()
    return {
        "site": [f"site{n % SITES}" for n in listed],
        "field": [f"field{n // SITES % FIELDS}" for n in listed],
        "sensor": [f"sensor{n}" for n in listed],
        "kind": [KINDS[n // (SITES * FIELDS)] for n in listed],
    }


_COLUMNS = {name: pa.array(values) for name, values in _names(np.arange(SENSORS)).items()}


def _history(first: int, began: int) -> bytes:
    numbers = np.arange(first, first + _HISTORY_ROWS)
    places = pa.array(numbers % SENSORS)
    columns = {name: column.take(places) for name, column in _COLUMNS.items()}
    times = began + numbers * 1000 // ROWS_PER_SECOND
    values = 20 + 5 * np.sin(numbers / 1e4) + numbers % 7 / 10
    batch = pa.record_batch({**columns, "ts": pa.array(times), "v": pa.array(values)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


class _Fed:
    """How many rows were acknowledged, and since when."""

    def __init__(self) -> None:
        self.rows, self.began, self.ended = 0, 0.0, 0.0
        self.error: str | None = None

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / max(1e-9, self.ended - self.began)


@contextmanager
def _feeding(port: int) -> Iterator[_Fed]:
    """Rows that come in evenly, with the time of their arrival, from a thread that mostly sleeps."""
    bodies = []
    for first in range(0, SENSORS, _POST_ROWS):
        names = _names(np.arange(first, first + _POST_ROWS))
        rows = [
            dict(zip(names, line, strict=True)) | {"v": n % 17 + 0.5}
            for n, line in enumerate(zip(*names.values(), strict=True))
        ]
        bodies.append(b"\n".join(orjson.dumps(row) for row in rows))
    fed, ended = _Fed(), threading.Event()
    thread = threading.Thread(target=_feed, args=(port, bodies, fed, ended), daemon=True)
    thread.start()
    try:
        yield fed
    finally:
        ended.set()
        thread.join(30)
    if fed.error is not None:
        raise CommandError(f"rows were refused: {fed.error}")


def _feed(port: int, bodies: Sequence[bytes], fed: _Fed, ended: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    fed.began = time.monotonic()
    for number, body in enumerate(itertools.cycle(bodies)):
        due = fed.began + number * _POST_ROWS / ROWS_PER_SECOND
        if ended.wait(max(0.0, due - time.monotonic())):
            break
        connection.request("POST", "/streams/readings", body, {"content-type": "application/x-ndjson"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            fed.error = text.decode()
            break
        fed.rows += orjson.loads(text)["accepted"]
    fed.ended = time.monotonic()
    connection.close()
