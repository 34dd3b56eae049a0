"""Logging: one line per event, readable on a terminal and JSON elsewhere.

The only global state is the configuration of structlog; it also applies to loggers made before :func:`configure`.
"""

import logging
import math
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from creemson.logs.limiter import LineLimiter
from creemson.logs.writer import BackgroundWriter
from creemson.settings import sections

__all__ = ["configure", "errors_only", "get_logger"]

PEER_RATE, PEER_BURST = 100.0, 5000
"""Lines about peers: per second, and at once. (Two thousand clients that reconnect write two lines each.)"""
REPEAT_INTERVAL = 60.0
"""Minimum seconds between two lines about the same failure of the server itself, for example of its database."""
CONCERNS = frozenset({"peer", "connection", "request", "job", "file", "signal", "exc_info", "traceback"})
"""Fields of lines about one peer, job or file, of answers to a signal that an operator has sent, and of lines with a
traceback: none of them is left out because of another one."""
FLOOD_INTERVAL = 10.0
"""Minimum seconds between two lines about an event that repeats many times a second."""


def configure(log: sections.Log, stream: TextIO | BackgroundWriter | None = None) -> None:
    """Set the format and level of all loggers.

    Args:
        log: the settings; the format `auto` means `console` if `stream` is a terminal, otherwise `json`.
        stream: where to write; None: the current `sys.stderr`.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = log.format == "console" or (log.format == "auto" and terminal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _PeerLines(),
            _RepeatedFailures(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_console(colors=terminal) if console else _json()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(log.level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
        # Loggers are module globals: a cached one would keep the stream of an earlier configuration.
        cache_logger_on_first_use=False,
    )
    # These libraries log every frame; the connection actor logs what matters.
    for name in ("trio-websocket", "trio_websocket"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Without file handles, trio retries ten times a second and logs a traceback each time.
    accepting = logging.getLogger("trio.serve_listeners")
    if not any(isinstance(each, _FloodFilter) for each in accepting.filters):
        accepting.addFilter(_FloodFilter())


class _PeerLines:
    """Drops lines about peers if there are too many: who opens and closes connections decides how many there are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One key without an interval: only the bucket counts.
        self._limiter = LineLimiter(interval=0.0, rate=PEER_RATE, burst=PEER_BURST, max_keys=1)

    def __call__(self, _: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Process an event (structlog); what an operator must know or has asked for (debug) is not dropped."""
        if method in ("info", "warning") and "peer" in event:
            with self._lock:
                line = self._limiter.admit(None, time.monotonic())
            if line is None:
                raise structlog.DropEvent
            if line.same:
                event["lines_left_out"] = line.same
        return event


class _RepeatedFailures:
    """Drops lines about a failure that was told before: what is tried each second fails until somebody mends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limiter = LineLimiter(interval=REPEAT_INTERVAL, rate=PEER_RATE, burst=PEER_BURST, max_keys=1000)

    def __call__(self, _: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Process an event (structlog)."""
        if method in ("warning", "error") and "error" in event and CONCERNS.isdisjoint(event):
            with self._lock:
                line = self._limiter.admit((event["event"], str(event["error"])), time.monotonic())
            if line is None:
                raise structlog.DropEvent
            if line.same:
                event["lines_left_out"] = line.same
        return event


class _FloodFilter(logging.Filter):
    """Replaces a flood of the same record by one line per :data:`FLOOD_INTERVAL`."""

    def __init__(self) -> None:
        super().__init__()
        self._next = -math.inf  # time of the next line
        self._more = 0  # records since the last line

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            self._more += 1
        else:
            get_logger("creemson").error(
                "no file handles left: new connections wait (raise ulimit -n)",
                error=record.getMessage(),
                times_since=self._more,
            )
            self._next, self._more = now + FLOOD_INTERVAL, 0
        return False


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `logger_name`."""
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return logger


def errors_only(stream: BackgroundWriter | None = None) -> FilteringBoundLogger:
    """Return a logger for errors; it does not change the configuration of the process.

    Args:
        stream: where to write; None: the current `sys.stderr`.
    """
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr if stream is None else cast("TextIO", stream)),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_json(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("error"),
    )
    return logger


# In both formats a traceback is text without local variables, which may contain tokens or rows of a file.


def _console(*, colors: bool) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors,
            # repr: a file name comes from outside and may contain escape sequences of the terminal.
            repr_native_str=True,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
