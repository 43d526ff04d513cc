"""What is counted of caches. Thread-safe; a label is looked up once per cache, not with every answer.

The names stand in the table of `metrics`, which hands this out as `Metrics.caches`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Seconds. From what a dictionary takes to what nobody waits for.
_BUCKETS = (
    *(0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001),
    *(0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5),
)
_OUTCOMES = ("hit", "stale", "miss", "corrupt", "error")


class CacheMeter:
    """The counts of one cache."""

    def __init__(self, caches: Caches, driver: str) -> None:
        self._reads = {outcome: caches.reads.labels(driver, outcome) for outcome in _OUTCOMES}
        self._hit, self._read = self._reads["hit"].inc, caches.read_seconds.labels(driver).observe
        self._writes = {ok: caches.writes.labels(driver, "ok" if ok else "error") for ok in (True, False)}
        self._write = caches.write_seconds.labels(driver).observe
        self._in_use, self._breaker = caches.in_use.labels(driver), caches.breaker.labels(driver)
        self._dropped, self._owed = caches.dropped.labels(driver), caches.owed.labels(driver)

    def hit(self, seconds: float) -> None:
        """A good answer was there."""
        self._hit()
        self._read(seconds)

    def read(self, outcome: str, seconds: float) -> None:
        """The cache was looked into: hit, stale, miss, corrupt or error."""
        self._reads[outcome].inc()
        self._read(seconds)

    def wrote(self, ok: bool, seconds: float) -> None:
        """An answer was put there, or could not be."""
        self._writes[ok].inc()
        self._write(seconds)

    def in_use(self, used: bool) -> None:
        """Whether this is the cache that is asked now."""
        self._in_use.set(used)

    def breaker(self, state: int) -> None:
        """0 closed, 1 half-open, 2 open."""
        self._breaker.set(state)

    def dropped(self, tags: int) -> None:
        """So many tags were invalidated in it."""
        self._dropped.inc(tags)

    def owed(self, tags: int) -> None:
        """So many tags are still to be invalidated in it."""
        self._owed.set(tags)


class Caches:
    """The counts of all caches, and of what goes past them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"qanat_cache_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"qanat_cache_{name}", text, ("driver",), registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"qanat_cache_{name}", text, ("driver",), registry=registry, buckets=_BUCKETS)

        self.reads = counter("reads", "Looks for an answer", "driver", "outcome")
        self.writes = counter("writes", "Answers put there", "driver", "outcome")
        self.read_seconds = histogram("read_seconds", "One look for an answer")
        self.write_seconds = histogram("write_seconds", "One answer put there")
        self.in_use = gauge("in_use", "Whether it is asked now")
        self.breaker = gauge("breaker_state", "0 closed, 1 half-open, 2 open")
        self.dropped = counter("invalidated", "Tags invalidated", "driver")
        self.owed = gauge("owed", "Tags still to be invalidated")
        made = counter("made", "Answers made", "outcome")
        self._made = {ok: made.labels("ok" if ok else "error") for ok in (True, False)}
        self._shared = counter("shared", "Answers that waited for one that was being made")

    def meter(self, driver: str) -> CacheMeter:
        """The counts of the cache of this name."""
        return CacheMeter(self, driver)

    def made(self, ok: bool) -> None:
        """An answer was made, or could not be."""
        self._made[ok].inc()

    def shared(self) -> None:
        """Somebody waits for an answer that is on its way for another."""
        self._shared.inc()
