"""What is counted of aggregates over HTTP. Thread-safe; labels are looked up once, not with every answer.

The names stand in the table of `metrics`, which hands this out as `Metrics.aggregates`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram

#: Seconds. Fine where a hit and a miss are told apart.
_BUCKETS = (
    *(0.00001, 0.00002, 0.00003, 0.00004, 0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.0003, 0.0004, 0.0005),
    *(0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0),
)


class Aggregates:
    """One per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "From a request's arrival in the server to its answer"
        seconds = Histogram("qanat_aggregate_seconds", text, ("outcome",), registry=registry, buckets=_BUCKETS)
        #: One answer of a kind took so many seconds.
        self.hit = seconds.labels("hit").observe
        self.miss = seconds.labels("miss").observe
        self.refused = seconds.labels("refused").observe
        made = Histogram(
            "qanat_aggregate_made_seconds", "To make an answer", ("source",), registry=registry, buckets=_BUCKETS
        )
        self.made = {source: made.labels(source).observe for source in ("recent", "sql")}
        self._bytes = Gauge("qanat_aggregate_recent_bytes", "Rows in memory", ("aggregate",), registry=registry)

    def recent_bytes(self, aggregate: str, size: int) -> None:
        """So much memory the rows of an aggregate take."""
        self._bytes.labels(aggregate).set(size)
