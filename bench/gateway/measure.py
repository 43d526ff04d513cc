"""Runs what was asked for, takes medians, and says beside each figure what was wanted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine
from bench.gateway import peer
from bench.gateway.scenarios import SCENARIOS, Figures, Run
from bench.process import CommandError

Say = Callable[[str], None]

NAMES = (*SCENARIOS, "peer")
#: Seconds under load where nothing else is asked for.
SECONDS: Mapping[str, float] = {"connections": 20.0, "e2e": 300.0, "latency": 20.0}
_USUAL_S = 10.0
#: Of each scenario: figure, how it is called, and the wanted least or most.
WANTED: Mapping[str, Sequence[tuple[str, str, str, float]]] = {
    "qos0": (("per_second", "MQTT QoS 0, messages/s stored", ">=", 250_000),),
    "qos1": (("per_second", "MQTT QoS 1, messages/s acknowledged", ">=", 80_000),),
    "latency": (("ack_ms_p99", "acknowledgement at 40,000/s, p99 ms", "<", 50),),
    "connections": (
        ("server_cpu_share", "10,000 connections: cores used", "<=", 0.5),
        ("peak_mb", "10,000 connections: memory, MB", "<", 500),
    ),
    "http": (("per_second", "HTTP, rows/s", ">=", 800_000),),
    "e2e": (
        ("visible_ms_p99", "arrival to visible window at 100,000/s, p99 ms", "<", 100),
        ("memory_growth", "the same: memory, last quarter over second", "<", 1.1),
    ),
    "peer": (("times", "times Mosquitto + consumer + SQLite", ">=", 10),),
}


@dataclass(slots=True)
class Measured:
    """The runs of one scenario, or why there are none."""

    name: str
    runs: list[Run] = field(default_factory=list)
    load_before: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def right(self) -> bool:
        """Whether every run left in the log what it acknowledged."""
        return self.error is None and all(run.right for run in self.runs)

    @property
    def medians(self) -> Figures:
        """Of every figure that all runs have."""
        names = (
            [name for name in self.runs[0].figures if all(name in run.figures for run in self.runs)]
            if self.runs
            else []
        )
        return {name: round(statistics.median(run.figures[name] for run in self.runs), 3) for name in names}


def measure(names: Sequence[str], seconds: float | None, runs: int, say: Say) -> list[Measured]:
    """Every scenario so many times; `seconds` for all of them, or each its own."""
    found = []
    for name in names:
        measured = Measured(name)
        for number in range(1 if name == "e2e" and seconds is None else runs):
            say(f"gateway {name}: run {number + 1}")
            measured.load_before.append(machine.load())
            lasting = seconds or SECONDS.get(name, _USUAL_S)
            try:
                measured.runs.append(peer.run(lasting) if name == "peer" else SCENARIOS[name](lasting))
            except CommandError as error:
                measured.error = str(error)
                break
        found.append(measured)
    return found


def as_json(found: Sequence[Measured]) -> dict[str, Any]:
    """For the report and the file."""
    medians = {one.name: one.medians for one in found}
    _add_ratios(medians)
    return {
        "mosquitto": peer.version(),
        "results": [
            {
                "scenario": one.name,
                "right": one.right,
                "error": one.error,
                "medians": medians[one.name],
                "verdicts": [run.verdict for run in one.runs],
                "runs": [run.figures for run in one.runs],
                "load_before": one.load_before,
            }
            for one in found
        ],
        "wanted": wanted(medians),
    }


def wanted(medians: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """What was asked for, beside what was found."""
    rows = []
    for name in medians:
        for figure, what, sign, limit in WANTED[name]:
            found = medians[name].get(figure)
            met = None if found is None else {">=": found >= limit, "<=": found <= limit, "<": found < limit}[sign]
            rows.append({"what": what, "wanted": f"{sign} {limit:,}", "found": found, "met": met})
    return rows


def _add_ratios(medians: Mapping[str, Figures]) -> None:
    own, other = medians.get("qos1", {}).get("per_second"), medians.get("peer", {}).get("per_second")
    if own and other:
        medians["peer"]["times"] = round(own / other, 2)
    whole = medians.get("e2e", {})
    if whole.get("memory_mb_second_quarter"):
        whole["memory_growth"] = round(whole["memory_mb_last_quarter"] / whole["memory_mb_second_quarter"], 3)
