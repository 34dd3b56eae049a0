"""What is counted and measured, and ``GET /metrics``: how the server is, in the words of Prometheus.

Counting a message must cost next to nothing, so that is done in plain counters, which a collector reads when
somebody asks; what happens rarely goes into histograms of prometheus-client.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["METRICS_TYPE", "Metrics", "Now"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOW = ("queued", "running")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MOMENTS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@attrs.frozen(kw_only=True)
class Now:
    """How the server is at this moment.

    Attributes:
        uptime_s: seconds since it began.
        connections: open WebSocket connections.
        jobs: by state; queued and running now; done, failed and cancelled since the server began.
        restarts: workers that were replaced.
        memory: bytes in use of the ``server`` and its ``workers``, and the ``limit``.
        outbox: bytes that wait to be sent.
    """

    uptime_s: float
    connections: int
    jobs: Mapping[str, int]
    restarts: int
    memory: Mapping[str, int]
    outbox: int


class Metrics:
    """The counters and histograms of one server.

    Attributes:
        received, sent: messages by type; what could not be read is ``invalid``.
        bytes_received, bytes_sent: of messages, ``text`` and ``binary``.
        errors: told, by reason.
        refusals: connections and requests that were turned away, by the HTTP status.
        closes: connections that we have closed, by the close code; ``unread`` are those that did not read.
        job_seconds: from the acceptance to the end of jobs, by state.
        phase_seconds: of jobs, by phase.
        loop_lag: seconds by which the event loop was late.
        heartbeat: seconds from a ping to its pong.
    """

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.bytes_received: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self._registry = registry = CollectorRegistry()
        self.job_seconds = Histogram(
            "creemson_job_seconds",
            "From the acceptance to the end of jobs",
            ["state"],
            registry=registry,
            buckets=SECONDS,
        )
        self.phase_seconds = Histogram(
            "creemson_job_phase_seconds",
            "In the phases of jobs",
            ["phase"],
            registry=registry,
            buckets=SECONDS,
        )
        self.loop_lag = Histogram(
            "creemson_event_loop_lag_seconds",
            "By which the event loop was late",
            registry=registry,
            buckets=MOMENTS,
        )
        self.heartbeat = Histogram(
            "creemson_heartbeat_rtt_seconds",
            "From a ping to its pong",
            registry=registry,
            buckets=MOMENTS,
        )

    def text(self, now: Now) -> bytes:
        """The text of ``GET /metrics``.

        Args:
            now: how the server is.
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
        yield GaugeMetricFamily("creemson_uptime_seconds", "Since the server began", value=now.uptime_s)
        yield GaugeMetricFamily("creemson_connections", "Open WebSocket connections", value=now.connections)
        yield GaugeMetricFamily("creemson_outbox_bytes", "That wait to be sent", value=now.outbox)
        states = {state: count for state, count in now.jobs.items() if state in NOW}
        yield _gauges("creemson_jobs", "Jobs that are not ended", "state", states)
        ended = {state: count for state, count in now.jobs.items() if state not in NOW}
        yield _counters("creemson_jobs_ended", "Jobs by how they ended", "state", ended)
        yield GaugeMetricFamily(
            "creemson_queue_depth", "Jobs that wait for a worker", value=now.jobs.get("queued", 0)
        )
        yield _counters("creemson_messages_received", "Messages of clients", "type", metrics.received)
        yield _counters("creemson_messages_sent", "Messages to clients", "type", metrics.sent)
        yield _counters("creemson_bytes_received", "Of messages", "kind", metrics.bytes_received)
        yield _counters("creemson_bytes_sent", "Of messages", "kind", metrics.bytes_sent)
        yield _counters("creemson_errors", "Errors that were told", "reason", metrics.errors)
        yield _counters(
            "creemson_refusals", "Handshakes and requests turned away", "status", metrics.refusals
        )
        yield _counters("creemson_closes", "Connections that the server closed", "code", metrics.closes)
        yield CounterMetricFamily(
            "creemson_worker_restarts", "Workers that were replaced", value=now.restarts
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
