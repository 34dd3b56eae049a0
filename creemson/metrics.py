"""Metrics of one server, and the text of ``GET /metrics`` in Prometheus' format.

Counting a message must cost next to nothing, so messages are counted in plain counters that a collector reads on
request. Rare events go into histograms of prometheus-client.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["METRICS_TYPE", "Metrics", "Now"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of :meth:`Metrics.text`."""
UNFINISHED = ("queued", "running")
"""States of jobs that have not ended."""
JOB_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram buckets for durations of jobs, in seconds."""
DELAY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of the histogram buckets for delays, in seconds."""


@attrs.frozen(kw_only=True)
class Now:
    """The current state of the server.

    Attributes:
        uptime_s: seconds since the server started.
        connections: open WebSocket connections.
        jobs: number of jobs by state: queued and running now; done, failed and cancelled since the server started.
        restarts: number of workers that were replaced.
        memory: bytes used by the ``server`` and its ``workers``, and the ``limit``.
        outbox: unsent bytes of all connections.
        dropped_lines: number of log lines that could not be written.
        tables: number of columnar copies of files, and of their bytes.
        cluster: number of workers of the cluster, of this server's commands there, and of lost workers since the server
            started; None if there is no cluster.
    """

    uptime_s: float
    connections: int
    jobs: Mapping[str, int]
    restarts: int
    memory: Mapping[str, int]
    outbox: int
    dropped_lines: int = 0
    tables: tuple[int, int] = (0, 0)
    cluster: tuple[int, int, int] | None = None


class Metrics:
    """The counters and histograms of one server.

    Attributes:
        received, sent: number of messages by type; unreadable ones count as ``invalid``.
        bytes_received, bytes_sent: number of bytes in ``text`` and ``binary`` messages.
        errors: number of errors sent, by reason.
        refusals: number of refused connections and requests, by HTTP status.
        closes: number of connections closed by the server, by close code, or ``unread`` if the peer did not read.
        imports: number of columnar copies of files that were begun, by how that ended.
        job_seconds: seconds from acceptance to the end of a job, by state.
        phase_seconds: seconds that jobs spend in each phase.
        loop_lag: delay of the event loop in seconds.
        heartbeat: round-trip time of pings in seconds.
    """

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.bytes_received: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.imports: Counter[str] = Counter()
        self._registry = registry = CollectorRegistry()
        self.job_seconds = Histogram(
            "creemson_job_seconds",
            "Time from acceptance to the end of a job",
            ["state"],
            registry=registry,
            buckets=JOB_BUCKETS,
        )
        self.phase_seconds = Histogram(
            "creemson_job_phase_seconds",
            "Time that jobs spend in each phase",
            ["phase"],
            registry=registry,
            buckets=JOB_BUCKETS,
        )
        self.loop_lag = Histogram(
            "creemson_event_loop_lag_seconds",
            "Delay of the event loop",
            registry=registry,
            buckets=DELAY_BUCKETS,
        )
        self.heartbeat = Histogram(
            "creemson_heartbeat_rtt_seconds",
            "Round-trip time of pings",
            registry=registry,
            buckets=DELAY_BUCKETS,
        )

    def text(self, now: Now) -> bytes:
        """Return the text of ``GET /metrics``.

        Args:
            now: the current state of the server.
        """
        registry = CollectorRegistry()
        registry.register(_Collector(self, now))
        return generate_latest(registry) + generate_latest(self._registry)


@attrs.frozen(eq=False)
class _Collector(Collector):
    _metrics: Metrics
    _now: Now

    def collect(self) -> Iterator[Metric]:
        now, metrics = self._now, self._metrics
        yield GaugeMetricFamily(
            "creemson_uptime_seconds", "Time since the server started", value=now.uptime_s
        )
        yield GaugeMetricFamily("creemson_connections", "Open WebSocket connections", value=now.connections)
        yield GaugeMetricFamily("creemson_outbox_bytes", "Unsent bytes of all connections", value=now.outbox)
        states = {state: count for state, count in now.jobs.items() if state in UNFINISHED}
        yield _gauges("creemson_jobs", "Jobs that have not ended", "state", states)
        ended = {state: count for state, count in now.jobs.items() if state not in UNFINISHED}
        yield _counters("creemson_jobs_ended", "Jobs that ended, by state", "state", ended)
        yield GaugeMetricFamily(
            "creemson_queue_depth", "Jobs waiting for a worker", value=now.jobs.get("queued", 0)
        )
        yield _counters(
            "creemson_messages_received", "Messages received from clients", "type", metrics.received
        )
        yield _counters("creemson_messages_sent", "Messages sent to clients", "type", metrics.sent)
        yield _counters(
            "creemson_bytes_received", "Bytes of received messages", "kind", metrics.bytes_received
        )
        yield _counters("creemson_bytes_sent", "Bytes of sent messages", "kind", metrics.bytes_sent)
        yield _counters("creemson_errors", "Errors sent to clients", "reason", metrics.errors)
        yield _counters("creemson_refusals", "Refused handshakes and requests", "status", metrics.refusals)
        yield _counters("creemson_closes", "Connections closed by the server", "code", metrics.closes)
        yield _counters(
            "creemson_imports", "Columnar copies of files, by outcome", "outcome", metrics.imports
        )
        yield GaugeMetricFamily("creemson_tables", "Columnar copies of files", value=now.tables[0])
        yield GaugeMetricFamily(
            "creemson_tables_bytes", "Bytes of the columnar copies of files", value=now.tables[1]
        )
        yield CounterMetricFamily(
            "creemson_worker_restarts", "Workers that were restarted", value=now.restarts
        )
        if now.cluster is not None:
            workers, running, lost = now.cluster
            yield GaugeMetricFamily("creemson_cluster_workers", "Workers of the cluster", value=workers)
            yield GaugeMetricFamily("creemson_cluster_commands", "Commands on the cluster", value=running)
            yield CounterMetricFamily("creemson_cluster_workers_lost", "Lost workers", value=lost)
        yield CounterMetricFamily(
            "creemson_log_lines_dropped", "Log lines that could not be written", value=now.dropped_lines
        )
        yield _gauges("creemson_memory_bytes", "Memory in use, and the limit", "of", now.memory)


def _gauges(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:  # noqa: A002
    family = GaugeMetricFamily(name, help, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _counters(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:  # noqa: A002
    family = CounterMetricFamily(name, help, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
