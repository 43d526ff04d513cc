"""Processor time and memory of one process over time, from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at` (epoch seconds) the process had used `cpu` seconds and held `memory` bytes."""

    at: float
    cpu: float
    memory: int


class Meter:
    """Samples processes, summed, until it is left."""

    def __init__(self, *pids: int, every: float = 0.1) -> None:
        self._pids, self._every = pids, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Meter:
        self.samples.append(_sample(self._pids))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.samples.append(_sample(self._pids))

    def cpu_between(self, began: float, ended: float) -> float:
        """Processor seconds between two moments (epoch seconds), to a sample's width."""
        return max(_nearest(self.samples, ended).cpu - _nearest(self.samples, began).cpu, 0.0)

    @property
    def peak(self) -> int:
        """Most memory seen, in bytes."""
        return max(sample.memory for sample in self.samples)

    def memory_between(self, began: float, ended: float) -> float:
        """Mean memory between two moments, in bytes."""
        found = [sample.memory for sample in self.samples if began <= sample.at <= ended]
        return sum(found) / len(found) if found else 0.0

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.samples.append(_sample(self._pids))


def _sample(pids: Sequence[int]) -> Sample:
    cpu, memory = 0.0, 0
    for pid in pids:
        # the command name may hold blanks and brackets: fields count from the last bracket
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        cpu += sum(map(int, fields[11:13])) / _TICKS
        memory += int(fields[21]) * _PAGE
    return Sample(time.time(), cpu, memory)


def _nearest(samples: Sequence[Sample], at: float) -> Sample:
    return min(samples, key=lambda sample: abs(sample.at - at))
