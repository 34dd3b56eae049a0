"""``GET /metrics``: how the server is, in the words of Prometheus."""

from collections.abc import Iterator, Mapping

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["METRICS_TYPE", "Status", "metrics_of"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOW = ("queued", "running")


@attrs.frozen(kw_only=True)
class Status:
    """How the server is; what ``GET /status`` says.

    Attributes:
        version: of the server.
        uptime_s: seconds since it began.
        connections: open WebSocket connections.
        jobs: by state; queued and running now; done, failed and cancelled since the server began.
    """

    version: str
    uptime_s: float
    connections: int
    jobs: Mapping[str, int]


@attrs.frozen(eq=False)
class _Collector(Collector):
    _status: Status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield GaugeMetricFamily("creemson_uptime_seconds", "Since the server began", value=status.uptime_s)
        yield GaugeMetricFamily(
            "creemson_connections", "Open WebSocket connections", value=status.connections
        )
        jobs = GaugeMetricFamily("creemson_jobs", "Jobs that are not ended", labels=["state"])
        ended = CounterMetricFamily("creemson_jobs_ended", "Jobs by how they ended", labels=["state"])
        for state, count in status.jobs.items():
            (jobs if state in NOW else ended).add_metric([state], count)
        yield jobs
        yield ended


def metrics_of(status: Status) -> bytes:
    """The text of ``GET /metrics``.

    Args:
        status: how the server is.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return generate_latest(registry)
