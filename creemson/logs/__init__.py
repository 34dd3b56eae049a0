"""Logs: one line per event, for the eye on a terminal and as JSON everywhere else.

The only state is structlog's own configuration; a logger made before :func:`configure` follows it too.
"""

import logging
import math
import sys
import time
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from creemson import settings

__all__ = ["configure", "errors_only", "get_logger"]

FLOOD_INTERVAL = 10.0
"""Seconds between two lines about what happens all the time."""


def configure(log: settings.Log, stream: TextIO | None = None) -> None:
    """Set the format and the level of all logs.

    Args:
        log: the settings; the format `auto` is `console` if `stream` is a terminal and else `json`.
        stream: where the lines go; None means what `sys.stderr` is now.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = log.format == "console" or (log.format == "auto" and terminal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_console(colors=terminal) if console else _json()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(log.level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Loggers are module globals: one that is cached would keep the stream of an earlier configuration.
        cache_logger_on_first_use=False,
    )
    # They log each frame; what matters of that, the connection logs itself.
    for name in ("trio-websocket", "trio_websocket"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Out of file handles, trio tries again ten times a second, and logs a traceback each time.
    accepting = logging.getLogger("trio.serve_listeners")
    if not any(isinstance(each, _Seldom) for each in accepting.filters):
        accepting.addFilter(_Seldom())


class _Seldom(logging.Filter):
    """Makes a flood of the same record into a line of ours now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._next = -math.inf
        self._more = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            self._more += 1
        else:
            get_logger("creemson").error(
                "connections wait: there are no file handles for more (ulimit -n)",
                error=record.getMessage(),
                times_since=self._more,
            )
            self._next, self._more = now + FLOOD_INTERVAL, 0
        return False


def get_logger(name: str) -> FilteringBoundLogger:
    """Make a logger whose lines carry `logger_name`."""
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return logger


def errors_only() -> FilteringBoundLogger:
    """A logger for what is wrong, on standard error; it leaves the configuration of the process alone."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_json(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("error"),
    )
    return logger


# In both formats a traceback is text without local variables, which may hold tokens or rows of a file.


def _console(*, colors: bool) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors,
            # repr: a file's name comes from outside and may hold sequences that drive the terminal.
            repr_native_str=True,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
