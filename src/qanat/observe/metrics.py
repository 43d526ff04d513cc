"""Every metric of qanat, by name, in a registry of its own. Rooms call the plain methods; nobody else names a metric.

It counts and renders; it does not serve (`gateway/http`) and does not decide what is healthy. Thread-safe. Counts are
made per flush or micro-batch, never per message.

| metric | labels | what |
| --- | --- | --- |
| qanat_gateway_messages_total, _bytes_total | protocol, stream | taken from the wire; stream "" = unknown |
| qanat_gateway_rows_accepted_total | stream | rows durably stored |
| qanat_gateway_dead_letters_total | stream, reason | durably stored as dead letters; reason is one of a few words |
| qanat_gateway_shed_messages_total | protocol, stream | QoS 0 messages that the log could not take |
| qanat_gateway_refused_total | protocol, reason | connects, messages and requests answered with a refusal |
| qanat_gateway_connections | protocol | open now |
| qanat_devices_known, qanat_devices_connected | | registered devices; names (devices, users) with an open connection |
| qanat_devices_refused_total | reason | logins of devices: unknown, wrong, disabled, expired, registry |
| qanat_gateway_pending_messages | | taken, not yet durable |
| qanat_gateway_ack_seconds | protocol | from arrival to durable, per flush |
| qanat_log_rows_total, qanat_log_bytes_total | stream | committed, in Arrow's bytes; by the gateway |
| qanat_log_commit_seconds | | from submit to fsync, as the gateway sees it |
| qanat_pipeline_rows_in_total, _rows_out_total, _late_rows_total, _partly_late_rows_total | pipeline | |
| qanat_pipeline_watermark_ms | pipeline | event time, ms since 1970 |
| qanat_pipeline_lag_rows | pipeline | rows of its inputs not yet read |
| qanat_pipeline_state_bytes | pipeline | what its operators hold, about |
| qanat_pipeline_idle_partitions | pipeline | partitions left out of its watermark because they are silent |
| qanat_pipeline_aside_rows_total | pipeline | rows that it could not compute with, now dead letters |
| qanat_pipeline_restarts_total | pipeline | times that it failed and was begun again |
| qanat_pipeline_batch_seconds | pipeline | one micro-batch, read to commit |
| qanat_pipeline_latency_seconds | pipeline | from the arrival that completes a result to its commit |
| qanat_sink_sent_total, qanat_sink_quiet_total, qanat_sink_dead_letters_total | sink | delivered; no news; given up |
| qanat_sink_failures_total | sink, kind | tries that failed: down (the target) or refused (one alert) |
| qanat_sink_breaker | sink | 0 closed, 1 half open, 2 open |
| qanat_sink_raised | sink | alerts that are raised now |
| qanat_sink_lag_rows | sink | rows of its stream not yet dealt with |
| qanat_store_rows_total | store, stream | rows that a hot store has got |
| qanat_store_errors_total | store, stream | tries that failed |
| qanat_store_lag_rows, qanat_store_lag_seconds | store, stream | not there yet; since when the oldest of it is here |
| qanat_store_write_seconds | store, stream | one batch of each partition, read to stored |
| qanat_lake_rows_total, qanat_lake_files_total, qanat_lake_bytes_total | stream | archived, as first committed |
| qanat_lake_lag_rows, qanat_lake_lag_seconds | stream | not archived yet; since when the oldest of it is here |
| qanat_lake_committed_ms | stream | the last commit of rows, ms since 1970 |
| qanat_cache_reads_total | driver, outcome | looks for an answer: hit, stale, miss, corrupt, error |
| qanat_cache_writes_total | driver, outcome | answers put there: ok, error |
| qanat_cache_read_seconds, qanat_cache_write_seconds | driver | one look; one answer put there |
| qanat_cache_in_use, qanat_cache_breaker_state | driver | 1 = asked now; 0 closed, 1 half-open, 2 open |
| qanat_cache_invalidated_total, qanat_cache_owed | driver | tags whose answers were dropped; tags still to be |
| qanat_cache_made_total, qanat_cache_shared_total | outcome; none | answers made; waits for one on its way |
| qanat_aggregate_seconds | outcome | one request in the server: hit, miss, refused |
| qanat_aggregate_made_seconds | source | one answer made, of rows in memory (recent) or by sql |
| qanat_aggregate_recent_bytes | aggregate | rows in memory |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from qanat.observe.aggregates import Aggregates
from qanat.observe.caches import Caches

#: The content type of `Metrics.render`.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """One per process. `registry` is exposed for collectors of other libraries."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gateway()
        self._log()
        self._pipeline()
        self._store()
        self._lake()
        self._sink()
        self.caches = Caches(self.registry)
        self.aggregates = Aggregates(self.registry)

    def render(self) -> bytes:
        """The Prometheus text form of everything."""
        return bytes(generate_latest(self.registry))

    # --- gateway -----------------------------------------------------------------------------------------------------

    def gateway_received(self, protocol: str, stream: str, messages: int, size: int) -> None:
        """`messages` with `size` bytes of payload came in."""
        self._messages.labels(protocol, stream).inc(messages)
        self._bytes.labels(protocol, stream).inc(size)

    def gateway_accepted(self, stream: str, rows: int) -> None:
        """`rows` are durable."""
        self._accepted.labels(stream).inc(rows)

    def gateway_dead(self, stream: str, reason: str, rows: int) -> None:
        """`rows` are durable as dead letters; `reason` is a class of reasons, not the text."""
        self._dead.labels(stream, reason).inc(rows)

    def gateway_shed(self, protocol: str, stream: str, messages: int) -> None:
        """QoS 0 `messages` were lost because the log failed."""
        self._shed.labels(protocol, stream).inc(messages)

    def gateway_refused(self, protocol: str, reason: str, count: int = 1) -> None:
        """A connect, message or request was refused."""
        self._refused.labels(protocol, reason).inc(count)

    def gateway_connections(self, protocol: str, change: int) -> None:
        """A connection opened (1) or closed (-1)."""
        self._connections.labels(protocol).inc(change)

    def devices_known(self, count: int) -> None:
        """So many devices are registered."""
        self._devices_known.set(count)

    def devices_connected(self, count: Callable[[], int]) -> None:
        """How many devices and users have a connection is asked whenever the metrics are read."""
        self._devices_connected.set_function(count)

    def device_refused(self, reason: str) -> None:
        """Somebody who said to be a device was not let in; `reason` is one of a few words."""
        self._devices_refused.labels(reason).inc()

    def gateway_pending(self, messages: int) -> None:
        """How many messages are taken and not yet durable."""
        self._pending.set(messages)

    def gateway_ack(self, protocol: str, seconds: float) -> None:
        """One flush: from the oldest arrival in it to durable."""
        self._ack.labels(protocol).observe(seconds)

    # --- log ---------------------------------------------------------------------------------------------------------

    def log_appended(self, stream: str, rows: int, size: int) -> None:
        """One append was committed."""
        self._log_rows.labels(stream).inc(rows)
        self._log_bytes.labels(stream).inc(size)

    def log_committed(self, seconds: float) -> None:
        """One commit took so long."""
        self._log_commit.observe(seconds)

    # --- pipelines ---------------------------------------------------------------------------------------------------

    def pipeline_batch(self, pipeline: str, rows_in: int, rows_out: int, seconds: float) -> None:
        """One micro-batch was committed."""
        self._rows_in.labels(pipeline).inc(rows_in)
        self._rows_out.labels(pipeline).inc(rows_out)
        self._batch.labels(pipeline).observe(seconds)

    def pipeline_late(self, pipeline: str, rows: int) -> None:
        """Rows went to the late side stream."""
        self._late.labels(pipeline).inc(rows)

    def pipeline_partly_late(self, pipeline: str, rows: int) -> None:
        """Rows missed some of their windows."""
        self._partly_late.labels(pipeline).inc(rows)

    def pipeline_watermark(self, pipeline: str, watermark_ms: int) -> None:
        """The watermark now."""
        self._watermark.labels(pipeline).set(watermark_ms)

    def pipeline_lag(self, pipeline: str, rows: int) -> None:
        """Rows still to be read now."""
        self._lag.labels(pipeline).set(rows)

    def pipeline_state(self, pipeline: str, size: int) -> None:
        """Bytes of state now."""
        self._state.labels(pipeline).set(size)

    def pipeline_idle(self, pipeline: str, partitions: int) -> None:
        """Partitions that are left out of the watermark now."""
        self._idle.labels(pipeline).set(partitions)

    def pipeline_aside(self, pipeline: str, rows: int) -> None:
        """Rows that a pipeline could not compute with are dead letters now."""
        self._aside.labels(pipeline).inc(rows)

    def pipeline_restarted(self, pipeline: str) -> None:
        """A pipeline failed and is begun again."""
        self._restarted.labels(pipeline).inc()

    def pipeline_latency(self, pipeline: str, seconds: Iterable[float]) -> None:
        """From arrival to result, one value per result or a sample of them."""
        observe = self._latency.labels(pipeline).observe
        for value in seconds:
            observe(value)

    # --- lake --------------------------------------------------------------------------------------------------------

    def lake_committed(self, stream: str, rows: int, files: int, size: int, now_ms: int) -> None:
        """One commit archived so much."""
        self._lake_rows.labels(stream).inc(rows)
        self._lake_files.labels(stream).inc(files)
        self._lake_bytes.labels(stream).inc(size)
        self._lake_last.labels(stream).set(now_ms)

    def lake_lag(self, stream: str, rows: int, seconds: float) -> None:
        """Rows still to be archived now, and for how long the oldest of them has been here."""
        self._lake_lag_rows.labels(stream).set(rows)
        self._lake_lag_seconds.labels(stream).set(seconds)

    # --- sinks -------------------------------------------------------------------------------------------------------

    def sink_sent(self, sink: str, rows: int) -> None:
        """Rows were delivered."""
        self._sink_sent.labels(sink).inc(rows)

    def sink_quiet(self, sink: str, rows: int) -> None:
        """Rows were read and said nothing new."""
        self._sink_quiet.labels(sink).inc(rows)

    def sink_failed(self, sink: str, kind: str) -> None:
        """A try failed; `kind` is down or refused."""
        self._sink_failures.labels(sink, kind).inc()

    def sink_dead(self, sink: str, rows: int) -> None:
        """Rows became dead letters."""
        self._sink_dead.labels(sink).inc(rows)

    def sink_state(self, sink: str, breaker: int, raised: int) -> None:
        """How the breaker stands, and how many alerts are raised."""
        self._sink_breaker.labels(sink).set(breaker)
        self._sink_raised.labels(sink).set(raised)

    def sink_lag(self, sink: str, rows: Callable[[], int]) -> None:
        """How many rows wait is asked whenever the metrics are read."""
        self._sink_lag.labels(sink).set_function(rows)

    # --- hot stores --------------------------------------------------------------------------------------------------

    def store_written(self, store: str, stream: str, rows: int, seconds: float) -> None:
        """A hot store has got `rows`, which took so long."""
        self._store_rows.labels(store, stream).inc(rows)
        self._store_write.labels(store, stream).observe(seconds)

    def store_failed(self, store: str, stream: str) -> None:
        """A try to feed a hot store failed."""
        self._store_errors.labels(store, stream).inc()

    def store_lag(self, store: str, stream: str, rows: int, seconds: float) -> None:
        """What a hot store has not got now, and since when the oldest of it is here."""
        self._store_lag_rows.labels(store, stream).set(rows)
        self._store_lag_seconds.labels(store, stream).set(seconds)

    # --- names -------------------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"qanat_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"qanat_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"qanat_{name}", text, labels, registry=self.registry, buckets=_FAST)

    def _gateway(self) -> None:
        self._messages = self._counter("gateway_messages", "Messages taken from the wire", "protocol", "stream")
        self._bytes = self._counter("gateway_bytes", "Bytes of payload taken from the wire", "protocol", "stream")
        self._accepted = self._counter("gateway_rows_accepted", "Rows durably stored", "stream")
        self._dead = self._counter("gateway_dead_letters", "Payloads stored as dead letters", "stream", "reason")
        self._shed = self._counter("gateway_shed_messages", "QoS 0 messages lost by the log", "protocol", "stream")
        self._refused = self._counter("gateway_refused", "Connects, messages, requests refused", "protocol", "reason")
        self._connections = self._gauge("gateway_connections", "Open connections", "protocol")
        self._devices_known = self._gauge("devices_known", "Registered devices")
        self._devices_connected = self._gauge("devices_connected", "Devices and users with an open connection")
        self._devices_refused = self._counter("devices_refused", "Devices that were not let in", "reason")
        self._pending = self._gauge("gateway_pending_messages", "Messages taken and not yet durable")
        self._ack = self._histogram("gateway_ack_seconds", "From arrival to durable, per flush", "protocol")

    def _log(self) -> None:
        self._log_rows = self._counter("log_rows", "Rows committed", "stream")
        self._log_bytes = self._counter("log_bytes", "Bytes committed", "stream")
        self._log_commit = self._histogram("log_commit_seconds", "From submit to fsync")

    def _lake(self) -> None:
        self._lake_rows = self._counter("lake_rows", "Rows archived", "stream")
        self._lake_files = self._counter("lake_files", "Files of archived rows", "stream")
        self._lake_bytes = self._counter("lake_bytes", "Bytes of those files", "stream")
        self._lake_last = self._gauge("lake_committed_ms", "Last commit, ms since 1970", "stream")
        self._lake_lag_rows = self._gauge("lake_lag_rows", "Rows not archived yet", "stream")
        self._lake_lag_seconds = self._gauge("lake_lag_seconds", "How long the oldest of them is here", "stream")

    def _store(self) -> None:
        self._store_rows = self._counter("store_rows", "Rows that a hot store has got", "store", "stream")
        self._store_errors = self._counter("store_errors", "Tries that failed", "store", "stream")
        self._store_lag_rows = self._gauge("store_lag_rows", "Rows that a hot store has not got", "store", "stream")
        self._store_lag_seconds = self._gauge("store_lag_seconds", "Age of the oldest of them", "store", "stream")
        self._store_write = self._histogram("store_write_seconds", "A batch, read to stored", "store", "stream")

    def _pipeline(self) -> None:
        self._rows_in = self._counter("pipeline_rows_in", "Rows read", "pipeline")
        self._rows_out = self._counter("pipeline_rows_out", "Rows written", "pipeline")
        self._late = self._counter("pipeline_late_rows", "Rows to the late side stream", "pipeline")
        self._partly_late = self._counter("pipeline_partly_late_rows", "Rows that missed some windows", "pipeline")
        self._watermark = self._gauge("pipeline_watermark_ms", "Watermark, ms since 1970", "pipeline")
        self._state = self._gauge("pipeline_state_bytes", "Bytes of state, about", "pipeline")
        self._idle = self._gauge("pipeline_idle_partitions", "Partitions left out of the watermark", "pipeline")
        self._aside = self._counter("pipeline_aside_rows", "Rows that a pipeline could not compute with", "pipeline")
        self._restarted = self._counter("pipeline_restarts", "Times that a pipeline was begun again", "pipeline")
        self._lag = self._gauge("pipeline_lag_rows", "Rows of the inputs not yet read", "pipeline")
        self._batch = self._histogram("pipeline_batch_seconds", "One micro-batch, read to commit", "pipeline")
        self._latency = self._histogram("pipeline_latency_seconds", "From arrival to result", "pipeline")

    def _sink(self) -> None:
        self._sink_sent = self._counter("sink_sent", "Rows delivered", "sink")
        self._sink_quiet = self._counter("sink_quiet", "Rows that were no news", "sink")
        self._sink_failures = self._counter("sink_failures", "Tries that failed", "sink", "kind")
        self._sink_dead = self._counter("sink_dead_letters", "Rows given up", "sink")
        self._sink_breaker = self._gauge("sink_breaker", "0 closed, 1 half open, 2 open", "sink")
        self._sink_raised = self._gauge("sink_raised", "Alerts raised now", "sink")
        self._sink_lag = self._gauge("sink_lag_rows", "Rows not yet dealt with", "sink")
