"""What the commands share: options, and how they end."""

import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import orjson
import trio

from creemson.client import Client, connect
from creemson.errors import CreemsonError
from creemson.settings import Loaded, SettingsError, load
from creemson.wire import codec

__all__ = [
    "DEFAULT_URL",
    "Command",
    "ask",
    "at_server",
    "explained",
    "fail",
    "load_settings",
    "print_lines",
    "run",
    "run_errand",
    "with_data_dir",
    "with_server",
    "with_settings",
]

DEFAULT_URL = "ws://127.0.0.1:8000/ws"
FAILED = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def with_settings(command: Command) -> Command:
    """Give a command the options ``--config`` and ``--set``."""
    for option in (
        click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A setting, as TOML."),
        click.option(
            "--config", type=click.Path(path_type=Path), help="TOML file [./creemson.toml if it exists]."
        ),
    ):
        command = option(command)
    return command


def with_server(command: Command) -> Command:
    """Give a command the options ``--token`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print machine-readable lines."),
        click.option("--token", envvar="CREEMSON_TOKEN", help="Proves who you are."),
    ):
        command = option(command)
    return command


def at_server(command: Command) -> Command:
    """The options of a command that needs a server."""
    option = click.option("--url", default=DEFAULT_URL, show_default=True, help="Server to use.")
    return option(with_server(command))


def ask(url: str, token: str | None, work: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, and do what a command is for; see :func:`run_errand`."""

    async def connected() -> T:
        async with connect(url, token=token) as client:
            return await work(client)

    return run_errand(connected)


def print_lines(items: Sequence[Any]) -> None:
    """Print messages for machines, a line each."""
    for item in items:
        click.echo(orjson.dumps(codec.plain(item)))


def with_data_dir(command: Command) -> Command:
    """Give a command the option ``--data-dir``."""
    option = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Folder for files and jobs [creemson-data]."
    )
    return option(command)


def load_settings(
    config: Path | None, overrides: Sequence[str], *, data_dir: Path | None = None, **flags: object
) -> Loaded:
    """The settings in force.

    Args:
        config: the TOML file.
        overrides: the values of ``--set``.
        data_dir: the value of ``--data-dir``.
        flags: values of other options by the setting's name, with ``__`` for the dot; None is not given.

    Raises:
        click.UsageError: they cannot be used.
    """
    flags["storage__data_dir"] = data_dir and str(data_dir)
    given = [
        f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in flags.items() if value is not None
    ]
    overrides = [*overrides, *given]
    try:
        return load(config=config, environ=os.environ, overrides=overrides)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def fail(message: str) -> NoReturn:
    """End the program: the work failed."""
    click.echo(f"creemson: {message}", err=True)
    raise SystemExit(FAILED)


def run(work: Callable[[], Awaitable[T]], *, ended_by: Sequence[int] = ()) -> T:
    """Run the work of a command; what goes wrong becomes a message and the exit status.

    Args:
        work: to be done.
        ended_by: signals that have ended it; whatever else goes wrong then goes so because of that.
    """
    try:
        return trio.run(work)
    except (CreemsonError, OSError, BaseExceptionGroup) as error:
        fault: BaseException = error
    if ended_by:
        raise SystemExit(128 + ended_by[0])
    while isinstance(fault, BaseExceptionGroup):  # of several, the first one tells
        fault = fault.exceptions[0]
    if isinstance(fault, CreemsonError):
        fail(fault.message)
    if isinstance(fault, OSError):
        fail(explained(fault))
    raise fault


def run_errand(work: Callable[[], Awaitable[T]]) -> T:
    """Run work that a signal ends, with everything that it has begun put away; the status tells the signal."""
    ended_by: list[int] = []

    async def guarded() -> T:
        with trio.open_signal_receiver(*ENDING) as signals:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    async for number in signals:
                        ended_by.append(number)
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                result = await work()
                nursery.cancel_scope.cancel()
                return result
        raise SystemExit(128 + ended_by[0])

    return run(guarded, ended_by=ended_by)


def explained(error: OSError) -> str:
    """A fault of the system in words."""
    name = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{name}"
