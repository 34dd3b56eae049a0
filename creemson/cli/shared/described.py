"""Asks for the columns of a file, and shows them."""

from functools import partial
from typing import Any

import click

from creemson.cli.shared.run import print_lines, run_interruptible, run_with_client
from creemson.cli.shared.temporary import input_of, server_at
from creemson.cli.shared.words import in_flags
from creemson.client import connect
from creemson.display.console import OutputConsole
from creemson.display.issues import describe_issues, describe_reading
from creemson.display.progress import progress_bar
from creemson.display.tables import show_table
from creemson.errors import ConnectionLost, CreemsonError
from creemson.executors.spawn import Spawned
from creemson.settings.sections import Settings
from creemson.wire.messages import Columns

__all__ = ["of_local_file", "of_stored_file", "show"]

_in_flags = partial(in_flags, given={})


def of_local_file(
    name: str, options: dict[str, Any] | None, *, settings: Settings, worker: Spawned | None
) -> Columns:
    """Describe a file with a temporary server.

    Args:
        name: a path, or ``-`` for standard input.
        options: how to read the file.
        settings: of the server.
        worker: its first worker, if it has been started.

    Raises:
        SystemExit: the file cannot be read.
    """

    async def ask() -> Columns:
        source = input_of(name)
        async with server_at(None, settings, worker) as address, connect(address) as client:
            with progress_bar("Uploading") as update:
                await client.upload(source.content, name=source.name, on_progress=update)
            return await client.describe(source.name, options=options)

    return run_interruptible(ask, describe=_in_flags)


def of_stored_file(
    name: str, options: dict[str, Any] | None, *, url: str, token: str | None, wanted_server: bool
) -> Columns:
    """Describe a file on a server.

    Args:
        name: its name.
        options: how to read it.
        url: the server.
        token: authenticates the caller.
        wanted_server: whether the user named the server; if not, perhaps the name of a local file is misspelled.

    Raises:
        SystemExit: the server cannot be reached, or refuses the request.
    """

    def describe(error: CreemsonError) -> str:
        text = _in_flags(error)
        if wanted_server or not isinstance(error, ConnectionLost):
            return text
        return f"There is no local file {name!r}, and its columns cannot be asked for: {text}"

    return run_with_client(
        url, token, lambda client: client.describe(name, options=options), describe=describe
    )


def show(found: Columns, *, as_json: bool) -> None:
    """Print the columns, how the file is read, and what is repaired at its beginning."""
    if as_json:
        print_lines(found.columns)
        if found.reading is not None:
            print_lines([{"reading": found.reading, "issues": found.issues}])
        return
    rows = [(str(column.index), column.name, column.dtype) for column in found.columns]
    show_table(OutputConsole(), ["index", "name", "type"], rows)
    if found.reading is not None:
        click.echo(describe_reading(found.reading))
    for line in describe_issues(found.issues) if found.issues is not None else ():
        click.echo(line)
