"""The command line: ``creemson`` and ``python -m creemson``.

Exit status: 0 success, 1 the operation failed (the message is on standard error), 2 wrong usage.

Most commands have one module each; ``files`` has the commands for the files of a server, ``jobs`` those for its jobs,
``cluster`` the command ``worker`` and the checks of a cluster. What they share is in the folder ``shared``:
``options`` (options of several commands), ``arguments`` (parses the arguments that describe a query), ``words`` (tells
errors in the words of the command line), ``run`` (runs the work of a command), ``streams`` (standard input and output),
``results`` (shows or writes the result of a job) and ``described`` (shows the columns of a file). ``process`` and
``columns`` start a worker before they import what does their work: ``processing`` and ``shared.described``.
"""

import contextlib
import importlib
import os
import sys
from typing import Any, cast

import click

from creemson._version import __version__
from creemson.startup import keep_imported

__all__ = ["main"]

COMMANDS = {
    "serve": "serve",
    "process": "process",
    "upload": "files",
    "download": "files",
    "files": "files",
    "columns": "columns",
    "delete": "files",
    "jobs": "jobs",
    "attach": "jobs",
    "cancel": "jobs",
    "top": "top",
    "token": "token",
    "catalog": "catalog",
    "worker": "cluster.worker",
    "doctor": "doctor",
    "config": "config",
    "completion": "completion",
}
"""The module of each command. Only that of the given command is imported: all of them take twice as long."""


PIPE_CLOSED = 141
"""Exit status if the reader of a pipe has gone, such as `head`: that of a program that SIGPIPE ends."""


class Commands(click.Group):
    """A group that imports a command when it is needed (click's manual: "Lazily loading subcommands")."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the interface of click
        """Return the names of all commands, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"creemson.cli.{COMMANDS[cmd_name]}")
        keep_imported()
        return cast(click.Command, getattr(module, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; the error for an unknown one names the most similar."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from creemson.model.nearest import nearest  # noqa: PLC0415 - rarely needed

            if (meant := nearest(args[0], COMMANDS)) is None:
                raise
            raise click.UsageError(f"{error.message} Did you mean {meant!r}?", error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a standard output that cannot be written ends it without a traceback."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except OSError as error:
            _discard_output()
            if isinstance(error, BrokenPipeError):
                raise SystemExit(PIPE_CLOSED) from None
            place = error.filename or "standard output"
            click.echo(f"creemson: {error.strerror or error}: {place}", err=True)
            raise SystemExit(1) from None


def _discard_output() -> None:
    """Send the rest of standard output nowhere, so that Python does not fail to write it when it exits."""
    with contextlib.suppress(OSError, ValueError):  # it is closed, or no file
        number = sys.stdout.fileno()
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, number)
        os.close(sink)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="creemson")
def main() -> None:
    """Creemson: a real-time server for tabular files."""
