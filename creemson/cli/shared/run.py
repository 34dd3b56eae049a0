"""Runs the work of a command, and turns its errors into messages and exit statuses."""

import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
import orjson
import trio

from creemson.client import Client, connect
from creemson.display.text import visible
from creemson.errors import HOW_TO_AUTHENTICATE, CreemsonError
from creemson.model.converter import plain

__all__ = [
    "FAILED",
    "HOW_TO_SIGN_IN",
    "describe_os_error",
    "fail",
    "hangup",
    "print_lines",
    "run",
    "run_interruptible",
    "run_with_client",
    "warn",
]

HOW_TO_SIGN_IN = "give --token, or set CREEMSON_TOKEN"
"""What a command line does in place of what a peer does on the wire."""

FAILED = 1
"""Exit status of a command whose work failed."""

T = TypeVar("T")


def run_with_client(
    url: str,
    token: str | None,
    work: Callable[[Client], Awaitable[T]],
    *,
    describe: Callable[[CreemsonError], str] = lambda error: error.message,
) -> T:
    """Connect to a server, and run work with the client; see :func:`run_interruptible`."""

    async def connected() -> T:
        async with connect(url, token=token) as client:
            return await work(client)

    return run_interruptible(connected, describe=describe)


def run_interruptible(
    work: Callable[[], Awaitable[T]],
    *,
    describe: Callable[[CreemsonError], str] = lambda error: error.message,
) -> T:
    """Run work that a signal cancels, so that it can clean up; the exit status is then 128 plus the signal.

    Args:
        work: the work.
        describe: returns the message of an error.
    """
    received: list[int] = []

    async def guarded() -> T:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *hangup()) as signals:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    async for number in signals:
                        received.append(number)
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                result = await work()
                nursery.cancel_scope.cancel()
                return result
        raise SystemExit(128 + received[0])

    return run(guarded, received=received, describe=describe)


def run(
    work: Callable[[], Awaitable[T]],
    *,
    received: Sequence[int] = (),
    describe: Callable[[CreemsonError], str] = lambda error: error.message,
) -> T:
    """Run the work of a command; its errors become a message and the exit status.

    Args:
        work: the work.
        received: signals that have cancelled the work; other errors are then considered consequences of that.
        describe: returns the message of an error.
    """
    try:
        return trio.run(work)
    except (CreemsonError, OSError, BaseExceptionGroup) as error:
        failure: BaseException = error
    if received:
        raise SystemExit(128 + received[0])
    while isinstance(failure, BaseExceptionGroup):  # of several errors, the first is reported
        failure = failure.exceptions[0]
    if isinstance(failure, CreemsonError):
        fail(describe(failure).replace(HOW_TO_AUTHENTICATE, HOW_TO_SIGN_IN))
    if isinstance(failure, OSError) and not isinstance(
        failure, BrokenPipeError
    ):  # the group of commands handles it
        fail(describe_os_error(failure))
    raise failure


def hangup() -> Sequence[signal.Signals]:
    """Return SIGHUP, or nothing if it is ignored: `nohup` starts programs like that, and means it."""
    return [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]


def warn(message: str) -> None:
    """Print a message to standard error."""
    text = "\n".join(map(visible, message.split("\n")))  # the message may quote a name or a cell
    click.echo(f"creemson: {text}", err=True)


def fail(message: str) -> NoReturn:
    """Print an error message, and exit with the status for failed work."""
    warn(message)
    raise SystemExit(FAILED)


def describe_os_error(error: OSError) -> str:
    """Describe an error of the operating system, with the file if there is one."""
    name = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{name}"


def print_lines(items: Sequence[Any]) -> None:
    """Print messages as JSON, one per line."""
    for item in items:
        click.echo(orjson.dumps(plain(item)))
