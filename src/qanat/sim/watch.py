"""What a running project says of itself, gathered from outside: its metrics over HTTP and its log, opened read-only.

It gathers numbers; it neither draws them (`board`) nor judges them (`parity`). Calls block; run them in a thread.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from qanat.log.base import Log
from qanat.model.streams import DEAD_LETTERS, LATE
from qanat.sim.households import DEVICE_STATE, POWER
from qanat.sim.parity import PREDICTIONS, TRAINING

#: What each pipeline of examples/nilm reads.
INPUTS = {PREDICTIONS: (POWER,), TRAINING: (POWER, DEVICE_STATE)}


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `rows`: per stream, as in the log. `watermark_ms`: of the pipeline that is furthest behind; None
    before the first row. `p50_s`, `p99_s`: from arrival to result, since the start; None before the first result."""

    rows: Mapping[str, int] = field(default_factory=dict)
    watermark_ms: int | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    partly_late: int = 0

    @property
    def stored(self) -> int:
        """Input rows in the log."""
        return self.rows.get(POWER, 0) + self.rows.get(DEVICE_STATE, 0)

    @property
    def windows(self) -> int:
        """Prediction windows in the log."""
        return self.rows.get(PREDICTIONS, 0)

    @property
    def sets(self) -> int:
        """Training sets in the log."""
        return self.rows.get(TRAINING, 0)

    @property
    def late(self) -> int:
        """Rows on the late side stream."""
        return self.rows.get(LATE, 0)

    @property
    def dead(self) -> int:
        """Dead letters."""
        return self.rows.get(DEAD_LETTERS, 0)


def look(log: Log, metrics_url: str) -> Reading:
    """Log and metrics now. Where the metrics do not answer, only the log's numbers are there."""
    rows = {name: status.rows for name, status in log.status().items()}
    try:
        with urllib.request.urlopen(metrics_url, timeout=2) as answer:  # noqa: S310 - a URL of ours on this machine
            text = answer.read().decode()
    except (urllib.error.URLError, TimeoutError, OSError):
        return Reading(rows)
    return with_metrics(rows, text)


def with_metrics(rows: Mapping[str, int], text: str) -> Reading:
    """A reading from row counts and the text of `/metrics`."""
    watermarks: list[float] = []
    buckets: dict[float, float] = defaultdict(float)
    partly_late = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "qanat_pipeline_watermark_ms":
                watermarks.append(sample.value)
            elif sample.name == "qanat_pipeline_latency_seconds_bucket":
                buckets[float(sample.labels["le"])] += sample.value
            elif sample.name == "qanat_pipeline_partly_late_rows_total":
                partly_late += sample.value
    lowest = min(watermarks, default=0.0)
    return Reading(
        rows=rows,
        watermark_ms=int(lowest) if lowest > 0 else None,
        p50_s=quantile(buckets, 0.50),
        p99_s=quantile(buckets, 0.99),
        partly_late=int(partly_late),
    )


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The quantile of a Prometheus histogram (upper bound -> cumulative count), linear within a bucket."""
    total = max(buckets.values(), default=0.0)
    if not total:
        return None
    low, below = 0.0, 0.0
    for high, count in sorted(buckets.items()):
        if count >= share * total:
            if high == float("inf"):
                return low
            return low + (high - low) * (share * total - below) / max(count - below, 1e-9)
        low, below = high, count
    return low


def behind(log: Log, pipelines: Iterable[str] = tuple(INPUTS)) -> int:
    """Input rows that these pipelines have not committed yet."""
    ends = {name: max(status.ends.values(), default=0) for name, status in log.status().items()}
    rows = 0
    for pipeline in pipelines:
        positions = log.positions(pipeline)
        rows += sum(max(0, ends.get(name, 0) - positions.get((name, 0), 0)) for name in INPUTS[pipeline])
    return rows
