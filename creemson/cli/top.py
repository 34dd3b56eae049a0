"""The command ``creemson top``: shows the metrics of a server, live."""

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import attrs
import click
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.live import Live
from rich.table import Table

from creemson.cli.shared.options import DEFAULT_URL, URL_VARIABLE, with_token
from creemson.cli.shared.run import HOW_TO_SIGN_IN, fail
from creemson.client.handshake import unreachable_error, websocket_url
from creemson.display.console import OutputConsole

__all__ = ["top"]

TIMEOUT = 5.0
UNAUTHENTICATED = 401
MAX_TEXT = 200
"""Characters of a response that are shown; a longer one is a page of something else."""
MIB = 1 << 20


@attrs.frozen
class Sample:
    """The metrics of a server at one time.

    Attributes:
        at: the time, on a monotonic clock.
        figures: values by name and label.
    """

    at: float
    figures: Mapping[str, Mapping[str, float]]

    def one(self, name: str, label: str = "") -> float:
        """Return one value; 0 if the server has not reported it yet."""
        return self.figures.get(name, {}).get(label, 0.0)

    def all(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(self.figures.get(name, {}).values())

    def rate(self, name: str, before: "Sample | None") -> float:
        """Return the increase per second since an earlier sample."""
        if before is None or self.at <= before.at:
            return 0.0
        return max(0.0, self.all(name) - before.all(name)) / (self.at - before.at)


@click.command(short_help="Show the metrics of a server, live.")
@click.option(
    "--url",
    envvar=URL_VARIABLE,
    default=DEFAULT_URL,
    help=f"Server to watch [${URL_VARIABLE}, or {DEFAULT_URL}].",
)
@with_token
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between updates.",
)
@click.option("--once", is_flag=True, help="Print once and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per update.")
def top(url: str, token: str | None, interval: float, once: bool, as_json: bool) -> None:
    """Show connections, jobs, rates and memory of a server until Ctrl-C.

    In a pipe, print once, but with --json one object per update until Ctrl-C.
    """
    console = OutputConsole()
    once = once or not (as_json or console.is_terminal)
    before: Sample | None = None
    sample = _fetch(url, token)
    if as_json or once:
        while True:
            if as_json:
                click.echo(json.dumps(_summary(sample, before)))
            else:
                console.print(_render(url, sample, before))
            if once:
                return
            time.sleep(interval)
            before, sample = sample, _fetch(url, token)
    with Live(_render(url, sample, None), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            before, sample = sample, _fetch(url, token)
            live.update(_render(url, sample, before), refresh=True)


def _fetch(url: str, token: str | None) -> Sample:
    """Fetch the metrics of a server; if that fails, the program ends with a message."""
    parts = urlsplit(websocket_url(url))
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in {"http", "https"}:
        raise click.UsageError(f"{url!r} is not an address such as {DEFAULT_URL}.")
    target = urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/ws") + "/metrics", "", ""))
    request = urllib.request.Request(target)  # noqa: S310 - the scheme was checked
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        fail(
            _detail(error)
            if token or error.code != UNAUTHENTICATED
            else f"Authenticate first: {HOW_TO_SIGN_IN}."
        )
    except (OSError, ValueError) as error:
        fail(unreachable_error(url, getattr(error, "reason", error)).message)
    figures: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = ",".join(sample.labels.values())
            figures.setdefault(sample.name.removeprefix("creemson_"), {})[label] = sample.value
    return Sample(time.monotonic(), figures)


def _detail(error: urllib.error.HTTPError) -> str:
    """Return the message in an error response."""
    body = error.read()
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace").strip()  # in words if the port speaks TLS
        return (
            text
            if text.isprintable() and 0 < len(text) <= MAX_TEXT
            else f"The server responded with {error.code}."
        )


def _summary(sample: Sample, before: Sample | None) -> dict[str, Any]:
    """Return the figures that are shown; this is the output of ``--json``."""
    states = ("queued", "running")
    ended = ("done", "failed", "cancelled")
    return {
        "uptime_s": round(sample.one("uptime_seconds"), 1),
        "connections": int(sample.one("connections")),
        "jobs": {state: int(sample.one("jobs", state)) for state in states}
        | {state: int(sample.one("jobs_ended_total", state)) for state in ended},
        "messages_per_s": {
            "received": round(sample.rate("messages_received_total", before), 1),
            "sent": round(sample.rate("messages_sent_total", before), 1),
        },
        "bytes_per_s": {
            "received": round(sample.rate("bytes_received_total", before)),
            "sent": round(sample.rate("bytes_sent_total", before)),
        },
        "jobs_per_s": round(sample.rate("jobs_ended_total", before), 1),
        "memory_bytes": {owner: int(size) for owner, size in sample.figures.get("memory_bytes", {}).items()},
        "unsent_bytes": int(sample.one("outbox_bytes")),
        "worker_restarts": int(sample.one("worker_restarts_total")),
        "errors": {reason: int(count) for reason, count in sample.figures.get("errors_total", {}).items()},
        "loop_lag_ms": round(_mean(sample, before, "event_loop_lag_seconds") * 1000, 2),
        "heartbeat_ms": round(_mean(sample, before, "heartbeat_rtt_seconds") * 1000, 2),
    }


def _mean(sample: Sample, before: Sample | None, name: str) -> float:
    """Return the mean of a histogram since the previous sample, or since the start of the server."""
    count, total = sample.all(f"{name}_count"), sample.all(f"{name}_sum")
    if before is not None and count > before.all(f"{name}_count"):
        count, total = count - before.all(f"{name}_count"), total - before.all(f"{name}_sum")
    return total / count if count else 0.0


def _render(url: str, sample: Sample, before: Sample | None) -> Group:
    found = _summary(sample, before)
    table = Table(show_header=False, box=None, pad_edge=False)
    memory: Counter[str] = Counter(found["memory_bytes"])
    rows = {
        "up": f"{found['uptime_s']:,.0f} s",
        "connections": f"{found['connections']:,}",
        "jobs": ", ".join(f"{count:,} {state}" for state, count in found["jobs"].items()),
        "jobs/s": f"{found['jobs_per_s']:,}",
        "messages/s": f"{found['messages_per_s']['received']:,} in, {found['messages_per_s']['sent']:,} out",
        "MiB/s": f"{found['bytes_per_s']['received'] / MIB:,.1f} in, {found['bytes_per_s']['sent'] / MIB:,.1f} out",
        "memory": f"server {memory['server'] / MIB:,.0f} MiB, workers {memory['workers'] / MIB:,.0f} MiB, "
        f"limit {memory['limit'] / MIB:,.0f} MiB",
        "unsent": f"{found['unsent_bytes'] / MIB:,.1f} MiB",
        "event loop": f"{found['loop_lag_ms']} ms late",
        "heartbeat": f"{found['heartbeat_ms']} ms",
        "restarts": f"{found['worker_restarts']} of workers",
        "errors": ", ".join(f"{count:,} {reason}" for reason, count in found["errors"].items()) or "none",
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", value)
    return Group(f"Creemson at {url}", "", table)
